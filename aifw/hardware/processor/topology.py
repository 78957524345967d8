"""Which processors are strong and which are frugal, from what the kernel tells.

Sources in order of trust; the first that tells the processors apart decides, and `Cores.basis` says which one that was:

1. `/sys/devices/cpu_core/cpus`, `cpu_atom/cpus`, `cpu_lowpower/cpus`: the performance counters of a hybrid Intel processor, which
   the kernel keeps apart by kind.
2. CPUID leaf 0x1A (EAX, bits 31 to 24: 0x40 Core, 0x20 Atom), from the caller or `/dev/cpu/N/cpuid` where that may be read.
3. `cpu_capacity`: the scheduler's measure of performance, 1024 for the strongest. All equal says nothing: that is the default.
4. `acpi_cppc/highest_perf`: the firmware's measure of performance.
5. `cpufreq/cpuinfo_max_freq`.

The last three are numbers, and the cores of one kind differ in them as well (preferred cores, Turbo Boost Max). So a kind ends only
where the next core has at most 85 % of the value: preferred cores are a few percent apart, P- and E-cores as a rule more than 20
(the frequencies of some desktop parts are closer; there the first source speaks). A number that is missing for one core is not used.
An efficient core without a share of the L3 cache that others have is low-power (Meteor Lake, Lunar Lake).

Formats: ABI/testing/sysfs-devices-system-cpu, admin-guide/cputopology.rst, admin-guide/acpi/cppc_sysfs.rst of the kernel; Intel's
Software Developer's Manual, volume 2, CPUID.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

from aifw.hardware.processor.cpulist import format_cpu_list, parse_cpu_list
from aifw.hardware.tree import look, read_bytes

CoreKind = Literal["performance", "efficient", "low-power", "unknown"]

_MOST_THREADS = 8
"""The most threads a core has anywhere (POWER)."""
_ANOTHER_KIND = 0.85
_COUNTERS: tuple[tuple[str, CoreKind], ...] = (
    ("cpu_core", "performance"),
    ("cpu_atom", "efficient"),
    ("cpu_lowpower", "low-power"),
)
_CORE_TYPES: Mapping[int | None, CoreKind] = {0x40: "performance", 0x20: "efficient"}
_CORE_TYPE_LEAF = 0x1A
_NUMBERS = (("cpu_capacity", 1 << 20), ("acpi_cppc/highest_perf", 1 << 32), ("cpufreq/cpuinfo_max_freq", 20_000_000))
"""Files below a processor's folder, and the first value that is absurd."""


class Topology:
    """What a tree tells of the processors that are online, allowed or not: kinds show in comparison only."""

    def __init__(self, root: str, online: frozenset[int]) -> None:
        self._root = root
        self._folder = f"{root}/sys/devices/system/cpu/cpu"
        self._online = online
        self.cores = self._find_cores()

    def kinds(
        self, usable: frozenset[int], core_type: Callable[[int], int | None]
    ) -> tuple[Mapping[int, CoreKind], str]:
        """Kind of each usable processor that has one, and the basis."""
        silent: list[str] = []
        alike: list[str] = []
        doubts: list[str] = []
        kinds, basis = self._from_counters(silent, doubts)
        if not kinds.keys() & usable:
            kinds, basis = self._from_core_types(usable, core_type, silent)
        for name, absurd in _NUMBERS:
            if not kinds.keys() & usable:
                kinds, basis = self._from_numbers(name, absurd, silent, alike)
        if not kinds.keys() & usable:
            if alike:
                return dict.fromkeys(usable, "performance"), "; ".join([*alike, *doubts])
            return {}, f"the kinds are unknown: {'; '.join([*doubts, *silent])}"
        if left := usable - kinds.keys():
            doubts.append(f"nothing about {format_cpu_list(left)}")
        if lacking := self._without_l3(kinds):
            basis += f", {format_cpu_list(lacking)} without the L3 cache of others"
        return {**kinds, **dict.fromkeys(lacking, "low-power")}, "; ".join([basis, *doubts])

    def core_type(self, cpu: int) -> int | None:
        """Bits 31 to 24 of EAX of CPUID leaf 0x1A, through the device of a processor: a position in it is a leaf's number."""
        path = f"{self._root}/dev/cpu/{cpu}/cpuid"
        highest, leaf = _read_bytes(path, 16, 0), _read_bytes(path, 16, _CORE_TYPE_LEAF)
        # Beyond its highest leaf a processor repeats what that one says.
        known = len(highest) == len(leaf) == 16 and int.from_bytes(highest[:4], "little") >= _CORE_TYPE_LEAF
        return leaf[3] if known else None

    def _find_cores(self) -> tuple[tuple[int, ...], ...]:
        """Threads of each core. A group its members do not agree on is taken apart: too many cores harm less than too few."""
        told: dict[int, frozenset[int]] = {}
        for cpu in self._online:
            topology = f"{self._folder}{cpu}/topology"
            text = read(f"{topology}/core_cpus_list") or read(f"{topology}/thread_siblings_list")
            told[cpu] = (parse_cpu_list(text, _MOST_THREADS) or frozenset()) & self._online
        return tuple(
            sorted(
                {
                    tuple(sorted(group)) if cpu in group and all(told[other] == group for other in group) else (cpu,)
                    for cpu, group in told.items()
                }
            )
        )

    def _from_counters(self, silent: list[str], doubts: list[str]) -> tuple[Mapping[int, CoreKind], str]:
        kinds: dict[int, CoreKind] = {}
        names: list[str] = []
        for name, kind in _COUNTERS:
            listed = parse_cpu_list(read(f"{self._root}/sys/devices/{name}/cpus"))
            if listed is None:
                doubts.append(f"{name}/cpus is no list of processors")
                continue
            if both := listed & kinds.keys():
                doubts.append(f"{format_cpu_list(both)} are in {name}/cpus and in another list")
                return {}, ""
            if here := listed & self._online:
                kinds.update(dict.fromkeys(here, kind))
                names.append(f"{name}/cpus")
        if not kinds:
            silent.append("no cpu_core/cpus")
        return kinds, ", ".join(names)

    def _from_core_types(
        self, usable: frozenset[int], core_type: Callable[[int], int | None], silent: list[str]
    ) -> tuple[Mapping[int, CoreKind], str]:
        kinds: dict[int, CoreKind] = {}
        for core in self.cores:
            asked = next((cpu for cpu in core if cpu in usable), None)
            if asked is None:
                continue
            kind = _CORE_TYPES.get(core_type(asked))
            if kind is None:
                silent.append(f"no core type of processor {asked} in CPUID")
                return {}, ""
            kinds.update(dict.fromkeys(core, kind))
        return kinds, "CPUID leaf 0x1A"

    def _from_numbers(
        self, name: str, absurd: int, silent: list[str], alike: list[str]
    ) -> tuple[Mapping[int, CoreKind], str]:
        values: dict[tuple[int, ...], int] = {}
        for core in self.cores:
            texts = (read(f"{self._folder}{cpu}/{name}").strip() for cpu in core)
            found = (int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 20)
            value = next((number for number in found if 0 < number < absurd), None)
            if value is None:
                silent.append(f"no {name} of processor {core[0]}")
                return {}, ""
            values[core] = value
        ranked = sorted(set(values.values()), reverse=True)
        steps = [(low / high, high) for high, low in pairwise(ranked) if low <= _ANOTHER_KIND * high]
        spread = f"{name} of {ranked[0]}" + (f" to {ranked[-1]}" if len(ranked) > 1 else "")
        if not steps:
            if name == "cpu_capacity" and len(ranked) == 1:
                silent.append(f"{name} is {ranked[0]} for all, as it is where nothing is known")
            else:
                alike.append(f"{spread}: one kind")
            return {}, ""
        # Of measures of performance the widest step counts, so that a phone's prime core does not stand alone; frequencies of an
        # efficient and a low-power core may be further apart than those of a performance and an efficient one.
        _, strong = steps[0] if name == "cpufreq/cpuinfo_max_freq" else min(steps)
        _, middle = min((step for step in steps if step[1] < strong), default=(0.0, 0))
        kinds: dict[int, CoreKind] = {}
        for core, value in values.items():
            kind: CoreKind = "performance" if value >= strong else "efficient" if value >= middle else "low-power"
            kinds.update(dict.fromkeys(core, kind))
        return kinds, f"{spread}: performance from {strong}"

    def _without_l3(self, kinds: Mapping[int, CoreKind]) -> frozenset[int]:
        efficient = [cpu for cpu, kind in kinds.items() if kind == "efficient"]
        lacking = frozenset(cpu for cpu in efficient if self._shares_l3(cpu) is False)
        return lacking if lacking and any(self._shares_l3(cpu) for cpu in self._online - lacking) else frozenset()

    def _shares_l3(self, cpu: int) -> bool | None:
        """None if the caches of a processor are not told."""
        levels = {read(f"{self._folder}{cpu}/cache/index{index}/level").strip() for index in (2, 3, 4)}
        return "3" in levels if levels & {"2", "3"} else None


def read(path: str) -> str:
    """What a small file holds, or nothing if it cannot be read."""
    return look(path, 1 << 14).text


def _read_bytes(path: str, size: int, position: int) -> bytes:
    try:
        return read_bytes(path, size, position)
    except (OSError, ValueError):
        return b""
