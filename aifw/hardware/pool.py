"""The memory pool now: what processes hold, and what can still be had. All in bytes.

What counts as held is what would not come back under pressure: anonymous and shared memory. Mapped files (libraries, weights read
with mmap) are the page cache's and are dropped when needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from aifw.hardware.cgroup import groups, memory_left
from aifw.hardware.devices.fdinfo import parse_client
from aifw.hardware.probe import meminfo
from aifw.hardware.tree import look

_ROOT = Path("/")
_DEVICES = ("/dev/dri/", "/dev/accel/")
_ELSEWHERE = ("vram", "local", "stolen", "visible-vram")
"""Regions that are not part of the memory other programs could have."""


def available(root: Path = _ROOT) -> int:
    """Bytes that can be had without swapping and without reaching the limit of any control group.

    Raises:
        MemoryRefused: /proc/meminfo cannot be read.
    """
    found = meminfo(root)
    left = memory_left(groups(root))
    free = found.get("MemAvailable")
    if free is None or free > found.get("MemTotal", free):
        # As in the probe: free memory is a lower bound.
        free = found.get("MemFree", 0)
    return free if left is None else min(free, left)


def held(process: int, root: Path = _ROOT) -> int | None:
    """Bytes a process holds, or None if it is gone or may not be looked at.

    Memory shared with other processes counts in equal parts where the kernel tells (`smaps_rollup`), else in full.
    """
    folder = root / "proc" / str(process)
    shares = _kilobytes(folder / "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))
    if shares is None:
        shares = _kilobytes(folder / "status", ("RssAnon:", "RssShmem:"))
    return None if shares is None else sum(shares) * 1024


def held_by_tree(process: int, root: Path = _ROOT) -> int | None:
    """Bytes a process and all its descendants hold, or None if the process itself is gone or may not be looked at."""
    own = held(process, root)
    if own is None:
        return None
    return own + sum(held(each, root) or 0 for each in descendants(process, root))


def held_by_devices(processes: Iterable[int], root: Path = _ROOT) -> int:
    """Bytes of the machine's memory that GPUs and NPUs hold for some processes together. They are in none of their own counters.

    What lies in a device's own memory, or in a part of the machine's that was set apart at boot, is not counted. A buffer that a
    process has also mapped in the old way of i915 is counted here and in its shared memory.

    Source: gpu/drm-usage-stats.rst of the kernel's documentation; regions as i915 (`system0`), xe and amdgpu (`gtt`, `system`, `cpu`)
    and intel_vpu (`memory`) name them.
    """
    clients: dict[tuple[str, int], int] = {}
    for process in processes:
        folder = root / "proc" / str(process)
        for name in _opened_devices(folder / "fd"):
            client = parse_client(look(f"{folder}/fdinfo/{name}").text)
            if client is not None:
                # A device that a process opened before it forked tells the same client in both.
                clients[client.device, client.number] = sum(
                    size for region, size in client.memory.items() if not region.startswith(_ELSEWHERE)
                )
    return sum(clients.values())


def _opened_devices(folder: Path) -> list[str]:
    """Numbers of the files of a process that are devices."""
    found: list[str] = []
    try:
        for each in folder.iterdir():
            try:
                target = os.readlink(each)  # noqa: PTH115 - several times faster than a path
            except OSError:
                continue
            if target.startswith(_DEVICES):
                found.append(each.name)
    except OSError:
        return found  # the process is gone, or may not be looked at
    return found


def descendants(process: int, root: Path = _ROOT) -> list[int]:
    """Ids of the processes below one, parents before children. One that ends meanwhile may be among them."""
    if (root / f"proc/{process}/task/{process}/children").exists():
        return _below(process, lambda parent: _listed_children(parent, root))
    # Not every kernel is built to list children; every one tells the parent of each process.
    by_parent = _by_parent(root)
    return _below(process, lambda parent: by_parent.get(parent, []))


def _below(process: int, children_of: Callable[[int], list[int]]) -> list[int]:
    found: list[int] = []
    waiting = [process]
    while waiting:
        children = children_of(waiting.pop())
        found.extend(children)
        waiting.extend(children)
    return found


def _listed_children(process: int, root: Path) -> list[int]:
    found: list[int] = []
    for thread in (root / f"proc/{process}/task").glob("*"):
        try:
            found.extend(int(word) for word in (thread / "children").read_text(encoding="ascii").split())
        except OSError:
            continue  # the thread ended meanwhile
    return found


def _by_parent(root: Path) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in (root / "proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # the process ended meanwhile
        # The name stands in parentheses and may hold any character, so the fields are counted from its end.
        found.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    return found


def _kilobytes(path: Path, names: tuple[str, ...]) -> list[int] | None:
    """Values of the named lines; None unless all are there."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = [int(words[1]) for words in (line.split() for line in lines) if len(words) > 1 and words[0] in names]
    return found if len(found) == len(names) else None
