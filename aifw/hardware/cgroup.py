"""The control groups above this process: their memory limits and processor quotas, version 1, version 2 and both at once.

A limit anywhere on the way up holds, so every ancestor that is visible is read. The formats are those of the kernel's
documentation (admin-guide/cgroup-v1/memory.rst, admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst, filesystems/proc.rst).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 1 << 60
"""Version 1 has no word for it: it prints the largest number of pages, in bytes."""


@dataclass(frozen=True, slots=True)
class Group:
    """One control group on the way from this process to the root.

    Attributes:
        path: Its folder.
        version: 1 or 2.
    """

    path: Path
    version: int


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups that govern this process, innermost first.

    Attributes:
        unknown: Why something that should be there could not be read, or empty.
    """

    memory: tuple[Group, ...] = ()
    cpu: tuple[Group, ...] = ()
    unknown: str = ""


def groups(root: Path = Path("/")) -> Groups:
    """Find the control groups of this process.

    Args:
        root: Where `proc` and `sys` are.
    """
    try:
        memberships = _memberships((root / "proc/self/cgroup").read_text(encoding="utf-8"))
        mounts = _mounts((root / "proc/self/mountinfo").read_text(encoding="utf-8"))
    except OSError as error:
        return Groups(unknown=f"control groups cannot be read: {error}")
    unified = _ancestors(root, "", 2, memberships, mounts)
    return Groups(
        memory=(*_ancestors(root, "memory", 1, memberships, mounts), *unified),
        cpu=(*_ancestors(root, "cpu", 1, memberships, mounts), *unified),
    )


def memory_limit(found: Groups) -> int | None:
    """The smallest memory limit, in bytes, or None if no visible group has one.

    `memory.high` counts as a limit: a group above it is throttled until it is hardly running.
    """
    return min((limit for group in found.memory for limit in _memory_limits(group)), default=None)


def memory_left(found: Groups) -> int | None:
    """Bytes that can still be used before the tightest group is at its limit, or None if no visible group has one.

    File pages that were not used lately (`inactive_file`) are given back under pressure and so do not count as used.
    """
    left: list[int] = []
    for group in found.memory:
        usage, pages = (
            ("memory.usage_in_bytes", "total_inactive_file")
            if group.version == 1
            else ("memory.current", "inactive_file")
        )
        used = _number(group.path / usage)
        limits = _memory_limits(group) if used else []
        if limits:
            cached = sum(_field(group.path / "memory.stat", pages))
            left.append(max(0, min(limits) - max(0, used[0] - cached)))
    return min(left, default=None)


def _memory_limits(group: Group) -> list[int]:
    if group.version == 1:
        # What lies above the root of a namespace is invisible, but version 1 still tells the smallest limit of all.
        found = [
            *_number(group.path / "memory.limit_in_bytes"),
            *_field(group.path / "memory.stat", "hierarchical_memory_limit"),
        ]
    else:
        found = [*_number(group.path / "memory.max"), *_number(group.path / "memory.high")]
    return [limit for limit in found if limit < _UNLIMITED]


def cpu_quota(found: Groups) -> float | None:
    """The smallest processor quota, in cores, or None if no visible group has one."""
    quotas: list[float] = []
    for group in found.cpu:
        if group.version == 1:
            quota, period = _number(group.path / "cpu.cfs_quota_us"), _number(group.path / "cpu.cfs_period_us")
        else:
            words = _text(group.path / "cpu.max").split()
            quota, period = [int(word) for word in words[:1] if word.isdigit()], [int(word) for word in words[1:2]]
        if quota and period and quota[0] > 0 and period[0] > 0:
            quotas.append(quota[0] / period[0])
    return min(quotas, default=None)


def _memberships(text: str) -> dict[str, str]:
    """Path of the group by controller, from lines `4:memory:/path`; the unified hierarchy has the empty name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _mounts(text: str) -> dict[str, tuple[str, str]]:
    """Root and mount point of each mounted hierarchy, by controller; the unified hierarchy has the empty name."""
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        words, kind = left.split(" "), right.split(" ")
        if not separator or kind[0] not in {"cgroup", "cgroup2"}:
            continue
        where = (_unescape(words[3]), _unescape(words[4]))
        if kind[0] == "cgroup2":
            found[""] = where
        else:
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
    return tuple(Group(top.joinpath(*names[:depth]), version) for depth in range(len(names), -1, -1))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def _number(path: Path) -> list[int]:
    text = _text(path).strip()
    return [int(text)] if text.lstrip("-").isdigit() else []


def _field(path: Path, name: str) -> list[int]:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return [int(value)]
    return []
