"""The processors this process may run on, the strong ones among them, and running there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aifw.errors import Refused, UsageError
from aifw.hardware.processor.cpulist import MOST_PROCESSORS, format_cpu_list, parse_cpu_list
from aifw.hardware.processor.topology import CoreKind, Topology, read

__all__ = ["CoreKind", "Cores", "default_threads", "find_cores", "pinned"]

_STRONGEST_FIRST: tuple[CoreKind, ...] = ("performance", "unknown", "efficient", "low-power")


@dataclass(frozen=True, slots=True)
class Cores:
    """The processors this process may run on.

    Tuples of processors are ordered: the first thread of every core, by number, then the second threads, and so on. So the first
    n of them are n physical cores for as long as there are that many.

    Attributes:
        kinds: Kind by processor; never empty.
        basis: What the kinds rest on, or why they are not known.
        siblings: The allowed threads of each core, ascending.
    """

    kinds: Mapping[int, CoreKind] = field(hash=False)
    basis: str
    siblings: tuple[tuple[int, ...], ...] = ()

    def all(self) -> tuple[int, ...]:
        """Every processor."""
        return self._ordered(self.kinds)

    def of(self, kind: CoreKind) -> tuple[int, ...]:
        """The processors of a kind; possibly none."""
        return self._ordered(cpu for cpu, found in self.kinds.items() if found == kind)

    def performance(self) -> tuple[int, ...]:
        """The processors for work that computes: performance cores; without those, cores of unknown kind, else efficient ones,
        else low-power ones. Never empty.
        """
        return next(found for kind in _STRONGEST_FIRST if (found := self.of(kind)))

    def physical(self) -> tuple[int, ...]:
        """One processor for each core that `performance` covers."""
        strong = self.performance()
        return strong[: sum(position == 0 for position in self._positions(strong).values())]

    def _ordered(self, cpus: Iterable[int]) -> tuple[int, ...]:
        positions = self._positions(cpus)
        return tuple(sorted(positions, key=lambda cpu: (positions[cpu], cpu)))

    def _positions(self, cpus: Iterable[int]) -> dict[int, int]:
        """Which thread of its core each one is, among those given."""
        positions = dict.fromkeys(cpus, 0)
        for group in self.siblings:
            positions.update((cpu, place) for place, cpu in enumerate(cpu for cpu in group if cpu in positions))
        return positions


def find_cores(
    root: Path = Path("/"),
    allowed: Iterable[int] | None = None,
    core_type: Callable[[int], int | None] | None = None,
) -> Cores:
    """Find the kinds of the processors. Whatever the files hold, there is an answer.

    Args:
        root: Where `proc`, `sys` and `dev` are.
        allowed: Processors to consider; those of them that are offline are left out. By default those the scheduler lets this
            thread use; of a captured tree, those of its `Cpus_allowed_list`.
        core_type: Gives the core type (bits 31 to 24 of EAX) of CPUID leaf 0x1A as seen on a processor, or None.

    Raises:
        UsageError: `allowed` is empty.
    """
    online = parse_cpu_list(read(f"{root}/sys/devices/system/cpu/online")) or frozenset()
    usable = _usable(root, allowed, online)
    told = Topology(f"{root}", online | usable)
    kinds, basis = told.kinds(usable, core_type or told.core_type)
    return Cores(
        kinds={cpu: kinds.get(cpu, "unknown") for cpu in sorted(usable)},
        basis=basis,
        siblings=tuple(group for core in told.cores if (group := tuple(cpu for cpu in core if cpu in usable))),
    )


def default_threads(cores: Cores, quota: float | None = None) -> int:
    """How many threads work that computes should use: one for each physical core of the strongest kind.

    Args:
        cores: From `find_cores`.
        quota: Processor quota in cores, see `aifw.hardware.cgroup.cpu_quota`. It is rounded down, but not below 1: a thread more
            than the quota makes all of them wait.
    """
    physical = len(cores.physical())
    return physical if quota is None else max(1, int(min(quota, physical)))


@contextmanager
def pinned(cpus: Iterable[int]) -> Iterator[None]:
    """Keep the calling thread on some processors, and give it back its former ones at the end.

    Threads and processes started meanwhile inherit the restriction; other threads are not touched.

    Raises:
        Refused: The operating system does not let this thread use every one of them. Its processors are then what they were.
    """
    wanted = frozenset(cpus)
    before = os.sched_getaffinity(0)
    try:
        if refusal := _pin(wanted):
            raise Refused(
                f"a thread cannot be pinned to processors {format_cpu_list(wanted)}: {refusal}",
                hint=f"processors it may use now: {format_cpu_list(before)}; a cpuset, taskset or container may exclude others",
            )
        yield
    finally:
        # If none of the former processors is left, the kernel has chosen others already.
        with suppress(OSError):
            os.sched_setaffinity(0, before)


def _pin(wanted: frozenset[int]) -> str:
    """Restrict the calling thread. Returns why that did not work, or nothing."""
    if not wanted:
        return "none are named"
    if not all(0 <= cpu < MOST_PROCESSORS for cpu in wanted):
        return f"processors are numbered from 0 to {MOST_PROCESSORS - 1}"
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        return error.strerror or str(error)
    # The kernel leaves out what is offline or not in the cpuset, and says nothing.
    lacking = wanted - os.sched_getaffinity(0)
    return f"{format_cpu_list(lacking)} cannot be used" if lacking else ""


def _usable(root: Path, allowed: Iterable[int] | None, online: frozenset[int]) -> frozenset[int]:
    if allowed is not None:
        asked = frozenset(allowed)
        if not asked:
            raise UsageError(
                "no processor is allowed", hint="leave the processors out to use all that the scheduler offers"
            )
    elif root == Path("/"):
        asked = frozenset(os.sched_getaffinity(0))
    else:
        asked = _allowed_of_tree(root)
    return (asked & online) or asked or online or _folders(root) or frozenset({0})


def _allowed_of_tree(root: Path) -> frozenset[int]:
    for line in read(f"{root}/proc/self/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return parse_cpu_list(line.partition(":")[2]) or frozenset()
    return frozenset()


def _folders(root: Path) -> frozenset[int]:
    try:
        names = [folder.name for folder in (root / "sys/devices/system/cpu").iterdir()]
    except OSError:
        return frozenset()
    return parse_cpu_list(",".join(name[3:] for name in names if re.fullmatch("cpu[0-9]{1,4}", name))) or frozenset()
