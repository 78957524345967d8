"""Exact tests that flip the signs of paired differences, whole groups at once.

If two subjects are equally good, a group's difference is as likely to point one way as the other. So what was observed is compared
with every way the signs could have fallen (Fisher 1935); of a difference of binary outcomes this is McNemar's test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NEGLIGIBLE = 1e-30

ENUMERATED = 16
"""Up to so many groups that differ, `flip_all` looks at every way the signs could have fallen."""


def sign_flip(differences: Sequence[float], groups: Sequence[str] | None = None) -> float:
    """Two-sided exact p-value that paired differences are as likely up as down.

    Whole groups change sign together, so pairs of one conversation count as what they are: not independent. Differences are
    multiples of one half. Of binary outcomes without groups this is McNemar's exact test. Nothing below 1e-30 is told apart.

    Raises:
        ValueError: A difference is not a multiple of one half, or lengths differ.
    """
    import numpy as np

    sums = _group_sums(differences, groups)
    sizes: dict[int, int] = {}
    for value in sums:
        if value:
            sizes[abs(value)] = sizes.get(abs(value), 0) + 1
    # Probability of each total, by convolving one binomial distribution for each size of difference: `chances[i]` is that of
    # the total `lowest + i`.
    lowest, chances = 0, np.ones(1)
    for size, count in sorted(sizes.items()):
        binomial = _fair_binomial(count)
        first = binomial[0][0]
        reached = np.zeros(len(chances) + 2 * size * (binomial[-1][0] - first))
        for k, factor in binomial:
            start = 2 * size * (k - first)
            reached[start : start + len(chances)] += factor * chances
        lowest += size * (2 * first - count)
        likely = np.flatnonzero(reached > _NEGLIGIBLE)
        lowest, chances = lowest + int(likely[0]), reached[likely[0] : likely[-1] + 1]
    observed = abs(sum(sums))
    totals = lowest + np.arange(len(chances))
    extreme = math.fsum(chances[np.abs(totals) >= observed])
    return min(1.0, max(_NEGLIGIBLE, extreme))


def flip_all(sums: npt.NDArray[np.float64]) -> float:
    """Two-sided exact p-value that sums of groups are as likely up as down, for sums of any size.

    Args:
        sums: One per group that differs, at most `ENUMERATED`, shape (groups,).

    Returns:
        Share of all ways to flip signs whose total is at least as far from 0; never below 2 / 2 ** groups.

    Raises:
        ValueError: More groups than can be enumerated.
    """
    import numpy as np

    if len(sums) > ENUMERATED:
        raise ValueError(f"{len(sums)} groups have too many ways to flip their signs")
    if not len(sums):
        return 1.0
    # Half of the ways mirror the other half.
    totals = np.abs(sums[:1])
    for value in np.abs(sums[1:]):
        totals = np.concatenate((totals + value, totals - value))
    # Sums that are equal but for rounding count as equal.
    observed = abs(math.fsum(sums)) - 1e-12 * math.fsum(np.abs(sums))
    return float(np.count_nonzero(np.abs(totals) >= observed)) / len(totals)


@lru_cache(maxsize=1024)
def _fair_binomial(count: int) -> list[tuple[int, float]]:
    """Numbers of heads in `count` throws and their probabilities, as far as they matter: one run without gaps."""
    if count <= 1000:
        chances = [math.comb(count, k) / 2**count for k in range(count + 1)]
        return [(k, chance) for k, chance in enumerate(chances) if chance > _NEGLIGIBLE]
    top = math.lgamma(count + 1) - count * math.log(2)
    reach = math.ceil(6 * math.sqrt(count))
    ks = range(max(0, count // 2 - reach), min(count, count // 2 + reach + 1) + 1)
    places = ((k, math.exp(top - math.lgamma(k + 1) - math.lgamma(count - k + 1))) for k in ks)
    return [(k, chance) for k, chance in places if chance > _NEGLIGIBLE]


def _group_sums(differences: Sequence[float], groups: Sequence[str] | None) -> list[int]:
    """Sums of doubled differences by group."""
    if groups is None:
        groups = [str(index) for index in range(len(differences))]
    sums: dict[str, int] = {}
    for difference, group in zip(differences, groups, strict=True):
        doubled = round(2 * difference)
        if doubled != 2 * difference:
            raise ValueError(f"{difference} is not a multiple of one half")
        sums[group] = sums.get(group, 0) + doubled
    return list(sums.values())
