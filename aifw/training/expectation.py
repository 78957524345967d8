"""What the forecasts of methods that train an adapter have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aifw.hardware.libraries.precision import expected_precision
from aifw.hardware.machine import Machine
from aifw.kind import Estimate, Forecast, InputFacts
from aifw.models.memory import estimated
from aifw.models.size import Shape
from aifw.models.speed import seconds_for
from aifw.models.work import Work
from aifw.training.course_settings import CourseSettings

REQUIRES: Mapping[str, str] = {
    "accelerate": "train",
    "datasets": "train",
    "peft": "train",
    "safetensors": "train",
    "torch": "train",
    "transformers": "train",
    "trl": "train",
}
"""Packages of methods whose steps TRL may compute, and the extra that brings them."""
UNKNOWN_ROWS = 1000
"""Rows of data nobody has counted yet."""


def facts_of(inputs: Mapping[str, InputFacts], name: str) -> Mapping[str, Any]:
    """What is known of an input; nothing where there is none."""
    return inputs[name].facts if name in inputs else {}


def rows_of(data: Mapping[str, Any], most: int | None, count: str = "rows") -> float:
    """Rows that will be used.

    Args:
        data: Facts of the data.
        most: A limit of the settings.
        count: The fact that counts them, if it is there.
    """
    rows = float(data.get(count, data.get("rows", UNKNOWN_ROWS)))
    return rows if most is None else min(rows, most)


def expected(
    parts: Mapping[str, float],
    work: Work,
    basis: str,
    *,
    known: bool,
    inputs: Mapping[str, InputFacts],
    machine: Machine,
    settings: CourseSettings,
    startup: float,
    micro: int,
    spread: float = 0.5,
    beside: float = 0.0,
) -> Forecast:
    """A forecast with outputs `model` and `adapter`.

    Args:
        parts: Of the memory of the moment that needs most, in bytes.
        work: To be done.
        basis: What there is to learn from, for people.
        known: Sizes of the data are.
        inputs: With facts of the model.
        machine: As seen from the place considered.
        settings: Of the run.
        startup: Seconds that do not grow with the work.
        micro: Rows computed at once.
        spread: Of the time, where the speed of the device was measured.
        beside: Weights that are trained besides the adapter.
    """
    model = facts_of(inputs, "model")
    shape, device = Shape.of(model), machine.devices[0]
    known = known and shape.certain
    seconds, measured = seconds_for(
        work, machine, expected_precision(settings.precision, device, machine), reuses_memory=True
    )
    speed = "measured speed of this device" if measured else "a default speed of this device"
    width = spread + (0 if measured else 0.3) + (0 if known else 1.0)
    return Forecast(
        memory=estimated(parts, certain=known),
        seconds=Estimate.around(startup + seconds, width),
        basis=f"{basis}, {speed}" + ("" if known else "; model or data not known yet, so sizes are assumed"),
        work=work.operations,
        facts={
            "model": dict(model),
            "adapter": {"parameters": shape.lora(settings.lora.r) + beside, "rank": settings.lora.r},
        },
        note=f"micro-batch {micro} (auto)" if settings.micro_batch == "auto" else "",
        parts=parts,
        startup=startup,
    )
