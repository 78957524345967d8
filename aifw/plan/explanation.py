"""Everything about one step of a plan, for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from aifw.hardware.processor.cpulist import format_cpu_list
from aifw.plan.columns import joined, padded
from aifw.plan.model import Plan, PlannedInput, Step
from aifw.plan.render import MARKS, Style, plain
from aifw.units import format_bytes, format_money, format_seconds


def explain(plan: Plan, address: str, style: Style = plain) -> str:
    """Everything about one step: reasons, inputs, forecast and what it rests on, identity.

    Args:
        plan: The plan.
        address: Of a step in it.
        style: Colours a text by its role.
    """
    step = next(each for each in plan.steps if each.address == address)
    mark, role = MARKS[step.action]
    lines = [f"{style(mark, role)} {style(step.address, 'name')} · {step.kind} · {style(step.action.value, role)}", ""]
    lines += _block("because", [reason.text for reason in step.reasons] or ["nothing changed"], style)
    lines += _block("inputs", [_input(each) for each in step.inputs], style)
    lines += _block("waits for", [", ".join(step.after)] if step.after else [], style)
    forecast = step.forecast
    if forecast is not None:
        memory, seconds = forecast.memory, forecast.seconds
        lines += _placement(step, style)
        parts = sorted(forecast.parts.items(), key=lambda part: (-part[1], part[0]))
        of = [" · ".join(f"{name} {format_bytes(size)}" for name, size in parts)] if parts else []
        lines += _block("memory", [_three(format_bytes, memory.low, memory.mid, memory.high), *of], style)
        lines += _block("time", [_three(format_seconds, seconds.low, seconds.mid, seconds.high)], style)
        lines += _block("cost", [joined(format_money(forecast.cost.low), format_money(forecast.cost.high))], style)
        lines += _block("basis", [forecast.basis], style)
        lines += _block("stated", [_stated(forecast.uncorrected)] if forecast.uncorrected else [], style)
        lines += _block("note", [forecast.note] if forecast.note else [], style)
    if step.start is not None:
        lines += _block("starts", [f"{format_seconds(step.start)} after the run" if step.start else "at once"], style)
    lines += _block("artifact", [step.artifact] if step.artifact else [], style)
    lines += _block("recipe", [step.recipe] if step.recipe else [], style)
    lines += _block("key", [step.key or "not known before its inputs are made"] if step.identity else [], style)
    identity = json.dumps(json.loads(step.identity), indent=2, ensure_ascii=False) if step.identity else ""
    lines += _block("identity", identity.splitlines(), style)
    return "\n".join(lines) + "\n"


def _placement(step: Step, style: Style) -> list[str]:
    place = step.placement
    if place is None:
        return _block("device", [step.device], style)
    named = place.label if place.label == place.device else f"{place.label} ({place.device})"
    threads = f"{place.threads} thread{'s' * (place.threads != 1)}"
    return [
        *_block("place", [f"{named}: {place.because}" if place.because else named], style),
        *_block("next best", place.next_best.split("; ") if place.next_best else [], style),
        *_block("computes", [f"{threads} on {_processors(place.cpus)}"], style),
    ]


def _processors(cpus: tuple[int, ...]) -> str:
    if not cpus:
        return "any processor"
    return f"processor{'s' * (len(cpus) != 1)} {format_cpu_list(cpus)}"


def _stated(uncorrected: tuple[float, float]) -> str:
    memory, seconds = uncorrected
    return f"{format_bytes(memory)} and {format_seconds(seconds)} by the kind, before measured runs of this machine corrected it"


def _three(shown: Callable[[float], str], low: float, mid: float, high: float) -> str:
    if low == high:
        return shown(mid)
    return f"{shown(mid)}, between {shown(low)} and {shown(high)}"


def _input(planned: PlannedInput) -> str:
    source = f"@{planned.alias}, {planned.address}" if planned.alias else planned.address
    digest = planned.digest[:12] if planned.digest is not None else "not made yet"
    return f"{planned.field}: {source}, output {planned.output}, {digest}"


def _block(name: str, texts: Sequence[str], style: Style) -> list[str]:
    return [f"  {style(padded(name if index == 0 else '', 9), 'faint')}  {text}" for index, text in enumerate(texts)]
