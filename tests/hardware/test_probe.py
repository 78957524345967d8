"""The probe against trees of /proc and /sys, and against this machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from aifw.errors import MemoryRefused
from aifw.hardware.machine import Accelerator
from aifw.hardware.probe import meminfo, probe

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
    assert machine.detected == (
        Accelerator("xpu:0", "Intel Arc Graphics (Meteor Lake) 8086:7D55", "i915"),
        Accelerator("npu", "Intel NPU (Meteor Lake) 8086:7D1D", "intel_vpu", kind="npu"),
    )


def test_accelerators_of_others_are_not_taken_for_intel(tmp_path: Path) -> None:
    root = Path(shutil.copytree(TREES / "core-ultra-laptop", tmp_path / "root"))
    for node, identity in (("renderD128", "10DE:2684"), ("renderD129", "8086:56A0"), ("renderD1000", "8086:E20B")):
        folder = root / "sys/class/drm" / node / "device"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "uevent").write_text(f"PCI_ID={identity}\n")
    (root / "sys/class/drm/renderD130").mkdir()
    found = [(each.name, each.what, each.driver) for each in probe(root).detected]
    assert found == [
        ("xpu:0", "Intel Arc A770 8086:56A0", "unknown"),
        ("xpu:1", "Intel Arc B580 8086:E20B", "unknown"),
        ("cuda:0", "NVIDIA GPU 10DE:2684", "unknown"),
        ("npu", "Intel NPU (Meteor Lake) 8086:7D1D", "intel_vpu"),
    ]


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
