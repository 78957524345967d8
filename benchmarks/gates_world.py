"""Simulated held-out sets, candidates and evaluations, for `gates.py`.

Outcomes. Item i of a set has a difficulty that all models meet alike: one part of its group, one of its own. A model adds chance of
its own: for each group and each item. A model is right where the sum is below a threshold. So any two models of one population are
exchangeable, items of one group hang together under both, and two models disagree about a fifth of the items.

Beside its outcomes a candidate has what guards look at: lengths of 64 sampled answers and of the reference's, repeated answers, entropy,
KL divergence, and which held-out items training saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from aifw.evaluation.measures import suite_of
from aifw.statistics import Comparison, compare

Floats = npt.NDArray[np.float64]

ACCURACY = 0.6
GROUP_SIZES = {1: 0.62, 2: 0.2, 3: 0.1, 4: 0.05, 6: 0.03}
"""Share of groups by their size: most conversations have one judged pair."""
OF_GROUP, OF_ITEM = 0.25, 0.56
"""Variance of the difficulty: of groups, of items. What is left to 1 is the models' own."""
OWN_OF_GROUP = 0.05
ANSWERS = 64


@dataclass(frozen=True)
class Holdout:
    """Items in groups, with their difficulty."""

    ids: list[str]
    groups: list[str]
    index: npt.NDArray[np.intp]
    difficulty: Floats

    @property
    def group_of(self) -> dict[str, str]:
        """Group by item."""
        return dict(zip(self.ids, self.groups, strict=True))

    @property
    def items(self) -> int:
        """How many."""
        return len(self.ids)


@dataclass
class Model:
    """Outcomes by item, and what guards look at."""

    outcomes: Floats
    lengths: Floats
    reference: Floats
    repeated: int = 0
    entropy: float = 2.0
    kl: float = 0.1
    seen: npt.NDArray[np.bool_] | None = None

    def guarded(self) -> dict[str, float]:
        """What the suites `generation` and `contamination` would measure of it."""
        found = {
            "length_drift": abs(float(self.lengths.sum() / self.reference.sum()) - 1),
            "duplicate_rate": self.repeated / ANSWERS,
            "repetition": 0.0,
            "token_entropy": self.entropy,
            "kl_to_reference": self.kl,
        }
        return found if self.seen is None else found | {"contamination": float(self.seen.mean())}


def holdout(generator: np.random.Generator, items: int, sizes: Sequence[int] = ()) -> Holdout:
    """A set of items; `sizes` are groups to begin with, the others are drawn."""
    chosen = list(sizes)
    choices, shares = np.array(list(GROUP_SIZES)), np.array(list(GROUP_SIZES.values()))
    while sum(chosen) < items:
        chosen.append(int(min(items - sum(chosen), generator.choice(choices, p=shares))))
    index = np.repeat(np.arange(len(chosen)), chosen)
    difficulty = np.sqrt(OF_GROUP) * generator.normal(size=len(chosen))[index]
    difficulty += np.sqrt(OF_ITEM) * generator.normal(size=items)
    ids = [f"item-{number:05}" for number in range(items)]
    return Holdout(ids, [f"group-{number:05}" for number in index], index, difficulty)


def outcomes(generator: np.random.Generator, items: Holdout, models: int, threshold: float | Floats) -> Floats:
    """Outcomes of models of one population, shape (models, items)."""
    groups = int(items.index.max()) + 1
    own = np.sqrt(OWN_OF_GROUP) * generator.normal(size=(models, groups))[:, items.index]
    own += np.sqrt(1 - OF_GROUP - OF_ITEM - OWN_OF_GROUP) * generator.normal(size=(models, items.items))
    right: Floats = (items.difficulty + own < threshold).astype(np.float64)
    return right


def threshold_of(accuracy: float) -> float:
    """The threshold at which a population is right that often."""
    return NormalDist().inv_cdf(accuracy)


def model(generator: np.random.Generator, right: Floats, drift: float | None = None, **more: Any) -> Model:
    """A model with harmless answers unless told otherwise: about as long as the reference's, with few repeated."""
    reference = np.maximum(1, np.rint(generator.lognormal(np.log(120), 0.6, ANSWERS)))
    change = generator.normal(0, 0.05) if drift is None else drift
    lengths = np.maximum(1, np.rint(reference * (1 + change) * generator.lognormal(-(0.3**2) / 2, 0.3, ANSWERS)))
    harmless: dict[str, Any] = {
        "repeated": _at_least_two(int(generator.binomial(ANSWERS, 0.03))),
        "entropy": float(2.0 * generator.lognormal(0, 0.1)),
        "kl": float(generator.uniform(0.02, 0.25)),
    }
    return Model(right, lengths, reference, **(harmless | more))


def _at_least_two(count: int) -> int:
    """A repeated answer has a twin."""
    return 2 if count == 1 else count


@dataclass
class InMemory:
    """Evidence as a gate asks for it, without the files: what `aifw.evaluation.promote.Read` finds in them."""

    items: Holdout
    before: Model
    after: Model
    group_of: Mapping[str, str]
    entries: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for side, each in (("subject", self.after), ("baseline", self.before)):
            values = {"preference_accuracy": float(each.outcomes.mean()), **each.guarded()}
            self.entries[side] = {name: {"value": value, "n": self.items.items} for name, value in values.items()}

    def entry(self, side: str, measure: str) -> dict[str, Any] | None:
        """See `aifw.evaluation.gate.Findings`."""
        return self.entries[side].get(measure)

    def why_not_compared(self, measure: str) -> str:
        """See `aifw.evaluation.gate.Findings`."""
        return ""

    def compare(self, measure: str, alpha: float) -> Comparison:
        """The comparison that `aifw.evaluation.comparison` makes of outcomes."""
        assert suite_of(measure) == "preference"
        before, after = (
            dict(zip(self.items.ids, each.outcomes.tolist(), strict=True)) for each in (self.before, self.after)
        )
        return compare(before, after, self.group_of, alpha=alpha)

    def measures(self) -> list[str]:
        """See `aifw.evaluation.gate.Findings`."""
        return list(self.entries["subject"])


def rows(items: Holdout, each: Model) -> dict[str, list[dict[str, Any]]]:
    """The same model as rows of suites, as `evaluate` would make them."""
    preference = [
        {
            "id": item,
            "group": group,
            "chosen": -10.0 if right else -30.0,
            "rejected": -20.0,
            "chosen_tokens": 10,
            "rejected_tokens": 10,
        }
        for item, group, right in zip(items.ids, items.groups, each.outcomes, strict=True)
    ]
    generation = [
        {
            "id": items.ids[number % items.items] + f"-{number // items.items}",
            "tokens": int(each.lengths[number]),
            "reference_tokens": int(each.reference[number]),
            "text": "the same" if number < each.repeated else f"answer number {number}",
            "entropy": each.entropy,
            "kl": each.kl,
        }
        for number in range(ANSWERS)
    ]
    found = {"preference": preference, "generation": generation}
    if each.seen is not None:
        found["contamination"] = [
            {"id": item, "group": group, "seen": bool(seen)}
            for item, group, seen in zip(items.ids, items.groups, each.seen, strict=True)
        ]
    return found


ENVIRONMENT: dict[str, Any] = {
    "time": "2026-01-01T00:00:00Z",
    "aifw": "0",
    "python": "0",
    "packages": {},
    "hardware": {"processor": "simulated", "cores": 1, "memory": 1, "devices": ["cpu"]},
    "threads": 1,
    "device": "cpu",
    "seed": 0,
    "spec": None,
    "contention": {
        "before": {"cpu": 0.0, "memory": 0.0, "io": 0.0},
        "after": {"cpu": 0.0, "memory": 0.0, "io": 0.0},
        "contended": False,
    },
}


def evaluation(items: Holdout, before: Model, after: Model, **who: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Report and items of an evaluation, built as `evaluate` builds them."""
    from aifw.evaluation.report import build

    ours, theirs = rows(items, after), rows(items, before)
    named = {"subject": ("stages.candidate", "candidate"), "baseline": ("@champion", "incumbent"), **who}
    sides = {side: {"address": address, "digest": digest, "name": digest} for side, (address, digest) in named.items()}
    suites = {name: (ours[name], theirs.get(name, ours[name])) for name in ours}
    data = {"address": "datasets.heldout", "digest": "heldout", "name": "simulated"}
    return build(
        subject=sides["subject"],
        baseline=sides["baseline"],
        data=data,
        settings={},
        rows=suites,
        environment=ENVIRONMENT,
    )
