"""Comparing outcomes: each item is right, wrong or a tie."""

from __future__ import annotations

import math
from collections.abc import Mapping

from aifw.statistics.bootstrap import interval_of_clusters, unvaried
from aifw.statistics.clusters import Clusters
from aifw.statistics.comparison import Comparison
from aifw.statistics.interval import Interval
from aifw.statistics.means import mean_power
from aifw.statistics.pairing import pair
from aifw.statistics.power import minimum_detectable_effect, pairs_needed
from aifw.statistics.proportions import mcnemar, newcombe_paired
from aifw.statistics.sign_flip import sign_flip


def compare(
    before: Mapping[str, float],
    after: Mapping[str, float],
    groups: Mapping[str, str] | None = None,
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of outcomes (1 right, 0 wrong, one half a tie) item by item.

    Where every item is its own group and nothing ties, the interval is Newcombe's and the test McNemar's; otherwise a bootstrap
    over groups and the exact sign-flip test over groups.

    Args:
        before: Outcome by item of the first.
        after: Outcome by item of the second.
        groups: Group by item; default every item by itself.
        alpha: Size of the test; the interval covers `1 - alpha`.
        seed: Of the bootstrap.

    Raises:
        ValueError: No items, different items, an item without a group, or an outcome other than 0, one half and 1.
    """
    paired = pair(before, after, groups)
    if not all(outcome in {0, 0.5, 1} for outcomes in (before, after) for outcome in outcomes.values()):
        raise ValueError("an outcome is 0, one half or 1")
    count, clusters = paired.n, paired.groups
    gained = sum(difference > 0 for difference in paired.differences)
    lost = sum(difference < 0 for difference in paired.differences)
    tied = 0.5 in before.values() or 0.5 in after.values()
    discordant = (gained + lost) / count
    difference = paired.after - paired.before
    if tied or clusters < count:
        differences = Clusters.gather(paired.differences, paired.labels, 1.0)
        interval, words = _clustered(differences, alpha, seed)
        p = sign_flip(paired.differences, paired.labels)
        method = f"exact sign-flip test over {clusters:,} groups, {words}"
        detectable, needed = mean_power(differences, alpha)
    else:
        both = sum(before[name] == after[name] == 1 for name in paired.names)
        interval = newcombe_paired(both, gained, lost, count - both - gained - lost, alpha)
        p, method = mcnemar(gained, lost), "exact McNemar test, Newcombe interval"
        detectable = minimum_detectable_effect(clusters, discordant, alpha) if discordant else None
        # Where nothing was lost the two are equal but for rounding.
        needed = (
            math.ceil(pairs_needed(min(abs(difference), discordant), discordant, alpha)) if gained != lost else None
        )
    return Comparison(
        before=paired.before,
        after=paired.after,
        low=interval.low,
        high=interval.high,
        n=count,
        groups=clusters,
        p=p,
        detectable=detectable,
        needed=needed,
        method=method,
    )


def _clustered(clusters: Clusters, alpha: float, seed: int) -> tuple[Interval, str]:
    """Interval of a difference that cannot leave -1 to 1."""
    if len(clusters.totals) < 2:
        interval, words = unvaried(clusters.mean, 1.0, 1, alpha), "interval of one group"
    else:
        interval, words = interval_of_clusters(clusters, alpha=alpha, seed=seed, resamples=2000, span=1.0)
    return Interval(max(-1.0, interval.low), min(1.0, interval.high)), words
