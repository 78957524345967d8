"""The probe against trees of /proc and /sys, and against this machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.errors import MemoryRefused
from aifw.hardware.probe import meminfo, probe
from aifw.hardware.processor.cpulist import format_cpu_list

TREES = Path(__file__).parent / "trees"
GIB = 1024**3


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of a tree that a test may damage."""
    return Path(shutil.copytree(TREES / "container-v2", tmp_path / "root"))


def test_laptop() -> None:
    machine = probe(TREES / "core-ultra-laptop")
    assert machine.name == "laptop"
    assert machine.cpu.model == "Intel(R) Core(TM) Ultra 7 155H"
    assert machine.cpu.cores == 22
    assert "avx_vnni" in machine.cpu.flags
    assert "avx512f" not in machine.cpu.flags
    assert machine.memory.total == 65454912 * 1024
    assert machine.memory.available == 54 * GIB
    assert machine.memory.limit is None
    assert machine.memory.pool == machine.memory.total
    assert machine.unknown == ()


def test_accelerators_are_detected_but_jobs_go_to_the_processor() -> None:
    machine = probe(TREES / "core-ultra-laptop")
    assert machine.devices == ("cpu",)
    assert [(each.name, each.driver, each.kind) for each in machine.detected] == [
        ("xpu:0", "i915", "integrated_gpu"),
        ("npu", "intel_vpu", "npu"),
    ]


@pytest.mark.parametrize(
    ("machine", "processors", "cores", "total", "limit", "swap"),
    [
        ("core-ultra-7-155h", "0-21", 22, 32324096, 27917287424, (8388604, 8126460)),
        ("core-ultra-7-258v", "0-7", 8, 32346204, None, (16777212, 16777212)),
        ("core-i7-12700", "0-19", 12, 32624640, 14 * GIB, (2097148, 2097148)),
        ("xeon-silver-4410y", ",".join(map(str, range(1, 48, 2))), 24, 263821284, 96 * GIB, (0, 0)),
        ("ryzen-9-7950x", "0-31", 16, 131007488, 48 * GIB, (8388604, 8388604)),
        ("virtual-machine", "0-1", 2, 24683656, None, (0, 0)),
    ],
)
def test_machines(
    captured: Callable[[str], Path],
    machine: str,
    processors: str,
    cores: int,
    total: int,
    limit: int | None,
    swap: tuple[int, int],
) -> None:
    found = probe(captured(machine))
    assert found.cpu.layout is not None
    assert format_cpu_list(found.cpu.layout.kinds) == processors
    assert found.cpu.cores == cores
    assert found.memory.total == total * 1024
    assert found.memory.available < found.memory.total
    assert found.memory.limit == limit
    assert (found.memory.swap_total, found.memory.swap_free) == (swap[0] * 1024, swap[1] * 1024)
    assert found.unknown == ()


def test_limits_of_a_container_with_version_2() -> None:
    machine = probe(TREES / "container-v2")
    assert machine.memory.limit == machine.memory.pool == 4 * GIB
    assert machine.cpu.cores == 2, "a quota of two and a half cores, with an affinity of five"


def test_limits_of_a_container_with_version_1() -> None:
    machine = probe(TREES / "container-v1")
    assert machine.memory.limit == 2 * GIB, "told by hierarchical_memory_limit only"
    assert machine.cpu.cores == 1, "half a core still is one processor"


def test_the_smallest_limit_of_all_ancestors_holds() -> None:
    machine = probe(TREES / "service-v2")
    assert machine.memory.limit == 16 * GIB, "memory.high two levels up"
    assert machine.cpu.cores == 8
    assert machine.name == "unknown"


def test_hybrid_without_limits() -> None:
    machine = probe(TREES / "virtual-machine-hybrid")
    assert machine.memory.limit is None
    assert machine.cpu.cores == 2
    assert machine.unknown == ()


def test_without_meminfo_nothing_is_promised(tree: Path) -> None:
    (tree / "proc/meminfo").unlink()
    with pytest.raises(MemoryRefused, match="meminfo"):
        probe(tree)


def test_without_total_nothing_is_promised(tree: Path) -> None:
    (tree / "proc/meminfo").write_text("MemFree: 12 kB\n")
    with pytest.raises(MemoryRefused, match="MemTotal"):
        probe(tree)


def test_an_old_kernel_gives_a_lower_bound_and_says_so(tree: Path) -> None:
    (tree / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemFree: 400 kB\n")
    machine = probe(tree)
    assert machine.memory.available == 400 * 1024
    assert any("MemAvailable" in reason for reason in machine.unknown)


def test_more_available_than_there_is_is_not_believed(tree: Path) -> None:
    (tree / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 1001 kB\n")
    machine = probe(tree)
    assert machine.memory.available == 400 * 1024
    assert machine.unknown[0] == (
        "MemAvailable in /proc/meminfo is larger than MemTotal, which cannot be; free memory, a lower bound, stands for it"
    )


@pytest.mark.parametrize(
    "text",
    [
        "MemTotal: 1000 kB\n",
        "MemTotal: 1000 kB\nMemAvailable: -1 kB\nMemFree: 2000 kB\n",
        "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
        f"MemTotal: {2**63} kB\nMemAvailable: 4 kB\n",
        "MemTotal: \u0663 kB\nMemAvailable: 4 kB\n",
        "",
    ],
)
def test_memory_that_cannot_be_is_refused(tree: Path, text: str) -> None:
    (tree / "proc/meminfo").write_text(text)
    with pytest.raises(MemoryRefused, match="cannot be found out"):
        probe(tree)


def test_no_swap_space_is_not_unknown_swap_space(tree: Path) -> None:
    memory = "MemTotal: 1000 kB\nMemAvailable: 400 kB\n"
    (tree / "proc/meminfo").write_text(memory + "SwapTotal: 0 kB\nSwapFree: 0 kB\n")
    assert (probe(tree).memory.swap_total, probe(tree).memory.swap_free) == (0, 0)
    (tree / "proc/meminfo").write_text(memory + "SwapTotal: 10 kB\nSwapFree: 20 kB\n")
    machine = probe(tree)
    assert (machine.memory.swap_total, machine.memory.swap_free) == (10 * 1024, None)
    assert any("swap" in reason for reason in machine.unknown)
    (tree / "proc/meminfo").write_text(memory)
    machine = probe(tree)
    assert (machine.memory.swap_total, machine.memory.swap_free) == (None, None)
    assert any("swap" in reason for reason in machine.unknown)


def test_a_limit_that_cannot_be_read_is_told(tree: Path) -> None:
    (tree / "sys/fs/cgroup/memory.max").write_text("\0")
    (tree / "sys/fs/cgroup/memory.high").write_text("max")
    (tree / "sys/fs/cgroup/cpu.max").write_text("fast")
    machine = probe(tree)
    assert machine.memory.limit is None
    assert any(reason.startswith("a memory limit is not known: memory.max of /") for reason in machine.unknown)
    assert any(reason.startswith("a processor quota is not known: cpu.max of /") for reason in machine.unknown)


def test_unreadable_control_groups_are_unknown_not_unlimited(tree: Path) -> None:
    (tree / "proc/self/cgroup").unlink()
    machine = probe(tree)
    assert machine.memory.limit is None
    assert any("control groups" in reason for reason in machine.unknown)


def test_unknown_processor(tree: Path) -> None:
    (tree / "proc/cpuinfo").unlink()
    (tree / "proc/self/status").unlink()
    machine = probe(tree)
    assert machine.cpu.model == "unknown"
    assert machine.cpu.cores == 1
    assert any("number of processors" in reason for reason in machine.unknown)


def test_processors_count_where_the_affinity_is_unknown(tree: Path) -> None:
    (tree / "proc/self/status").write_text("Name:\tpython3\n")
    (tree / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert probe(tree).cpu.cores == 8


def test_a_mount_point_with_a_space(tree: Path) -> None:
    mount = tree / "proc/self/mountinfo"
    mount.write_text(mount.read_text().replace("/sys/fs/cgroup", "/sys/fs/control\\040groups"))
    (tree / "sys/fs/cgroup").rename(tree / "sys/fs/control groups")
    assert probe(tree).memory.limit == 4 * GIB


def test_a_group_outside_the_namespace_falls_back_to_the_mount(tree: Path) -> None:
    (tree / "proc/self/cgroup").write_text("0::/../../other\n")
    assert probe(tree).memory.limit == 4 * GIB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine() -> None:
    machine = probe()
    assert machine.memory.total == meminfo()["MemTotal"]
    assert 0 < machine.memory.available <= machine.memory.total
    assert 1 <= machine.cpu.cores <= len(os.sched_getaffinity(0))
    assert machine.name == os.uname().nodename
    assert machine.devices == ("cpu",)
