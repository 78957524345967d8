"""What an interval is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends, both included."""

    low: float
    high: float
