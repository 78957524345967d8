"""Forecasts that learn from what earlier jobs of the same kind took on this machine.

A kind states what it expects; here that is corrected by the ratio of what was measured to what the kind had stated then. Only the
part above an idle worker is scaled: importing an interpreter takes the same whatever the job is.

`aifw.plan.correction` says by which rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import inf, log, sqrt
from typing import Any, TypeGuard

from aifw.hardware.machine import Machine
from aifw.hardware.placement import Place, seen_from
from aifw.kind import Estimate, Facts, Forecast, History, InputFacts, Kind, Past
from aifw.plan.correction import Quantity, Run, scaled

WORKER = "worker"
"""Name of the part of a forecast's memory that is there before the job does anything."""
WORKER_BYTES = 18 * 1024**2
"""Anonymous and shared memory of a worker that does nothing: an interpreter with pydantic. Measured with Python 3.11 on x86_64."""
WORKER_SECONDS = 0.25
"""From starting a worker that does nothing to its end; the same measurement."""

_FIXED = 0.75
"""Share of an idle worker that no ratio scales. Less than all of it, since idle workers differ from machine to machine."""
_FIXED_STATED = 0.9
"""The same of a worker whose kind says what it holds before the job does anything."""
_MEMORY = Quantity(
    WORKER_BYTES,
    _FIXED * WORKER_BYTES,
    scatter=0.05,
    mistake=log(1.25),
    least=log(1.05),
    fixed_scatter=0.02,
    job_share=sqrt(0.5),
)
_SECONDS = Quantity(
    WORKER_SECONDS,
    _FIXED * WORKER_SECONDS,
    scatter=0.15,
    mistake=log(10),
    least=log(1.1),
    fixed_scatter=0.15,
    job_share=0.0,
)
_FOUR_TIMES = log(4)
"""A run of a job four times as large counts half."""
_UNLIKE_SETTINGS = 0.25
"""What a run counts if none of its settings is that of the job."""


def forecast_at(
    kind: Kind[Any], settings: Any, inputs: Mapping[str, InputFacts], machine: Machine, history: History, place: Place
) -> Forecast:
    """What a job needs at a place: what its kind states, corrected by what earlier runs took there.

    Args:
        kind: Of the job.
        settings: Of the resource, an instance of the kind's settings.
        inputs: By reference field.
        machine: The whole machine.
        history: Finished jobs of the kind.
        place: Where it would compute.
    """
    seen = seen_from(machine, place)
    stated = kind.forecast(settings, inputs, seen, history)
    if not history.past:
        return stated
    words = settings.model_dump(mode="json", by_alias=True, exclude_unset=True)
    forecast = corrected(stated, history, place.device, words)
    pool = seen.memory.pool
    if stated.memory.high <= pool < forecast.memory.high:
        # A kind that makes a job as large as memory allows is told of less, by as much as it is known to err.
        less = replace(seen.memory, limit=int(pool * stated.memory.high / forecast.memory.high))
        smaller = kind.forecast(settings, inputs, replace(seen, memory=less), history)
        forecast = min(forecast, corrected(smaller, history, place.device, words), key=lambda each: each.memory.high)
    return forecast


def corrected(forecast: Forecast, history: History, device: str, settings: Facts | None = None) -> Forecast:
    """A kind's forecast, corrected by what jobs of that kind took on a device.

    Args:
        forecast: As the kind states it. `parts["worker"]` is what its worker holds before the job does anything, `startup` the time
            that it takes; where the kind does not say, `WORKER_BYTES` and `WORKER_SECONDS`. A kind that says what it stated without
            earlier runs (`uncorrected`) has corrected the time itself, and only its memory is corrected here.
        history: Finished jobs of the kind; the order of those of one run does not matter.
        device: Where the job would compute; only runs there count.
        settings: Of the job, as `Past.settings` has them; None if they say nothing.

    Returns:
        The same forecast if no run says anything, else one whose `uncorrected` is what the kind stated.
    """
    there = [past for past in history.past if past.device == device]
    if not there:
        return forecast
    worker = forecast.parts.get(WORKER, 0.0)
    bytes_ = _MEMORY if worker <= 0 else replace(_MEMORY, idle=worker, fixed=_FIXED_STATED * worker)
    startup = forecast.startup
    seconds_ = _SECONDS if startup <= WORKER_SECONDS else replace(_SECONDS, idle=startup, fixed=startup)
    alike = {id(past): _same_settings(settings, past.settings) for past in there}
    measured, exceeded = _memory_runs(forecast, there, alike, bytes_)
    timed = [] if forecast.uncorrected is not None else _time_runs(forecast, there, alike, seconds_)
    if not measured and not exceeded and not timed:
        return forecast
    memory = scaled(forecast.memory, bytes_, measured, exceeded)
    seconds = scaled(forecast.seconds, seconds_, timed, [])
    return replace(
        forecast,
        memory=memory,
        seconds=seconds,
        basis=_basis(forecast, memory, seconds, len(measured), len(exceeded), len(timed)),
        uncorrected=forecast.uncorrected or (forecast.memory.mid, forecast.seconds.mid),
    )


def _memory_runs(
    forecast: Forecast, there: Iterable[Past], alike: Mapping[int, float], quantity: Quantity
) -> tuple[list[Run], list[Run]]:
    """What was measured to its end, and what exceeded its memory."""
    now = quantity.above(forecast.memory.mid)
    measured: list[Run] = []
    exceeded: list[Run] = []
    for past in there:
        if not _known(past.memory):
            continue
        if _known(past.expected_memory):
            stated = quantity.above(past.expected_memory)
        elif past.exceeded:
            stated = now
        else:
            continue
        ratio = log(quantity.above(past.memory) / stated)
        run = Run(ratio, alike[id(past)] * _near(now / stated), past.age)
        (exceeded if past.exceeded else measured).append(run)
    return measured, exceeded


def _time_runs(forecast: Forecast, there: Iterable[Past], alike: Mapping[int, float], quantity: Quantity) -> list[Run]:
    now = quantity.above(forecast.seconds.mid)
    worked = _known(forecast.work)
    found = []
    for past in there:
        if past.exceeded or not _known(past.seconds):
            continue
        # Without work a job is as large as the time stated for it.
        more_work = forecast.work / past.work if worked and _known(past.work) else None
        if _known(past.expected_seconds):
            stated = quantity.above(past.expected_seconds)
        elif more_work is not None:
            stated = now / more_work
        else:
            continue
        likeness = alike[id(past)]
        if more_work is None:
            likeness *= _near(now / stated)
        else:
            # A kind that states another speed than it did then has learnt something else of the machine since.
            likeness *= _near(more_work) * _near(now / stated / more_work)
        found.append(Run(log(quantity.above(past.seconds) / stated), likeness, past.age))
    return found


def _known(value: float | None) -> TypeGuard[float]:
    """Whether a number read back says anything: one that is nothing or no number does not."""
    return value is not None and 0 < value < inf


def _near(factor: float) -> float:
    """How much a run counts whose job differs in size by a factor: a Cauchy kernel on its logarithm."""
    distance = log(factor) / _FOUR_TIMES
    return 1 / (1 + distance * distance)


def _same_settings(settings: Facts | None, others: Facts) -> float:
    """How much a run with such settings counts."""
    if settings is None or settings == others:
        return 1.0
    common = equal = 0
    for name, value in settings.items():
        if name in others:
            common += 1
            equal += bool(others[name] == value)
    return _UNLIKE_SETTINGS + (1 - _UNLIKE_SETTINGS) * equal / (len(settings) + len(others) - common)


def _basis(stated: Forecast, memory: Estimate, seconds: Estimate, measured: int, exceeded: int, timed: int) -> str:
    changes = []
    if measured or exceeded:
        changes.append(f"memory x{memory.mid / stated.memory.mid:.2f}" if stated.memory.mid > 0 else "memory")
    if timed:
        changes.append(f"time x{seconds.mid / stated.seconds.mid:.2f}" if stated.seconds.mid > 0 else "time")
    count = max(measured, timed) + exceeded
    runs = f"{count} earlier run" + ("s" if count > 1 else "")
    if exceeded:
        share = "" if exceeded == count else f"{exceeded} of "
        runs += f", {share}which exceeded {'its' if exceeded == 1 else 'their'} memory"
    return f"{stated.basis}; corrected by {runs} ({', '.join(changes)})"
