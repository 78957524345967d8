"""Statistics of weighted rows. A weight is how often a row counts: integer weights give what repeating the rows gives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aifw.evaluation.suites import Statistic

Floats = npt.NDArray[np.float64]


def weights_of(weights: Floats | None, count: int) -> Floats:
    """One weight per row: those given, or 1 for each.

    Raises:
        ValueError: Not one for each row, or a weight that is negative or not finite.
    """
    if weights is None:
        return np.ones(count)
    given = np.asarray(weights, np.float64)
    if given.shape != (count,) or not np.isfinite(given).all() or (given < 0).any():
        raise ValueError(f"expected {count} weights that are finite and not negative")
    return given


def quotient(above: float, below: float) -> float:
    """A quotient, NaN where it is not defined."""
    return above / below if below > 0 else math.nan


def ratio_of_totals(above: Sequence[float], below: Sequence[float]) -> Statistic:
    """The total of one column by the total of another; NaN where the latter is 0."""
    top, bottom = np.asarray(above, np.float64), np.asarray(below, np.float64)

    def statistic(weights: Floats | None) -> float:
        each = weights_of(weights, len(top))
        return quotient(float(each @ top), float(each @ bottom))

    return statistic


def undefined(_weights: Floats | None) -> float:
    """A statistic that has no value on these rows."""
    return math.nan


def too_few(count: int, needed: int) -> str:
    """Why something is not defined: `too few: 212 of 1,000`."""
    return f"too few: {count:,} of {needed:,}"
