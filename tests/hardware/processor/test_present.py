"""Processors by kind, and which of them may be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware.processor.cpulist import format_cpu_list
from aifw.hardware.processor.present import find_processor
from aifw.hardware.tree import Tree


@pytest.mark.parametrize(
    ("machine", "kinds", "packages"),
    [
        ("core-ultra-7-155h", [("performance", "0-11", 6), ("efficient", "12-19", 8), ("low-power", "20-21", 2)], 1),
        ("core-ultra-7-258v", [("performance", "0-3", 4), ("low-power", "4-7", 4)], 1),
        ("core-i7-12700", [("performance", "0-15", 8), ("efficient", "16-19", 4)], 1),
        ("xeon-silver-4410y", [("performance", "0-47", 24)], 2),
        ("ryzen-9-7950x", [("performance", "0-31", 16)], 1),
        ("virtual-machine", [("unknown", "0-1", 2)], 1),
    ],
)
def test_machines(
    captured: Callable[[str], Path], machine: str, kinds: list[tuple[str, str, int]], packages: int
) -> None:
    found = find_processor(Tree(captured(machine)))
    assert [(each.kind, format_cpu_list(each.processors), each.cores) for each in found.kinds] == kinds
    assert found.packages == packages
    assert found.offline == ()
    assert found.unknown == ()


def test_a_job_may_use_one_socket_only(captured: Callable[[str], Path]) -> None:
    (cores,) = find_processor(Tree(captured("xeon-silver-4410y"))).kinds
    assert cores.allowed == tuple(range(1, 48, 2))
    assert len(cores.processors) == 48


def test_an_offline_core(own_tree: Callable[..., Path]) -> None:
    files = {"sys/devices/system/cpu/online": "0-18", "sys/devices/system/cpu/offline": "19"}
    found = find_processor(Tree(own_tree("core-i7-12700", files)))
    assert found.offline == (19,)
    assert [(each.kind, each.cores) for each in found.kinds] == [("performance", 8), ("efficient", 3)]


def test_without_anything_one_processor_of_unknown_kind_is_left(tmp_path: Path) -> None:
    found = find_processor(Tree(tmp_path))
    assert [(each.kind, each.processors) for each in found.kinds] == [("unknown", (0,))]
    assert (found.model, found.packages) == (None, None)
    assert found.unknown == (
        "which processors are online is unknown: /sys/devices/system/cpu/online does not exist",
        "the name of the processor is unknown: /proc/cpuinfo does not exist",
        (
            "on how many chips the processors are is unknown: "
            "/sys/devices/system/cpu/cpu0/topology/physical_package_id does not exist"
        ),
    )


@pytest.mark.parametrize("text", ["-1", "x", "99999", ""])
def test_a_package_that_cannot_be(own_tree: Callable[..., Path], text: str) -> None:
    files = {"sys/devices/system/cpu/cpu1/topology/physical_package_id": text}
    found = find_processor(Tree(own_tree("core-i7-12700", files)))
    assert found.packages is None
    assert "cpu1/topology/physical_package_id" in found.unknown[0]


def test_processors_without_a_folder_do_not_count(own_tree: Callable[..., Path]) -> None:
    found = find_processor(Tree(own_tree("core-ultra-7-258v", {"sys/devices/system/cpu/online": "0-8191"})))
    assert [(each.kind, each.cores) for each in found.kinds] == [("performance", 4), ("low-power", 4)]
    assert "names processors 8-8191, of which there is no folder" in found.unknown[0]
