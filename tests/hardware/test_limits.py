"""Limits, and the groups that set them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware import tree as trees
from aifw.hardware.cgroup import cpu_quota, groups, memory_limit
from aifw.hardware.limits import MemoryLimit, ProcessorSet, Quota, find_limits
from aifw.hardware.tree import Tree

Own = Callable[..., Path]
TREES = Path(__file__).with_name("trees")
GIB = 1024**3
SLICE = "/user.slice/user-1000.slice/user@1000.service/app.slice"
MOUNTED = {
    "proc/self/cgroup": "0::/job",
    "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
}


def test_a_scope_with_limits(captured: Callable[[str], Path]) -> None:
    found = find_limits(Tree(captured("core-i7-12700")))
    assert found.memory == (
        MemoryLimit(f"{SLICE}/run-u17.scope", 2, "memory.max", 16 * GIB, GIB),
        MemoryLimit(f"{SLICE}/run-u17.scope", 2, "memory.high", 14 * GIB, GIB),
        MemoryLimit(f"{SLICE}/run-u17.scope", 2, "memory.swap.max", 0, 0),
    )
    assert found.memory_limit() == found.memory[1]
    assert found.quotas == (Quota(SLICE, 2, 12.0),)
    assert found.quota() == found.quotas[0]
    assert found.sets == ()
    assert found.unknown == ()


def test_a_batch_job_on_one_socket(captured: Callable[[str], Path]) -> None:
    job = "/system.slice/slurmstepd.scope/job_4711"
    found = find_limits(Tree(captured("xeon-silver-4410y")))
    assert [(each.group, each.size) for each in found.memory] == [(f"{job}/step_0", 96 * GIB), (job, 96 * GIB)]
    assert found.sets == (
        ProcessorSet(job, 2, "cpuset.cpus.effective", tuple(range(1, 48, 2))),
        ProcessorSet(job, 2, "cpuset.mems.effective", (1,)),
    )


def test_a_container_does_not_see_what_is_around_it(captured: Callable[[str], Path]) -> None:
    found = find_limits(Tree(captured("ryzen-9-7950x")))
    assert found.memory_limit() == MemoryLimit("/", 2, "memory.max", 48 * GIB, 2 * GIB)
    assert found.quota() == Quota("/", 2, 16.0)
    assert found.unknown == (
        "this process sees control groups from inside a container: limits of the groups around it are not shown to it",
    )


def test_version_1_tells_the_limit_of_an_invisible_ancestor() -> None:
    found = find_limits(Tree(TREES / "container-v1"))
    assert [(each.setting, each.size) for each in found.memory] == [("hierarchical_memory_limit", 2 * GIB)]
    assert found.quotas == (Quota("/", 1, 0.5),)


def test_a_machine_without_limits(captured: Callable[[str], Path]) -> None:
    found = find_limits(Tree(captured("virtual-machine")))
    assert (found.memory, found.quotas, found.sets, found.unknown) == ((), (), (), ())
    assert (found.memory_limit(), found.quota()) == (None, None)


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("memory.max", "0", "memory.max of /job says 0, which cannot be"),
        ("memory.max", "-1", "memory.max of /job says -1, which cannot be"),
        ("memory.high", "lots", "memory.high of /job holds `lots`, which is no number"),
        ("memory.max", "9" * 30, "which is no number"),
        ("cpu.max", "0 100000", "cpu.max of /job says 0, which cannot be"),
        ("cpu.max", "100000", "the period in cpu.max of /job is empty"),
        ("cpu.max", "100000 0", "the period in cpu.max of /job says 0, which cannot be"),
        ("cpu.max", "100000 x", "the period in cpu.max of /job holds `x`, which is no number"),
        ("cpu.max", "", "cpu.max of /job is empty"),
        ("cpuset.cpus.effective", "", "cpuset.cpus.effective of /job is no list of numbers"),
        ("cpuset.cpus.effective", "3-1", "cpuset.cpus.effective of /job is no list of numbers"),
    ],
)
def test_a_limit_that_cannot_be_is_unknown(own_tree: Own, file: str, text: str, why: str) -> None:
    root = own_tree(files=MOUNTED | {f"sys/fs/cgroup/job/{file}": text})
    found = find_limits(Tree(root))
    assert (found.memory, found.quotas, found.sets) == ((), (), ())
    assert len(found.unknown) == 1
    assert why in found.unknown[0]
    unknown: list[str] = []
    assert memory_limit(groups(root), unknown) is None
    assert cpu_quota(groups(root), unknown) is None
    assert bool(unknown) != file.startswith("cpuset")


def test_permission_denied_is_unknown_not_unlimited(monkeypatch: pytest.MonkeyPatch, own_tree: Own) -> None:
    read = trees.read_bytes

    def refuse(path: str, most: int, position: int | None = None) -> bytes:
        if "/sys/fs/cgroup/" in path:
            raise PermissionError(13, "Permission denied")
        return read(path, most, position)

    monkeypatch.setattr(trees, "read_bytes", refuse)
    unknown: list[str] = []
    assert memory_limit(groups(own_tree(files=MOUNTED)), unknown) is None
    assert unknown[0] == "a memory limit is not known: memory.max of /job cannot be read: permission denied"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo"),
    [
        ("nonsense", "nonsense"),
        ("0::", "30 23"),
        ("::::", " - cgroup2"),
        ("0:memory", "30 23 0:26 / /x rw - cgroup"),
        ("\0", "\0"),
        ("9:memory:/a\0b", "30 23 0:26 / /x rw - cgroup c rw,memory"),
        ("0::/" + "d/" * 5000, "30 23 0:26 / /x rw - cgroup2 c rw"),
        ("0::/../../..", "30 23 0:26 /../.. /../../x rw - cgroup2 c rw"),
        ("0::/../../other", "30 23 0:26 / /x rw - cgroup2 c rw"),
    ],
)
def test_memberships_and_mounts_that_are_none(own_tree: Own, cgroup: str, mountinfo: str) -> None:
    root = own_tree(files={"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo})
    found = groups(root)
    for group in (*found.memory, *found.cpu, *found.cpuset):
        assert ".." not in group.path.relative_to(root).parts
    assert len(found.memory) <= 65
    assert find_limits(Tree(root)).memory == ()


def test_a_group_whose_name_is_not_of_this_language(own_tree: Own) -> None:
    root = own_tree(files=MOUNTED | {"proc/self/cgroup": "0::/größe", "sys/fs/cgroup/größe/memory.max": "4096000"})
    assert memory_limit(groups(root)) == 4096000
    assert find_limits(Tree(root)).memory[0].group == "/größe"


@pytest.mark.parametrize("text", ["nonsense", "0::relative", "4:memory"])
def test_a_membership_that_is_none_is_not_no_limit(own_tree: Own, text: str) -> None:
    found = groups(own_tree(files=MOUNTED | {"proc/self/cgroup": text}))
    assert found.memory == ()
    assert found.unknown.endswith("/proc/self/cgroup names no group")
