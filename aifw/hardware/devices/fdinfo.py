"""What processes use of the GPUs and NPUs: the `drm-` keys of /proc/PID/fdinfo.

A process that opens a GPU is a client of it. Each of its open files tells the memory and the engine time of that client; files that
were duplicated or handed to another process tell the same client again, so clients are counted once.

Source: gpu/drm-usage-stats.rst of the kernel's documentation; the keys of i915 (gpu/i915.rst), xe (gpu/xe/xe-drm-usage-stats.rst),
amdgpu and intel_vpu follow it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aifw.hardware.tree import Tree, plain

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MOST_BYTES = 1 << 50
_MOST_COUNT = 1 << 64
_MOST_ENGINES = 1024
_MOST_FILES = 200_000
_NODES = ("/dev/dri/", "/dev/accel/")


@dataclass(frozen=True, slots=True)
class EngineTime:
    """How long a client kept the engines of one sort busy, since it opened the device.

    Attributes:
        nanoseconds: Busy time of all of them together, or None where the driver counts cycles only.
        cycles: Busy cycles of all of them together, or None.
        total_cycles: What the clock of those cycles shows, or None.
        capacity: How many engines of this sort there are.
    """

    nanoseconds: int | None = None
    cycles: int | None = None
    total_cycles: int | None = None
    capacity: int = 1


@dataclass(frozen=True, slots=True)
class Client:
    """One use of a device.

    Attributes:
        driver: Of the kernel.
        device: PCI address, or the driver's name where a device has none.
        number: Of the client, unique for the device.
        memory: Bytes that lie in each region now (`drm-resident-`; `drm-memory-` is its older name). A buffer that two clients
            share is in both.
        shared: Of them, bytes in buffers that others have too.
        engines: By the driver's name of the sort of engine.
    """

    driver: str
    device: str
    number: int
    memory: Mapping[str, int] = field(default_factory=dict)
    shared: Mapping[str, int] = field(default_factory=dict)
    engines: Mapping[str, EngineTime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """All clients that could be seen at one time.

    Attributes:
        seconds: Of a clock that never goes back, when it was taken.
        clients: By device and number.
        hidden: Processes that may not be looked into.
    """

    seconds: float
    clients: Mapping[tuple[str, int], Client]
    hidden: int = 0

    def memory(self, device: str) -> dict[str, int]:
        """Bytes in use of a device by region; empty if no client tells. Shared buffers count once for each client."""
        used: dict[str, int] = {}
        for client in self._of(device):
            for region, size in client.memory.items():
                used[region] = used.get(region, 0) + size
        return used

    def engines(self, device: str) -> dict[str, EngineTime]:
        """Busy time of a device's engines that its clients of now have used, by sort."""
        used: dict[str, EngineTime] = {}
        for client in self._of(device):
            for name, one in client.engines.items():
                other = used.get(name, EngineTime())
                used[name] = EngineTime(
                    _sum(one.nanoseconds, other.nanoseconds),
                    _sum(one.cycles, other.cycles),
                    max((each.total_cycles for each in (one, other) if each.total_cycles is not None), default=None),
                    max(one.capacity, other.capacity),
                )
        return used

    def count(self, device: str) -> int:
        """How many clients a device has."""
        return sum(1 for _ in self._of(device))

    def _of(self, device: str) -> Iterator[Client]:
        return (client for client in self.clients.values() if client.device == device)


def parse_client(text: str) -> Client | None:
    """Read one file of fdinfo.

    Keys that are unknown, repeated later, negative, absurdly large or in an unknown unit are passed over: what is missing afterwards
    is unknown.

    Returns:
        The client, or None where the file is of something else, or of a driver that does not number its clients.
    """
    words: dict[str, str] = {}
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        if colon and key.startswith("drm-"):
            words.setdefault(key[4:], value.strip())
    driver = plain(words.get("driver", ""), 64)
    number = _count(words.get("client-id", ""), _MOST_COUNT)
    if not driver or number is None:
        return None
    # Where the key of today is there but not understood, its older name is not trusted either.
    older = {region: size for region, size in _sizes(words, "memory-").items() if f"resident-{region}" not in words}
    return Client(
        driver=driver,
        device=plain(words.get("pdev", ""), 64).lower() or driver,
        number=number,
        memory={**older, **_sizes(words, "resident-")},
        shared=_sizes(words, "shared-"),
        engines=_engines(words),
    )


def read_clients(root: Path = Path("/"), processes: Iterable[int] | None = None) -> Reading:
    """Look at the files of processes that may be looked into.

    Args:
        root: Where `proc` is.
        processes: Which ones; all of them if not said.
    """
    tree = Tree(root)
    clients: dict[tuple[str, int], Client] = {}
    hidden = seen = 0
    for process in tree.names("proc", "[0-9]{1,10}")[0] if processes is None else processes:
        files, problem = tree.names(f"proc/{process}/fdinfo", "[0-9]{1,10}")
        # A process that has ended meanwhile is no longer there to be counted.
        hidden += bool(problem) and not problem.endswith("does not exist")
        for file in files:
            seen += 1
            if seen > _MOST_FILES:
                return Reading(time.monotonic(), clients, hidden)
            if _other(f"{root}/proc/{process}/fd/{file}"):
                continue
            client = parse_client(tree.look(f"proc/{process}/fdinfo/{file}").text)
            if client is not None:
                clients.setdefault((client.device, client.number), client)
    return Reading(time.monotonic(), clients, hidden)


def busy_share(earlier: Reading, later: Reading) -> dict[str, dict[str, float]]:
    """Share of the time between two readings in which engines were busy: by device, by sort of engine, from 0 to 1.

    A client that is in the later reading only is taken to have come in between. What a client did that is in the earlier reading
    only is not known, so the share is a lower bound then. An engine for which no time has passed is left out.
    """
    passed = (later.seconds - earlier.seconds) * 1e9
    clocks = _clocks(earlier, later)
    busy: dict[str, dict[str, float]] = {}
    for key, client in later.clients.items():
        former = earlier.clients.get(key)
        for name, engine in client.engines.items():
            before = former.engines.get(name, EngineTime()) if former is not None else EngineTime()
            if engine.nanoseconds is not None:
                used, span = engine.nanoseconds - (before.nanoseconds or 0), passed
            elif engine.cycles is not None:
                used, span = engine.cycles - (before.cycles or 0), clocks.get((client.device, name), 0)
            else:
                continue
            if span <= 0:
                continue
            # The kernel's counters may step back and catch up later.
            share = max(0, used) / (span * engine.capacity)
            engines = busy.setdefault(client.device, {})
            engines[name] = min(1.0, engines.get(name, 0.0) + share)
    return busy


def _clocks(earlier: Reading, later: Reading) -> dict[tuple[str, str], int]:
    """By how much the cycle clocks went on, by device and sort of engine. All clients of a device read the same clock."""
    ends: list[dict[tuple[str, str], int]] = [{}, {}]
    for reading, end in zip((earlier, later), ends, strict=True):
        for client in reading.clients.values():
            for name, engine in client.engines.items():
                if engine.total_cycles is not None:
                    key = (client.device, name)
                    end[key] = max(end.get(key, 0), engine.total_cycles)
    return {key: value - ends[0][key] for key, value in ends[1].items() if key in ends[0]}


def _engines(words: Mapping[str, str]) -> dict[str, EngineTime]:
    capacities = {
        key[16:]: _count(value, _MOST_ENGINES) for key, value in words.items() if key.startswith("engine-capacity-")
    }
    busy = {
        key[7:]: _count(value.removesuffix("ns").strip(), _MOST_COUNT)
        for key, value in words.items()
        if key.startswith("engine-") and not key.startswith("engine-capacity-")
    }
    cycles = {key[7:]: _count(value, _MOST_COUNT) for key, value in words.items() if key.startswith("cycles-")}
    totals = {key[13:]: _count(value, _MOST_COUNT) for key, value in words.items() if key.startswith("total-cycles-")}
    return {
        name: EngineTime(busy.get(name), cycles.get(name), totals.get(name), capacities.get(name) or 1)
        for name in (*busy, *(each for each in cycles if each not in busy))
        if name and (busy.get(name) is not None or cycles.get(name) is not None)
    }


def _sizes(words: Mapping[str, str], prefix: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, value in words.items():
        if not key.startswith(prefix) or key == prefix:
            continue
        digits, _, unit = value.partition(" ")
        size, factor = _count(digits, _MOST_BYTES), _UNITS.get(unit.strip())
        if size is not None and factor is not None and size * factor <= _MOST_BYTES:
            found[key[len(prefix) :]] = size * factor
    return found


def _count(text: str, most: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    value = int(text)
    return value if value <= most else None


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)


def _other(link: str) -> bool:
    """Whether an open file is known to be none of a GPU or NPU. Following the link could wait for a network."""
    try:
        return not os.readlink(link).startswith(_NODES)  # noqa: PTH115  # a string, and several times faster than a path
    except (OSError, ValueError):
        return False
