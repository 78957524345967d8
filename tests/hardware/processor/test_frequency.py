"""Frequencies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware.processor.cpulist import format_cpu_list
from aifw.hardware.processor.frequency import find_frequencies
from aifw.hardware.tree import Tree

GHZ = 1_000_000_000
FOLDER = "sys/devices/system/cpu/cpu0/cpufreq"


def test_hybrid_held_back(captured: Callable[[str], Path]) -> None:
    found = find_frequencies(Tree(captured("core-i7-12700")))
    assert [(format_cpu_list(each.processors), each.highest, each.allowed_highest) for each in found.policies] == [
        ("0-7,12-15", 4.8 * GHZ, 2.1 * GHZ),
        ("8-11", 4.9 * GHZ, 2.1 * GHZ),
        ("16-19", 3.6 * GHZ, 1.6 * GHZ),
    ]
    assert {each.governor for each in found.policies} == {"performance"}
    assert found.boost is False
    assert found.unknown == ()


def test_amd_tells_boost_the_other_way_round(captured: Callable[[str], Path]) -> None:
    found = find_frequencies(Tree(captured("ryzen-9-7950x")))
    assert found.boost is True
    assert [each.driver for each in found.policies] == ["amd-pstate-epp"]


def test_a_virtual_machine_has_none(captured: Callable[[str], Path]) -> None:
    found = find_frequencies(Tree(captured("virtual-machine")))
    assert (found.policies, found.boost) == ((), None)
    assert len(found.unknown) == 1


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("cpuinfo_max_freq", "0", "says 0, which cannot be"),
        ("cpuinfo_max_freq", "100000", "the lowest is above the highest"),
        ("scaling_max_freq", "-1", "says -1, which cannot be"),
        ("scaling_min_freq", "<unknown>", "holds `<unknown>`, which is no number"),
        ("scaling_governor", "", "scaling_governor is empty"),
    ],
)
def test_absurd_values_are_unknown(own_tree: Callable[..., Path], file: str, text: str, why: str) -> None:
    policy = {
        "cpuinfo_min_freq": "400000",
        "cpuinfo_max_freq": "4000000",
        "scaling_min_freq": "400000",
        "scaling_max_freq": "4000000",
        "scaling_driver": "intel_pstate",
        "scaling_governor": "powersave",
    } | {file: text}
    files = {"sys/devices/system/cpu/online": "0", "sys/devices/system/cpu/intel_pstate/no_turbo": "0"}
    found = find_frequencies(Tree(own_tree(files=files | {f"{FOLDER}/{name}": told for name, told in policy.items()})))
    assert len(found.unknown) == 1
    assert why in found.unknown[0]
    assert 0 not in (found.policies[0].highest, found.policies[0].allowed_highest, found.policies[0].allowed_lowest)


def test_some_without(own_tree: Callable[..., Path]) -> None:
    root = own_tree("core-ultra-7-258v", {"sys/devices/system/cpu/online": "0-9"})
    for cpu in (8, 9):
        (root / f"sys/devices/system/cpu/cpu{cpu}").mkdir()
    assert "the frequencies of processor 8 and 1 more are unknown" in find_frequencies(Tree(root)).unknown[0]
