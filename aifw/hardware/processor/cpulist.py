"""Lists of processors as the kernel writes them: `0-3,8` (admin-guide/cputopology.rst, `Cpus_allowed_list` of filesystems/proc.rst)."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_PROCESSORS = 8192
"""The most Linux can be built for on any architecture."""
_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


def parse_cpu_list(text: str, most: int = MOST_PROCESSORS) -> frozenset[int] | None:
    """Read a list as the kernel writes it (`0-3,8`), or None if it is not one, names a processor that cannot exist or more than
    `most` processors.
    """
    found: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        match = _RANGE.fullmatch(part)
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        most -= last - first + 1
        if most < 0 or not first <= last < MOST_PROCESSORS:
            return None
        found.update(range(first, last + 1))
    return frozenset(found)


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Write a list as the kernel does: `0-3,8`."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)
