"""NUMA nodes: which processors are near which memory (ABI/stable/sysfs-devices-node, mm/numa.rst of the kernel)."""

from __future__ import annotations

from dataclasses import dataclass

from aifw.hardware.meminfo import amounts
from aifw.hardware.processor.cpulist import parse_cpu_list
from aifw.hardware.tree import Reasons, Tree

_FOLDER = "sys/devices/system/node"
_FARTHEST = 255
"""The ACPI's word for unreachable; 10 is the distance of a node to itself."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        number: As the kernel counts.
        processors: Near it, ascending; none for memory behind a device (CXL); None if unknown.
        total: Bytes of its memory; 0 for a node of processors only.
        free: Of it, unused; the page cache counts as used.
        distances: To each node in the order of their numbers; 10 is the node itself, 20 costs twice as much. None if unknown.
    """

    number: int
    processors: tuple[int, ...] | None
    total: int | None
    free: int | None
    distances: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class NodesFound:
    """Every node.

    Attributes:
        nodes: By number.
        unknown: What could not be found out, and why.
    """

    nodes: tuple[Node, ...]
    unknown: tuple[str, ...] = ()


def find_nodes(tree: Tree) -> NodesFound:
    """Read what there is."""
    reasons = Reasons()
    names, problem = tree.names(_FOLDER, "node[0-9]{1,4}")
    if not names:
        reasons.add(f"NUMA nodes are unknown: {problem or f'/{_FOLDER} lists none'}")
    return NodesFound(tuple(_node(tree, name, len(names), reasons) for name in names), reasons.all())


def _node(tree: Tree, name: str, count: int, reasons: Reasons) -> Node:
    folder = f"{_FOLDER}/{name}"
    listed = tree.look(f"{folder}/cpulist")
    processors = None if listed.problem else parse_cpu_list(listed.text)
    if processors is None:
        reasons.add(
            f"the processors of {name} are unknown: /{folder}/cpulist {listed.problem or 'is no list of processors'}"
        )
    held = tree.look(f"{folder}/meminfo")
    if held.problem:
        reasons.add(f"the memory of {name} is unknown: /{folder}/meminfo {held.problem}")
    # Lines are those of /proc/meminfo behind the words `Node 0`.
    told = amounts("\n".join(line.split(" ", 2)[-1].lstrip() for line in held.text.splitlines()))
    memory: list[int | None] = []
    for field in ("MemTotal", "MemFree"):
        each = told.get(field)
        if each is None or each.value is None:
            why = f"/{folder}/meminfo does not tell {field}" if each is None else f"{each.why} ({name})"
            reasons.add("" if held.problem else f"the memory of {name} is unknown: {why}")
        memory.append(each.value if each else None)
    total, free = memory
    if total is not None and free is not None and free > total:
        reasons.add(f"the free memory of {name} is unknown: /{folder}/meminfo says more than there is")
        free = None
    words = tree.text(f"{folder}/distance").split()
    distances = tuple(int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 4)
    if not len(distances) == len(words) == count or not all(10 <= each <= _FARTHEST for each in distances):
        reasons.add(f"the distances of {name} are unknown: /{folder}/distance does not tell one for each node")
        distances = ()
    return Node(
        number=int(name.removeprefix("node")),
        processors=None if processors is None else tuple(sorted(processors)),
        total=total,
        free=free,
        distances=distances or None,
    )
