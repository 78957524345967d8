"""Suite `contamination`: which held-out items training saw, exactly or nearly.

Fields of a row:

seen        whether the item, or a near-duplicate of it, was trained on
nearest     similarity of the nearest thing that was trained on, 0 to 1; optional
where       what that is and where it lies, for people; optional

Finding is not done here: `aifw.data.sealed` and `aifw.data.near_duplicates` find exactly from a threshold on. A measure of 0 says
that nothing was found at that threshold in what was looked at, no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aifw.evaluation.suites import Defaults, Row
from aifw.evaluation.suites.fields import has, number, text, truth

_SHOWN = 20
_BINS = 10


class Contamination(Defaults):
    """See the module."""

    name = "contamination"

    def check(self, row: Row) -> None:
        """Refuse a row that does not say whether it was seen."""
        truth(row, "seen", "true or false")
        if has(row, "nearest"):
            number(row, "nearest", "a similarity from 0 to 1", least=0, most=1)
        if has(row, "where"):
            text(row, "where", "a text")

    def values(self, row: Row) -> dict[str, float]:
        """1 for an item that was seen."""
        return {"contamination": float(row["seen"])}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """How many, where, the nearest first, and how near the others come."""
        seen = [row for row in rows if row["seen"]]
        nearest = [float(row["nearest"]) for row in rows if has(row, "nearest")]
        counts = Counter(min(_BINS - 1, int(each * _BINS)) for each in nearest)
        return {
            "seen": len(seen),
            "items": len(rows),
            "where": dict(Counter(str(row["where"]) for row in seen if has(row, "where")).most_common(_SHOWN)),
            "examples": [
                str(row["id"])
                for row in sorted(seen, key=lambda row: (-float(row.get("nearest") or 0), str(row["id"])))[:_SHOWN]
            ],
            "similarity": {"low": 0.0, "high": 1.0, "counts": [counts[each] for each in range(_BINS)]},
            "notes": {} if rows else {"contamination": "there is no item"},
        }


SUITE = Contamination()
