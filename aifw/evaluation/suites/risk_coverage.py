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
        levels, self._level = np.unique(-np.asarray(confidences, np.float64), return_inverse=True)
        self._levels = len(levels)
        self._wrong = np.asarray(wrong, np.float64)

    def area(self, weights: Floats | None = None) -> float:
        """Area under the curve, from 0 to 1; NaN where all confidences are the same."""
        try:
            from scipy.special import digamma
        except ImportError as error:
            raise DependencyMissing("risk against coverage needs scipy", hint="pip install 'aifw[evaluate]'") from error
        items, wrong = self._by_level(weights)
        there = items > 0
        if there.sum() < 2:
            return math.nan
        items, wrong = items[there], wrong[there]
        before, wrong_before = np.cumsum(items) - items, np.cumsum(wrong) - wrong
        share = wrong / items
        # The sum over t = 1 .. w of (E + t r) / (N + t), for a tie of w items of which a share r is wrong, after N with E wrong,
        # is r w + (E - r N) (H(N + w) - H(N)), with harmonic numbers H(x) = digamma(x + 1) + a constant.
        harmonic = digamma(before + items + 1) - digamma(before + 1)
        total = share * items + (wrong_before - share * before) * harmonic
        return float(total.sum() / items.sum())

    def curve(self) -> dict[str, Any]:
        """`coverage` and `risk` at up to 100 points, and beside the area the one of a perfect order and of a random one."""
        items, wrong = self._by_level(None)
        count = float(items.sum())
        if not count:
            return {"coverage": [], "risk": []}
        points = np.linspace(0.0, count, int(min(count, _SHOWN)) + 1)[1:]
        covered, wrong_to = (np.concatenate(([0.0], np.cumsum(of))) for of in (items, wrong))
        risk = np.interp(points, covered, wrong_to) / points
        area = self.area()
        best = RiskCoverage((-self._wrong).tolist(), self._wrong.tolist()).area()
        return {
            "coverage": (points / count).tolist(),
            "risk": risk.tolist(),
            "area": None if math.isnan(area) else area,
            "area_perfect": None if math.isnan(best) else best,
            "area_random": float(wrong.sum() / count),
        }

    def _by_level(self, weights: Floats | None) -> tuple[Floats, Floats]:
        each = weights_of(weights, len(self._wrong))
        items = np.bincount(self._level, each, self._levels)
        wrong = np.bincount(self._level, each * self._wrong, self._levels)
        return items.astype(np.float64), wrong.astype(np.float64)
