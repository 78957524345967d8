"""Suite `classification`: one label per item.

Fields of a row:

label           the class that is right, a text
predicted       the class that was predicted
probabilities   probability by class, together 1; optional, but for all items or none

accuracy                         the predicted class is the label
precision_macro, recall_macro,   means over the classes that occur, see `aifw.evaluation.suites.confusion`
f1_macro
calibration_error                of the probability of the predicted class, see `aifw.evaluation.suites.calibration`
brier                            sum over the classes of (probability - 1 if it is the label else 0) squared, 0 to 2 (Brier, 1950)

A label without a probability, which the classifier did not know, counts as given 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.calibration import BINS, Calibration, all_or_none, check_probabilities
from aifw.evaluation.suites.confusion import Confusion
from aifw.evaluation.suites.fields import has, text
from aifw.evaluation.suites.weights import too_few


class Classification(Defaults):
    """See the module."""

    name = "classification"

    def check(self, row: Row) -> None:
        """Refuse a row without label and prediction, or with probabilities that are none."""
        text(row, "label", "the class that is right, a text")
        text(row, "predicted", "the class that was predicted, a text")
        if has(row, "probabilities"):
            check_probabilities(row, "probabilities", row["probabilities"], of=row["predicted"])

    def values(self, row: Row) -> dict[str, float]:
        """Of one item."""
        values = {"accuracy": float(row["predicted"] == row["label"])}
        if has(row, "probabilities"):
            values["brier"] = brier(row["probabilities"], row["label"])
        return values

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """Of all items together; the calibration error only where there are probabilities."""
        confusion = _confusion(rows)
        calibration = _calibration(rows)
        return {
            "precision_macro": confusion.macro("precision"),
            "recall_macro": confusion.macro("recall"),
            "f1_macro": confusion.macro("f1"),
            **({} if calibration is None else {"calibration_error": calibration.error}),
        }

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Scores of each class, confusion, and the bins of a reliability diagram."""
        confusion, calibration = _confusion(rows), _calibration(rows)
        details: dict[str, Any] = {"per_class": confusion.per_class(), "confusion": confusion.table()}
        notes: dict[str, str] = {}
        if (why := confusion.note()) is not None:
            notes |= dict.fromkeys(("precision_macro", "recall_macro", "f1_macro"), why)
        if calibration is None:
            notes |= dict.fromkeys(("calibration_error", "brier"), "no item has `probabilities`")
        else:
            details["reliability"] = calibration.bins()
            if len(calibration) < BINS:
                notes["calibration_error"] = too_few(len(calibration), BINS)
        return {**details, "notes": notes}


def brier(probabilities: dict[str, float], label: str) -> float:
    """Squared distance of the probabilities from certainty of the label."""
    squares = [(given - (name == label)) ** 2 for name, given in probabilities.items()]
    return math.fsum(squares) + (label not in probabilities)


def _confusion(rows: Sequence[Row]) -> Confusion:
    return Confusion([row["label"] for row in rows], [row["predicted"] for row in rows])


def _calibration(rows: Sequence[Row]) -> Calibration | None:
    if not all_or_none(rows, "probabilities"):
        return None
    return Calibration(
        [row["probabilities"][row["predicted"]] for row in rows],
        [float(row["predicted"] == row["label"]) for row in rows],
    )


SUITE = Classification()
