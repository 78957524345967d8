"""What running jobs may use together, and what each of them takes of it: the same for the schedule of a plan and for admission in a run.

Resources are counted by name: `memory` in bytes, `threads` (processors of any kind), `performance_cores` and `efficient_cores`
(processors of that kind), and each accelerator by its device name, of which there is one.
"""

from __future__ import annotations

from collections.abc import Mapping

from aifw.hardware.placement import places
from aifw.kind import Forecast
from aifw.plan.model import Step
from aifw.plan.snapshot import Snapshot
from aifw.spec.models import Spec
from aifw.units import format_bytes

MEMORY = "memory"
THREADS = "threads"


def memory_budget(spec: Spec, snapshot: Snapshot) -> int:
    """Bytes that running jobs may use together: the spec's budget, never more than the machine's pool less the reserve."""
    available = max(0, snapshot.machine.memory.pool - spec.hardware.memory.reserve)
    asked = spec.hardware.memory.budget
    return available if asked is None else min(asked, available)


def total_threads(spec: Spec, snapshot: Snapshot) -> int:
    """Processors for all running jobs together: what the spec says, never more than this process may use (cpuset and quota)."""
    asked = spec.hardware.threads
    return snapshot.machine.cpu.cores if asked == "auto" else min(asked, snapshot.machine.cpu.cores)


def capacity(spec: Spec, snapshot: Snapshot) -> dict[str, int]:
    """What running jobs may use together, by resource."""
    threads = total_threads(spec, snapshot)
    found = {MEMORY: memory_budget(spec, snapshot), THREADS: threads}
    for place in places(snapshot.machine):
        if place.device == "cpu":
            found[place.column] = min(threads, len(place.cpus) or threads)
        else:
            found[place.device] = 1
    return found


def needs(spec: Spec, step: Step, forecast: Forecast, limits: Mapping[str, int]) -> dict[str, int]:
    """What a job takes while it runs, by resource; never more than there is.

    A job that keeps all cores busy takes every processor of its place, the second threads of cores it does not compute with
    included. One on an accelerator takes the accelerator: the thread that feeds it mostly waits.

    Args:
        spec: With the resource of the step, and how memory is reserved: by the high of the forecast (`conservative`) or by its middle.
        step: With its placement; without one it takes a processor of any kind.
        forecast: Of the job at that place, from the plan or made again at admission.
        limits: From `capacity`.
    """
    reserved = forecast.memory.high if spec.hardware.memory.profile == "conservative" else forecast.memory.mid
    found = {MEMORY: min(limits[MEMORY], round(reserved))}
    placement = step.placement
    if placement is not None and placement.device != "cpu":
        return {**found, placement.device: 1}
    wanted = limits[THREADS] if spec.resources[step.address].kind.cores == "all" else 1
    if placement is None:
        return {**found, THREADS: wanted}
    wanted = min(wanted, limits.get(placement.column, wanted))
    return {**found, THREADS: wanted, placement.column: wanted}


def beyond(spec: Spec, snapshot: Snapshot) -> tuple[str, ...]:
    """What the spec allows beyond what exists, in a sentence each; the plan keeps to what exists."""
    found: list[str] = []
    memory, threads = spec.hardware.memory, spec.hardware.threads
    available = memory_budget(spec, snapshot)
    if memory.budget is not None and memory.budget > available:
        found.append(
            f"hardware.memory.budget is {format_bytes(memory.budget)}, but there are only {format_bytes(available)} here: "
            f"{format_bytes(snapshot.machine.memory.pool)} less the reserve of {format_bytes(memory.reserve)}"
        )
    if threads != "auto" and threads > snapshot.machine.cpu.cores:
        found.append(
            f"hardware.threads is {threads}, but this process may use only {snapshot.machine.cpu.cores} processors (cpuset and quota)"
        )
    return tuple(found)
