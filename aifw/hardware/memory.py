"""Memory as the kernel counts it: /proc/meminfo, huge pages and swap space. All in bytes.

Formats: filesystems/proc.rst, admin-guide/mm/hugetlbpage.rst, admin-guide/mm/transhuge.rst of the kernel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aifw.hardware.meminfo import MOST_MEMORY, amounts
from aifw.hardware.tree import Number, Reasons, Tree, number, plain

_ALWAYS = re.compile(r"\[([a-z+]{1,20})\]")


@dataclass(frozen=True, slots=True)
class HugePages:
    """The reserved huge pages of one size.

    Attributes:
        size: Bytes of a page.
        total: How many are reserved.
        free: How many of them nobody uses.
    """

    size: int
    total: int | None
    free: int | None


@dataclass(frozen=True, slots=True)
class SwapArea:
    """One place pages are swapped to.

    Attributes:
        name: Of the file or partition.
        size: Bytes.
        used: Bytes.
        compressed: Whether it lies compressed in memory itself (zram), so that using it takes memory.
    """

    name: str
    size: int | None
    used: int | None
    compressed: bool


@dataclass(frozen=True, slots=True)
class MemoryFound:
    """Memory of the machine.

    Attributes:
        total: Of the machine.
        available: What can be had without swapping.
        shared: Held by shared memory and tmpfs; it counts as used and does not come back under pressure.
        swap_total: Swap space; 0 where there is none.
        swap_free: Of it, unused.
        swap: Where it is.
        huge_pages: Reserved ones, by size.
        transparent_huge_pages: Where the kernel uses them by itself: `always`, `madvise` (where a program asks) or `never`.
        unknown: What could not be found out, and why.
    """

    total: int | None
    available: int | None
    shared: int | None
    swap_total: int | None
    swap_free: int | None
    swap: tuple[SwapArea, ...]
    huge_pages: tuple[HugePages, ...]
    transparent_huge_pages: str | None
    unknown: tuple[str, ...] = ()


def find_memory(tree: Tree) -> MemoryFound:
    """Read what there is."""
    reasons = Reasons()
    found = tree.look("proc/meminfo")
    if found.problem:
        reasons.add(f"how much memory there is is unknown: /proc/meminfo {found.problem}")
    told = amounts(found.text)

    def amount(name: str, least: int = 0) -> int | None:
        if name not in told:
            reasons.add("" if found.problem else f"/proc/meminfo has no {name}")
            return None
        each = told[name]
        if each.value is not None and each.value < least:
            each = Number(None, f"{name} in /proc/meminfo says {each.value}, which cannot be")
        return reasons.needed(each)

    total = amount("MemTotal", least=1)
    available = amount("MemAvailable")
    swap_total, swap_free = amount("SwapTotal"), amount("SwapFree")
    return MemoryFound(
        total=total,
        available=_part(available, total, "MemAvailable", "MemTotal", reasons),
        shared=amount("Shmem"),
        swap_total=swap_total,
        swap_free=_part(swap_free, swap_total, "SwapFree", "SwapTotal", reasons),
        swap=_swap(tree, reasons),
        huge_pages=_huge_pages(tree, reasons),
        transparent_huge_pages=_transparent(tree, reasons),
        unknown=reasons.all(),
    )


def _part(part: int | None, whole: int | None, name: str, of: str, reasons: Reasons) -> int | None:
    if part is not None and whole is not None and part > whole:
        reasons.add(f"{name} in /proc/meminfo is larger than {of}, which cannot be")
        return None
    return part


def _swap(tree: Tree, reasons: Reasons) -> tuple[SwapArea, ...]:
    found = tree.look("proc/swaps")
    if found.problem:
        reasons.add(f"where swap space is is unknown: /proc/swaps {found.problem}")
    areas: list[SwapArea] = []
    for line in found.text.splitlines()[1:]:
        words = line.split()
        if len(words) < 4:
            reasons.add("" if not words else "a line of /proc/swaps describes no swap space")
            continue
        name = plain(words[0])
        size = reasons.needed(number(words[2], f"the size of {name} in /proc/swaps", 1, MOST_MEMORY // 1024))
        used = reasons.needed(number(words[3], f"the use of {name} in /proc/swaps", 0, MOST_MEMORY // 1024))
        areas.append(
            SwapArea(
                name=name,
                size=None if size is None else size * 1024,
                used=None if used is None else used * 1024,
                compressed=name.startswith("/dev/zram"),
            )
        )
    return tuple(areas)


def _huge_pages(tree: Tree, reasons: Reasons) -> tuple[HugePages, ...]:
    folder = "sys/kernel/mm/hugepages"
    names, problem = tree.names(folder, r"hugepages-[0-9]{1,12}kB")
    if problem:
        reasons.add(f"whether huge pages are reserved is unknown: {problem}")
    return tuple(
        HugePages(
            size=int(name.removeprefix("hugepages-").removesuffix("kB")) * 1024,
            total=reasons.needed(tree.number(f"{folder}/{name}/nr_hugepages", 0, 1 << 40)),
            free=reasons.needed(tree.number(f"{folder}/{name}/free_hugepages", 0, 1 << 40)),
        )
        for name in names
    )


def _transparent(tree: Tree, reasons: Reasons) -> str | None:
    path = "sys/kernel/mm/transparent_hugepage/enabled"
    found = tree.look(path)
    chosen = _ALWAYS.search(found.text)
    if chosen is None:
        why = found.problem or "marks none of its words"
        reasons.add(f"whether transparent huge pages are used is unknown: /{path} {why}")
        return None
    return chosen[1]
