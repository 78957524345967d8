"""Watching what running jobs hold: each within its own limit, and all of them within what the machine has."""

from __future__ import annotations

import time
from collections.abc import Collection

from aifw.executors.base import Executor
from aifw.run.events import Events
from aifw.run.launch import Limits, Running
from aifw.run.pool import Pool
from aifw.run.pressure import Candidate, Level, decide
from aifw.spec.models import Spec
from aifw.units import format_bytes

_TICK = 0.1
_SHORT_TICK = 0.02
_TELL_EVERY = 0.5


class Watch:
    """Looks at running jobs again and again. Every decision is an event.

    Args:
        spec: Whose resources are made.
        pool: That they draw on.
        executor: Where they run.
        events: Are told what is decided.
        limits: What the run may use.

    Attributes:
        peak: Most that all jobs together were seen to hold, in bytes.
    """

    def __init__(self, spec: Spec, pool: Pool, executor: Executor, events: Events, limits: Limits) -> None:
        self.peak = 0
        self._spec = spec
        self._pool = pool
        self._executor = executor
        self._events = events
        self._limits = limits
        self._told_at = 0.0
        self._asked_at: float | None = None
        self._saved_nothing: set[str] = set()
        self._tick = _TICK

    @property
    def tick(self) -> float:
        """Seconds until the next look: fewer while a job takes memory so fast that it could be over its limit by then."""
        return self._tick

    def look(self, running: Collection[Running], *, stopping: bool) -> None:
        """Look at every job, and at the machine where that is due.

        Args:
            running: Jobs with a worker.
            stopping: All of them were asked to stop, so that none is asked for anything else.
        """
        self._tick = _TICK
        for each in running:
            before = each.meter.held
            each.meter.look()
            self._check(each, before)
        used = sum(each.meter.held for each in running)
        self.peak = max(self.peak, used)
        if self._pool.look(running) and not stopping:
            self._make_room(running)
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY:
            self._told_at = now
            self._events.tell("memory", used=used, budget=self._limits.memory)

    def saved_nothing(self, running: Running) -> None:
        """A job paused and lost what it had done: it is not asked again."""
        self._saved_nothing.add(running.step.address)

    def _check(self, running: Running, before: int) -> None:
        """End a job that is over its own limit."""
        held, limit = running.meter.held, self._pool.limit_of(running)
        if running.over is not None:
            return
        if held > limit:
            running.over = (held, limit)
            self._events.emit("job.over_limit", running.step.address, used=held, limit=limit)
            self._executor.end(running.handle)
        elif held + (held - before) > limit:
            self._tick = _SHORT_TICK

    def _make_room(self, running: Collection[Running]) -> None:
        if self._pool.gauge.level == Level.OK:
            for each in running:
                each.shrink_asked = False
            return
        by_name = {each.entry.id: each for each in running}
        request = decide(self._pool.gauge, [self._candidate(each) for each in running], self._asked_at)
        if request is None:
            return
        self._asked_at = time.monotonic()
        chosen = by_name[request.job]
        if request.ask == "shrink":
            chosen.shrink_asked = True
            self._events.emit("job.shrink_asked", chosen.step.address, held=chosen.meter.held)
            self._executor.control(chosen.handle, {"ask": "shrink"})
        else:
            chosen.pause_asked = (self._asked_at, self._why())
            self._executor.control(chosen.handle, {"ask": "stop"})

    def _candidate(self, running: Running) -> Candidate:
        resource = self._spec.resources.get(running.step.address)
        works = running.entry.verb == "run" and running.forecast is not None and running.over is None
        can_shrink = works and resource is not None and resource.kind.shrinks
        return Candidate(
            job=running.entry.id,
            begun=running.begun,
            held=running.meter.held,
            can_shrink=can_shrink and not running.shrink_asked and running.pause_asked is None,
            can_pause=works and running.pause_asked is None and running.step.address not in self._saved_nothing,
            asked_to_pause=running.pause_asked[0] if running.pause_asked is not None else None,
        )

    def _why(self) -> str:
        reading = self._pool.gauge.recent[-1]
        if reading.beyond:
            return (
                f"jobs hold {format_bytes(reading.beyond)} more than the budget of {format_bytes(self._limits.memory)}"
            )
        return (
            f"only {format_bytes(reading.available)} of memory can be had, less than the reserve of"
            f" {format_bytes(self._limits.reserve)}"
        )
