"""Proportions: the interval of one, and test and interval of two on the same items."""

from __future__ import annotations

import math

from aifw.statistics.distributions import normal_quantile
from aifw.statistics.interval import Interval


def quotient(part: int, whole: int) -> float:
    """Quotient of two integers, rounded once, however large they are."""
    return part / whole


def wilson(successes: float, count: int, alpha: float = 0.05) -> Interval:
    """Score interval of a proportion (Wilson 1927).

    Args:
        successes: 0 to `count`; halves are allowed.
        count: Trials, at least 1.
        alpha: The interval covers `1 - alpha`.

    Raises:
        ValueError: No trials, or more successes than trials.
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{successes} successes in {count} trials have no interval")
    z = normal_quantile(1 - alpha / 2)
    share, weight = successes / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == count else min(1.0, middle + half)
    return Interval(low, high)


def mcnemar(gained: int, lost: int, *, mid_p: bool = False) -> float:
    """Two-sided exact p-value of paired binary outcomes (McNemar 1947; mid-p: Fagerland, Lydersen, Laake 2013).

    Args:
        gained: Pairs that only the second was right about.
        lost: Pairs that only the first was right about.
        mid_p: Count the observed outcome half: less conservative, no longer guaranteed.

    Raises:
        ValueError: A negative number.
    """
    if gained < 0 or lost < 0:
        raise ValueError("numbers of pairs cannot be negative")
    count, fewer = gained + lost, min(gained, lost)
    ways = tail = 1
    for k in range(fewer):
        ways = ways * (count - k) // (k + 1)
        tail += ways
    return min(1.0, quotient(2 * tail - ways if mid_p else 2 * tail, 2**count))


def newcombe_paired(both: int, gained: int, lost: int, neither: int, alpha: float = 0.05) -> Interval:
    """Interval of the difference of two paired proportions: hybrid of Wilson intervals with continuity-corrected correlation.

    Newcombe 1998, method 10.

    Args:
        both: Pairs both were right about.
        gained: Pairs only the second was right about.
        lost: Pairs only the first was right about.
        neither: Pairs neither was right about.
        alpha: The interval covers `1 - alpha`.

    Returns:
        Interval of (second minus first).

    Raises:
        ValueError: No pairs, or a negative number.
    """
    if min(both, gained, lost, neither) < 0:
        raise ValueError("numbers of pairs cannot be negative")
    count = both + gained + lost + neither
    second, first = both + gained, both + lost
    upper, lower = wilson(second, count, alpha), wilson(first, count, alpha)
    difference = (second - first) / count
    margins = second * (count - second) * first * (count - first)
    correlation = 0.0
    if margins:
        excess = float(both * neither - gained * lost)
        excess = max(excess - count / 2, 0.0) if excess > 0 else excess
        correlation = excess / math.sqrt(margins)
    down, up = second / count - upper.low, upper.high - second / count
    first_down, first_up = first / count - lower.low, lower.high - first / count
    below = math.sqrt(max(0.0, down**2 - 2 * correlation * down * first_up + first_up**2))
    above = math.sqrt(max(0.0, up**2 - 2 * correlation * up * first_down + first_down**2))
    return Interval(max(-1.0, difference - below), min(1.0, difference + above))
