"""Suite `latency`: how long one item takes.

Fields of a row:

seconds     from asking to the whole answer, of a clock that never goes back; at least 0

A percentile is interpolated linearly between the two values around position (n - 1) q of the sorted ones: definition 7 of Hyndman
and Fan (1996), numpy's default. It has a value only from as many rows on as make it one: of fewer than 1,000 rows less than ten lie
above p99, and of fewer than 20 not one above p95. What counts are the rows that were measured; a draw of a bootstrap makes no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.fields import number
from aifw.evaluation.suites.weights import Floats, too_few, undefined, weights_of

PERCENTILES: Mapping[str, tuple[float, int]] = {
    "latency_p50": (0.50, 2),
    "latency_p95": (0.95, 20),
    "latency_p99": (0.99, 1000),
}
"""By measure: which one, and the fewest rows it needs."""

_BINS = 40


def percentile(ordered: Floats, weights: Floats, share: float) -> float:
    """A percentile of values that each count `weights` times.

    Args:
        ordered: Ascending values, shape (n,).
        weights: How often each counts, shape (n,).
        share: Which percentile, from 0 to 1.

    Returns:
        NaN if nothing counts.
    """
    reached = np.cumsum(weights)
    total = reached[-1] if len(reached) else 0.0
    if total <= 0:
        return math.nan
    position = max(0.0, (total - 1) * share)
    below = math.floor(position)
    # The value at position p is the first one whose weights, with all before it, exceed p.
    first, second = np.searchsorted(reached, [below, min(below + 1, math.ceil(total) - 1)], side="right")
    low, high = ordered[first], ordered[min(second, len(ordered) - 1)]
    return float(low + (high - low) * (position - below))


class Latency(Defaults):
    """See the module."""

    name = "latency"

    def check(self, row: Row) -> None:
        """Refuse a row without a duration."""
        number(row, "seconds", "a duration in seconds, at least 0", least=0)

    def values(self, row: Row) -> dict[str, float]:
        """None: a percentile is of all rows together."""
        return {}

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """The percentiles."""
        seconds = np.asarray([row["seconds"] for row in rows], np.float64)
        order = np.argsort(seconds, kind="stable")
        ordered = seconds[order]

        def at(share: float) -> Statistic:
            return lambda weights: percentile(ordered, weights_of(weights, len(ordered))[order], share)

        return {name: at(share) if len(rows) >= needed else undefined for name, (share, needed) in PERCENTILES.items()}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Histogram in bins whose bounds grow by equal factors, and the ends of the distribution."""
        seconds = np.asarray([row["seconds"] for row in rows], np.float64)
        notes = {name: too_few(len(rows), needed) for name, (_, needed) in PERCENTILES.items() if len(rows) < needed}
        if not len(seconds):
            return {"samples": 0, "notes": notes}
        return {
            "samples": len(seconds),
            "mean": float(seconds.mean()),
            "smallest": float(seconds.min()),
            "largest": float(seconds.max()),
            "definition": "linear interpolation between order statistics (Hyndman and Fan 1996, definition 7)",
            "histogram": _histogram(seconds),
            "notes": notes,
        }


def _histogram(seconds: Floats) -> dict[str, Any]:
    """Bounds in seconds, one more than counts; a bin holds its lower bound, the last one both."""
    some = seconds[seconds > 0]
    low, high = (float(some.min()), float(some.max())) if len(some) else (0.0, 0.0)
    edges = np.geomspace(low, high, _BINS + 1) if high > low * 1.001 else np.asarray([low, high])
    edges[0], edges[-1] = seconds.min() if len(edges) == 2 else low, high
    # What took no time that the clock could tell is counted with the shortest.
    bins = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, len(edges) - 2)
    return {"seconds": edges.tolist(), "counts": np.bincount(bins, minlength=len(edges) - 1).tolist()}


SUITE = Latency()
