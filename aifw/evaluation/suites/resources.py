"""Suite `resources`: what a run took of the machine.

Fields of a row, a run; usually there is one:

items           how many it answered, at least 1
peak_memory     bytes of the machine's memory it held at the most
gpu_memory      bytes it held on or through a GPU at the most
cpu_seconds     processor time, of all threads
gpu_seconds     time the engines of GPUs and NPUs were busy for it
joules          energy the machine counted meanwhile
unknown         why a field is not there, by name of the field

Everything but `items` may be left out. What could not be read is left out and never 0, which is refused: a run takes something of
each. `row_of` makes a row of what `aifw.hardware.consumption` read. Of several runs the peaks are the highest, the rest is added up;
where one run does not know something, all of them together do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aifw.evaluation.suites import Defaults, Row
from aifw.evaluation.suites.fields import has, number, refused, whole
from aifw.hardware.consumption import Consumption

_FIELDS: Mapping[str, tuple[str, str]] = {
    "peak_memory": ("peak_memory", "bytes"),
    "gpu_memory": ("gpu_memory", "bytes"),
    "cpu_seconds_per_item": ("cpu_seconds", "seconds"),
    "gpu_seconds_per_item": ("gpu_seconds", "seconds"),
    "energy_per_item": ("joules", "joules"),
}
"""By measure: field of a row, and what it counts."""


def row_of(taken: Consumption, items: int) -> dict[str, Any]:
    """A row of what was taken while so many items were answered."""
    return {"items": items, **taken.known, "unknown": {**taken.unknown}}


class Resources(Defaults):
    """See the module."""

    name = "resources"

    def check(self, row: Row) -> None:
        """Refuse a row without items, or with 0 for what is not known."""
        whole(row, "items", "how many items were answered, at least 1", least=1)
        for field, unit in _FIELDS.values():
            if has(row, field):
                number(row, field, f"{unit}, more than 0; leave it out where it could not be read", above=0)
        unknown = row.get("unknown", {})
        if not isinstance(unknown, Mapping) or not all(isinstance(why, str) and why for why in unknown.values()):
            raise refused(row, "unknown", "why a field is not there, a text by the field's name")

    def values(self, row: Row) -> dict[str, float]:
        """None: there are no items behind these measures."""
        return {}

    def observed(self, rows: Sequence[Row]) -> dict[str, float]:
        """What is known."""
        known = {}
        for measure, (field, unit) in _FIELDS.items():
            if not rows or not all(has(row, field) for row in rows):
                continue
            values = [float(row[field]) for row in rows]
            known[measure] = max(values) if unit == "bytes" else math.fsum(values) / sum(row["items"] for row in rows)
        return known

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The totals, and why the rest is unknown."""
        known = self.observed(rows)
        totals = {}
        for field, unit in _FIELDS.values():
            if unit != "bytes" and rows and all(has(row, field) for row in rows):
                totals[field] = math.fsum(float(row[field]) for row in rows)
        return {
            "runs": len(rows),
            "items": sum(row["items"] for row in rows),
            "totals": totals,
            "energy_covers": "whole processor packages and their memory, whoever used them; no graphics card",
            "notes": {measure: _why(rows, field) for measure, (field, _) in _FIELDS.items() if measure not in known},
        }


def _why(rows: Sequence[Row], field: str) -> str:
    lacking = next((row for row in rows if not has(row, field)), None)
    return "there is no run" if lacking is None else str((lacking.get("unknown") or {}).get(field) or "it was not read")


SUITE = Resources()
