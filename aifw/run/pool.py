"""The unified memory pool while jobs run: what they reserved, what the machine really has, and whether one more may start."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from aifw.errors import MemoryRefused
from aifw.hardware.machine import Pressure
from aifw.hardware.pool import available
from aifw.hardware.pressure import read_pressure
from aifw.kind import Forecast
from aifw.plan.needs import MEMORY
from aifw.plan.schedule import fits
from aifw.run.events import Events
from aifw.run.launch import Limits, Running
from aifw.run.ledger import Ledger
from aifw.run.pressure import Gauge, Level, Reading, followed
from aifw.units import format_bytes, format_seconds

_READ_EVERY = 0.25
_MARGIN = 1.1
"""Of the high of a forecast: more than that is not what was planned."""
_SMALLEST_LIMIT = 256 * 1024**2
"""Bytes no job is ended below, budget permitting: an interpreter with a few libraries, which forecasts of small jobs may leave out."""

Source = Callable[[], tuple[int, Pressure | None]]
"""Reads bytes that can be had, and PSI where the kernel tells it."""


def machine() -> tuple[int, Pressure | None]:
    """Reads this machine."""
    return available(), read_pressure()


class Pool:
    """Keeps the ledger of one run, and decides about admission.

    Args:
        limits: What the run may use.
        events: Are told of every decision.
        source: What memory is read from.

    Attributes:
        ledger: What running jobs reserved.
        gauge: How short memory is.
    """

    def __init__(self, limits: Limits, events: Events, source: Source = machine) -> None:
        self.ledger = Ledger()
        self.gauge = Gauge()
        self._limits = limits
        self._events = events
        self._source = source
        self._held: Mapping[str, int] = {}
        self._reading: Reading | None = None
        self._alone_since: dict[str, float] = {}
        self._told: set[str] = set()

    # The ledger

    def reserve(self, running: Running, needs: Mapping[str, int]) -> None:
        """Take a job that was started into the ledger."""
        self.ledger = self.ledger.reserved(running.entry.id, needs)

    def release(self, running: Running) -> None:
        """Take a job that ended out of it."""
        self.ledger = self.ledger.released(running.entry.id)

    def limit(self, forecast: Forecast | None, reserved: int) -> int:
        """Bytes at which a job is ended.

        A conservative pool lets it have its forecast's high and a tenth; an aggressive one what the budget leaves beside what the
        others reserved. Never more than the budget. A job without a forecast is an effect under way, and small.

        Args:
            forecast: Of the job.
            reserved: Bytes it reserved, as they stand in the ledger.
        """
        budget = self._limits.memory
        if forecast is None:
            return budget
        if self._limits.conservative:
            return min(budget, max(round(forecast.memory.high * _MARGIN), _SMALLEST_LIMIT))
        others = self.ledger.used().get(MEMORY, 0) - reserved
        return min(budget, max(reserved, budget - others, _SMALLEST_LIMIT))

    def limit_of(self, running: Running) -> int:
        """The same of one that runs."""
        return self.limit(running.forecast, self.ledger.memory(running.entry.id))

    # What is there

    def look(self, running: Collection[Running]) -> bool:
        """Read the machine, if that is due; True if it was.

        Args:
            running: Jobs whose meters were looked at just now.
        """
        now = time.monotonic()
        if self._reading is not None and now - self._reading.at < _READ_EVERY:
            return False
        found, pressure = self._source()
        self._held = {each.entry.id: each.meter.held for each in running}
        held = sum(self._held.values())
        beyond = max(0, held - self._limits.memory)
        reading = Reading(now, found, held, self.ledger.promised(self._held), beyond, pressure)
        before = self.gauge.level
        self._reading = reading
        self.gauge = followed(self.gauge, reading, self._limits.reserve)
        if self.gauge.level != before:
            self._events.emit(
                "pool.pressure",
                level=self.gauge.level.word,
                available=found,
                reserve=self._limits.reserve,
                psi=pressure.some_10s if pressure is not None else None,
            )
        return True

    def free(self) -> int:
        """Bytes that can be had, that nobody was promised, and that are not to be left to others."""
        if self._reading is None:
            self.look(())
        assert self._reading is not None
        return self._reading.available - self.ledger.promised(self._held) - self._limits.reserve

    # Admission

    def admits(self, address: str, needs: Mapping[str, int], wants: int) -> bool:
        """Whether a job may start now beside those that run.

        Args:
            address: Of its resource.
            needs: What it would reserve, by resource.
            wants: Bytes that must really be there.

        Raises:
            MemoryRefused: Nothing of this run holds memory, others do, and that did not change for as long as the spec says.
        """
        alone = not self.ledger.entries
        if not fits(needs, self.ledger.used(self._held), self._limits.capacity, alone=alone):
            return False
        free = self.free()
        if self.gauge.level == Level.OK and free >= wants:
            self._alone_since.pop(address, None)
            self._told.discard(address)
            return True
        if address not in self._told:
            self._told.add(address)
            self._events.emit("pool.waits", address, needs=wants, available=max(0, free))
        if not alone:
            self._alone_since.pop(address, None)
            return False
        now = time.monotonic()
        if now - self._alone_since.setdefault(address, now) >= self._limits.patience:
            raise self._refusal(wants, free)
        return False

    def _refusal(self, wants: int, free: int) -> MemoryRefused:
        reserve, waited = format_bytes(self._limits.reserve), format_seconds(self._limits.patience)
        if free >= wants:
            return MemoryRefused(
                f"needs {format_bytes(wants)} of memory, which is there, but memory was short on this machine for {waited}",
                hint="something else takes memory and gives it back all the time; `aifw apply` when it is done",
            )
        least = "the reserve" if free < 0 else f"{format_bytes(free)} beside the reserve"
        instead = ", or say `hardware.memory.profile: aggressive`" if self._limits.conservative else ""
        return MemoryRefused(
            f"needs {format_bytes(wants)} of memory, and for {waited} other programs left "
            + (f"less than {least} of {reserve}" if free < 0 else f"only {least} of {reserve}"),
            hint=f"end what else holds memory, lower `hardware.memory.reserve`, make the job smaller{instead}",
        )
