"""Values gathered by group: what a mean, its standard error and its skewness need of them.

Items of one group (turns of a conversation, questions on a document) are not independent, so groups are the units that are counted
and drawn. The mean is that of all items, a ratio of two totals, and its error that of a ratio (Cochran 1977, section 6; for clusters
Liang and Zeger 1986).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifw.statistics.student import Estimate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Clusters:
    """Values of items, gathered by group.

    Attributes:
        totals: Sum of the values of each group, shape (groups,), in the order of the groups' names.
        counts: Items of each group, shape (groups,).
        scale: Largest value there is, by size: what rounding is measured against.
    """

    totals: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]
    scale: float

    @classmethod
    def gather(cls, values: Sequence[float], groups: Sequence[str] | None, scale: float = 0.0) -> Clusters:
        """Gather values by group; without groups each is one by itself, in ascending order.

        Raises:
            ValueError: No values, lengths differ, or a value is not a finite number.
        """
        import numpy as np

        if not len(values):
            raise ValueError("no values have no mean")
        numbers = np.asarray(values, dtype=np.float64)
        largest = float(np.max(np.abs(numbers)))
        # Sums and products of sums must be finite as well.
        if not largest < 1e150:
            raise ValueError("a value is not a finite number" if not math.isfinite(largest) else "a value is too large")
        scale = max(scale, largest)
        if groups is None:
            return cls(np.sort(numbers), np.ones(len(numbers)), scale)
        if len(groups) != len(numbers):
            raise ValueError(f"{len(numbers)} values need as many groups, not {len(groups)}")
        index = place(groups)
        totals, counts = np.bincount(index, weights=numbers), np.bincount(index)
        return cls(totals.astype(np.float64), counts.astype(np.float64), scale)

    @property
    def mean(self) -> float:
        """Mean over items."""
        return math.fsum(self.totals) / math.fsum(self.counts)

    @property
    def deviations(self) -> npt.NDArray[np.float64]:
        """How far each group's total is from that of as many average items, shape (groups,)."""
        return self.totals - self.mean * self.counts

    @property
    def varies(self) -> bool:
        """Whether groups differ by more than rounding."""
        return bool((abs(self.deviations) > 1e-12 * self.scale * self.counts).any())

    def differing(self) -> npt.NDArray[np.float64]:
        """Totals that are not 0 but for rounding."""
        return self.totals[abs(self.totals) > 1e-12 * self.scale * self.counts]

    def estimate(self) -> Estimate:
        """The mean with its standard error and skewness, clustered by group.

        Raises:
            ValueError: There is one group only.
        """
        groups = len(self.totals)
        if groups < 2:
            raise ValueError("one group says nothing of how much groups vary; at least two are needed")
        deviations = self.deviations
        if not self.varies:
            return Estimate(self.mean, 0.0, 0.0, groups - 1)
        # Of unit size, so that cubes of very small numbers do not vanish.
        size = float(abs(deviations).max())
        unit = deviations / size
        square = float((unit**2).sum())
        error = size * math.sqrt(groups / (groups - 1) * square) / math.fsum(self.counts)
        return Estimate(self.mean, error, float((unit**3).sum()) / square**1.5, groups - 1)


def place(groups: Sequence[str]) -> npt.NDArray[np.intp]:
    """Position of each item's group among the sorted names, shape (items,)."""
    import numpy as np

    order = {name: at for at, name in enumerate(sorted(set(groups)))}
    return np.fromiter((order[name] for name in groups), dtype=np.intp, count=len(groups))
