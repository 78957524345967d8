"""Temperatures and trip points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware.processor.thermal import TripPoint, find_thermal
from aifw.hardware.tree import Tree

ZONE = "sys/class/thermal/thermal_zone0"


def test_laptop(captured: Callable[[str], Path]) -> None:
    found = find_thermal(Tree(captured("core-ultra-7-155h")))
    assert {each.kind: each.celsius for each in found.zones} == {
        "acpitz": 27.8,
        "INT3400 Thermal": None,
        "SEN1": 41.05,
        "SEN2": None,
        "TCPU": 46.05,
        "TCPU_PCI": 46.0,
        "x86_pkg_temp": 45.0,
    }
    trips = {each.kind: each.trips for each in found.zones}
    assert trips["TCPU"] == (TripPoint("critical", 110.05), TripPoint("hot", 105.05), TripPoint("passive", 95.05))
    assert trips["x86_pkg_temp"] == (), "absolute zero is a point that is not set"
    assert found.unknown == (
        "the temperature of INT3400 Thermal is unknown: it stands for a policy, and its driver always answers 20 degrees",
        (
            "the temperature of SEN2 is unknown: /sys/class/thermal/thermal_zone3/temp says zero degrees, as sensors do that are "
            "not there"
        ),
    )


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("temp", "4700000000", "says 4700000000, which cannot be"),
        ("temp", "-274000", "says -274000, which cannot be"),
        ("temp", "warm", "holds `warm`, which is no number"),
        ("temp", "", "is empty"),
        ("type", "", "is empty"),
        ("trip_point_0_temp", "1000000", "says 1000000, which cannot be"),
        ("trip_point_0_type", "", "tells no type of it"),
    ],
)
def test_absurd_values_are_unknown(own_tree: Callable[..., Path], file: str, text: str, why: str) -> None:
    zone = {"type": "TCPU", "temp": "46050", "trip_point_0_temp": "95000", "trip_point_0_type": "passive"}
    files = {f"{ZONE}/{name}": told for name, told in (zone | {file: text}).items()}
    found = find_thermal(Tree(own_tree(files=files)))
    assert len(found.unknown) == 1
    assert why in found.unknown[0]


def test_a_cold_machine_is_believed(own_tree: Callable[..., Path]) -> None:
    found = find_thermal(Tree(own_tree(files={f"{ZONE}/type": "acpitz", f"{ZONE}/temp": "-12000"})))
    assert found.zones[0].celsius == -12.0


def test_amd_tells_the_processor_as_a_chip_does(captured: Callable[[str], Path]) -> None:
    found = find_thermal(Tree(captured("ryzen-9-7950x")))
    assert [(each.name, each.kind, each.celsius) for each in found.zones] == [
        ("thermal_zone0", "acpitz", 16.8),
        ("hwmon4/temp1", "k10temp Tctl", 52.0),
        ("hwmon4/temp3", "k10temp Tccd1", 43.25),
        ("hwmon4/temp4", "k10temp Tccd2", 41.5),
    ]
    assert found.unknown == ()


@pytest.mark.parametrize(("text", "why"), [("0", "says zero degrees"), ("hot", "holds `hot`"), ("999999", "cannot be")])
def test_a_chip_that_says_nothing_true(own_tree: Callable[..., Path], text: str, why: str) -> None:
    chip = "sys/class/hwmon/hwmon0"
    files = {f"{chip}/name": "k10temp", f"{chip}/temp1_input": text, "sys/class/hwmon/hwmon1/name": "nvme"}
    found = find_thermal(Tree(own_tree(files=files)))
    assert [(each.kind, each.celsius) for each in found.zones] == [("k10temp", None)]
    assert len(found.unknown) == 1
    assert why in found.unknown[0]


def test_without_zones(tmp_path: Path) -> None:
    assert find_thermal(Tree(tmp_path)).unknown == ("temperatures are unknown: /sys/class/thermal does not exist",)
