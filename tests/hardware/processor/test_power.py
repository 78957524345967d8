"""Power limits and energy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware import tree as trees
from aifw.hardware.processor.power import PowerLimit, find_power
from aifw.hardware.tree import Tree

ZONE = "sys/class/powercap/intel-rapl:0"


def test_laptop(captured: Callable[[str], Path]) -> None:
    found = find_power(Tree(captured("core-ultra-7-155h")))
    assert [(each.path, each.name, each.enabled) for each in found.zones] == [
        ("intel-rapl-mmio:0", "package-0", True),
        ("intel-rapl:0", "package-0", True),
        ("intel-rapl:0:0", "core", False),
        ("intel-rapl:0:1", "uncore", False),
        ("intel-rapl:1", "psys", False),
    ]
    package = found.zones[1]
    assert package.limits == (
        PowerLimit("long_term", 28.0, 28.0, 27.983872),
        PowerLimit("short_term", 64.0, None, 0.00244),
        PowerLimit("peak_power", 120.0, None, None),
    )
    assert found.zones[0].limits[0].watts == 45.0, "what counts is the lower of both"
    assert found.zones[2].limits == (), "a limit of zero is none"
    assert (package.joules, package.most_joules) == (61345.329321, 262143.32885)
    assert found.unknown == ()


def test_amd_counts_energy_only(captured: Callable[[str], Path]) -> None:
    zones = find_power(Tree(captured("ryzen-9-7950x"))).zones
    assert [(each.name, each.limits, each.joules) for each in zones] == [
        ("package-0", (), 48210.987654),
        ("core", (), 9121.098765),
    ]


def test_energy_is_for_the_administrator(monkeypatch: pytest.MonkeyPatch, captured: Callable[[str], Path]) -> None:
    read = trees.read_bytes

    def refuse(path: str, most: int, position: int | None = None) -> bytes:
        if path.endswith("energy_uj"):
            raise PermissionError(13, "Permission denied")
        return read(path, most, position)

    monkeypatch.setattr(trees, "read_bytes", refuse)
    found = find_power(Tree(captured("core-i7-12700")))
    assert [each.joules for each in found.zones] == [None, None, None]
    assert found.zones[0].limits[0].watts == 65.0
    assert found.unknown[0] == (
        "the energy of package-0 is unknown: /sys/class/powercap/intel-rapl:0/energy_uj cannot be read: permission denied"
    )


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("energy_uj", "-5", "says -5, which cannot be"),
        ("energy_uj", "99999999999999", "says 99999999999999, which cannot be"),
        ("enabled", "2", "says 2, which cannot be"),
        ("constraint_0_power_limit_uw", str(2**63), f"says {2**63}, which cannot be"),
        ("constraint_0_time_window_us", "soon", "holds `soon`, which is no number"),
        ("name", "", "is empty"),
    ],
)
def test_absurd_values_are_unknown(own_tree: Callable[..., Path], file: str, text: str, why: str) -> None:
    zone = {
        "name": "package-0",
        "enabled": "1",
        "energy_uj": "5",
        "max_energy_range_uj": "1000",
        "constraint_0_name": "long_term",
        "constraint_0_power_limit_uw": "15000000",
        "constraint_0_time_window_us": "976",
    }
    files = {f"{ZONE}/{name}": told for name, told in (zone | {file: text}).items()}
    found = find_power(Tree(own_tree(files=files)))
    assert len(found.unknown) == 1
    assert why in found.unknown[0]


def test_without_zones(tmp_path: Path) -> None:
    assert "no driver for RAPL" in find_power(Tree(tmp_path)).unknown[0]
