"""Every limit of the control groups above this process, and the group that sets it.

Formats: admin-guide/cgroup-v1/{memory,cpusets}.rst, admin-guide/cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aifw.hardware.cgroup import Group, Groups, groups, memory_limits, memory_used, quota_of, value
from aifw.hardware.processor.cpulist import parse_cpu_list
from aifw.hardware.processor.present import online
from aifw.hardware.tree import Number, Reasons, Tree, look

_LEAST_UNLIMITED = 1 << 60
"""What version 1 prints for no limit is larger."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit of memory or swap space.

    Attributes:
        group: Path of the group below the mount; the topmost that is visible is `/`.
        version: Of control groups, 1 or 2.
        setting: The file that sets it: `memory.max`, `memory.high`, `memory.limit_in_bytes`, `memory.swap.max`;
            `hierarchical_memory_limit` is the smallest of all ancestors, the invisible ones included.
        size: Bytes.
        used: Bytes the group holds of what is limited, the page cache included, or None if it does not tell.
    """

    group: str
    version: int
    setting: str
    size: int
    used: int | None


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit of processor time.

    Attributes:
        group: As of `MemoryLimit`.
        version: As of `MemoryLimit`.
        cores: How many processors' time it is.
    """

    group: str
    version: int
    cores: float


@dataclass(frozen=True, slots=True)
class ProcessorSet:
    """A restriction to some processors or memory nodes.

    Attributes:
        group: As of `MemoryLimit`.
        version: As of `MemoryLimit`.
        setting: The file that tells it: `cpuset.cpus.effective`, `cpuset.mems`.
        numbers: The processors or nodes that are left, ascending.
    """

    group: str
    version: int
    setting: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LimitsFound:
    """Every limit, innermost group first.

    Attributes:
        memory: Of memory and swap space.
        quotas: Of processor time.
        sets: Of processors and memory nodes; only those that leave something out.
        unknown: What could not be found out, and why.
    """

    memory: tuple[MemoryLimit, ...]
    quotas: tuple[Quota, ...]
    sets: tuple[ProcessorSet, ...]
    unknown: tuple[str, ...] = ()

    def memory_limit(self) -> MemoryLimit | None:
        """The smallest limit of memory (not of swap space), if there is one."""
        held = [each for each in self.memory if "swap" not in each.setting and "memsw" not in each.setting]
        return min(held, key=lambda each: each.size, default=None)

    def quota(self) -> Quota | None:
        """The smallest limit of processor time, if there is one."""
        return min(self.quotas, key=lambda each: each.cores, default=None)


def find_limits(tree: Tree) -> LimitsFound:
    """Read what there is."""
    reasons = Reasons()
    found = groups(tree.root)
    reasons.add(found.unknown)
    memory = [limit for group in found.memory for limit in _memory(group, reasons)]
    quotas: list[Quota] = []
    for group in found.cpu:
        cores, why = quota_of(group)
        reasons.add(why and f"a processor quota is unknown: {why}")
        if cores is not None:
            quotas.append(Quota(group.name, group.version, cores))
    everything = {"cpus": frozenset(online(tree)), "mems": parse_cpu_list(tree.text("sys/devices/system/node/online"))}
    sets = [each for group in found.cpuset for each in _sets(group, everything, reasons)]
    reasons.add(_hidden(found))
    return LimitsFound(tuple(memory), tuple(quotas), tuple(sets), reasons.all())


def _memory(group: Group, reasons: Reasons) -> list[MemoryLimit]:
    limits = [(name.replace("memory.stat", "hierarchical_memory_limit"), each) for name, each in memory_limits(group)]
    used = memory_used(group)
    if group.version == 1:
        own = limits[0][1].value
        # The hierarchical limit says something new only where an ancestor is tighter.
        limits = [each for each in limits if each[0] != "hierarchical_memory_limit" or each[1].value != own]
        extra, extra_used = "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"
    else:
        extra, extra_used = "memory.swap.max", "memory.swap.current"
    found: list[MemoryLimit] = []
    for setting, each, held in (
        *((setting, each, used) for setting, each in limits),
        (extra, _bounded(value(group, extra)), value(group, extra_used).value),
    ):
        known = reasons.known(each)
        if known is not None:
            found.append(MemoryLimit(group.name, group.version, setting, known, held))
    return found


def _bounded(limit: Number) -> Number:
    return Number(None) if limit.value is not None and limit.value >= _LEAST_UNLIMITED else limit


def _sets(group: Group, everything: Mapping[str, frozenset[int] | None], reasons: Reasons) -> list[ProcessorSet]:
    found: list[ProcessorSet] = []
    for what, every in everything.items():
        # What is left after the ancestors' restrictions; where a kernel does not tell that, what the group itself asks for.
        old, new = (f"cpuset.effective_{what}", f"cpuset.{what}"), (f"cpuset.{what}.effective",)
        for name in old if group.version == 1 else new:
            text = look(f"{group.path}/{name}")
            if text.missing:
                continue
            numbers = parse_cpu_list(text.text)
            if text.problem or not numbers:
                why = text.problem or "is no list of numbers"
                reasons.add(f"a restriction to some processors or nodes is unknown: {name} of {group.name} {why}")
            elif every is None or every - numbers:
                found.append(ProcessorSet(group.name, group.version, name, tuple(sorted(numbers))))
            break
    return found


def _hidden(found: Groups) -> str:
    """Why limits may hold that nobody here can see, or nothing."""
    unified = [group for group in found.memory if group.version == 2]
    # The real root of the hierarchy has no limits of its own, so one that has is the root of a namespace only.
    if unified and not look(f"{unified[-1].path}/memory.max").missing:
        return "this process sees control groups from inside a container: limits of the groups around it are not shown to it"
    return ""
