"""One module per suite: from rows, one for each item, to measures.

A suite knows nothing of models, jobs or files. Its rows come from running a model (`aifw.evaluation.runs`), from predictions a user
brings, or from whatever else answered the items. Every row is a mapping with `id` (text, no two rows the same), optionally `group`
(items of one group are not independent; default: the id) and the fields the suite's module documents.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from aifw.evaluation.measures import SUITES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Row = Mapping[str, Any]

Statistic = Callable[["npt.NDArray[np.float64] | None"], float]
"""A number of all rows. It is called with one weight per row, how often the row counts (a bootstrap's draw), or None for once each.
It is NaN where it is not defined, such as a percentile of too few rows."""


class Suite(Protocol):
    """What a module in this package offers as `SUITE`. Its measures are those of `aifw.evaluation.measures.SUITES[name]`."""

    name: str

    def check(self, row: Row) -> None:
        """See that a row has what the suite needs.

        Raises:
            InputInvalid: A field is missing, of the wrong type, or not a finite number; the message names item and field.
        """

    def values(self, row: Row) -> dict[str, float]:
        """The item's value of every measure of the forms `outcome` and `mean` the row has the fields for."""

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """Functions for the measures of the form `statistic`; what they need of the rows is prepared once."""

    def observed(self, rows: Sequence[Row]) -> dict[str, float]:
        """Measures of the form `observed` that can be known from the rows."""

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What a report shows beside the measures: confusion, reliability bins, a histogram. JSON values.

        `notes` in it, where it is there, says by measure why a value is not defined: `too few: 212 of 1,000`.
        """

    def incomparable(self, before: Sequence[Row], after: Sequence[Row]) -> dict[str, str]:
        """Measures of the form `statistic` that two subjects' rows of the same items, in the same order, cannot be compared by, and why."""


class Defaults:
    """Defaults for suites without some of the forms."""

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """None."""
        return {}

    def observed(self, rows: Sequence[Row]) -> dict[str, float]:
        """None."""
        return {}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """None."""
        return {}

    def incomparable(self, before: Sequence[Row], after: Sequence[Row]) -> dict[str, str]:
        """None."""
        return {}


def find(name: str) -> Suite:
    """The suite of that name.

    Raises:
        KeyError: There is none.
    """
    if name not in SUITES:
        raise KeyError(name)
    suite: Suite = importlib.import_module(f"aifw.evaluation.suites.{name}").SUITE
    return suite
