"""What a comparison of two subjects on the same items says, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Decision = Literal["better", "not_worse", "worse", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of two models on the same items.

    Attributes:
        before: Mean of the first, or its statistic.
        after: That of the second.
        low: Lower end of the interval of the difference.
        high: Upper end.
        n: Items.
        groups: Clusters of items.
        p: Two-sided p-value of no difference.
        detectable: Smallest difference that would have shown with a power of 80 %, or None if none would.
        needed: Items that the observed difference would need to show, or None where there is none.
        method: What interval and p-value rest on.
    """

    before: float
    after: float
    low: float
    high: float
    n: int
    groups: int
    p: float
    detectable: float | None
    needed: int | None
    method: str

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.after - self.before

    def decide(self, alpha: float = 0.05, margin: float | None = None) -> Decision:
        """Better or worse only if test and interval agree; not worse if the whole interval lies above minus the margin."""
        if self.p <= alpha and self.low > 0:
            return "better"
        if margin is not None and self.low >= -margin:
            return "not_worse"
        if self.p <= alpha and self.high < 0:
            return "worse"
        return "inconclusive"
