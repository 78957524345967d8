"""Caches: the sums are those that lscpu prints on such machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware.processor.caches import Cache, find_caches
from aifw.hardware.tree import Tree

KIB, MIB = 1024, 1024**2
FOLDER = "sys/devices/system/cpu/cpu0/cache/index0"


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("core-ultra-7-258v", {"1d": (320 * KIB, 8), "1i": (512 * KIB, 8), "2": (14 * MIB, 5), "3": (12 * MIB, 1)}),
        ("core-i7-12700", {"1d": (512 * KIB, 12), "1i": (512 * KIB, 12), "2": (12 * MIB, 9), "3": (25 * MIB, 1)}),
        ("xeon-silver-4410y", {"1d": (1152 * KIB, 24), "1i": (768 * KIB, 24), "2": (48 * MIB, 24), "3": (60 * MIB, 2)}),
        ("ryzen-9-7950x", {"1d": (512 * KIB, 16), "1i": (512 * KIB, 16), "2": (16 * MIB, 16), "3": (64 * MIB, 2)}),
        ("core-ultra-7-155h", {"1d": (608 * KIB, 16), "1i": (1024 * KIB, 16), "2": (18 * MIB, 9), "3": (24 * MIB, 1)}),
    ],
)
def test_sums_and_instances(
    captured: Callable[[str], Path], machine: str, expected: dict[str, tuple[int, int]]
) -> None:
    found = find_caches(Tree(captured(machine)))
    sums: dict[str, tuple[int, int]] = {}
    for cache in found.caches:
        assert cache.size is not None
        assert cache.kind is not None
        name = f"{cache.level}{'' if cache.kind == 'unified' else cache.kind[0]}"
        size, count = sums.get(name, (0, 0))
        sums[name] = size + cache.size * len(cache.shared_by), count + len(cache.shared_by)
    assert sums == expected
    assert found.unknown == ()


def test_who_shares(captured: Callable[[str], Path]) -> None:
    caches = find_caches(Tree(captured("core-ultra-7-155h"))).caches
    second, third = (next(each for each in caches if each.level == level) for level in (2, 3))
    assert second.shared_by[:2] == ((0, 1), (2, 3))
    assert second.shared_by[-3:] == ((12, 13, 14, 15), (16, 17, 18, 19), (20, 21))
    assert third.shared_by == (tuple(range(20)),), "the low-power cores have no share"


def test_units(own_tree: Callable[..., Path]) -> None:
    sizes = {"0": "48K", "1": "2M", "2": "1G", "3": "512"}
    files = {"sys/devices/system/cpu/online": "0"}
    for index, size in sizes.items():
        folder = f"sys/devices/system/cpu/cpu0/cache/index{index}"
        files |= {f"{folder}/level": f"{int(index) + 1}", f"{folder}/type": "Unified"}
        files |= {f"{folder}/size": size, f"{folder}/shared_cpu_list": "0"}
    found = find_caches(Tree(own_tree(files=files))).caches
    assert sorted(each.size or 0 for each in found) == [512, 48 * KIB, 2 * MIB, 1024 * MIB]


@pytest.mark.parametrize(
    ("file", "text", "cache", "why"),
    [
        ("size", f"{2**63}K", Cache(1, "data", None, ((0,),)), "which is no number"),
        ("size", "0K", Cache(1, "data", None, ((0,),)), "says 0, which cannot be"),
        ("size", "-48K", Cache(1, "data", None, ((0,),)), "which is no number"),
        ("size", "999999999G", Cache(1, "data", None, ((0,),)), "which cannot be"),
        ("type", "Trace", Cache(1, None, 48 * KIB, ((0,),)), "its type is not told"),
        ("shared_cpu_list", "1-2", Cache(1, "data", 48 * KIB, ((0,),)), "does not name processor 0"),
        ("shared_cpu_list", "0-99999", Cache(1, "data", 48 * KIB, ((0,),)), "does not name processor 0"),
        ("level", "-1", None, "says -1, which cannot be"),
        ("level", "9999", None, "says 9999, which cannot be"),
    ],
)
def test_absurd_values_are_unknown(
    own_tree: Callable[..., Path], file: str, text: str, cache: Cache | None, why: str
) -> None:
    files = {"level": "1", "type": "Data", "size": "48K", "shared_cpu_list": "0"} | {file: text}
    tree = own_tree(
        files={"sys/devices/system/cpu/online": "0"} | {f"{FOLDER}/{name}": told for name, told in files.items()}
    )
    found = find_caches(Tree(tree))
    assert found.caches == ((cache,) if cache else ())
    assert len(found.unknown) == 1
    assert why in found.unknown[0]


def test_those_who_share_must_agree(own_tree: Callable[..., Path]) -> None:
    root = own_tree("core-i7-12700", {"sys/devices/system/cpu/cpu1/cache/index2/size": "2560K"})
    found = find_caches(Tree(root))
    assert found.unknown == ("processors 0-1 do not agree on the size of their level 2 cache",)
    assert Cache(2, "unified", None, ((0, 1),)) in found.caches


def test_no_caches_are_unknown_not_none(own_tree: Callable[..., Path]) -> None:
    found = find_caches(Tree(own_tree(files={"sys/devices/system/cpu/online": "0-1"})))
    assert found.caches == ()
    assert found.unknown == (
        "the caches of processor 0 are unknown: /sys/devices/system/cpu/cpu0/cache does not exist",
        "the caches of processor 1 are unknown: /sys/devices/system/cpu/cpu1/cache does not exist",
    )
