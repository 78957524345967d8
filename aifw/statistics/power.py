"""What a comparison could have shown, and how much data a difference needs to show.

The level matters as much as the data: a gate that is asked every week has a small one, see `aifw.statistics.spending`.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from aifw.statistics.distributions import normal_quantile, student_quantile


def pairs_needed(difference: float, discordant: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Pairs needed for a two-sided McNemar test to show a difference (Connor 1987, unconditional).

    Args:
        difference: Of the two proportions, not 0.
        discordant: Share of pairs the two disagree about, at least the size of the difference.
        alpha: Size of the test.
        power: Probability of showing the difference.

    Raises:
        ValueError: No difference, or a larger one than the discordant pairs allow.
    """
    size = abs(difference)
    if not 0 < size <= discordant <= 1:
        raise ValueError(f"a difference of {difference} cannot come from a share of {discordant} discordant pairs")
    z_size, z_power = normal_quantile(1 - alpha / 2), normal_quantile(power)
    spread = z_size * math.sqrt(discordant) + z_power * math.sqrt(max(0.0, discordant - size * size))
    return max(1.0, (spread / size) ** 2)


def minimum_detectable_effect(count: int, discordant: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest difference of paired proportions that a two-sided McNemar test shows with that power.

    Args:
        count: Pairs.
        discordant: Share of pairs the two disagree about.
        alpha: Size of the test.
        power: Probability of showing the difference.

    Returns:
        The difference, or None if not even a one-sided outcome of all discordant pairs would show.
    """
    if count < 1 or not 0 < discordant <= 1 or pairs_needed(discordant, discordant, alpha, power) > count:
        return None
    low, high = 0.0, discordant
    for _ in range(60):
        middle = (low + high) / 2
        if pairs_needed(max(middle, 1e-12), discordant, alpha, power) > count:
            low = middle
        else:
            high = middle
    return high


def minimum_detectable_mean(error: float, groups: int, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest difference of means that a two-sided test of Student shows with that power (Bloom 1995).

    Args:
        error: Standard error of the difference, clustered by group.
        groups: Independent groups behind it.
        alpha: Size of the test.
        power: Probability of showing the difference.

    Returns:
        The difference, or None where nothing varies or there are fewer than two groups.
    """
    if groups < 2 or not 0 < error < math.inf:
        return None
    return error * (student_quantile(1 - alpha / 2, groups - 1) + student_quantile(power, groups - 1))


def groups_needed(difference: float, spread: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Groups needed for a two-sided test of Student to show a difference of means; inverts `minimum_detectable_mean`.

    Args:
        difference: Of the means, not 0.
        spread: Standard error of the difference times the square root of the number of groups it was measured on.
        alpha: Size of the test.
        power: Probability of showing the difference.

    Raises:
        ValueError: No difference, or no spread.
    """
    if not 0 < abs(difference) < math.inf or not 0 < spread < math.inf:
        raise ValueError(
            f"a difference of {difference} with a spread of {spread} has no number of groups that shows it"
        )
    ratio = spread / abs(difference)
    size, strength = normal_quantile(1 - alpha / 2), normal_quantile(power)
    low = max(2, math.ceil(((size + strength) * ratio) ** 2))
    # Student's quantiles exceed normal ones by (z ** 3 + z) / (4 * freedom) and less that matters (Abramowitz and Stegun 26.7.5).
    more = max(1, math.ceil((size**3 + size + strength**3 + strength) / (2 * (size + strength))))
    if low > 1000:
        return low + more

    def enough(groups: int) -> bool:
        quantiles = student_quantile(1 - alpha / 2, groups - 1) + student_quantile(power, groups - 1)
        return (quantiles * ratio) ** 2 <= groups

    while not enough(low + more):
        more *= 2
    return low + bisect_left(range(more), True, key=lambda further: enough(low + further))
