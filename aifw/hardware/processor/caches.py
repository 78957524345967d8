"""Caches of the processors (ABI/testing/sysfs-devices-system-cpu of the kernel)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aifw.hardware.processor.cpulist import format_cpu_list, parse_cpu_list
from aifw.hardware.processor.present import online
from aifw.hardware.tree import Number, Reasons, Tree, number, plain

_INDEX = "index[0-9]{1,2}"
_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)")
_SCALE = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MOST = 1 << 36
"""Bytes: 64 GiB, more than any cache in a processor's package."""
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Cache:
    """Caches that are alike.

    Attributes:
        level: 1 is the nearest to the core.
        kind: `data`, `instruction` or `unified`.
        size: Bytes of each.
        shared_by: For each of them the processors that share it, ascending; so there are as many as this has entries.
    """

    level: int
    kind: str | None
    size: int | None
    shared_by: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class CachesFound:
    """Every cache of the processors that are online.

    Attributes:
        caches: By level and kind, the larger ones first.
        unknown: What could not be found out, and why.
    """

    caches: tuple[Cache, ...]
    unknown: tuple[str, ...] = ()


def find_caches(tree: Tree) -> CachesFound:
    """Read what there is."""
    reasons = Reasons()
    found: dict[tuple[int, str | None, tuple[int, ...]], int | None] = {}
    for cpu in online(tree):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cache"
        indices, problem = tree.names(folder, _INDEX)
        if not indices:
            reasons.add(f"the caches of processor {cpu} are unknown: {problem or f'/{folder} lists none'}")
        for index in indices:
            level = reasons.needed(tree.number(f"{folder}/{index}/level", 1, _DEEPEST))
            if level is None:
                continue
            kind, processors, size = _cache(tree, f"{folder}/{index}", cpu, reasons)
            if found.setdefault((level, kind, processors), size) != size:
                reasons.add(
                    f"processors {format_cpu_list(processors)} do not agree on the size of their level {level} cache"
                )
                found[level, kind, processors] = None
    alike: dict[tuple[int, str | None, int | None], list[tuple[int, ...]]] = {}
    for (level, kind, processors), size in found.items():
        alike.setdefault((level, kind, size), []).append(processors)
    ordered = sorted(alike, key=lambda each: (each[0], each[1] or "", -(each[2] or 0)))
    return CachesFound(tuple(Cache(*key, tuple(sorted(alike[key]))) for key in ordered), reasons.all())


def _cache(tree: Tree, folder: str, cpu: int, reasons: Reasons) -> tuple[str | None, tuple[int, ...], int | None]:
    """Kind, processors that share it and size of one cache."""
    kind: str | None = plain(tree.text(f"{folder}/type")).lower()
    if kind not in {"data", "instruction", "unified"}:
        reasons.add(f"what /{folder} holds, data or instructions, is unknown: its type is not told")
        kind = None
    shared = parse_cpu_list(tree.text(f"{folder}/shared_cpu_list"))
    if not shared or cpu not in shared:
        reasons.add(f"who shares the cache /{folder} is unknown: shared_cpu_list does not name processor {cpu}")
        shared = frozenset({cpu})
    return kind, tuple(sorted(shared)), reasons.needed(_size(tree, f"{folder}/size"))


def _size(tree: Tree, path: str) -> Number:
    found = tree.look(path)
    if found.problem:
        return Number(None, f"/{path} {found.problem}", found.missing)
    match = _SIZE.fullmatch(found.text.strip())
    if match is None:
        return number(found.text, f"/{path}", 1, _MOST)
    return number(f"{int(match[1]) * _SCALE[match[2]]}", f"/{path}", 1, _MOST)
