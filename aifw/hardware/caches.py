"""Caches of the processors (ABI/testing/sysfs-devices-system-cpu of the kernel)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aifw.hardware.cpulist import format_cpu_list, parse_cpu_list
from aifw.hardware.processor import online
from aifw.hardware.tree import Number, Reasons, Tree, number, plain

_INDEX = "index[0-9]{1,2}"
_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)")
_SCALE = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MOST = 1 << 36
"""Bytes: 64 GiB, more than any cache in a processor's package."""
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Cache:
    """One cache.

    Attributes:
        level: 1 is the nearest to the core.
        kind: `data`, `instruction` or `unified`.
        size: Bytes.
        processors: Those that share it, ascending.
    """

    level: int
    kind: str | None
    size: int | None
    processors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CachesFound:
    """Every cache of the processors that are online.

    Attributes:
        caches: By level, kind and processors, each once.
        unknown: What could not be found out, and why.
    """

    caches: tuple[Cache, ...]
    unknown: tuple[str, ...] = ()


def find_caches(tree: Tree) -> CachesFound:
    """Read what there is."""
    reasons = Reasons()
    found: dict[tuple[int, str | None, tuple[int, ...]], Cache] = {}
    for cpu in online(tree):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cache"
        indices, problem = tree.names(folder, _INDEX)
        if not indices:
            reasons.add(f"the caches of processor {cpu} are unknown: {problem or f'/{folder} lists none'}")
        for index in indices:
            cache = _cache(tree, f"{folder}/{index}", cpu, reasons)
            if cache is not None:
                key = cache.level, cache.kind, cache.processors
                if key in found and found[key].size != cache.size:
                    shared = format_cpu_list(cache.processors)
                    reasons.add(f"processors {shared} do not agree on the size of their level {cache.level} cache")
                    cache = Cache(cache.level, cache.kind, None, cache.processors)
                found[key] = cache
    ordered = sorted(found.values(), key=lambda each: (each.level, each.kind or "", each.processors))
    return CachesFound(tuple(ordered), reasons.all())


def _cache(tree: Tree, folder: str, cpu: int, reasons: Reasons) -> Cache | None:
    level = reasons.needed(tree.number(f"{folder}/level", 1, _DEEPEST))
    if level is None:
        return None
    kind = plain(tree.text(f"{folder}/type")).lower()
    if kind not in {"data", "instruction", "unified"}:
        reasons.add(f"what /{folder} holds, data or instructions, is unknown: its type is not told")
    shared = parse_cpu_list(tree.text(f"{folder}/shared_cpu_list"))
    if not shared or cpu not in shared:
        reasons.add(f"who shares the cache /{folder} is unknown: shared_cpu_list does not name processor {cpu}")
        shared = frozenset({cpu})
    return Cache(
        level=level,
        kind=kind if kind in {"data", "instruction", "unified"} else None,
        size=reasons.needed(_size(tree, f"{folder}/size")),
        processors=tuple(sorted(shared)),
    )


def _size(tree: Tree, path: str) -> Number:
    found = tree.look(path)
    if found.problem:
        return Number(None, f"/{path} {found.problem}", found.missing)
    match = _SIZE.fullmatch(found.text.strip())
    if match is None:
        return number(found.text, f"/{path}", 1, _MOST)
    return number(f"{int(match[1]) * _SCALE[match[2]]}", f"/{path}", 1, _MOST)
