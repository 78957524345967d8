"""What is here, read from /proc and /sys in a few milliseconds: no library is asked and no process started."""

from __future__ import annotations

import os
from pathlib import Path

from aifw.errors import MemoryRefused
from aifw.hardware.cgroup import cpu_quota, groups, memory_limit
from aifw.hardware.cores import find_cores
from aifw.hardware.cpulist import parse_cpu_list
from aifw.hardware.machine import Accelerator, Cpu, Machine, Memory

_INTEL = "8086"


def probe(root: Path = Path("/")) -> Machine:
    """Look at this machine, or at a captured tree of one.

    Jobs are placed on the processor only: that the kernel has a driver for an accelerator does not say that the installed
    libraries can compute on it. What is there is listed as detected.

    Args:
        root: Where `proc` and `sys` are.

    Raises:
        MemoryRefused: The machine does not say how much memory it has, so nothing can be promised.
    """
    unknown: list[str] = []
    governed = groups(root)
    if governed.unknown:
        unknown.append(governed.unknown)
    total, available = _memory(root, unknown)
    model, flags, processors = _processor(root, unknown)
    told = _allowed(root)
    allowed = told or processors
    if allowed is None:
        unknown.append("the number of processors is not known; one is assumed")
        allowed = 1
    layout = find_cores(root, None if told else range(allowed))
    quota = cpu_quota(governed)
    cores = allowed if quota is None else max(1, min(allowed, int(quota)))
    return Machine(
        name=_host(root),
        cpu=Cpu(model=model, cores=cores, flags=flags, layout=layout),
        memory=Memory(total=total, available=available, limit=memory_limit(governed)),
        devices=("cpu",),
        detected=_accelerators(root),
        unknown=tuple(unknown),
    )


def meminfo(root: Path = Path("/")) -> dict[str, int]:
    """/proc/meminfo in bytes, by name.

    Raises:
        MemoryRefused: It cannot be read.
    """
    path = root / "proc/meminfo"
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise MemoryRefused(
            f"how much memory there is cannot be found out: {error}",
            hint="aifw needs the /proc of Linux to keep a budget",
        ) from error
    found: dict[str, int] = {}
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def _memory(root: Path, unknown: list[str]) -> tuple[int, int]:
    found = meminfo(root)
    if "MemTotal" not in found:
        raise MemoryRefused(f"{root / 'proc/meminfo'} has no MemTotal, so how much memory there is is unknown")
    if "MemAvailable" in found:
        return found["MemTotal"], found["MemAvailable"]
    unknown.append("this kernel has no MemAvailable; free memory, a lower bound, stands for it")
    return found["MemTotal"], found.get("MemFree", 0)


def _processor(root: Path, unknown: list[str]) -> tuple[str, frozenset[str], int | None]:
    """Name, flags and number of processors. The first processor's flags stand for all: Linux offers only what all have."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        unknown.append(f"the processor's name and instruction sets cannot be read: {error}")
        return "unknown", frozenset(), None
    model, flags, processors = "unknown", frozenset[str](), 0
    for line in lines:
        if line.startswith("processor"):
            processors += 1
        elif processors > 1:
            continue
        elif line.startswith("model name"):
            model = line.partition(":")[2].strip()
        elif line.startswith(("flags", "Features")):
            flags = frozenset(line.partition(":")[2].split())
    return model, flags, processors or None


def _allowed(root: Path) -> int | None:
    """How many processors the scheduler lets this process use (affinity, cpuset)."""
    if root == Path("/"):
        return len(os.sched_getaffinity(0))
    try:
        lines = (root / "proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    ranges = next((line.partition(":")[2] for line in lines if line.startswith("Cpus_allowed_list:")), "")
    return len(parse_cpu_list(ranges) or ()) or None


def _host(root: Path) -> str:
    if root == Path("/"):
        return os.uname().nodename
    try:
        return (root / "proc/sys/kernel/hostname").read_text(encoding="utf-8").strip() or "unknown"
    except OSError:
        return "unknown"


def _accelerators(root: Path) -> tuple[Accelerator, ...]:
    gpus = _intel(root / "sys/class/drm", "renderD*")
    npus = _intel(root / "sys/class/accel", "accel*")
    return (
        *(Accelerator(f"xpu:{index}", f"Intel GPU {what}", driver) for index, (what, driver) in enumerate(gpus)),
        *(
            Accelerator("npu" if index == 0 else f"npu:{index}", f"Intel NPU {what}", driver)
            for index, (what, driver) in enumerate(npus)
        ),
    )


def _intel(folder: Path, pattern: str) -> list[tuple[str, str]]:
    """PCI id and driver of Intel's devices of a class, in the kernel's order."""
    nodes = sorted(folder.glob(pattern), key=lambda node: (len(node.name), node.name))
    found: list[tuple[str, str]] = []
    for node in nodes:
        try:
            lines = (node / "device/uevent").read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            continue
        facts = dict(line.split("=", 1) for line in lines if "=" in line)
        identity = facts.get("PCI_ID", "")
        if identity.startswith(f"{_INTEL}:"):
            found.append((identity, facts.get("DRIVER", "unknown")))
    return found
