"""Is a class that is given a probability of 0.8 right in 80 % of the cases?

The expected calibration error (Naeini, Cooper and Hauskrecht, 2015) is the mean distance of accuracy and mean confidence over bins. The
bins here hold equal mass, not equal ranges of confidence, so that none rests on a handful of items (Nixon et al., 2019). Items are
laid out by confidence along their total weight, which is cut into 15 equal parts; a tie across a cut is shared out evenly,
so neither the order of the rows nor how weights are written matters. It is not defined below 15 items: a bin would hold less than one.
Of few items it is too large on average, as the noise of each bin counts as distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from aifw.errors import InputInvalid
from aifw.evaluation.suites import Row
from aifw.evaluation.suites.fields import has, is_number, item
from aifw.evaluation.suites.weights import Floats, weights_of

BINS = 15

_OFF = 1e-3


class Calibration:
    """Confidences, and whether what they were given to was right.

    Args:
        confidences: Probability of the predicted class.
        right: 1 if it is the label, else 0; as many.
        places: Index of the row each belongs to; default: one each, in order.
        count: Number of rows that weights are given for.
    """

    def __init__(
        self,
        confidences: Sequence[float],
        right: Sequence[float],
        places: Sequence[int] | None = None,
        count: int | None = None,
    ) -> None:
        given, truth = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
        order = np.argsort(given, kind="stable")
        self._given, self._right = given[order], truth[order]
        self._places = (np.arange(len(given)) if places is None else np.array(places, np.intp))[order]
        # The last item of each tie.
        self._ends = np.flatnonzero(np.append(self._given[1:] != self._given[:-1], len(given) > 0))
        self._levels = self._given[self._ends]
        self._count = len(self._right) if count is None else count

    def __len__(self) -> int:
        return len(self._right)

    def error(self, weights: Floats | None = None) -> float:
        """The expected calibration error, NaN below 15 items."""
        mass, confidence, right = self._laid_out(weights)
        if mass[-1] < BINS:
            return math.nan
        cuts = np.linspace(0.0, mass[-1], BINS + 1)
        apart = np.diff(np.interp(cuts, mass, right)) - np.diff(np.interp(cuts, mass, confidence))
        return float(np.abs(apart).sum() / mass[-1])

    def bins(self) -> list[dict[str, float]]:
        """For a reliability diagram: range and mean of the confidence, accuracy, and items (a share of a tie counts in parts)."""
        mass, confidence, right = self._laid_out(None)
        if mass[-1] < BINS:
            return []
        cuts = np.linspace(0.0, mass[-1], BINS + 1)
        each = mass[-1] / BINS
        confidences, accuracies = (np.diff(np.interp(cuts, mass, total)) / each for total in (confidence, right))
        # A cut between two items is not always the integer it should be.
        inside = 1e-9 * mass[-1]
        first = self._levels[np.searchsorted(mass[1:], cuts[:-1] + inside)]
        last = self._levels[np.searchsorted(mass[1:], cuts[1:] - inside)]
        return [
            {"low": low, "high": high, "confidence": mean, "accuracy": accuracy, "n": float(each)}
            for low, high, mean, accuracy in zip(
                first.tolist(), last.tolist(), confidences.tolist(), accuracies.tolist(), strict=True
            )
        ]

    def _laid_out(self, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
        """Cumulative weight, confidence and number right after each level of confidence, beginning with 0."""
        each = weights_of(weights, self._count)[self._places]
        mass, confidence, right = (
            np.concatenate(([0.0], np.cumsum(of)[self._ends])) for of in (each, each * self._given, each * self._right)
        )
        return mass, confidence, right


def check_probabilities(row: Row, field: str, value: object, *, of: str, classes: Sequence[str] | None = None) -> None:
    """See that a field holds one probability for each class, together 1, and one for the class that was predicted.

    Args:
        row: The item, for messages.
        field: The field's name.
        value: What it holds.
        of: The predicted class.
        classes: Those that may occur; default: any.

    Raises:
        InputInvalid: It does not.
    """
    wanted = "a mapping of class to probability, which sum to 1"
    if not isinstance(value, Mapping) or not value:
        raise InputInvalid(f"`{field}` of {item(row)} is {str(value)[:60]}", hint=f"expected {wanted}")
    for name, each in value.items():
        if not isinstance(name, str) or (classes is not None and name not in classes):
            known = f"; classes are {', '.join(classes)}" if classes is not None else ""
            raise InputInvalid(f"`{field}` of {item(row)} has a class {name!r}", hint=f"expected {wanted}{known}")
        if not is_number(each) or not 0 <= each <= 1:
            raise InputInvalid(f"`{field}` of {item(row)} has {each!r} for {name!r}", hint=f"expected {wanted}")
    total = math.fsum(value.values())
    if abs(total - 1) > _OFF:
        raise InputInvalid(f"`{field}` of {item(row)} sum to {total:.6g}", hint="probabilities of one item sum to 1")
    if of not in value:
        raise InputInvalid(
            f"`{field}` of {item(row)} has none for the predicted class {of!r}", hint=f"expected {wanted}"
        )


def all_or_none(rows: Sequence[Row], field: str) -> bool:
    """Whether the rows have an optional field.

    Raises:
        InputInvalid: Some have it and some do not: a measure of those that do would be of items somebody chose.
    """
    there = [has(row, field) for row in rows]
    if any(there) and not all(there):
        missing = rows[there.index(False)]
        raise InputInvalid(
            f"{item(missing)} has no `{field}`, {sum(there):,} of {len(rows):,} items have",
            hint="give it for all or for none",
        )
    return any(there)
