"""Intervals and comparisons of a number that all items have together, such as F1, BLEU or a percentile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aifw.statistics.bootstrap import MOST_DRAWN, bundles, draw_weights, interval_of_draws
from aifw.statistics.clusters import place
from aifw.statistics.comparison import Comparison
from aifw.statistics.interval import Interval
from aifw.statistics.means import estimate_power
from aifw.statistics.student import Estimate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Statistic = Callable[["npt.NDArray[np.float64] | None"], float]
"""A number of all rows, given one weight per row (how often it counts) or None for once each; NaN where it is not defined."""

_UNDEFINED = 0.05


def interval_of_statistic(
    statistic: Statistic, groups: Sequence[str], *, alpha: float = 0.05, seed: int = 0, resamples: int = 2000
) -> Interval:
    """Interval of a statistic, by a bootstrap over groups.

    Args:
        statistic: Called with weights of the rows.
        groups: Group of each row, in the rows' order.
        alpha: The interval covers `1 - alpha`.
        seed: Of the bootstrap.
        resamples: How often to draw.

    Raises:
        ValueError: No rows, one group only, or the statistic is not defined on these rows or on many draws of them.
    """
    value = _defined(statistic(None), "the statistic")
    draws = paired_bootstrap((statistic,), groups, seed=seed, resamples=resamples)[0]
    return interval_of_draws(draws, _estimate(value, draws, groups), alpha)[0]


def compare_statistic(
    before: Statistic,
    after: Statistic,
    groups: Sequence[str],
    *,
    alpha: float = 0.05,
    seed: int = 0,
    resamples: int = 2000,
) -> Comparison:
    """Compare a statistic of two subjects on the same rows, by a paired bootstrap over groups.

    Both are called with the same weights in each draw, so what the two have in common cancels. The p-value is that of the
    difference over its bootstrap standard error, in the tails of Student's t and on its guard against the skewness of the draws:
    draws alone could not tell a p-value below one over their number. Where no draw changes the difference, p is 1.

    Args:
        before: Statistic of the first, called with weights of the rows.
        after: That of the second; its rows are in the same order.
        groups: Group of each row.
        alpha: Size of the test; the interval covers `1 - alpha`.
        seed: Of the bootstrap.
        resamples: How often to draw.

    Raises:
        ValueError: No rows, one group only, or a statistic is not defined on these rows or on many draws of them.
    """
    first, second = _defined(before(None), "the first statistic"), _defined(after(None), "the second statistic")
    drawn = paired_bootstrap((before, after), groups, seed=seed, resamples=resamples)
    draws = drawn[1] - drawn[0]
    estimate, clusters = _estimate(second - first, draws, groups), len(set(groups))
    interval, words = interval_of_draws(draws, estimate, alpha, max(abs(first), abs(second), abs(second - first)))
    test = f"paired bootstrap over {clusters:,} groups, Student's t on its standard error corrected for skewness"
    if not estimate.error:
        test = f"no test, as the difference was the same in all draws of {clusters:,} groups"
    detectable, needed = estimate_power(estimate.value, estimate.error, clusters, len(groups), alpha)
    return Comparison(
        before=first,
        after=second,
        low=interval.low,
        high=interval.high,
        n=len(groups),
        groups=clusters,
        p=estimate.p(),
        detectable=detectable,
        needed=needed,
        method=f"{test}, {words}",
    )


def paired_bootstrap(
    statistics: Sequence[Statistic], groups: Sequence[str], *, seed: int = 0, resamples: int = 2000
) -> npt.NDArray[np.float64]:
    """Statistics of the same rows, each draw of groups the same for all of them.

    Args:
        statistics: Called with weights of the rows.
        groups: Group of each row.
        seed: The same seed draws the same groups.
        resamples: How often to draw.

    Returns:
        One row per statistic, shape (statistics, draws); draws on which one is not defined are left out.

    Raises:
        ValueError: No rows, one group only, or more than one draw in twenty on which a statistic is not defined.
    """
    import numpy as np

    if not groups:
        raise ValueError("no rows have no statistic")
    index = place(groups)
    count = int(index.max()) + 1
    if count < 2:
        raise ValueError(f"all rows are of one group ({groups[0]!r}): at least two are needed to draw from")
    bundle = bundles(count, seed)
    index = bundle[index]
    columns = [
        [statistic(weights) for statistic in statistics]
        for chunk in draw_weights(int(bundle.max()) + 1, seed, resamples)
        for weights in (row[index] for row in chunk)
    ]
    drawn = np.asarray(columns, dtype=np.float64).T
    defined = np.isfinite(drawn).all(axis=0)
    if defined.mean() < 1 - _UNDEFINED:
        raise ValueError(
            f"the statistic is not defined on {np.count_nonzero(~defined):,} of {resamples:,} draws of the rows: "
            "there are too few rows, or too few of one class"
        )
    kept: npt.NDArray[np.float64] = drawn[:, defined]
    return kept


def _defined(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what} is not defined on these rows ({value})")
    return float(value)


def _estimate(value: float, draws: npt.NDArray[np.float64], groups: Sequence[str]) -> Estimate:
    import numpy as np

    count = min(len(set(groups)), MOST_DRAWN)
    deviations = draws - draws.mean()
    size = float(np.abs(deviations).max())
    if size <= 1e-12 * max(abs(value), float(np.abs(draws).max())):
        return Estimate(value, 0.0, 0.0, count - 1)
    unit = deviations / size
    square = float((unit**2).mean())
    # Draws vary as the items do around their own mean, which is a little less than around the true one.
    error = size * math.sqrt(square * count / (count - 1))
    skewness = float((unit**3).mean()) / square**1.5
    # Its own standard error is taken off: what is only the noise of so many draws would cost power far out in the tail.
    skewness = math.copysign(max(0.0, abs(skewness) - math.sqrt(6 / len(draws))), skewness)
    return Estimate(value, error, skewness, count - 1)
