"""When each job will run, and how much of every resource is in use at any instant.

A list schedule: whenever something ends, start what is ready and fits, in an order of priority (Graham 1966). The order is by the
longest path to the end (Hu 1961; the critical path method). Where that misses the lower bound, a few other rules and small changes of the order
are tried, always the same ones, and the shortest schedule is kept. The engine starts jobs by the same rule in the same order, so a
run goes as planned for as long as jobs take what was forecast.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

MEMORY = "memory"
_MOST_LOOKED_AT = 10_000
"""How often a job is looked at while looking for a better order: so that planning stays fast however many jobs there are."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the schedule needs to know of a job.

    Attributes:
        after: Jobs it waits for; one that is not in the schedule is done.
        seconds: How long it takes.
        needs: What it uses meanwhile, by resource: bytes of `memory`, processors, a whole accelerator (1). More than there is
            counts as all there is.
    """

    address: str
    after: tuple[str, ...]
    seconds: float
    needs: Mapping[str, int] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Start of each job in seconds, the end of the last, and the highest use of memory with the job that causes it.

    Attributes:
        order: Addresses, first priority first; with it the same schedule can be made for other times.
    """

    start: Mapping[str, float]
    end: float
    memory: int
    memory_at: str
    order: tuple[str, ...] = ()


def fits(needs: Mapping[str, int], used: Mapping[str, int], capacity: Mapping[str, int], *, alone: bool) -> bool:
    """Whether a job may start beside those that run.

    Args:
        needs: Of the job, by resource. One that `capacity` does not name is not limited.
        used: By the jobs that run.
        capacity: What there is.
        alone: Nothing runs. Then it may always start: a plan that cannot hold it was refused.
    """
    return alone or all(
        amount <= capacity[name] - used.get(name, 0) for name, amount in needs.items() if amount and name in capacity
    )


def schedule(tasks: Sequence[Task], capacity: Mapping[str, int], order: Sequence[str] | None = None) -> Schedule:
    """Find a short schedule that never uses more of anything than there is.

    Args:
        tasks: Without cycles, in an order in which they could be done.
        capacity: What there is, by resource.
        order: Priorities to keep to, as in `Schedule.order`; None looks for good ones.
    """
    problem = _Problem(tasks, capacity)
    if order is not None:
        rank = {address: position for position, address in enumerate(order)}
        return problem.described(sorted(range(len(tasks)), key=lambda index: rank.get(tasks[index].address, len(rank))))
    return problem.described(_search(problem))


class _Problem:
    """Tasks by number and needs as tuples: a schedule is made many times over."""

    def __init__(self, tasks: Sequence[Task], capacity: Mapping[str, int]) -> None:
        self.tasks = tasks
        self.count = len(tasks)
        self.names = tuple(capacity)
        self.capacity = tuple(capacity.values())
        self.memory = self.names.index(MEMORY) if MEMORY in capacity else None
        self.seconds = [task.seconds for task in tasks]
        self.needs = [tuple(min(task.needs.get(name, 0), there) for name, there in capacity.items()) for task in tasks]
        self.least = tuple(map(min, zip(*self.needs, strict=True)))
        self.looked_at = 0
        numbers = {task.address: index for index, task in enumerate(tasks)}
        self.before = [sorted({numbers[each] for each in task.after if each in numbers}) for task in tasks]
        self.dependants: list[list[int]] = [[] for _ in tasks]
        for index, before in enumerate(self.before):
            for each in before:
                self.dependants[each].append(index)
        self.tail = self._tails()

    def _tails(self) -> list[float]:
        """Seconds from the start of each task to the end of all that wait for it, were there enough of everything."""
        waiting = [len(each) for each in self.dependants]
        ready = [index for index, count in enumerate(waiting) if not count]
        tail = [0.0] * self.count
        while ready:
            index = ready.pop()
            tail[index] = self.seconds[index] + max((tail[each] for each in self.dependants[index]), default=0.0)
            for each in self.before[index]:
                waiting[each] -= 1
                if not waiting[each]:
                    ready.append(each)
        return tail

    def lower_bound(self) -> float:
        """No schedule is shorter: the critical path, and the work on each resource spread evenly over all of it."""
        areas = [
            sum(needs[position] * seconds for needs, seconds in zip(self.needs, self.seconds, strict=True)) / there
            for position, there in enumerate(self.capacity)
            if there
        ]
        return max([*self.tail, *areas], default=0.0)

    def run(self, order: Sequence[int]) -> tuple[list[float], float, int, int]:
        """Start of each task, the end of the last, the most memory in use and the number of the task that causes it."""
        rank = [0] * self.count
        for position, index in enumerate(order):
            rank[index] = position
        missing = [len(each) for each in self.before]
        waiting = [index for index in order if not missing[index]]
        running: list[tuple[float, int]] = []
        start = [0.0] * self.count
        free = list(self.capacity)
        column = self.memory
        now, peak, peak_at = 0.0, 0, 0
        while waiting or running:
            held: list[int] = []
            for looked_at, index in enumerate(waiting):
                if any(left < least for left, least in zip(free, self.least, strict=True)):
                    held += waiting[looked_at:]
                    break
                needs = self.needs[index]
                self.looked_at += 1
                if all(amount <= left for amount, left in zip(needs, free, strict=True)):
                    start[index] = now
                    free = [left - amount for amount, left in zip(needs, free, strict=True)]
                    heappush(running, (now + self.seconds[index], index))
                    if column is not None and self.capacity[column] - free[column] > peak:
                        peak, peak_at = self.capacity[column] - free[column], index
                else:
                    held.append(index)
            waiting = held
            now = running[0][0]
            # What ends at the same instant makes room together, before anything starts in it.
            while running and running[0][0] == now:
                _, ended = heappop(running)
                free = [left + amount for amount, left in zip(self.needs[ended], free, strict=True)]
                for index in self.dependants[ended]:
                    missing[index] -= 1
                    if not missing[index]:
                        insort(waiting, index, key=rank.__getitem__)
        return start, now, peak, peak_at

    def described(self, order: Sequence[int]) -> Schedule:
        """The schedule of an order of priorities."""
        start, end, memory, memory_at = self.run(order)
        return Schedule(
            start={task.address: start[index] for index, task in enumerate(self.tasks)},
            end=end,
            memory=memory,
            memory_at=self.tasks[memory_at].address if memory else "",
            order=tuple(self.tasks[index].address for index in order),
        )


def _search(problem: _Problem) -> list[int]:
    """The best order of priorities that a bounded number of attempts finds."""
    bound = problem.lower_bound() * (1 + 1e-9)
    best: list[int] = []
    shortest = float("inf")
    for rule in _rules(problem):
        order = sorted(range(problem.count), key=rule)
        found = problem.run(order)[1]
        if found < shortest:
            best, shortest = order, found
        if shortest <= bound or problem.looked_at > _MOST_LOOKED_AT:
            return best
    improved = True
    while improved:
        improved = False
        # Later ones first: most of what goes wrong is a long job that was left for last.
        for position in reversed(range(problem.count)):
            for earlier in range(position):
                order = [*best[:earlier], best[position], *best[earlier:position], *best[position + 1 :]]
                found = problem.run(order)[1]
                if found < shortest:
                    best, shortest, improved = order, found, True
                if shortest <= bound or problem.looked_at > _MOST_LOOKED_AT:
                    return best
    return best


def _rules(problem: _Problem) -> list[Callable[[int], tuple[float, ...]]]:
    """Orders to try, the critical path first. Equal ones are in the order given."""
    seconds, tail = problem.seconds, problem.tail

    def share(index: int) -> float:
        return max(
            (need / there for need, there in zip(problem.needs[index], problem.capacity, strict=True) if there),
            default=0,
        )

    return [
        lambda index: (-tail[index], -share(index), index),
        lambda index: (-share(index) * seconds[index], -tail[index], index),
        lambda index: (-share(index), -tail[index], index),
        lambda index: (-seconds[index], -tail[index], index),
        lambda index: (index,),
        lambda index: (-len(problem.dependants[index]), -tail[index], index),
    ]
