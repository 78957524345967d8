"""Which class was taken for which, and precision, recall and F1 from it, over weighted rows.

A class counts if it occurs, as a label or as a prediction, in a row of positive weight, so that a draw of a bootstrap means what the same
rows written out would. A class that is never predicted has a precision of 0, one that is never the label a recall of 0, as in
scikit-learn with `zero_division=0`. With fewer than two classes among the labels nothing is told apart and the means are not defined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aifw.evaluation.suites import Statistic
from aifw.evaluation.suites.weights import Floats, weights_of

_SHOWN_CLASSES = 50
_SHOWN_MISTAKES = 20

Score = Literal["precision", "recall", "f1"]


class Confusion:
    """Labels and predictions of some rows.

    Args:
        labels: What is right.
        predicted: What was said, as many.
        places: Index of the row each belongs to; default: one each, in order.
        count: Number of rows that weights are given for.
    """

    def __init__(
        self,
        labels: Sequence[str],
        predicted: Sequence[str],
        places: Sequence[int] | None = None,
        count: int | None = None,
    ) -> None:
        self.classes = sorted({*labels, *predicted})
        index = {name: place for place, name in enumerate(self.classes)}
        self._pairs = Counter(zip(labels, predicted, strict=True))
        self._labels = np.array([index[name] for name in labels], np.intp)
        self._predicted = np.array([index[name] for name in predicted], np.intp)
        self._right = (self._labels == self._predicted).astype(np.float64)
        self._places = np.arange(len(labels)) if places is None else np.array(places, np.intp)
        self._count = len(labels) if count is None else count

    def macro(self, score: Score) -> Statistic:
        """Unweighted mean over the classes."""

        def statistic(weights: Floats | None) -> float:
            scores, labelled, predicted = self._scores(score, weights)
            if (labelled > 0).sum() < 2:
                return float("nan")
            return float(scores[(labelled > 0) | (predicted > 0)].mean())

        return statistic

    def per_class(self) -> dict[str, dict[str, float]]:
        """Precision, recall, F1 and the number of labels of every class."""
        scores = {name: self._scores(name, None)[0] for name in ("precision", "recall", "f1")}
        labelled = self._scores("f1", None)[1]
        return {
            name: {**{score: float(of[place]) for score, of in scores.items()}, "n": int(labelled[place])}
            for place, name in enumerate(self.classes)
        }

    def table(self) -> dict[str, Any]:
        """`labels` and `counts` (a row for each label, a column for each prediction); only the most frequent mistakes of many classes."""
        if len(self.classes) <= _SHOWN_CLASSES:
            counts = [[self._pairs[label, predicted] for predicted in self.classes] for label in self.classes]
            return {"labels": self.classes, "counts": counts}
        wrong = sorted(((-often, *pair) for pair, often in self._pairs.items() if pair[0] != pair[1]))
        mistakes = [
            {"label": label, "predicted": predicted, "n": -often} for often, label, predicted in wrong[:_SHOWN_MISTAKES]
        ]
        return {"classes": len(self.classes), "mistakes": mistakes}

    def note(self) -> str | None:
        """Why the means are not defined, or None where they are."""
        labels = len(set(self._labels.tolist()))
        return (
            None
            if labels > 1
            else f"the labels have {labels} class{'' if labels == 1 else 'es'}: nothing to tell apart"
        )

    def _scores(self, score: Score, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
        each = weights_of(weights, self._count)[self._places]
        labelled = self._by_class(self._labels, each)
        predicted = self._by_class(self._predicted, each)
        right = self._by_class(self._labels, each * self._right)
        below = {"precision": predicted, "recall": labelled, "f1": (labelled + predicted) / 2}[score]
        return np.divide(right, below, out=np.zeros_like(right), where=below > 0), labelled, predicted

    def _by_class(self, index: npt.NDArray[np.intp], weights: Floats) -> Floats:
        return np.bincount(index, weights, len(self.classes)).astype(np.float64)
