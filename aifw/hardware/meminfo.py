"""/proc/meminfo (filesystems/proc.rst of the kernel), which calls 1024 bytes a kB."""

from __future__ import annotations

from pathlib import Path

from aifw.errors import MemoryRefused
from aifw.hardware.tree import Number, Tree, number, plain

MOST_MEMORY = 1 << 56
"""Bytes that no machine has: 64 PiB, what page tables of five levels can address on x86."""


def meminfo(root: Path = Path("/")) -> dict[str, int]:
    """/proc/meminfo in bytes, by name. What is no number or more than any machine has is left out.

    Raises:
        MemoryRefused: It cannot be read.
    """
    found = Tree(root).look("proc/meminfo")
    if found.problem:
        raise MemoryRefused(
            f"how much memory there is cannot be found out: {root / 'proc/meminfo'} {found.problem}",
            hint="aifw needs the /proc of Linux to keep a budget",
        )
    return {name: each.value for name, each in amounts(found.text).items() if each.value is not None}


def amounts(text: str) -> dict[str, Number]:
    """Bytes, or why there are none, by name, from what /proc/meminfo holds."""
    found: dict[str, Number] = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        words = rest.split()
        if not colon or not words:
            continue
        scale = 1024 if words[1:] == ["kB"] else 1
        each = number(words[0], f"{plain(name)} in /proc/meminfo", 0, MOST_MEMORY // scale)
        found[name] = each if each.value is None else Number(each.value * scale)
    return found
