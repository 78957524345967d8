"""Two sets of values of the same items, paired by the items' ids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paired:
    """Values of the same items.

    Attributes:
        names: Ids, sorted, so that no order of the input matters.
        differences: Second minus first, in that order.
        labels: Group of each.
        before: Mean of the first.
        after: Mean of the second.
        scale: Largest value by size.
        span: How far apart two values are at most, or how far from 0.
    """

    names: list[str]
    differences: list[float]
    labels: list[str]
    before: float
    after: float
    scale: float
    span: float

    @property
    def n(self) -> int:
        """Items."""
        return len(self.names)

    @property
    def groups(self) -> int:
        """Clusters of items."""
        return len(set(self.labels))


def pair(before: Mapping[str, float], after: Mapping[str, float], groups: Mapping[str, str] | None) -> Paired:
    """Pair values by item.

    Raises:
        ValueError: No items, different items, or an item without a group.
    """
    if not before or before.keys() != after.keys():
        raise ValueError("both must be measured on the same items, at least one")
    names = sorted(before)
    if groups is None:
        labels = names
    else:
        alone = next((name for name in names if name not in groups), None)
        if alone is not None:
            raise ValueError(f"the item {alone!r} has no group")
        labels = [groups[name] for name in names]
    values = (*before.values(), *after.values())
    lowest, highest = min(values), max(values)
    scale = max(-lowest, highest)
    return Paired(
        names=names,
        differences=[after[name] - before[name] for name in names],
        labels=labels,
        before=math.fsum(before.values()) / len(names),
        after=math.fsum(after.values()) / len(names),
        scale=scale,
        span=max(scale, highest - lowest),
    )


def refuse_unmeasured(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """See that every value is a finite number.

    Raises:
        ValueError: One is not; the message names the item.
    """
    for side, values in (("before", before), ("after", after)):
        wrong = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if wrong is not None:
            raise ValueError(f"the value {side} of the item {wrong!r} is not a finite number: {values[wrong]}")
