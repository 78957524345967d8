"""Suite `reflection`: the four judgements of Self-RAG (Asai, Wu, Wang, Sil and Hajishirzi, 2023), each against a label.

Fields of a row, at least one of them. Each holds `{"label": CLASS, "predicted": CLASS, "probabilities": {CLASS: p}}`; the probabilities
may be left out, but for one judgement in all items or none:

retrieve    are passages needed?                        yes, no
relevance   does the passage help with the question?    relevant, partially_relevant, irrelevant
support     does the passage support the answer?        supported, partially_supported, not_supported
utility     how useful is the answer?                   1, 2, 3, 4, 5 (as text)

retrieve_accuracy, relevance_accuracy,   the predicted class is the label, over the items that have the judgement
support_accuracy, utility_accuracy
relevance_f1, support_f1                 macro F1, see `aifw.evaluation.suites.confusion`
reflection_calibration_error             of all judgements together, see `aifw.evaluation.suites.calibration`; `details` has each
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.measures import SUITES
from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.calibration import BINS, Calibration, check_probabilities
from aifw.evaluation.suites.confusion import Confusion
from aifw.evaluation.suites.fields import has, item, refused
from aifw.evaluation.suites.weights import too_few

JUDGEMENTS: Mapping[str, tuple[str, ...]] = {
    "retrieve": ("yes", "no"),
    "relevance": ("relevant", "partially_relevant", "irrelevant"),
    "support": ("supported", "partially_supported", "not_supported"),
    "utility": ("1", "2", "3", "4", "5"),
}
"""Classes by judgement."""


class Reflection(Defaults):
    """See the module."""

    name = "reflection"

    def check(self, row: Row) -> None:
        """Refuse a row without a judgement, with a class that does not exist, or with probabilities that are none."""
        judged = [name for name in JUDGEMENTS if has(row, name)]
        if not judged:
            raise InputInvalid(f"{item(row)} has no judgement", hint=f"one of {', '.join(JUDGEMENTS)} is needed")
        for name in judged:
            held, classes = row[name], JUDGEMENTS[name]
            if not isinstance(held, Mapping):
                raise refused(row, name, "a mapping with `label` and `predicted`")
            for field in ("label", "predicted"):
                if not isinstance(held.get(field), str) or held[field] not in classes:
                    raise refused(row, f"{name}.{field}", f"one of {', '.join(classes)}")
            if has(held, "probabilities"):
                check_probabilities(
                    row, f"{name}.probabilities", held["probabilities"], of=held["predicted"], classes=classes
                )

    def values(self, row: Row) -> dict[str, float]:
        """Of the judgements the item has."""
        return {
            f"{name}_accuracy": float(row[name]["predicted"] == row[name]["label"])
            for name in JUDGEMENTS
            if has(row, name)
        }

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """Of all items together, as far as some have the judgement or probabilities."""
        calibration = _calibration(rows, tuple(JUDGEMENTS))
        found = {
            f"{name}_f1": _confusion(rows, name).macro("f1")
            for name in ("relevance", "support")
            if any(has(row, name) for row in rows)
        }
        if calibration is not None:
            found["reflection_calibration_error"] = calibration.error
        return found

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Confusion, scores and calibration of each judgement."""
        judgements: dict[str, Any] = {}
        notes: dict[str, str] = {}
        for name in JUDGEMENTS:
            confusion, calibration = _confusion(rows, name), _calibration(rows, (name,))
            held = [row[name] for row in rows if has(row, name)]
            why = confusion.note() if held else f"no item has `{name}`"
            if not held:
                notes[f"{name}_accuracy"] = f"no item has `{name}`"
            if why is not None and f"{name}_f1" in SUITES[self.name]:
                notes[f"{name}_f1"] = why
            if not held:
                continue
            judgements[name] = {
                "n": len(held),
                "f1_macro": _defined(confusion.macro("f1")(None)),
                "per_class": confusion.per_class(),
                "confusion": confusion.table(),
                "calibration_error": None if calibration is None else _defined(calibration.error()),
                "reliability": [] if calibration is None else calibration.bins(),
            }
        if "utility" in judgements:
            gaps = [
                abs(int(row["utility"]["predicted"]) - int(row["utility"]["label"]))
                for row in rows
                if has(row, "utility")
            ]
            judgements["utility"]["mean_absolute_error"] = sum(gaps) / len(gaps)
        together = _calibration(rows, tuple(JUDGEMENTS))
        if together is None:
            notes["reflection_calibration_error"] = "no judgement has `probabilities`"
        elif len(together) < BINS:
            notes["reflection_calibration_error"] = too_few(len(together), BINS)
        return {
            "judgements": judgements,
            "reliability": [] if together is None else together.bins(),
            "notes": notes,
        }


def _confusion(rows: Sequence[Row], name: str) -> Confusion:
    places = [place for place, row in enumerate(rows) if has(row, name)]
    return Confusion(
        [rows[place][name]["label"] for place in places],
        [rows[place][name]["predicted"] for place in places],
        places,
        len(rows),
    )


def _calibration(rows: Sequence[Row], names: Sequence[str]) -> Calibration | None:
    """Of some judgements, or None if none of them has probabilities."""
    held = [
        (place, row[name])
        for name in names
        if _probable(rows, name)
        for place, row in enumerate(rows)
        if has(row, name)
    ]
    if not held:
        return None
    return Calibration(
        [judgement["probabilities"][judgement["predicted"]] for _, judgement in held],
        [float(judgement["predicted"] == judgement["label"]) for _, judgement in held],
        [place for place, _ in held],
        len(rows),
    )


def _probable(rows: Sequence[Row], name: str) -> bool:
    """Whether a judgement comes with probabilities.

    Raises:
        InputInvalid: In some items it does and in some it does not.
    """
    judged = [row for row in rows if has(row, name)]
    there = [has(row[name], "probabilities") for row in judged]
    if any(there) and not all(there):
        missing = judged[there.index(False)]
        raise InputInvalid(
            f"{item(missing)} has no `{name}.probabilities`, {sum(there):,} of {len(judged):,} items have",
            hint="give them for all or for none",
        )
    return any(there)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


SUITE = Reflection()
