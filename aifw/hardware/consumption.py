"""What this process takes of the machine while something is done: memory, processor, GPU, energy; or why that is not known.

    with consumption() as taken:
        answer(items)
    taken.known, taken.unknown

Memory is that of `aifw.hardware.meter`. What a GPU or NPU holds and does for the process and those below it is what its driver tells
(`aifw.hardware.devices.fdinfo`); what a client does between the last look and its end is lost, so it is a lower bound. Energy is what
the processor counts for whole packages and the memory beside them, whoever uses them; a graphics card's is not in it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aifw.hardware.devices.fdinfo import Reading, busy_share, read_clients
from aifw.hardware.meter import Meter
from aifw.hardware.pool import descendants
from aifw.hardware.processor.power import PowerFound, PowerZone, find_power
from aifw.hardware.tree import Tree

_ROOT = Path("/")
_MEMORY_EVERY = 0.05
_DEVICES_EVERY = 0.5
_ENERGY_EVERY = 10.0
"""Seconds between two looks. A counter of energy starts again after at least ten minutes at full power."""


class Consumption:
    """Follows this process from its making on. `finish` has the last look.

    Args:
        root: Where `proc` and `sys` are.

    Attributes:
        known: By name: `peak_memory` and `gpu_memory` in bytes, `cpu_seconds`, `gpu_seconds`, `joules`. Each is more than 0.
        unknown: Why one is not there.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self.known: dict[str, float] = {}
        self.unknown: dict[str, str] = {}
        self._root = root
        self._meter = Meter(os.getpid(), root)
        self._clients = self._devices()
        self._gpu_memory = _held(self._clients)
        self._gpu_seconds = 0.0
        self._energy = _Energy(root)
        self._devices_due = self._energy_due = 0.0
        self._cpu = _cpu_seconds()
        self._meter.look()

    def look(self, *, all_of_it: bool = False) -> None:
        """Look at what is due."""
        self._meter.look()
        now = time.monotonic()
        if all_of_it or now >= self._devices_due:
            self._devices_due = now + _DEVICES_EVERY
            later = self._devices()
            self._gpu_memory = max(self._gpu_memory, _held(later))
            self._gpu_seconds += _busy_seconds(self._clients, later)
            self._clients = later
        if all_of_it or now >= self._energy_due:
            self._energy_due = now + _ENERGY_EVERY
            self._energy.look()

    def finish(self) -> None:
        """Look for the last time and say what is known."""
        cpu = _cpu_seconds() - self._cpu
        self.look(all_of_it=True)
        silent = "nothing that was run opened a GPU or NPU whose driver tells what it does for a process"
        joules, why = self._energy.counted()
        found = {
            "peak_memory": (float(self._meter.peak), f"{self._root / 'proc'} does not tell what this process holds"),
            "gpu_memory": (float(self._gpu_memory), silent),
            "cpu_seconds": (cpu, "it took less than the clock of processor time can tell"),
            "gpu_seconds": (self._gpu_seconds, silent if not self._gpu_memory else "no engine was seen busy"),
            "joules": (joules, why),
        }
        self.known = {name: value for name, (value, _) in found.items() if value > 0}
        self.unknown = {name: reason for name, (value, reason) in found.items() if not value > 0}

    def _devices(self) -> Reading:
        own = os.getpid()
        return read_clients(self._root, (own, *descendants(own, self._root)))


@contextmanager
def consumption(root: Path = _ROOT) -> Iterator[Consumption]:
    """Follow this process from a thread of its own; what is known is there at the end.

    Code that keeps the interpreter lock for long delays the looks.
    """
    taken = Consumption(root)
    over = threading.Event()

    def follow() -> None:
        while not over.wait(_MEMORY_EVERY):
            taken.look()

    thread = threading.Thread(target=follow, name="consumption", daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()
        taken.finish()


class _Energy:
    """Adds up counters that start again at their most."""

    def __init__(self, root: Path) -> None:
        self._tree = Tree(root)
        self._total = 0.0
        self._problem = ""
        self._last = self._read()

    def look(self) -> None:
        now = self._read()
        for path, zone in now.items():
            former = self._last.get(path)
            if former is None or former.joules is None or zone.joules is None:
                continue
            step = zone.joules - former.joules
            if step < 0 and zone.most_joules is None:
                self._problem = f"the counter of {zone.name} started again, and it does not tell from where"
            self._total += step if step >= 0 else step + (zone.most_joules or 0)
        self._last = now

    def counted(self) -> tuple[float, str]:
        """Joules, and why there are none."""
        if self._problem:
            return 0.0, self._problem
        return self._total, "the counter of energy did not move"

    def _read(self) -> dict[str, PowerZone]:
        found = find_power(self._tree)
        zones = {zone.path: zone for zone in found.zones if _counts(zone)}
        silent = next((zone for zone in zones.values() if zone.joules is None), None)
        if not zones or silent is not None:
            self._problem = self._problem or _why(found, silent)
        return zones


def _counts(zone: PowerZone) -> bool:
    """Whether a zone is a whole package or the memory beside it, so that together they count nothing twice."""
    name = zone.name or ""
    return "mmio" not in zone.path and (name.startswith("package") or name == "dram")


def _why(found: PowerFound, silent: PowerZone | None) -> str:
    named = silent.name if silent is not None and silent.name else ""
    told = [reason for reason in found.unknown if "energy" in reason and named in reason]
    return told[0] if told else "no counter of energy covers the processor"


def _held(reading: Reading) -> int:
    return sum(sum(client.memory.values()) for client in reading.clients.values())


def _busy_seconds(earlier: Reading, later: Reading) -> float:
    """Time the engines were busy for the clients, of all engines together."""
    passed = later.seconds - earlier.seconds
    return passed * sum(
        share * later.engines(device)[name].capacity
        for device, engines in busy_share(earlier, later).items()
        for name, share in engines.items()
    )


def _cpu_seconds() -> float:
    """Of all threads of this process, and of children that have ended and were waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system
