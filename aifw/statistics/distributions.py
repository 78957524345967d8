"""Tails and quantiles of the normal and of Student's t distribution, right far out and without a library.

A level of one in a hundred thousand asks for tails that are right in their leading digits, not to so many places after the point:
tails are computed as such, never as one minus the rest.
"""

from __future__ import annotations

import math
from functools import lru_cache

_NEARLY_NORMAL = 1e7


def normal_quantile(probability: float) -> float:
    """The value a standard normal variable stays below with that probability.

    Newton's method on the complementary error function, to the last digits of a double.

    Raises:
        ValueError: Not strictly between 0 and 1.
    """
    if not 0 < probability < 1:
        raise ValueError(f"a probability strictly between 0 and 1 has a quantile, {probability} has none")
    if probability > 0.5:
        return -normal_quantile(1 - probability)
    value = -math.sqrt(-2 * math.log(probability)) if probability < 0.1 else 0.0
    for _ in range(100):
        density = math.exp(-value * value / 2) / math.sqrt(2 * math.pi)
        step = (0.5 * math.erfc(-value / math.sqrt(2)) - probability) / density
        # Far out the error function is so flat that a full step would overshoot.
        step = max(-1.0, min(1.0, step))
        value -= step
        if abs(step) < 1e-15 * max(1.0, abs(value)):
            break
    return value


def student_tail(value: float, freedom: float) -> float:
    """Probability that a variable of Student's t distribution lies above a value.

    Args:
        value: Any number; infinities are allowed.
        freedom: Degrees of freedom, above 0.

    Raises:
        ValueError: No degrees of freedom, or the value is not a number.
    """
    if not freedom > 0 or math.isnan(value):
        raise ValueError(f"Student's t distribution has no tail at {value} with {freedom} degrees of freedom")
    if value < 0:
        return 1 - student_tail(-value, freedom)
    if math.isinf(value):
        return 0.0
    if freedom > _NEARLY_NORMAL:
        # Abramowitz and Stegun 26.7.8, which is off by the square of 1 / freedom; the fraction would take very long.
        return 0.5 * math.erfc(
            value * (1 - 0.25 / freedom) / math.sqrt(1 + value * value / (2 * freedom)) / math.sqrt(2)
        )
    ratio = value * value / freedom
    half = freedom / 2
    # log of x ** a * (1 - x) ** (1 / 2) / B(a, 1 / 2) with a = freedom / 2 and x = freedom / (freedom + value ** 2).
    scale = math.exp(_log_gamma_step(half) - math.log(math.pi) / 2 - half * math.log1p(ratio)) * math.sqrt(
        ratio / (1 + ratio)
    )
    x = 1 / (1 + ratio)
    if x < (half + 1) / (half + 2.5):
        return 0.5 * scale / half * _beta_fraction(half, 0.5, x)
    return 0.5 - 0.5 * scale / 0.5 * _beta_fraction(0.5, half, ratio / (1 + ratio))


@lru_cache(maxsize=4096)
def student_quantile(probability: float, freedom: float) -> float:
    """The value a variable of Student's t distribution stays below with that probability.

    Raises:
        ValueError: Not strictly between 0 and 1, or no degrees of freedom.
    """
    if not 0 < probability < 1 or not freedom > 0:
        raise ValueError(f"Student's t distribution with {freedom} degrees of freedom has no {probability} quantile")
    if probability == 0.5:
        return 0.0
    if probability < 0.5:
        return -_upper_quantile(probability, freedom)
    return _upper_quantile(1 - probability, freedom)


def _upper_quantile(tail: float, freedom: float) -> float:
    """Newton's method from the normal quantile: the tail is convex and heavier than the normal one, so steps never overshoot."""
    value = -normal_quantile(tail)
    top = _log_gamma_step(freedom / 2) - math.log(freedom * math.pi) / 2
    for _ in range(200):
        density = math.exp(top - (freedom + 1) / 2 * math.log1p(value * value / freedom))
        step = (student_tail(value, freedom) - tail) / density
        value += step
        if abs(step) < 4e-16 * value:
            break
    return value


def _log_gamma_step(a: float) -> float:
    """Logarithm of gamma(a + 1/2) / gamma(a), without the digits that a difference of two large logarithms would lose."""
    if a < 30:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    inverse = 1 / a
    square = inverse * inverse
    series = inverse * (-1 / 8 + square * (1 / 192 + square * (-1 / 640 + square * (17 / 14336 - square * 31 / 18432))))
    return 0.5 * math.log(a) + series


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Continued fraction of the incomplete beta function (DLMF 8.17.22), from the front by ratios of successive convergents."""
    tiny = 1e-300
    numerator, denominator, value = 1.0, 0.0, 1.0
    for m in range(1, 100_000):
        k = m // 2
        if m % 2:
            term = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        else:
            term = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        denominator = 1 / ((1 + term * denominator) or tiny)
        numerator = (1 + term / numerator) or tiny
        change = numerator * denominator
        value *= change
        if abs(change - 1) < 1e-15:
            break
    # The fraction itself is the reciprocal: 1 / (1 + d1 / (1 + d2 / ...)).
    return 1 / value
