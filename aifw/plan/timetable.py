"""When the jobs of a plan run, what the whole plan takes, and what to be careful about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from aifw.plan.model import CERTAIN, Step, Totals
from aifw.plan.needs import MEMORY, needs
from aifw.plan.schedule import Schedule, Task, schedule
from aifw.spec.models import Spec
from aifw.units import format_bytes


def cautions(steps: Sequence[Step], limits: Mapping[str, int]) -> tuple[str, ...]:
    """Jobs that may need more memory than there is, in a sentence each."""
    budget = limits[MEMORY]
    return tuple(
        f"{step.address} may need up to {format_bytes(step.forecast.memory.high)}, {format_bytes(step.forecast.memory.high - budget)} more than the budget; it is ended if it does"
        for step in steps
        if step.forecast is not None and step.forecast.memory.high > budget
    )


def timed(spec: Spec, steps: list[Step], limits: Mapping[str, int]) -> tuple[list[Step], Totals]:
    """The steps with their starts, and what all of them take.

    Args:
        spec: The spec of the plan.
        steps: In an order in which they can be done, each job with its forecast.
        limits: What running jobs may use together, by resource.
    """
    jobs = [
        (step, step.forecast, needs(spec, step, step.forecast, limits)) for step in steps if step.forecast is not None
    ]

    def estimate(bound: Literal["low", "mid", "high"], order: Sequence[str] | None = None) -> Schedule:
        tasks = [
            Task(step.address, step.after, getattr(forecast.seconds, bound), needed)
            for step, forecast, needed in jobs
            if bound != "low" or step.action in CERTAIN
        ]
        return schedule(_with_indirect(tasks, steps), limits, order)

    # Shorter jobs can make a list schedule longer, so the three are put in order.
    expected = estimate("mid")
    low, high = estimate("low", expected.order).end, estimate("high", expected.order).end
    totals = Totals(
        memory=expected.memory,
        memory_at=expected.memory_at,
        budget=limits[MEMORY],
        seconds_low=min(low, expected.end),
        seconds_mid=expected.end,
        seconds_high=max(high, expected.end),
        cost_low=round(sum(forecast.cost.low for step, forecast, _ in jobs if step.action in CERTAIN)),
        cost_high=round(sum(forecast.cost.high for _, forecast, _ in jobs)),
    )
    return [replace(step, start=expected.start.get(step.address)) for step in steps], totals


def _with_indirect(tasks: list[Task], steps: list[Step]) -> list[Task]:
    """Let a job wait for jobs it depends on through resources that do not run."""
    running = {task.address for task in tasks}
    reach: dict[str, frozenset[str]] = {}
    for step in steps:
        found: set[str] = set()
        for each in step.after:
            found |= {each} if each in running else reach.get(each, frozenset())
        reach[step.address] = frozenset(found)
    return [replace(task, after=tuple(sorted(reach[task.address]))) for task in tasks]
