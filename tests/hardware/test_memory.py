"""Memory, huge pages and swap space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.errors import MemoryRefused
from aifw.hardware.meminfo import meminfo
from aifw.hardware.memory import HugePages, SwapArea, find_memory
from aifw.hardware.tree import Tree

Own = Callable[..., Path]
KIB, MIB, GIB = 1024, 1024**2, 1024**3
GOOD = "MemTotal: 1000 kB\nMemAvailable: 600 kB\nShmem: 5 kB\nSwapTotal: 100 kB\nSwapFree: 90 kB"


def test_laptop_swaps_into_its_own_memory(captured: Callable[[str], Path]) -> None:
    found = find_memory(Tree(captured("core-ultra-7-155h")))
    assert (found.total, found.available) == (32324096 * KIB, 21037392 * KIB)
    assert found.shared == 1871332 * KIB
    assert (found.swap_total, found.swap_free) == (8388604 * KIB, 8126460 * KIB)
    assert found.swap == (SwapArea("/dev/zram0", 8388604 * KIB, 262144 * KIB, compressed=True),)
    assert found.transparent_huge_pages == "madvise"
    assert found.unknown == ()


def test_server_reserves_huge_pages(captured: Callable[[str], Path]) -> None:
    found = find_memory(Tree(captured("xeon-silver-4410y")))
    assert found.huge_pages == (HugePages(2 * MIB, 0, 0), HugePages(GIB, 16, 12))
    assert (found.swap, found.swap_total) == ((), 0)
    assert found.transparent_huge_pages == "always"


@pytest.mark.parametrize(
    ("line", "field", "why"),
    [
        ("MemTotal: 0 kB", "total", "MemTotal in /proc/meminfo says 0, which cannot be"),
        (f"MemTotal: {2**63} kB", "total", f"MemTotal in /proc/meminfo says {2**63}, which cannot be"),
        ("MemTotal: -5 kB", "total", "MemTotal in /proc/meminfo says -5, which cannot be"),
        ("MemTotal: many kB", "total", "MemTotal in /proc/meminfo holds `many`, which is no number"),
        (
            "MemAvailable: 1001 kB",
            "available",
            "MemAvailable in /proc/meminfo is larger than MemTotal, which cannot be",
        ),
        ("SwapFree: 101 kB", "swap_free", "SwapFree in /proc/meminfo is larger than SwapTotal, which cannot be"),
    ],
)
def test_absurd_amounts_are_unknown(own_tree: Own, line: str, field: str, why: str) -> None:
    name = line.partition(":")[0]
    text = "\n".join(line if each.startswith(name) else each for each in GOOD.splitlines())
    found = find_memory(Tree(own_tree(files={"proc/meminfo": text})))
    assert getattr(found, field) is None
    assert why in found.unknown


def test_without_anything(tmp_path: Path) -> None:
    found = find_memory(Tree(tmp_path))
    assert (found.total, found.available, found.swap_total, found.swap_free, found.shared) == (None,) * 5
    assert found.unknown == (
        "how much memory there is is unknown: /proc/meminfo does not exist",
        "where swap space is is unknown: /proc/swaps does not exist",
        "whether huge pages are reserved is unknown: /sys/kernel/mm/hugepages does not exist",
        "whether transparent huge pages are used is unknown: /sys/kernel/mm/transparent_hugepage/enabled does not exist",
    )


@pytest.mark.parametrize("line", ["/dev/sda2", "/dev/sda2 partition x 0 -2", "/dev/sda2 partition 0 0 -2", "\0"])
def test_a_line_that_describes_no_swap_space(own_tree: Own, line: str) -> None:
    root = own_tree(files={"proc/meminfo": GOOD, "proc/swaps": f"Filename Type Size Used Priority\n{line}"})
    found = find_memory(Tree(root))
    assert all(area.size is None for area in found.swap)
    assert any("/proc/swaps" in why for why in found.unknown)


def test_amounts_are_bytes(own_tree: Own) -> None:
    root = own_tree(files={"proc/meminfo": f"{GOOD}\nHugePages_Total: 3\nnonsense\nOdd: 1 MB\nWrong: kB"})
    assert meminfo(root) == {
        "MemTotal": 1000 * KIB,
        "MemAvailable": 600 * KIB,
        "Shmem": 5 * KIB,
        "SwapTotal": 100 * KIB,
        "SwapFree": 90 * KIB,
        "HugePages_Total": 3,
        "Odd": 1,
    }


def test_meminfo_must_be_readable(tmp_path: Path) -> None:
    (tmp_path / "proc/meminfo").mkdir(parents=True)
    with pytest.raises(MemoryRefused, match="is a directory"):
        meminfo(tmp_path)
