"""How much work stalls for want of a resource: PSI (accounting/psi.rst, admin-guide/cgroup-v2.rst of the kernel)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from aifw.hardware.cgroup import groups
from aifw.hardware.machine import Pressure
from aifw.hardware.tree import Look, Reasons, Tree, look

_LINE = re.compile(r"(some|full) avg10=([0-9.]{1,12}) avg60=([0-9.]{1,12}) avg300=[0-9.]{1,12} total=[0-9]+")
_NEEDS = "the kernel has to be built with CONFIG_PSI and, where it is off by default, booted with psi=1"


@dataclass(frozen=True, slots=True)
class PressureFound:
    """Share of time in which tasks waited, in percent, of the whole machine; and of memory in the control group of this process.

    Attributes:
        memory: For memory.
        cpu: For a processor.
        io: For input and output.
        own_memory: For memory, among the tasks of this process's own group (version 2).
        unknown: What could not be found out, and why.
    """

    memory: Pressure | None
    cpu: Pressure | None
    io: Pressure | None
    own_memory: Pressure | None
    unknown: tuple[str, ...] = ()


def read_pressure(root: Path = Path("/")) -> Pressure | None:
    """Pressure on memory, each figure the higher one of the machine and of this process's own control group; None if unknown.

    Cheap enough to be asked several times a second.

    Args:
        root: Where `proc` and `sys` are.
    """
    machine, _ = _parsed(look(f"{root}/proc/pressure/memory"), "")
    own, _ = _own(root)
    if machine is None or own is None:
        return machine or own
    return Pressure(
        some_10s=max(machine.some_10s, own.some_10s),
        some_60s=max(machine.some_60s, own.some_60s),
        full_10s=max(machine.full_10s, own.full_10s),
    )


def find_pressure(tree: Tree) -> PressureFound:
    """Read what there is."""
    reasons = Reasons()
    found: dict[str, Pressure | None] = {}
    for resource in ("memory", "cpu", "io"):
        path = f"proc/pressure/{resource}"
        seen = tree.look(path)
        found[resource], why = _parsed(seen, f"/{path}")
        if why:
            reasons.add(f"pressure on {resource} is unknown: {why}{f'; {_NEEDS}' if seen.missing else ''}")
    own, why = _own(tree.root)
    reasons.add(why and f"pressure on memory in the own control group is unknown: {why}")
    return PressureFound(
        memory=found["memory"], cpu=found["cpu"], io=found["io"], own_memory=own, unknown=reasons.all()
    )


def _own(root: Path) -> tuple[Pressure | None, str]:
    group = next((each for each in groups(root).memory if each.version == 2), None)
    if group is None:
        return None, "this process is in no visible group of version 2"
    return _parsed(look(f"{group.path}/memory.pressure"), f"memory.pressure of {group.name}")


def _parsed(found: Look, name: str) -> tuple[Pressure | None, str]:
    if found.problem:
        return None, f"{name} {found.problem}"
    lines = {match[1]: match for line in found.text.splitlines() if (match := _LINE.fullmatch(line.strip()))}
    if "some" not in lines:
        return None, f"{name} has no line `some` as the kernel writes it"
    if "full" not in lines and not name.endswith("cpu"):
        return None, f"{name} has no line `full` as the kernel writes it"
    # Of processors `full` is undefined for a whole machine: newer kernels write zeros, older ones no line.
    full = lines["full"][2] if "full" in lines else "0"
    values = [value for text in (lines["some"][2], lines["some"][3], full) if (value := _percent(text)) is not None]
    if len(values) < 3:
        return None, f"{name} says more than 100 percent, or what is no number"
    return Pressure(*values), ""


def _percent(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= 100 else None
