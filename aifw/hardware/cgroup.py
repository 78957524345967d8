"""The control groups above this process: their memory limits and processor quotas, version 1, version 2 and both at once.

A limit anywhere on the way up holds, so every ancestor that is visible is read. The formats are those of the kernel's
documentation (admin-guide/cgroup-v1/memory.rst, admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst, filesystems/proc.rst).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aifw.hardware.tree import LARGEST, Number, look, number, plain

_UNLIMITED = 1 << 60
"""Version 1 has no word for it: it prints the largest number of pages, in bytes."""
_LARGEST_NUMBER = (1 << 64) - 1
_LONGEST_QUOTA = 10**15
_UNREADABLE = "control groups cannot be read, so a limit may hold that is not known"
_DEEPEST = 64
"""Groups between this process and the root; each costs several files."""


@dataclass(frozen=True, slots=True)
class Group:
    """One control group on the way from this process to the root.

    Attributes:
        path: Its folder.
        version: 1 or 2.
        name: As the kernel names it below the mount: `/user.slice`; the topmost that is visible is `/`.
    """

    path: Path
    version: int
    name: str = "/"


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups that govern this process, innermost first.

    Attributes:
        cpuset: Those that say which processors and memory nodes may be used.
        unknown: Why something that should be there could not be read, or empty.
    """

    memory: tuple[Group, ...] = ()
    cpu: tuple[Group, ...] = ()
    cpuset: tuple[Group, ...] = ()
    unknown: str = ""


def groups(root: Path = Path("/")) -> Groups:
    """Find the control groups of this process. Whatever the files hold, there is an answer.

    Args:
        root: Where `proc` and `sys` are.
    """
    texts: list[str] = []
    for path in ("proc/self/cgroup", "proc/self/mountinfo"):
        found = look(f"{root}/{path}", LARGEST)
        if found.problem:
            return Groups(unknown=f"{_UNREADABLE}: /{path} {found.problem}")
        texts.append(found.text)
    memberships, mounts = _memberships(texts[0]), _mounts(texts[1])
    unified = _ancestors(root, "", 2, memberships, mounts)
    unknown = ""
    if not memberships and texts[0].strip():
        unknown = f"{_UNREADABLE}: /proc/self/cgroup names no group"
    return Groups(
        memory=(*_ancestors(root, "memory", 1, memberships, mounts), *unified),
        cpu=(*_ancestors(root, "cpu", 1, memberships, mounts), *unified),
        cpuset=(*_ancestors(root, "cpuset", 1, memberships, mounts), *unified),
        unknown=unknown,
    )


def memory_limit(found: Groups, unknown: list[str] | None = None) -> int | None:
    """The smallest memory limit, in bytes, or None if no visible group has one.

    `memory.high` counts as a limit: a group above it is throttled until it is hardly running.

    Args:
        found: From `groups`.
        unknown: Gets a sentence for every limit that is there and cannot be read.
    """
    return min((limit for group in found.memory for limit in _memory_limits(group, unknown)), default=None)


def memory_left(found: Groups) -> int | None:
    """Bytes that can still be used before the tightest group is at its limit, or None if no visible group has one.

    Pages of files are given back under pressure, those used lately too, and so do not count as used: the kernel turns no more of
    them inactive than it needs, so that a group whose cache is hot looks full until the moment memory is asked for.
    """
    left: list[int] = []
    for group in found.memory:
        used = memory_used(group)
        limits = _memory_limits(group, None) if used is not None else []
        if limits and used is not None:
            total = "total_" if group.version == 1 else ""
            pages = (f"{total}inactive_file", f"{total}active_file")
            cached = sum(field(group, "memory.stat", each).value or 0 for each in pages)
            left.append(max(0, min(limits) - max(0, used - cached)))
    return min(left, default=None)


def memory_used(group: Group) -> int | None:
    """Bytes charged to a group, those of the page cache included, or None if it does not tell."""
    return value(group, "memory.usage_in_bytes" if group.version == 1 else "memory.current").value


def memory_limits(group: Group) -> tuple[tuple[str, Number], ...]:
    """The memory limits of one group, by the name of the file that tells them; `max` and what version 1 prints for it are none."""
    found: tuple[tuple[str, Number], ...]
    if group.version == 1:
        # What lies above the root of a namespace is invisible, but version 1 still tells the smallest limit of all.
        found = (
            ("memory.limit_in_bytes", value(group, "memory.limit_in_bytes", least=1)),
            ("memory.stat", field(group, "memory.stat", "hierarchical_memory_limit", least=1)),
        )
    else:
        found = tuple((name, value(group, name, least=1)) for name in ("memory.max", "memory.high"))
    return tuple(
        (name, each if each.value is None or each.value < _UNLIMITED else Number(None)) for name, each in found
    )


def _memory_limits(group: Group, unknown: list[str] | None) -> list[int]:
    found = memory_limits(group)
    if unknown is not None:
        unknown += [f"a memory limit is not known: {each.why}" for _, each in found if each.why and not each.missing]
    return [each.value for _, each in found if each.value is not None]


def cpu_quota(found: Groups, unknown: list[str] | None = None) -> float | None:
    """The smallest processor quota, in cores, or None if no visible group has one.

    Args:
        found: From `groups`.
        unknown: Gets a sentence for every quota that is there and cannot be read.
    """
    quotas: list[float] = []
    for group in found.cpu:
        quota, why = quota_of(group)
        if quota is not None:
            quotas.append(quota)
        elif why and unknown is not None:
            unknown.append(f"a processor quota is not known: {why}")
    return min(quotas, default=None)


def quota_of(group: Group) -> tuple[float | None, str]:
    """Processor quota of one group in cores, or None, and why it is not known where there may be one."""
    if group.version == 1:
        quota = value(group, "cpu.cfs_quota_us", least=-1, most=_LONGEST_QUOTA)
        period = value(group, "cpu.cfs_period_us", least=1, most=_LONGEST_QUOTA)
        if quota.missing or quota.value == -1:
            return None, ""
        name = "cpu.cfs_quota_us"
    else:
        found = look(f"{group.path}/cpu.max")
        name = "cpu.max"
        if found.missing:
            return None, ""
        if found.problem:
            return None, f"{name} of {group.name} {found.problem}"
        words = [*found.text.split(), "", ""]
        if words[0] == "max":
            return None, ""
        shown = f"{name} of {group.name}"
        quota = number(words[0], shown, 1, _LONGEST_QUOTA)
        period = number(words[1], f"the period in {shown}", 1, _LONGEST_QUOTA)
    if quota.value and period.value:
        return quota.value / period.value, ""
    return None, quota.why or period.why or f"{name} of {group.name} says 0, which cannot be"


def value(group: Group, name: str, least: int = 0, most: int = _LARGEST_NUMBER) -> Number:
    """The number a file of a group holds; `max` is no number and no mystery either."""
    found = look(f"{group.path}/{name}")
    shown = f"{name} of {group.name}"
    if found.problem:
        return Number(None, f"{shown} {found.problem}", found.missing)
    return Number(None) if found.text.strip() == "max" else number(found.text, shown, least, most)


def field(group: Group, name: str, key: str, least: int = 0) -> Number:
    """The number behind a key in a file of a group (`memory.stat`); one that is not there is missing."""
    found = look(f"{group.path}/{name}")
    shown = f"{key} in {name} of {group.name}"
    if found.problem:
        return Number(None, f"{shown} {found.problem}", found.missing)
    for line in found.text.splitlines():
        first, _, rest = line.partition(" ")
        if first == key:
            return number(rest, shown, least, _LARGEST_NUMBER)
    return Number(None, f"{shown} does not exist", missing=True)


def _memberships(text: str) -> dict[str, str]:
    """Path of the group by controller, from lines `4:memory:/path`; the unified hierarchy has the empty name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split(":", 2)
        if len(words) == 3 and words[2].startswith("/"):
            found.update(dict.fromkeys(words[1].split(","), words[2]))
    return found


def _mounts(text: str) -> dict[str, tuple[str, str]]:
    """Root and mount point of each mounted hierarchy, by controller; the unified hierarchy has the empty name."""
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        words, kind = left.split(" "), right.split(" ")
        if len(words) < 5 or kind[0] not in {"cgroup", "cgroup2"} or ".." in words[4].split("/"):
            continue
        where = (_unescape(words[3]), _unescape(words[4]))
        if kind[0] == "cgroup2":
            found[""] = where
        elif len(kind) > 2:
            found.update(dict.fromkeys(kind[2].split(","), where))
    return found


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _ancestors(
    root: Path, controller: str, version: int, memberships: dict[str, str], mounts: dict[str, tuple[str, str]]
) -> tuple[Group, ...]:
    if controller not in memberships or controller not in mounts:
        return ()
    mounted, point = mounts[controller]
    inside = memberships[controller]
    if mounted != "/":
        # A container sees its own group as the root of the mount, while the membership may still be told from the host's view.
        inside = inside[len(mounted) :] if (inside + "/").startswith(mounted + "/") else "/"
    top = root / point.lstrip("/")
    names = [name for name in inside.split("/") if name]
    if ".." in names:
        names = []
    depths = range(min(len(names), _DEEPEST), -1, -1)
    return tuple(
        Group(top.joinpath(*names[:depth]), version, plain(f"/{'/'.join(names[:depth])}", 4096)) for depth in depths
    )
