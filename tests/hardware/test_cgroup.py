"""Control groups: which ones govern, whatever the shape of the mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from aifw.hardware.cgroup import cpu_quota, groups, memory_left, memory_limit

TREES = Path(__file__).parent / "trees"
MIB = 1024**2


@pytest.mark.parametrize(
    ("tree", "memory", "cpu"),
    [
        ("container-v2", ["/sys/fs/cgroup"], ["/sys/fs/cgroup"]),
        ("container-v1", ["/sys/fs/cgroup/memory"], ["/sys/fs/cgroup/cpu,cpuacct"]),
        (
            "service-v2",
            [
                "/sys/fs/cgroup/machines.slice/train.slice/aifw.service",
                "/sys/fs/cgroup/machines.slice/train.slice",
                "/sys/fs/cgroup/machines.slice",
                "/sys/fs/cgroup",
            ],
            None,
        ),
        (
            "virtual-machine-hybrid",
            [
                "/sys/fs/cgroup/memory/jobs/448c",
                "/sys/fs/cgroup/memory/jobs",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/unified",
            ],
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"],
        ),
    ],
)
def test_every_visible_ancestor(tree: str, memory: list[str], cpu: list[str] | None) -> None:
    found = groups(TREES / tree)
    assert [f"/{each.path.relative_to(TREES / tree)}" for each in found.memory] == memory
    assert [f"/{each.path.relative_to(TREES / tree)}" for each in found.cpu] == (cpu or memory)


def test_a_membership_below_the_mounted_group(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/main/job\n")
    (tmp_path / "proc/self/mountinfo").write_text("30 23 0:26 /pod/main /cg rw - cgroup2 cgroup rw\n")
    assert [each.path for each in groups(tmp_path).memory] == [tmp_path / "cg/job", tmp_path / "cg"]


def test_a_sibling_with_the_same_beginning_is_not_below(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/mainly\n")
    (tmp_path / "proc/self/mountinfo").write_text("30 23 0:26 /pod/main /cg rw - cgroup2 cgroup rw\n")
    assert [each.path for each in groups(tmp_path).memory] == [tmp_path / "cg"]


def test_nothing_mounted_means_no_limit(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n")
    found = groups(tmp_path)
    assert (memory_limit(found), memory_left(found), cpu_quota(found), found.unknown) == (None, None, None, "")


def test_quotas_in_cores() -> None:
    assert cpu_quota(groups(TREES / "container-v2")) == 2.5
    assert cpu_quota(groups(TREES / "container-v1")) == 0.5
    assert cpu_quota(groups(TREES / "core-ultra-laptop")) is None
    assert cpu_quota(groups(TREES / "virtual-machine-hybrid")) is None


def test_what_version_1_leaves_counts_the_invisible_limit() -> None:
    found = groups(TREES / "container-v1")
    assert memory_left(found) == (2048 - 700 + 200) * MIB
