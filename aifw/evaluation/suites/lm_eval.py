"""Suite `lm_eval`: items of tasks of lm-evaluation-harness, as the harness scored them.

Fields of a row, an item of a task:

values   by measure, what the item gave: `{"arithmetic/acc": 1.0}`
corpus   by measure, what all items of the task gave together, where the harness has no value for each; in the task's first row

A measure is named `TASK/METRIC`, or `TASK/METRIC/FILTER` where the harness filtered the answers. The mean of an item's values is what the
harness prints for the task, except for metrics of all items together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.measures import named
from aifw.evaluation.suites import Defaults, Row
from aifw.evaluation.suites.fields import has, item, numbers_by_name, refused

_WANTED = "numbers by measure, named TASK/METRIC"


def _form(name: str) -> str:
    """The form of a measure of the harness; empty if there is none of that name."""
    try:
        return named(name).form if "/" in name else ""
    except KeyError:
        return ""


class LmEval(Defaults):
    """See the module."""

    name = "lm_eval"

    def check(self, row: Row) -> None:
        """Refuse a row without values, or with one that no measure is named by."""
        if not has(row, "values") and not has(row, "corpus"):
            raise refused(row, "values", _WANTED)
        for field, form in (("values", "mean"), ("corpus", "observed")):
            for name in numbers_by_name(row, field, _WANTED) if has(row, field) else ():
                if _form(name) != form:
                    raise InputInvalid(f"`{field}` of {item(row)} has {name!r}", hint=f"expected {_WANTED}")

    def values(self, row: Row) -> dict[str, float]:
        """As the harness gave them."""
        return {name: float(value) for name, value in (row.get("values") or {}).items()}

    def observed(self, rows: Sequence[Row]) -> dict[str, float]:
        """Metrics of all items together."""
        return {name: float(value) for row in rows for name, value in (row.get("corpus") or {}).items()}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """How many items each task had."""
        tasks = Counter(str(row["id"]).partition("/")[0] for row in rows)
        return {"items": len(rows), "tasks": dict(sorted(tasks.items()))}


SUITE = LmEval()
