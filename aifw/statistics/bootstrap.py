"""The bootstrap over groups: draw as many groups as there are, with replacement, and look how the number comes out.

Percentile intervals (Efron 1979) are too narrow for few groups, so they are taken a little further out, by as much as Student's t
interval is wider than a normal one (Hesterberg 2015, "expanded percentile"). Two thousand draws know nothing of a tail of one in ten
thousand: where fewer than ten draws would lie beyond an end, `aifw.statistics.student` gives the interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from aifw.statistics.clusters import Clusters
from aifw.statistics.distributions import student_quantile
from aifw.statistics.interval import Interval
from aifw.statistics.sign_flip import ENUMERATED
from aifw.statistics.student import Estimate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_DRAWN = 4096
"""More groups than this are bundled at random, and the bundles drawn: a bootstrap over coarser clusters, just as valid."""

_CELLS = 1 << 20
_BEYOND = 10


def bootstrap(
    values: Sequence[float],
    groups: Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Plain percentile interval of a mean, resampled by group.

    Args:
        values: One per item; for a paired comparison the differences.
        groups: Items of one group are drawn together. Default: every item by itself.
        alpha: The interval covers `1 - alpha`.
        seed: The same seed gives the same interval everywhere.
        resamples: How often to draw.

    Raises:
        ValueError: No values, lengths differ, or a value is not a number.
    """
    means = draw_means(Clusters.gather(values, groups), seed, resamples)
    return _percentiles(means, alpha / 2)


def interval_of_mean(
    values: Sequence[float],
    groups: Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Interval of a mean over items that come in groups.

    Args:
        values: One per item.
        groups: Group of each item. Default: every item by itself.
        alpha: The interval covers `1 - alpha`.
        seed: Of the bootstrap.
        resamples: How often to draw.

    Raises:
        ValueError: No values, one group only, lengths differ, or a value is not a finite number.
    """
    return interval_of_clusters(Clusters.gather(values, groups), alpha=alpha, seed=seed, resamples=resamples)[0]


def interval_of_clusters(
    clusters: Clusters, *, alpha: float, seed: int, resamples: int, span: float | None = None
) -> tuple[Interval, str]:
    """Interval of a mean, and in words what it rests on.

    Args:
        clusters: The values.
        alpha: The interval covers `1 - alpha`.
        seed: Of the bootstrap.
        resamples: How often to draw.
        span: How far from 0 the values of other groups may be. Default: twice as far as these, which are then a level, or 0.

    Raises:
        ValueError: One group only.
    """
    estimate = clusters.estimate()
    if not estimate.error:
        return unvaried(estimate.value, span, len(clusters.totals), alpha), "interval of what never varied"
    share = tail_share(alpha, len(clusters.totals))
    # Few groups that differ would often not be drawn at all.
    sparse = len(clusters.differing()) <= ENUMERATED
    if sparse or resamples * share < _BEYOND:
        return estimate.interval(alpha), "interval by inverting Student's t test"
    return _percentiles(draw_means(clusters, seed, resamples), share), "bootstrap interval"


def interval_of_draws(
    draws: npt.NDArray[np.float64], estimate: Estimate, alpha: float, span: float | None = None
) -> tuple[Interval, str]:
    """Interval of any statistic from its bootstrap draws, and in words what it rests on.

    Args:
        draws: The statistic of each draw, shape (draws,).
        estimate: The statistic itself, with the standard error of the draws.
        alpha: The interval covers `1 - alpha`.
        span: As `interval_of_clusters`.
    """
    if not estimate.error:
        return unvaried(estimate.value, span, estimate.freedom + 1, alpha), "interval of what never varied"
    share = tail_share(alpha, estimate.freedom + 1)
    # A bias of a quarter of the standard error is no longer negligible (Efron and Tibshirani 1993, section 10.3).
    biased = abs(float(draws.mean()) - estimate.value) > estimate.error / 4
    if biased or len(draws) * share < _BEYOND:
        return estimate.interval(alpha), "interval from the bootstrap's standard error"
    return _percentiles(draws, share), "bootstrap interval"


def unvaried(value: float, span: float | None, groups: int, alpha: float) -> Interval:
    """Interval of a mean whose groups all came out the same.

    A share of groups that none of so many showed is at most 1 - (alpha / 2) ** (1 / groups) (Clopper and Pearson 1934; of 5 % and
    many groups the rule of three). Such groups can lie anywhere within the span.
    """
    unseen = -math.expm1(math.log(alpha / 2) / groups)
    lowest, highest = (value - abs(value), value + abs(value)) if span is None else (-span, span)
    return Interval(value - unseen * (value - lowest), value + unseen * (highest - value))


def tail_share(alpha: float, groups: int) -> float:
    """Share of draws to leave out at each end."""
    bound = math.sqrt(groups / (groups - 1)) * student_quantile(1 - alpha / 2, groups - 1)
    return 0.5 * math.erfc(bound / math.sqrt(2))


def draw_means(clusters: Clusters, seed: int, resamples: int) -> npt.NDArray[np.float64]:
    """Mean over the items of each draw of groups, shape (resamples,)."""
    import numpy as np

    bundle = bundles(len(clusters.totals), seed)
    totals, counts = (np.bincount(bundle, weights=each) for each in (clusters.totals, clusters.counts))
    weights = draw_weights(len(totals), seed, resamples)
    return np.concatenate([(each @ totals) / (each @ counts) for each in weights])


def bundles(groups: int, seed: int) -> npt.NDArray[np.intp]:
    """Which bundle each group belongs to: its own, or one of `MOST_DRAWN` at random, shape (groups,)."""
    import numpy as np

    if groups <= MOST_DRAWN:
        return np.arange(groups)
    return np.random.default_rng([seed, 1]).permutation(groups) % MOST_DRAWN


def draw_weights(count: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.float64]]:
    """How often each of `count` units is drawn, several draws at a time, shape (draws, count).

    Raises:
        ValueError: Fewer than 100 draws.
    """
    import numpy as np

    if resamples < 100:
        raise ValueError(f"a bootstrap of {resamples} draws says nothing; at least 100 are needed")
    generator = np.random.default_rng(seed)
    most = max(1, _CELLS // count)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        drawn = generator.integers(0, count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _percentiles(draws: npt.NDArray[np.float64], share: float) -> Interval:
    import numpy as np

    low, high = np.quantile(draws, [share, 1 - share])
    return Interval(float(low), float(high))
