"""Comparing means: each item has a number."""

from __future__ import annotations

import math
from collections.abc import Mapping

from aifw.statistics.bootstrap import interval_of_clusters
from aifw.statistics.clusters import Clusters
from aifw.statistics.comparison import Comparison
from aifw.statistics.pairing import pair, refuse_unmeasured
from aifw.statistics.power import groups_needed, minimum_detectable_mean
from aifw.statistics.sign_flip import ENUMERATED, flip_all


def compare_means(
    before: Mapping[str, float],
    after: Mapping[str, float],
    groups: Mapping[str, str] | None = None,
    *,
    alpha: float = 0.05,
    seed: int = 0,
    resamples: int = 2000,
) -> Comparison:
    """Compare the means of a number that each item has.

    Where at most sixteen groups differ, the test flips their signs in every way, which is exact but never gives less than
    2 / 2 ** groups. Otherwise it is Student's t on the totals of groups, with the clustered standard error of the mean over items
    and on its guard against skewness: its tail is a formula, so that it is as good at a level of one in a hundred thousand as the
    approximation is, where resampling would need millions of draws. The interval is a bootstrap's over groups, or the test's own
    where the level is too small for the draws. `Comparison.decide` asks both.

    Where every group differs by the same amount, there is no test: p is 1.

    Args:
        before: Value by item of the first.
        after: Value by item of the second.
        groups: Group by item; default every item by itself.
        alpha: Size of the test; the interval covers `1 - alpha`.
        seed: Of the bootstrap.
        resamples: How often the bootstrap draws.

    Raises:
        ValueError: No items, different items, an item without a group, one group only, or a value that is not a finite number.
    """
    if before.keys() == after.keys():
        refuse_unmeasured(before, after)
    paired = pair(before, after, groups)
    if paired.groups < 2:
        raise ValueError(f"all items are of one group ({paired.labels[0]!r}): at least two are needed to compare means")
    clusters = Clusters.gather(paired.differences, paired.labels, paired.scale)
    estimate = clusters.estimate()
    differing = clusters.differing()
    if not estimate.error:
        p, test = 1.0, f"no test, as all {paired.groups:,} groups differ by the same amount"
    elif len(differing) <= ENUMERATED:
        p, test = (
            flip_all(differing),
            f"exact sign-flip test of the {len(differing)} of {paired.groups:,} groups that differ",
        )
    else:
        p, test = estimate.p(), f"Student's t test over {paired.groups:,} groups, corrected for skewness"
    interval, words = interval_of_clusters(clusters, alpha=alpha, seed=seed, resamples=resamples, span=paired.span)
    detectable, needed = mean_power(clusters, alpha)
    return Comparison(
        before=paired.before,
        after=paired.after,
        low=interval.low,
        high=interval.high,
        n=paired.n,
        groups=paired.groups,
        p=p,
        detectable=detectable,
        needed=needed,
        method=f"{test}, {words}",
    )


def mean_power(differences: Clusters, alpha: float) -> tuple[float | None, int | None]:
    """Smallest difference that would have shown, and items that the observed one would need; None where nothing varies."""
    groups = len(differences.totals)
    if groups < 2:
        return None, None
    estimate = differences.estimate()
    return estimate_power(estimate.value, estimate.error, groups, round(math.fsum(differences.counts)), alpha)


def estimate_power(
    difference: float, error: float, groups: int, items: int, alpha: float
) -> tuple[float | None, int | None]:
    """As `mean_power`, of a difference with a standard error."""
    if not error:
        return None, None
    # A difference that is lost in rounding would need more items than there are numbers for.
    if abs(difference) < 1e-9 * error:
        return minimum_detectable_mean(error, groups, alpha), None
    needed = groups_needed(difference, error * math.sqrt(groups), alpha)
    return minimum_detectable_mean(error, groups, alpha), math.ceil(needed * items / groups)
