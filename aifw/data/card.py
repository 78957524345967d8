"""The data card: what the pairs are, what was lost and why, and whether surface features give the choice away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aifw.data.confidence import Belief
from aifw.data.kinds import PreferencesSettings
from aifw.data.minhash import HASHES, bands_for
from aifw.data.near_duplicates import stable_hash
from aifw.data.pair_table import SOURCES, Columns, Likeness, PairTable, Rows
from aifw.data.pairs import Pair
from aifw.data.raters import PRIOR_VOTES, Agreement
from aifw.data.split import Split, by_id
from aifw.data.surface import MOST_ITEMS, Item, bag_of_words, longer_wins

_EXAMPLES = 3
_BINS = (0.5, 0.6, 0.7, 0.8, 0.9)
_QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)
_DAY = 86_400.0

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Made:
    """What the job made.

    Attributes:
        simulated: Training pairs that nobody judged.
        repeated: Pairs dropped because another one says nearly the same or the opposite.
    """

    table: PairTable
    columns: Columns
    found: Split
    likeness: Likeness
    simulated: Sequence[Pair]
    repeated: int

    def lengths(self, side: Rows, simulated: Sequence[Pair]) -> dict[str, Lengths]:
        """Characters of prompts, chosen and rejected answers."""
        columns = self.columns
        return {
            "prompt": _with(columns.context_length[side], [len(pair.context) for pair in simulated]),
            "chosen": _with(columns.chosen_length[side], [len(pair.chosen) for pair in simulated]),
            "rejected": _with(columns.rejected_length[side], [len(pair.rejected) for pair in simulated]),
        }


def _with(column: npt.NDArray[np.int32], more: Sequence[int]) -> Lengths:
    return np.concatenate([column.astype(np.int64), np.array(more, np.int64)])


def describe(made: Made, side: Rows, simulated: Sequence[Pair]) -> dict[str, Any]:
    """Counts, mean lengths and the length of the longest in characters of the pairs of one output; its facts."""
    lengths = made.lengths(side, simulated)
    groups = {made.found.cluster_of(pair.conversations[0]) for pair in simulated}
    count = max(1, len(lengths["prompt"]))
    longest = lengths["prompt"] + np.maximum(lengths["chosen"], lengths["rejected"])
    return {
        "rows": len(side) + len(simulated),
        "groups": len(np.union1d(made.found.group[side], np.array(sorted(groups), np.uint64))),
        "simulated": len(simulated),
        "chars_prompt": round(int(lengths["prompt"].sum()) / count, 1),
        "chars_chosen": round(int(lengths["chosen"].sum()) / count, 1),
        "chars_rejected": round(int(lengths["rejected"].sum()) / count, 1),
        "chars_longest": int(longest.max()) if len(longest) else 0,
    }


def make(
    settings: PreferencesSettings,
    made: Made,
    belief: Belief,
    agreement: Agreement,
    *,
    events: Mapping[str, int],
    lost: Mapping[str, int],
    leaks: Mapping[str, Any],
) -> dict[str, Any]:
    """The card as JSON."""
    found, columns = made.found, made.columns
    real = np.concatenate([found.train, found.heldout])
    sources = Counter({SOURCES[code]: int(count) for code, count in enumerate(np.bincount(columns.source[real]))})
    sources["simulated"] += len(made.simulated)
    return {
        "settings": _settings(settings),
        "events": dict(sorted(events.items())),
        "train": describe(made, found.train, made.simulated),
        "heldout": describe(made, found.heldout, []),
        "sources": dict(sorted((+sources).items())),
        "lost": dict(sorted(lost.items(), key=lambda at: (-at[1], at[0]))),
        "largest_cluster": found.largest,
        "lengths": {
            "train": _spread(made.lengths(found.train, made.simulated)),
            "heldout": _spread(made.lengths(found.heldout, [])),
        },
        "duplicates": _duplicates(settings, made),
        "leaks": dict(leaks),
        "confidence": _confidence(columns.confidence[real]),
        "raters": _raters(settings, belief, agreement),
        "age": _ages(columns.age[real], belief),
        "guessing": _guessing(made, real),
        "examples": _examples(made),
    }


def _settings(settings: PreferencesSettings) -> dict[str, Any]:
    whole = settings.model_dump(mode="json")
    return {name: value for name, value in whole.items() if name != "from"}


def _spread(lengths: Mapping[str, Lengths]) -> dict[str, Any]:
    """Mean, quantiles, and how many are from each power of two on, in characters."""
    return {what: _spread_of(column) for what, column in lengths.items()}


def _spread_of(column: Lengths) -> dict[str, Any]:
    if not len(column):
        return {"mean": None, "quantiles": {}, "histogram": {}}
    # The position of the highest bit, so that a bin holds lengths from 2^n up to, but not including, 2^(n+1).
    powers = np.floor(np.log2(np.maximum(column, 1))).astype(np.int64)
    counts = np.bincount(powers)
    return {
        "mean": round(float(column.mean()), 1),
        "quantiles": {f"{at:g}": int(np.quantile(column, at, method="inverted_cdf")) for at in _QUANTILES},
        "histogram": {str(2**power): int(counts[power]) for power in range(int(powers.min()), len(counts))},
    }


def _duplicates(settings: PreferencesSettings, made: Made) -> dict[str, Any]:
    columns, likeness, pairs = made.columns, made.likeness, len(made.columns.id)
    contexts, answers = likeness.contexts, likeness.answers
    said = np.concatenate([columns.chosen, columns.rejected])
    exact = contexts.exact and answers.exact
    bands, values = bands_for(settings.near_duplicates)
    return {
        "threshold": settings.near_duplicates,
        "method": "all compared" if exact else f"MinHash: {HASHES} hashes, {bands} bands of {values}",
        "missed_at_threshold": max(contexts.missed, answers.missed),
        "comparisons_skipped": contexts.skipped + answers.skipped,
        "pairs": {"judged": pairs, "repeated": made.repeated, "rate": _rate(made.repeated, pairs)},
        "prompts": _repetition(columns.context, contexts.roots[columns.context]),
        "answers": _repetition(said, answers.roots[said]),
    }


def _repetition(numbers: npt.NDArray[np.int32], roots: npt.NDArray[np.int32]) -> dict[str, Any]:
    """How many texts there are, and which share of them says again what another one says, word by word or nearly."""
    texts, different, clusters = len(numbers), len(np.unique(numbers)), len(np.unique(roots))
    return {
        "texts": texts,
        "exact_rate": _rate(texts - different, texts),
        "near_rate": _rate(texts - clusters, texts),
    }


def _rate(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _confidence(values: npt.NDArray[np.float64]) -> dict[str, int]:
    bins = np.minimum(np.searchsorted(_BINS, values + 1e-9, "right"), len(_BINS))
    counts = np.bincount(bins, minlength=len(_BINS) + 1)
    return {f"{low:.1f}": int(counts[number]) for number, low in enumerate(_BINS, 1)}


def _raters(settings: PreferencesSettings, belief: Belief, agreement: Agreement) -> dict[str, Any]:
    """What was found of raters, without their names."""
    agreeing = agreement.agreeing()
    shifts = sorted(belief.shifts.values())
    return {
        "weighed": settings.raters == "weighed",
        "prior_votes": PRIOR_VOTES,
        "pairs_of_several": agreement.pairs,
        "unanimous": None if agreeing is None else round(agreeing, 4),
        "compared": len(shifts),
        "shift": {"lowest": shifts[0], "median": shifts[len(shifts) // 2], "highest": shifts[-1]} if shifts else None,
    }


def _ages(values: npt.NDArray[np.float64], belief: Belief) -> dict[str, Any]:
    """Days from a pair's newest judgement to the newest event."""
    days = values / _DAY
    return {
        "newest": belief.newest,
        "half_life_days": None if belief.half_life is None else round(belief.half_life / _DAY, 4),
        "days": {f"{at:g}": round(float(np.quantile(days, at)), 2) for at in _QUANTILES} if len(days) else {},
    }


def _guessing(made: Made, real: Rows) -> dict[str, Any]:
    """Of real pairs of both sides; words of a sample that the hash in the id draws."""
    columns, group = made.columns, made.found.group
    if not len(real):
        return {"longer_wins": None, "bag_of_words": None}
    drawn = by_id(columns, real)[:MOST_ITEMS]
    items = [
        Item(f"{group[number]:016x}", pair.chosen, pair.rejected)
        for number, pair in zip(drawn.tolist(), made.table.pairs(drawn), strict=True)
    ]
    words = bag_of_words(items)
    longer = longer_wins(columns.chosen_length[real], columns.rejected_length[real], group[real])
    return {"longer_wins": asdict(longer), "bag_of_words": asdict(words) if words else None}


def _examples(made: Made) -> list[dict[str, Any]]:
    """Of those to train on, by hash; of many, of the first by id, which is a hash too."""
    some = [*made.table.pairs(made.found.train[:200]), *made.simulated[:50]]
    chosen = sorted(some, key=lambda pair: stable_hash("example", pair.id))[:_EXAMPLES]
    return [pair.row(f"{made.found.cluster_of(pair.conversations[0]):016x}") for pair in chosen]
