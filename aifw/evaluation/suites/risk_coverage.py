"""Risk against coverage: how wrong are the answers if only the most confident ones are given (El-Yaniv and Wiener, 2010)?

With n items sorted by falling confidence, the risk at coverage m / n is the share of wrong ones among the first m. The area is the mean
over m = 1 .. n (AURC: Geifman, Uziel and El-Yaniv, 2019). Among ties every order is as likely, and the risk is its mean over these orders,
so the area does not depend on the order of the rows. With fewer than two levels of confidence nothing is sorted and it is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from aifw.errors import DependencyMissing
from aifw.evaluation.suites.weights import Floats, weights_of

_SHOWN = 100


class RiskCoverage:
    """Confidences of some items, and which of them are wrong.

    Args:
        confidences: Any numbers; more is more confident. Minus infinity stands for an answer that was not given.
        wrong: 1 if the answer is wrong, else 0; as many.
    """

    def __init__(self, confidences: Sequence[float], wrong: Sequence[float]) -> None:
        falling = -np.asarray(confidences, np.float64)
        self._order = np.argsort(falling, kind="stable")
        self._wrong = np.asarray(wrong, np.float64)[self._order]
        falling = falling[self._order]
        # The last item of each tie.
        self._ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], len(falling) > 0))

    def area(self, weights: Floats | None = None) -> float:
        """Area under the curve, from 0 to 1; NaN where all confidences are the same."""
        try:
            from scipy.special import digamma
        except ImportError as error:
            raise DependencyMissing("risk against coverage needs scipy", hint="pip install 'aifw[evaluate]'") from error
        covered, wrong_to = self._along(weights)
        items, wrong = np.diff(covered), np.diff(wrong_to)
        if (items > 0).sum() < 2:
            return math.nan
        # The sum over t = 1 .. w of (E + t r) / (N + t), for a tie of w items of which a share r is wrong, after N with E wrong,
        # is r w + (E - r N) (H(N + w) - H(N)), with harmonic numbers H(x) = digamma(x + 1) + a constant.
        share = np.divide(wrong, items, out=np.zeros_like(wrong), where=items > 0)
        total = share * items + (wrong_to[:-1] - share * covered[:-1]) * np.diff(digamma(covered + 1))
        return float(total.sum() / covered[-1])

    def curve(self) -> dict[str, Any]:
        """`coverage` and `risk` at up to 100 points, and beside the area the one of a perfect order and of a random one."""
        covered, wrong_to = self._along(None)
        count = float(covered[-1])
        if not count:
            return {"coverage": [], "risk": []}
        points = np.linspace(0.0, count, int(min(count, _SHOWN)) + 1)[1:]
        risk = np.interp(points, covered, wrong_to) / points
        area = self.area()
        best = RiskCoverage((-self._wrong).tolist(), self._wrong.tolist()).area()
        return {
            "coverage": (points / count).tolist(),
            "risk": risk.tolist(),
            "area": None if math.isnan(area) else area,
            "area_perfect": None if math.isnan(best) else best,
            "area_random": float(wrong_to[-1] / count),
        }

    def _along(self, weights: Floats | None) -> tuple[Floats, Floats]:
        """Cumulative weight and number wrong after each tie, the most confident first, beginning with 0."""
        each = weights_of(weights, len(self._order))[self._order]
        covered, wrong = (np.concatenate(([0.0], np.cumsum(of)[self._ends])) for of in (each, each * self._wrong))
        return covered, wrong
