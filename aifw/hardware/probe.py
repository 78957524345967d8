"""What planning needs to know of this machine, read from /proc and /sys: no library is asked and no process started.

All that can be read is `aifw.hardware.survey`.
"""

from __future__ import annotations

import os
from pathlib import Path

from aifw.errors import MemoryRefused
from aifw.hardware.allocator import find_jemalloc
from aifw.hardware.cgroup import cpu_quota, groups, memory_limit
from aifw.hardware.devices.accelerators import accelerators
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.hardware.meminfo import amounts, meminfo
from aifw.hardware.processor.cores import find_cores
from aifw.hardware.processor.cpulist import parse_cpu_list
from aifw.hardware.tree import LARGEST, Number, Tree, plain

__all__ = ["meminfo", "probe"]


def probe(root: Path = Path("/")) -> Machine:
    """Look at this machine, or at a captured tree of one.

    Jobs are placed on the processor only: that the kernel has a driver for an accelerator does not say that the installed
    libraries can compute on it. What is there is listed as detected.

    Args:
        root: Where `proc` and `sys` are.

    Raises:
        MemoryRefused: The machine does not say how much memory it has or how much of it is free, so nothing can be promised.
    """
    tree = Tree(root)
    unknown: list[str] = []
    governed = groups(root)
    if governed.unknown:
        unknown.append(governed.unknown)
    total, available, swap_total, swap_free = _memory(tree, unknown)
    model, flags, processors = _processor(tree, unknown)
    told = _allowed(tree)
    allowed = told or processors
    if allowed is None:
        unknown.append("the number of processors is not known; one is assumed")
        allowed = 1
    layout = find_cores(root, None if told else range(allowed))
    quota = cpu_quota(governed, unknown)
    cores = allowed if quota is None else max(1, min(allowed, int(quota)))
    return Machine(
        name=_host(tree),
        cpu=Cpu(model=model, cores=cores, flags=flags, layout=layout),
        memory=Memory(
            total=total,
            available=available,
            limit=memory_limit(governed, unknown),
            swap_total=swap_total,
            swap_free=swap_free,
        ),
        devices=("cpu",),
        detected=accelerators(root),
        unknown=tuple(unknown),
        reuses_memory=find_jemalloc(root) is not None,
    )


def _memory(tree: Tree, unknown: list[str]) -> tuple[int, int, int | None, int | None]:
    """All there is and what can be had, then the same of swap space, in bytes."""
    path = tree.root / "proc/meminfo"
    found = tree.look("proc/meminfo")
    told = amounts(found.text)
    absent = "is not told"
    total = told.get("MemTotal", Number(None, absent))
    if not total.value:
        why = found.problem or f"has no MemTotal that could be true ({total.why or 'it is zero'})"
        raise MemoryRefused(
            f"how much memory there is cannot be found out: {path} {why}",
            hint="aifw needs the /proc of Linux to keep a budget",
        )
    available, free = told.get("MemAvailable", Number(None, absent)), told.get("MemFree", Number(None, absent))
    if available.value is None or available.value > total.value:
        why = "this kernel has no MemAvailable" if "MemAvailable" not in told else available.why
        why = why or "MemAvailable in /proc/meminfo is larger than MemTotal, which cannot be"
        if free.value is None or free.value > total.value:
            raise MemoryRefused(
                f"how much memory is free cannot be found out: {why}, and {path} has no MemFree that could be true",
                hint="aifw needs the /proc of Linux to keep a budget",
            )
        unknown.append(f"{why}; free memory, a lower bound, stands for it")
        available = free
    swap_total, swap_free = told.get("SwapTotal", Number(None, absent)), told.get("SwapFree", Number(None, absent))
    if swap_total.value is None or swap_free.value is None or swap_free.value > swap_total.value:
        unknown.append(
            "how much swap space is free is not known: /proc/meminfo does not tell it or tells what cannot be"
        )
        swap_free = Number(None)
    return total.value, available.value or 0, swap_total.value, swap_free.value


def _processor(tree: Tree, unknown: list[str]) -> tuple[str, frozenset[str], int | None]:
    """Name, flags and number of processors. The first processor's flags stand for all: Linux offers only what all have."""
    found = tree.look("proc/cpuinfo", LARGEST)
    if found.problem:
        unknown.append(f"the processor's name and instruction sets are not known: /proc/cpuinfo {found.problem}")
        return "unknown", frozenset(), None
    model, flags, processors = "unknown", frozenset[str](), 0
    for line in found.text.splitlines():
        if line.startswith("processor"):
            processors += 1
        elif processors > 1:
            continue
        elif line.startswith("model name"):
            model = plain(line.partition(":")[2]) or "unknown"
        elif line.startswith(("flags", "Features")):
            flags = frozenset(line.partition(":")[2].split())
    if not flags:
        unknown.append("the instruction sets of the processor are not known: /proc/cpuinfo lists none")
    return model, flags, processors or None


def _allowed(tree: Tree) -> int | None:
    """How many processors the scheduler lets this process use (affinity, cpuset)."""
    if tree.root == Path("/"):
        return len(os.sched_getaffinity(0))
    lines = tree.look("proc/self/status").text.splitlines()
    ranges = next((line.partition(":")[2] for line in lines if line.startswith("Cpus_allowed_list:")), "")
    return len(parse_cpu_list(ranges) or ()) or None


def _host(tree: Tree) -> str:
    if tree.root == Path("/"):
        return os.uname().nodename
    return plain(tree.look("proc/sys/kernel/hostname").text) or "unknown"
