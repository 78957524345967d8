"""The job of kind `simulated_pairs`: a model answers prompts of the training side twice, at two temperatures, and a rule says which is better.

Prompts are drawn by hash. Each is answered once at each temperature; both answers are scored (`aifw.models.answer_score`), and a pair is kept if the
scores are far enough apart and the texts differ. What comes in goes out unchanged, but for what is close to a sealed set, with the new pairs among
it, marked `simulated`.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from operator import itemgetter
from pathlib import Path
from typing import Any

from aifw.data.confidence import SIMULATED_CONFIDENCE
from aifw.data.events import encode, listed
from aifw.data.mismatched import simulated_at_most
from aifw.data.near_duplicates import normalised, overlap, shingles, stable_hash
from aifw.data.sealed import Texts, touching
from aifw.errors import CheckpointInvalid, InputInvalid
from aifw.hardware.libraries.backend import backend_for, measured_beside, use_threads
from aifw.job import Job
from aifw.models.answer_score import AnswerScore, score_answer
from aifw.models.chat import EncodedPair, answer_text, encode_prompt
from aifw.models.generate import Generated, generate
from aifw.models.kinds import SimulatedPairsSettings
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.pairs import read_rows
from aifw.models.score import score_pairs

_SECONDS_BETWEEN_CHECKPOINTS = 120.0
_STATE = "made.json"
_TRIES = 4
"""Prompts drawn for each pair wanted: some give none."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a prompt."""

    text: str
    tokens: tuple[int, ...]
    ended: bool
    temperature: float


@dataclass(frozen=True, slots=True)
class Source:
    """The pairs that came in.

    Attributes:
        folder: Of `PreferencePairs`.
        closed: Positions of those that are close to a sealed set, and left out.
    """

    folder: Path
    closed: frozenset[int] = frozenset()

    def rows(self) -> Iterator[Row]:
        """Those that are not left out."""
        return (row for position, row in enumerate(read_rows(self.folder)) if position not in self.closed)


def simulate(job: Job[SimulatedPairsSettings]) -> None:
    """Write the outputs `train` and `report`.

    Raises:
        InputInvalid: The input has no pairs, or is broken; or the model's chat template refuses a prompt.
        CheckpointInvalid: `job.resume` cannot be read.
        JobStopped: Stopped on request, after a checkpoint.
    """
    use_threads(job.threads)
    source = _opened(job)
    counts: Counter[str] = Counter()
    taken: set[str] = set()
    for row in source.rows():
        simulated = row.get("source") == "simulated"
        counts["simulated" if simulated else "real"] += 1
        if simulated:
            taken.add(row["id"])
    if not counts["real"]:
        raise InputInvalid(
            f"{job.inputs['data'].address} holds no pair that people judged, so there is no prompt to answer"
        )
    wanted = _wanted(job, counts)
    drawn = _drawn(source, _TRIES * wanted)
    lost: Counter[str] = Counter()
    made = _made(job, drawn, wanted, taken, lost) if wanted else []
    if len(made) < wanted:
        job.note(f"{len(made):,} of {wanted:,} pairs simulated" + (f"; not used: {listed(lost)}" if lost else ""))
    if source.closed:
        lost["pair of the data close to a sealed set"] += len(source.closed)
    rows = sorted((row for row, _ in made), key=itemgetter("id"))
    _write(job, source, rows)
    report = {
        "model": job.inputs["model"].facts.get("provenance"),
        "settings": job.settings.model_dump(mode="json"),
        "asked": len(drawn),
        "kept": len(made),
        "lost": dict(sorted(lost.items())),
        "pairs": [entry for _, entry in sorted(made, key=lambda at: str(at[0]["id"]))],
    }
    (job.output("report") / "simulated.json").write_text(
        json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    job.fact("kept", len(made), "report")
    job.fact("lost", report["lost"], "report")


def _opened(job: Job[SimulatedPairsSettings]) -> Source:
    """The pairs that came in, without what shares a prompt or an answer with a sealed set."""
    source, sealed = job.inputs["data"], _sealed(job)
    if not sealed:
        return Source(source.path)
    shared = touching(
        map(_texts, read_rows(source.path)),
        sealed,
        threshold=job.settings.near_duplicates,
        scratch=job.out.parent,
        note=job.note,
    )
    closed = frozenset(shared.nonzero()[0].tolist())
    if closed:
        job.note(f"{len(closed):,} of {len(shared):,} pairs of {source.address} dropped: close to a sealed set")
    return Source(source.path, closed)


def _wanted(job: Job[SimulatedPairsSettings], counts: Counter[str]) -> int:
    """How many pairs to make, within their share with those that are simulated already."""
    settings = job.settings
    most = max(0, simulated_at_most(counts["real"], settings.most_share) - counts["simulated"])
    if settings.pairs > most:
        job.note(
            f"{most:,} of {settings.pairs:,} pairs simulated: more would exceed {settings.most_share:.0%} of the pairs"
        )
    return min(settings.pairs, most)


def _drawn(source: Source, most: int) -> list[Row]:
    """Rows that people judged, each prompt once, drawn by the hash of the prompt; in the order of the draw."""
    best: dict[int, Row] = {}
    heap: list[int] = []
    for row in source.rows():
        drawn = stable_hash("simulated prompt", encode(row["prompt"]))
        if row.get("source") == "simulated" or drawn in best or not most:
            continue
        if len(heap) < most:
            heapq.heappush(heap, -drawn)
        elif -drawn > heap[0]:
            del best[-heapq.heappushpop(heap, -drawn)]
        else:
            continue
        best[drawn] = row
    return [best[drawn] for drawn in sorted(best)]


def _made(
    job: Job[SimulatedPairsSettings], drawn: Sequence[Row], wanted: int, taken: Collection[str], lost: Counter[str]
) -> list[tuple[Row, Row]]:
    """Pairs whose ids are not taken, and for each how its answers were scored."""
    settings = job.settings
    backend = backend_for(job.device, settings.precision, threads=job.threads, measured=measured_beside(job.cache_root))
    for note in backend.notes:
        job.note(note)
    made, first = _resumed(job, lost)
    saved = time.monotonic()
    with quiet():
        model = load(job.inputs["model"].path, backend)
        for number in range(first, ceil(len(drawn) / settings.batch)):
            # Looked at once, so that nobody stops it between looking and saving.
            stop = job.control().stop
            if stop or job.control().checkpoint or time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                _save(job, made, lost, number)
                saved = time.monotonic()
            if stop:
                job.obey()
            rows = drawn[number * settings.batch : (number + 1) * settings.batch]
            for row, answers, scores in _answered(job, model, rows, number):
                reason = _useless(settings, answers, scores)
                if reason:
                    lost[reason] += 1
                elif len(made) < wanted:
                    pair = _pair(row, answers, scores)
                    if pair[0]["id"] in taken:
                        lost["simulated before"] += 1
                    else:
                        made.append(pair)
            if len(made) >= wanted:
                # What is dropped here is made up for by the next prompts.
                made = _off_sealed(job, made, lost)
            job.progress(len(made), wanted, "pair")
            if len(made) >= wanted:
                return made
    return _off_sealed(job, made, lost)


def _save(job: Job[SimulatedPairsSettings], made: list[tuple[Row, Row]], lost: Counter[str], following: int) -> None:
    """Keep what was made, and which batch follows."""
    state = {"following": following, "made": made, "lost": lost}
    with job.checkpoint(following) as folder:
        (folder / _STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")


def _resumed(job: Job[SimulatedPairsSettings], lost: Counter[str]) -> tuple[list[tuple[Row, Row]], int]:
    """What an interrupted run had made, and the batch it was to go on with.

    Raises:
        CheckpointInvalid: The checkpoint cannot be read.
    """
    if job.resume is None:
        return [], 0
    try:
        state = json.loads((job.resume / _STATE).read_text(encoding="utf-8"))
        lost.update(state["lost"])
        return [(row, entry) for row, entry in state["made"]], int(state["following"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointInvalid(f"{job.resume} cannot be read: {error}", hint="delete it to begin anew") from error


def _answered(
    job: Job[SimulatedPairsSettings], model: LanguageModel, rows: Sequence[Row], number: int
) -> Iterator[tuple[Row, list[Answer], list[AnswerScore]]]:
    """Both answers to each prompt, and their scores."""
    settings = job.settings
    most_new = min(settings.max_new_tokens, max(1, model.context // 2))
    most_prompt = min(settings.max_prompt_tokens, model.context - most_new)
    prompts = [encode_prompt(model.tokenizer, row["prompt"], max_prompt=most_prompt) for row in rows]
    sides: list[list[Generated]] = []
    for side, temperature in enumerate(settings.temperatures):
        seed = stable_hash("simulate", str(job.seed), str(number), str(side)) >> 1
        sides.append(generate(model, prompts, temperature=temperature, max_new=most_new, seed=seed))
    tokens = [EncodedPair(prompt, one.tokens, other.tokens) for prompt, one, other in zip(prompts, *sides, strict=True)]
    for row, pair, score, *both in zip(rows, tokens, score_pairs(model, tokens), *sides, strict=True):
        answers = [
            Answer(answer_text(model.tokenizer, each.tokens), each.tokens, each.ended, temperature)
            for each, temperature in zip(both, settings.temperatures, strict=True)
        ]
        log_probabilities = (score.chosen, score.rejected)
        lengths = (len(pair.chosen), len(pair.rejected))
        scores = [
            score_answer(answer.text, row["chosen"], log_probability=total, tokens=length, ended=answer.ended)
            for answer, total, length in zip(answers, log_probabilities, lengths, strict=True)
        ]
        yield row, answers, scores


def _useless(settings: SimulatedPairsSettings, answers: Sequence[Answer], scores: Sequence[AnswerScore]) -> str | None:
    """Why two answers make no pair, or None."""
    one, other = (answer.text for answer in answers)
    if not normalised(one) or not normalised(other):
        return "empty answer"
    if normalised(one) == normalised(other) or overlap(shingles(one), shingles(other)) >= settings.near_duplicates:
        return "answers too alike"
    if abs(scores[0].value - scores[1].value) < settings.min_margin:
        return "scores too close"
    return None


def _pair(row: Row, answers: Sequence[Answer], scores: Sequence[AnswerScore]) -> tuple[Row, Row]:
    better = 0 if scores[0].value > scores[1].value else 1
    chosen, rejected = answers[better], answers[1 - better]
    name = hashlib.sha256(encode([row["prompt"], chosen.text, rejected.text]).encode()).hexdigest()[:16]
    made = {
        "id": f"simulated-{name}",
        "group": row["group"],
        "prompt": row["prompt"],
        "chosen": chosen.text,
        "rejected": rejected.text,
        "confidence": SIMULATED_CONFIDENCE,
        "source": "simulated",
    }
    sides = {"chosen": better, "rejected": 1 - better}
    entry = {"id": made["id"], "prompt_of": row["id"]} | {
        side: {
            "temperature": answers[at].temperature,
            "tokens": len(answers[at].tokens),
            "score": round(scores[at].value, 4),
            **{name: round(value, 4) for name, value in asdict(scores[at]).items()},
        }
        for side, at in sides.items()
    }
    return made, entry


def _off_sealed(
    job: Job[SimulatedPairsSettings], made: list[tuple[Row, Row]], lost: Counter[str]
) -> list[tuple[Row, Row]]:
    """Without what shares a prompt or an answer with a sealed set."""
    sealed = _sealed(job)
    if not sealed or not made:
        return made
    texts = (_texts(row) for row, _ in made)
    shared = touching(texts, sealed, threshold=job.settings.near_duplicates, scratch=job.out.parent, note=job.note)
    lost["close to a sealed set"] += int(shared.sum())
    return [each for each, leaks in zip(made, shared.tolist(), strict=True) if not leaks]


def _sealed(job: Job[SimulatedPairsSettings]) -> dict[str, Path]:
    return {str(reference): job.inputs[f"sealed.{number}"].path for number, reference in enumerate(job.settings.sealed)}


def _texts(row: Row) -> Texts:
    return Texts(row["id"], "\n".join(turn["content"] for turn in row["prompt"]), (row["chosen"], row["rejected"]))


def _write(job: Job[SimulatedPairsSettings], source: Source, made: Sequence[Row]) -> None:
    """All pairs by id, and what is to be known of them."""
    facts: Counter[str] = Counter()
    groups: set[str] = set()
    longest = 0
    with (job.output("train") / "pairs.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for row in heapq.merge(source.rows(), made, key=itemgetter("id")):
            file.write(encode(row) + "\n")
            lengths = {
                "prompt": len("\n".join(turn["content"] for turn in row["prompt"])),
                "chosen": len(row["chosen"]),
                "rejected": len(row["rejected"]),
            }
            facts.update(lengths)
            facts["rows"] += 1
            facts["simulated"] += row.get("source") == "simulated"
            groups.add(row["group"])
            longest = max(longest, lengths["prompt"] + max(lengths["chosen"], lengths["rejected"]))
    job.fact("rows", facts["rows"], "train")
    job.fact("groups", len(groups), "train")
    job.fact("simulated", facts["simulated"], "train")
    for name in ("prompt", "chosen", "rejected"):
        job.fact(f"chars_{name}", round(facts[name] / facts["rows"], 1), "train")
    job.fact("chars_longest", longest, "train")
