"""Everything about one step of a plan, for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from aifw.hardware.processor.cpulist import format_cpu_list
from aifw.plan.columns import columns, joined, padded, parts_of, wrapped
from aifw.plan.model import Plan, PlannedInput, Step
from aifw.plan.render import MARKS, Style, plain
from aifw.units import format_bytes, format_money, format_seconds

_INDENT = 13
_LEAST_TEXT = 24


def explain(plan: Plan, address: str, style: Style = plain, width: int | None = None) -> str:
    """Everything about one step: reasons, inputs, forecast and what it rests on, identity.

    Args:
        plan: The plan.
        address: Of a step in it.
        style: Colours a text by its role.
        width: Columns of the terminal; None does not wrap anything.
    """
    block = partial(_block, style=style, width=width)
    step = next(each for each in plan.steps if each.address == address)
    mark, role = MARKS[step.action]
    lines = [f"{style(mark, role)} {style(step.address, 'name')} · {step.kind} · {style(step.action.value, role)}", ""]
    lines += block("because", [reason.text for reason in step.reasons] or ["nothing changed"])
    lines += block("inputs", [_input(each) for each in step.inputs])
    lines += block("waits for", [", ".join(step.after)] if step.after else [])
    forecast = step.forecast
    if forecast is not None:
        memory, seconds = forecast.memory, forecast.seconds
        lines += _placement(step, block)
        of = [parts] if (parts := parts_of(forecast.parts)) else []
        lines += block("memory", [_three(format_bytes, memory.low, memory.mid, memory.high), *of])
        lines += block("time", [_three(format_seconds, seconds.low, seconds.mid, seconds.high)])
        lines += block("cost", [joined(format_money(forecast.cost.low), format_money(forecast.cost.high))])
        lines += block("basis", [forecast.basis])
        lines += block("stated", [_stated(forecast.uncorrected)] if forecast.uncorrected else [])
        lines += block("note", [forecast.note] if forecast.note else [])
    if step.start is not None:
        lines += block("starts", [f"{format_seconds(step.start)} after the run begins" if step.start else "at once"])
    lines += block("artifact", [step.artifact] if step.artifact else [])
    lines += block("recipe", [step.recipe] if step.recipe else [])
    lines += block("key", [step.key or "not known before its inputs are made"] if step.identity else [])
    identity = json.dumps(json.loads(step.identity), indent=2, ensure_ascii=False) if step.identity else ""
    lines += _block("identity", identity.splitlines(), style, None)
    return "\n".join(lines) + "\n"


def _placement(step: Step, block: Callable[[str, Sequence[str]], list[str]]) -> list[str]:
    place = step.placement
    if place is None:
        return block("device", [step.device])
    named = place.label if place.label == place.device else f"{place.label} ({place.device})"
    threads = f"{place.threads} thread{'s' * (place.threads != 1)}"
    return [
        *block("place", [f"{named}: {place.because}" if place.because else named]),
        *block("next best", place.next_best.split("; ") if place.next_best else []),
        *block("computes", [f"{threads} on {_processors(place.cpus)}"]),
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


def _block(name: str, texts: Sequence[str], style: Style, width: int | None) -> list[str]:
    room = None if width is None else max(_LEAST_TEXT, width - _INDENT)
    lines = [
        line for text in texts for line in ([text] if room is None or columns(text) <= room else wrapped(text, room))
    ]
    return [
        f"  {style(padded(name if index == 0 else '', _INDENT - 4), 'faint')}  {line}"
        for index, line in enumerate(lines)
    ]
