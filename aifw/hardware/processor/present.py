"""The processors of the machine: how many, of which kind, and which of them this process may use."""

from __future__ import annotations

from dataclasses import dataclass

from aifw.hardware.processor.cores import CoreKind, find_cores
from aifw.hardware.processor.cpulist import format_cpu_list, parse_cpu_list
from aifw.hardware.tree import LARGEST, Reasons, Tree, fields, plain

_KINDS: tuple[CoreKind, ...] = ("performance", "efficient", "low-power", "unknown")
_MOST_PACKAGES = 1 << 12
_FOLDER = "sys/devices/system/cpu"
_ONLINE = f"{_FOLDER}/online"


@dataclass(frozen=True, slots=True)
class CoresOfKind:
    """The cores of one kind.

    Attributes:
        kind: What they are.
        processors: Their numbers, one a thread, ascending.
        cores: How many physical cores these are.
        allowed: Those of them this process may use (affinity, cpuset), ascending.
    """

    kind: CoreKind
    processors: tuple[int, ...]
    cores: int
    allowed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProcessorFound:
    """The processors that are online.

    Attributes:
        model: Name.
        packages: How many chips (sockets) they are on.
        kinds: Strongest first; only those there are.
        basis: What the kinds rest on, or why they are not known.
        offline: Processors the kernel could use and does not.
        unknown: What could not be found out, and why.
    """

    model: str | None
    packages: int | None
    kinds: tuple[CoresOfKind, ...]
    basis: str
    offline: tuple[int, ...]
    unknown: tuple[str, ...] = ()


def online(tree: Tree) -> tuple[int, ...]:
    """The processors that are online, ascending; without the kernel's list, those this process may use.

    One without a folder is not there, whatever the list says, unless no processor has one.
    """
    listed = parse_cpu_list(tree.text(_ONLINE)) or find_cores(tree.root).kinds.keys()
    return tuple(sorted((listed & _folders(tree)) or listed))


def _folders(tree: Tree) -> frozenset[int]:
    names, _ = tree.names(_FOLDER, "cpu[0-9]{1,4}")
    return frozenset(int(name.removeprefix("cpu")) for name in names)


def find_processor(tree: Tree) -> ProcessorFound:
    """Read what there is."""
    reasons = Reasons()
    text = tree.look(_ONLINE)
    listed = parse_cpu_list(text.text)
    if text.problem or not listed:
        reasons.add(f"which processors are online is unknown: /{_ONLINE} {text.problem or 'is no list of processors'}")
    elif (folders := _folders(tree)) and (lacking := listed - folders):
        reasons.add(
            f"/{_ONLINE} names processors {format_cpu_list(lacking)}, of which there is no folder; they do not count"
        )
    every = find_cores(tree.root, online(tree))
    allowed = find_cores(tree.root).kinds.keys()
    kinds: list[CoresOfKind] = []
    for kind in _KINDS:
        if processors := every.of(kind):
            here = frozenset(processors)
            cores = sum(not here.isdisjoint(core) for core in every.siblings)
            usable = tuple(sorted(cpu for cpu in processors if cpu in allowed))
            kinds.append(CoresOfKind(kind, tuple(sorted(processors)), cores, usable))
    offline = parse_cpu_list(tree.text("sys/devices/system/cpu/offline"))
    return ProcessorFound(
        model=_model(tree, reasons),
        packages=_packages(tree, tuple(every.kinds), reasons),
        kinds=tuple(kinds),
        basis=every.basis,
        offline=tuple(sorted(offline or ())),
        unknown=reasons.all(),
    )


def _model(tree: Tree, reasons: Reasons) -> str | None:
    found = tree.look("proc/cpuinfo", LARGEST)
    name = next((plain(value) for _, value in fields(found.text, ("model name",)) if value), None)
    if name is None:
        why = found.problem or "has no model name"
        reasons.add(f"the name of the processor is unknown: /proc/cpuinfo {why}")
    return name


def _packages(tree: Tree, processors: tuple[int, ...], reasons: Reasons) -> int | None:
    found: set[int] = set()
    for cpu in processors:
        path = f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"
        package = tree.number(path, -1, _MOST_PACKAGES)
        if package.value is None or package.value < 0:
            why = package.why or f"/{path} says -1, which stands for unknown"
            reasons.add(f"on how many chips the processors are is unknown: {why}")
            return None
        found.add(package.value)
    return len(found)
