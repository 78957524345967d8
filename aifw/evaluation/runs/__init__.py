"""One module per way of running a model to make the rows of suites.

A run is asked once for each side of an evaluation, one model in memory at a time, and keeps what it saw until the rows are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from aifw.evaluation.suites import Row

if TYPE_CHECKING:
    from aifw.evaluation.runs.items import Items
    from aifw.evaluation.runs.side import Side

Rows = Mapping[str, Sequence[Row]]
"""Rows by suite."""


class Run(Protocol):
    """One way of running models.

    Attributes:
        suites: What it makes rows for.
        steps: How many items it goes through for one side, for the progress that is shown.
    """

    suites: tuple[str, ...]
    steps: int

    def measure(self, side: Side, items: Items) -> None:
        """Run one side; the subject comes first. The model is loaded by whoever needs it first.

        Raises:
            InputInvalid: The items cannot be used.
            JobStopped: Stopped on request.
            JobError: What the model computes is not a number.
        """

    def rows(self, side: str) -> Rows:
        """Rows of a side that was measured; a suite without rows for it is left out."""
