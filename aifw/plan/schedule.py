"""When each job will run, and how much memory is in use at any instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush


@dataclass(frozen=True, slots=True)
class Task:
    """What the schedule needs to know of a job: bytes, seconds, processor threads."""

    address: str
    after: tuple[str, ...]
    memory: int
    seconds: float
    threads: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Start of each job in seconds, the end of the last, and the highest use of memory with the job that causes it."""

    start: Mapping[str, float]
    end: float
    memory: int
    memory_at: str


def fits(memory: int, threads: int, running_memory: int, running_threads: int, budget: int, total_threads: int) -> bool:
    """Whether a job may start beside those that run. One that is alone may always start: a plan that cannot hold it was refused."""
    if running_threads == 0:
        return True
    return running_memory + memory <= budget and running_threads + threads <= total_threads


def schedule(tasks: Sequence[Task], budget: int, threads: int) -> Schedule:
    """Greedy list scheduling (Graham 1966): whenever something ends, start what is ready and fits, in the order given."""
    known = {task.address for task in tasks}
    missing = {task.address: sum(each in known for each in task.after) for task in tasks}
    dependants: dict[str, list[Task]] = {}
    for task in tasks:
        for each in task.after:
            dependants.setdefault(each, []).append(task)
    rank = {task.address: position for position, task in enumerate(tasks)}
    waiting = [task for task in tasks if missing[task.address] == 0]
    running: list[tuple[float, int, Task]] = []
    start: dict[str, float] = {}
    now, used, busy, peak, peak_at = 0.0, 0, 0, 0, ""
    while waiting or running:
        held: list[Task] = []
        for task in waiting:
            if fits(task.memory, task.threads, used, busy, budget, threads):
                start[task.address] = now
                used, busy = used + task.memory, busy + task.threads
                heappush(running, (now + task.seconds, rank[task.address], task))
                if used > peak:
                    peak, peak_at = used, task.address
            else:
                held.append(task)
        now = running[0][0]
        # What ends at the same instant makes room together, before anything starts in it.
        while running and running[0][0] == now:
            _, _, ended = heappop(running)
            used, busy = used - ended.memory, busy - ended.threads
            for task in dependants.get(ended.address, ()):
                missing[task.address] -= 1
                if missing[task.address] == 0:
                    held.append(task)
        waiting = sorted(held, key=lambda task: rank[task.address])
    return Schedule(start, now, peak, peak_at)
