"""The job of kind `preferences`: judge, filter, remove repetitions, keep off sealed sets, split, check for leaks, describe.

Memory grows by some 300 bytes a pair whatever its texts: events are sorted by context on disk and judged context by context, pairs and
texts lie on disk, and what decides about them is in arrays.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from aifw.data import card, card_page
from aifw.data.confidence import Belief
from aifw.data.database import Sorter
from aifw.data.events import Event, encode, listed, read_events
from aifw.data.kinds import EXACT_CHARACTERS, PreferencesSettings
from aifw.data.mismatched import LikedSample, simulate, simulated_at_most
from aifw.data.near_duplicates import stable_hash
from aifw.data.pair_table import Columns, Likeness, PairTable, Rows, remove
from aifw.data.pairs import Pair, collect, judge, messages_of
from aifw.data.raters import Agreement
from aifw.data.sealed import SealedTexts, check_sealed, leaked
from aifw.data.split import Split, at_most, split, without_repetitions
from aifw.errors import InputInvalid, JobError, SealedDataLeaked
from aifw.job import Job

_REPORT_EVERY = 2_000


@dataclass
class Gathered:
    """What was read of the feedback.

    Attributes:
        events: Used events by kind.
        judged: Pairs there were before any was dropped.
        agreement: Of raters with each other.
    """

    belief: Belief
    agreement: Agreement
    events: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    judged: int = 0


def build(job: Job[PreferencesSettings]) -> None:
    """Write outputs `train`, `heldout` and `card`.

    Raises:
        InputInvalid: No pair is left for training or for evaluation; the message counts what was lost and why.
        SealedDataLeaked: Training pairs share something with a sealed set, and `on_sealed` is `refuse`.
        JobError: The two sides share something although they must not.
    """
    folder = job.out.parent / f"pairing-{os.getpid()}"
    try:
        with closing(PairTable(folder, EXACT_CHARACTERS)) as table:
            _build(job, table)
    finally:
        remove(folder)


def _build(job: Job[PreferencesSettings], table: PairTable) -> None:
    settings = job.settings
    sample = LikedSample(settings.simulate, settings.heldout)
    gathered = _gather(job, table, sample)
    lost = gathered.lost
    liked = sample.within(table)
    names = {f"sealed.{number}": str(reference) for number, reference in enumerate(settings.sealed)}
    sealed = SealedTexts(table.contexts, table.answers, {name: job.inputs[at].path for at, name in names.items()})

    def tell(done: float, total: float) -> None:
        job.progress(done, total, unit="text")
        job.obey()

    likeness = table.likeness(settings.near_duplicates, tell)
    skipped = _skipped(likeness)
    if skipped:
        others = f" and with {' and '.join(names.values())}" if names else ""
        job.note(
            f"not everything was compared with each other{others}: {skipped:,} comparisons of very common texts were left out"
        )
    columns = table.columns()
    kept = without_repetitions(columns, likeness, settings.heldout, lost)
    repeated = len(table) - len(kept)
    found = split(columns, kept, likeness, settings.heldout, lost)
    found, sharing = _off_sealed(job, table, found, columns, likeness, sealed, lost)
    found = at_most(found, columns, settings.max_pairs, lost)
    wanted = _wanted(job, found)
    simulated = simulate(
        liked, columns, found, likeness, wanted, sealed.closed(likeness.contexts.roots, likeness.answers.roots)
    )
    if len(simulated) < wanted:
        job.note(f"{len(simulated):,} of {wanted:,} pairs simulated: there are not enough liked answers")
    lost += Counter()
    _require_both(found, gathered, settings)
    _write(job, "train", table, found.train, found, simulated)
    _write(job, "heldout", table, found.heldout, found, [])
    checked = _check_no_leak(job, found, columns, likeness)
    made = card.Made(table, columns, found, likeness, simulated, repeated)
    described = card.make(
        settings,
        made,
        gathered.belief,
        gathered.agreement,
        events=gathered.events,
        lost=lost,
        leaks={"between_sides": checked, "sealed": sharing},
    )
    folder = job.output("card")
    (folder / "card.json").write_text(json.dumps(described, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (folder / "card.html").write_text(card_page.page(described), encoding="utf-8")
    for output in ("train", "heldout"):
        for name, value in described[output].items():
            job.fact(name, value, output)
    for name, guess in described["guessing"].items():
        job.fact(name, guess["value"] if guess else None, "card")
    job.fact("lost", described["lost"], "card")
    if lost:
        job.note(f"not used: {listed(lost)}")


def _gather(job: Job[PreferencesSettings], table: PairTable, sample: LikedSample) -> Gathered:
    """Read the events, first to know raters and the newest, then to judge."""
    settings = job.settings
    total = job.inputs["from"].facts.get("rows")
    # Each event is met three times: sorted, compared with what others said, judged.
    whole = None if total is None else 3.0 * total
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if done % _REPORT_EVERY == 0:
            job.progress(done, whole, unit="event")
            job.obey()

    with closing(Sorter(job.out.parent)) as sorter:
        newest = ""
        for position, event in enumerate(read_events(job.inputs["from"].path)):
            newest = max(newest, event["time"])
            sorter.add(f"{stable_hash(encode(messages_of(event))):016x}", position, encode(event))
            step()
        agreement = Agreement()
        for events in _by_context(sorter):
            if len({event["rater"] for event in events}) > 1:
                for ballot in collect(events).ballots.values():
                    agreement.add(ballot.votes)
            for _ in events:
                step()
        shifts = agreement.shifts() if settings.raters == "weighed" else {}
        gathered = Gathered(Belief(settings.half_life, newest, shifts), agreement)
        unsure = f"confidence below {settings.min_confidence:.2f}"
        for events in _by_context(sorter):
            judged = judge(events, gathered.belief)
            gathered.events += judged.events
            gathered.lost += judged.lost
            gathered.judged += len(judged.pairs)
            sample.add(judged.good)
            for pair in judged.pairs:
                if pair.confidence >= settings.min_confidence:
                    table.add(pair)
                else:
                    gathered.lost[unsure] += 1
            for _ in events:
                step()
    return gathered


def _by_context(sorter: Sorter) -> Iterator[list[Event]]:
    """All events of one context after those of another, each group by id."""
    for _, rows in groupby(sorter.rows(), key=lambda row: row[0]):
        yield [json.loads(text) for _, _, text in rows]


def _off_sealed(
    job: Job[PreferencesSettings],
    table: PairTable,
    found: Split,
    columns: Columns,
    likeness: Likeness,
    sealed: SealedTexts,
    lost: Counter[str],
) -> tuple[Split, dict[str, int]]:
    """Refuse or drop training pairs that share something with a sealed set; how many they are, by set."""
    rows = found.train
    sharing = sealed.sharing(
        likeness.contexts.roots,
        likeness.answers.roots,
        columns.context[rows],
        columns.chosen[rows],
        columns.rejected[rows],
    )
    counts = {name: int(shared.sum()) for name, shared in sharing.items()}
    any_of_them = np.zeros(len(rows), bool)
    for shared in sharing.values():
        any_of_them |= shared
    if not any_of_them.any():
        return found, counts
    if job.settings.on_sealed == "refuse":
        example = table.pair(int(rows[any_of_them][0])).context
        raise leaked(Counter(counts), len(rows), example, job.settings.near_duplicates)
    lost["close to a sealed set"] += int(any_of_them.sum())
    return replace(found, train=rows[~any_of_them]), counts


def _wanted(job: Job[PreferencesSettings], found: Split) -> int:
    """How many pairs to simulate: as many as asked for, as long as they stay within their share and `max_pairs`."""
    settings, real = job.settings, len(found.train)
    wanted, most = settings.simulate, simulated_at_most(real, settings.most_simulated)
    if settings.max_pairs is not None:
        wanted = min(wanted, settings.max_pairs - real)
    if wanted > most:
        job.note(
            f"{most:,} of {wanted:,} pairs simulated: more would exceed {settings.most_simulated:.0%} of the pairs"
        )
    return max(0, min(wanted, most))


def _require_both(found: Split, gathered: Gathered, settings: PreferencesSettings) -> None:
    sides = (("training", found.train), ("evaluation", found.heldout))
    missing = [name for name, rows in sides if not len(rows)]
    if not missing:
        return
    lines = f"{gathered.events.total():,} events made {gathered.judged:,} pairs"
    reasons = f"; not used: {listed(gathered.lost)}" if gathered.lost else ""
    if found.largest > 1:
        reasons += f"; the largest cluster of conversations that share a prompt or an answer has {found.largest:,}"
    raise InputInvalid(
        f"no pair is left for {' or '.join(missing)}: {lines}, {len(found.train):,} for training and {len(found.heldout):,} for evaluation{reasons}",
        hint=f"collect more feedback, or lower `min_confidence` ({settings.min_confidence:g}), or change `heldout` ({settings.heldout:g})",
    )


def _write(
    job: Job[PreferencesSettings], output: str, table: PairTable, rows: Rows, found: Split, simulated: list[Pair]
) -> None:
    """Write the pairs of one side by id; those that are simulated have ids that come last."""
    with (job.output(output) / "pairs.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for count, (number, pair) in enumerate(zip(rows.tolist(), table.pairs(rows), strict=True), 1):
            file.write(encode(pair.row(f"{found.group[number]:016x}")) + "\n")
            if count % _REPORT_EVERY == 0:
                job.progress(count, len(rows), unit="pair")
                job.obey()
        for pair in simulated:
            file.write(encode(pair.row(f"{found.cluster_of(pair.conversations[0]):016x}")) + "\n")


def _skipped(likeness: Likeness) -> int:
    """Comparisons of texts that were left out."""
    return likeness.contexts.skipped + likeness.answers.skipped


def _check_no_leak(job: Job[PreferencesSettings], found: Split, columns: Columns, likeness: Likeness) -> str:
    """Compare the two sides once more, as they were written, before anything is trained on them; what was compared.

    Raises:
        JobError: They share a cluster, a conversation, or a nearly identical prompt or answer.
    """
    hint = "this is a defect of aifw; please report it"
    train, heldout = (np.isin(columns.link_pair, rows) for rows in (found.train, found.heldout))
    if np.intersect1d(columns.link_name[train], columns.link_name[heldout]).size:
        raise JobError("train and held-out share a conversation", hint=hint)
    if np.intersect1d(found.group[found.train], found.group[found.heldout]).size:
        raise JobError("train and held-out share a cluster", hint=hint)
    if not (likeness.contexts.exact and likeness.answers.exact):
        # Other bands would find a few more of the pairs just at the threshold; the card states how many are missed.
        return "conversations and clusters" + (", but not all texts" if _skipped(likeness) else "")
    try:
        check_sealed(
            job.output("train"),
            {"held-out": job.output("heldout")},
            threshold=job.settings.near_duplicates,
            scratch=job.out.parent,
        )
    except SealedDataLeaked as error:
        raise JobError(f"train and held-out share something: {error.message}", hint=hint) from error
    return "conversations, clusters, and all texts with each other"
