"""Suite `adaptation`: how well a model does on a new task after a few steps on a few examples of it.

Fields of a row, an episode:

accuracy            share of the episode's queries answered rightly, 0 to 1, by the number of steps as text: {"0": 0.2, "5": 0.9}
plain_fine_tuning   the same after fine-tuning a model that was not trained to adapt, on the same examples; optional
prototypes          the same of the nearest class mean (Snell, Swersky and Zemel, 2017), on the same examples; optional

What adapting is worth shows only beside what is simpler, so both are compared with the accuracy after `LAST` steps, episode by
episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.suites import Defaults, Row
from aifw.evaluation.suites.fields import has, is_number, item, number, refused

STEPS = (0, 1, 5)
"""Numbers of steps with a measure of their own."""
LAST = STEPS[-1]

_SHARE = "an accuracy from 0 to 1"
_BESIDE = {"over_fine_tuning": "plain_fine_tuning", "over_prototypes": "prototypes"}


class Adaptation(Defaults):
    """See the module."""

    name = "adaptation"

    def check(self, row: Row) -> None:
        """Refuse a row without the accuracy before adapting, or with something that is no accuracy."""
        accuracy = row.get("accuracy")
        if not isinstance(accuracy, Mapping) or not accuracy:
            raise refused(row, "accuracy", 'an accuracy from 0 to 1 by number of steps, such as {"0": 0.2, "5": 0.9}')
        for steps, value in accuracy.items():
            if not isinstance(steps, str) or not (steps.isascii() and steps.isdigit()) or str(int(steps)) != steps:
                raise InputInvalid(
                    f"`accuracy` of {item(row)} has {steps!r} for a number of steps", hint='expected "0", "1", "5"'
                )
            if not is_number(value) or not 0 <= value <= 1:
                raise refused(row, f"accuracy.{steps}", _SHARE)
        if "0" not in accuracy:
            raise refused(row, "accuracy.0", f"{_SHARE}, before adapting")
        for field in _BESIDE.values():
            if has(row, field):
                number(row, field, _SHARE, least=0, most=1)

    def values(self, row: Row) -> dict[str, float]:
        """Accuracies of the episode, and how far they lie above what is simpler."""
        accuracy = row["accuracy"]
        values = {f"accuracy_after_{step}": float(accuracy[f"{step}"]) for step in STEPS if f"{step}" in accuracy}
        for measure, field in _BESIDE.items():
            if has(row, field) and f"{LAST}" in accuracy:
                values[measure] = float(accuracy[f"{LAST}"]) - float(row[field])
        return values

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The course over all steps, of the episodes that have each, and the means of what is simpler."""
        steps = sorted({int(step) for row in rows for step in row["accuracy"]})
        course = {
            f"{step}": [float(row["accuracy"][f"{step}"]) for row in rows if f"{step}" in row["accuracy"]]
            for step in steps
        }
        beside = {field: [float(row[field]) for row in rows if has(row, field)] for field in _BESIDE.values()}
        notes = {f"accuracy_after_{step}": "no episode has it" for step in STEPS if f"{step}" not in course}
        for measure, field in _BESIDE.items():
            if not beside[field]:
                notes[measure] = f"no episode has `{field}`"
            elif f"{LAST}" not in course:
                notes[measure] = f"no episode has {LAST} steps"
        return {
            "episodes": len(rows),
            "course": {step: _mean(values) for step, values in course.items()},
            "beside": {field: _mean(values) for field, values in beside.items() if values},
            "notes": notes,
        }


def _mean(values: Sequence[float]) -> dict[str, float]:
    return {"mean": sum(values) / len(values), "episodes": len(values)}


SUITE = Adaptation()
