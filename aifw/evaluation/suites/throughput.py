"""Suite `throughput`: how much gets done in a second.

Fields of a row:

tokens      read and written for the item, a whole number
seconds     the item took alone; of items that ran together, the time of all by their number; at least 0

Both measures are ratios of totals: the mean of each item's own speed would count short items as much as long ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.fields import number, whole
from aifw.evaluation.suites.weights import ratio_of_totals


class Throughput(Defaults):
    """See the module."""

    name = "throughput"

    def check(self, row: Row) -> None:
        """Refuse a row without tokens or duration."""
        whole(row, "tokens", "a number of tokens, 0 or more")
        number(row, "seconds", "a duration in seconds, at least 0", least=0)

    def values(self, row: Row) -> dict[str, float]:
        """None: a speed is of all rows together."""
        return {}

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """Tokens and items, by seconds."""
        seconds = [row["seconds"] for row in rows]
        return {
            "tokens_per_second": ratio_of_totals([row["tokens"] for row in rows], seconds),
            "items_per_second": ratio_of_totals([1.0] * len(rows), seconds),
        }

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The totals."""
        tokens, seconds = sum(row["tokens"] for row in rows), float(sum(row["seconds"] for row in rows))
        why = "there is no item" if not rows else "the items took no time that the clock could tell"
        notes = {} if seconds > 0 else dict.fromkeys(("tokens_per_second", "items_per_second"), why)
        return {"items": len(rows), "tokens": tokens, "seconds": seconds, "notes": notes}


SUITE = Throughput()
