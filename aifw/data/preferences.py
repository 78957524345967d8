"""The job of kind `preferences`: judge, filter, remove repetitions, split, check for leaks, describe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from aifw.data import card
from aifw.data.events import encode, listed, read_events
from aifw.data.kinds import PreferencesSettings
from aifw.data.near_duplicates import stable_hash
from aifw.data.pairs import Judged, Pair, judge
from aifw.data.split import SALT, Likeness, Split, check_no_leak, simulate, split, without_repetitions
from aifw.errors import InputInvalid
from aifw.job import Job

_STEPS = 5


def build(job: Job[PreferencesSettings]) -> None:
    """Write outputs `train`, `heldout` and `card`.

    Raises:
        InputInvalid: No pair is left for training or for evaluation; the message counts what was lost and why.
        JobError: The two sides share something although they must not.
    """
    settings = job.settings
    judged = judge(read_events(job.inputs["from"].path))
    job.progress(1, _STEPS)
    job.obey()
    lost = judged.lost
    sure = [pair for pair in judged.pairs if pair.confidence >= settings.min_confidence]
    lost[f"confidence below {settings.min_confidence:.2f}"] += len(judged.pairs) - len(sure)
    likeness = Likeness.among(sure, judged.good if settings.simulate else [], settings.near_duplicates)
    job.progress(2, _STEPS)
    job.obey()
    distinct = without_repetitions(sure, likeness, lost)
    found = _limit(split(distinct, likeness, settings.heldout, lost), settings.max_pairs, lost)
    found = _with_simulated(job, judged, found, likeness)
    job.progress(3, _STEPS)
    job.obey()
    lost = +lost
    _require_both(found, judged, lost, settings)
    check_no_leak(found, settings.near_duplicates)
    job.progress(4, _STEPS)
    job.obey()
    _write(job, "train", found.train, found)
    _write(job, "heldout", found.heldout, found)
    described = card.make(settings, judged.events, lost, found)
    card.write(described, job.output("card"))
    for name, guess in described["guessing"].items():
        job.fact(name, guess["value"] if guess else None, "card")
    job.fact("lost", described["lost"], "card")
    if lost:
        job.note(f"not used: {listed(lost)}")
    job.progress(5, _STEPS)


def _limit(found: Split, most: int | None, lost: Counter[str]) -> Split:
    if most is None or len(found.train) <= most:
        return found
    lost["more than max_pairs"] += len(found.train) - most
    kept = sorted(found.train, key=lambda pair: stable_hash(SALT, pair.id))[:most]
    return replace(found, train=sorted(kept, key=lambda pair: pair.id))


def _with_simulated(job: Job[PreferencesSettings], judged: Judged, found: Split, likeness: Likeness) -> Split:
    settings = job.settings
    wanted = settings.simulate
    if settings.max_pairs is not None:
        wanted = min(wanted, settings.max_pairs - len(found.train))
    if wanted <= 0:
        return found
    made = simulate(judged.good, found, likeness, settings.heldout, wanted)
    if len(made) < wanted:
        job.note(f"{len(made):,} of {wanted:,} pairs simulated: there are not enough liked answers")
    return replace(found, train=sorted([*found.train, *made], key=lambda pair: pair.id))


def _require_both(found: Split, judged: Judged, lost: Counter[str], settings: PreferencesSettings) -> None:
    missing = [name for name, pairs in (("training", found.train), ("evaluation", found.heldout)) if not pairs]
    if not missing:
        return
    lines = f"{sum(judged.events.values()):,} events made {len(judged.pairs):,} pairs"
    reasons = f"; not used: {listed(lost)}" if lost else ""
    if found.largest > 1:
        reasons += f"; the largest cluster of conversations that share a prompt or an answer has {found.largest:,}"
    raise InputInvalid(
        f"no pair is left for {' or '.join(missing)}: {lines}, {len(found.train):,} for training and {len(found.heldout):,} for evaluation{reasons}",
        hint=f"collect more feedback, or lower `min_confidence` ({settings.min_confidence:g}), or change `heldout` ({settings.heldout:g})",
    )


def _write(job: Job[PreferencesSettings], output: str, pairs: Sequence[Pair], found: Split) -> None:
    with (job.output(output) / "pairs.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for pair in pairs:
            file.write(encode(pair.row(found.group_of(pair))) + "\n")
    for name, value in card.describe(pairs, found).items():
        job.fact(name, value, output)
