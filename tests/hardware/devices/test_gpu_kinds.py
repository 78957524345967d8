"""Integrated or discrete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aifw.hardware.devices.gpu_kinds import gpu_kind
from aifw.hardware.devices.pci import PciDevice
from aifw.hardware.tree import Tree

Own = Callable[..., Path]
UNKNOWN_INTEL = "8086:FFF0"
FOLDER = "sys/bus/pci/devices/device"


def kind(
    own_tree: Own,
    identity: str,
    address: str = "0000:00:02.0",
    driver: str = "xe",
    files: Mapping[str, str] | None = None,
) -> tuple[str | None, str]:
    root = own_tree(files={"proc/cpuinfo": "flags\t\t: fpu vme sse4_2\n", **(files or {})})
    return tuple(gpu_kind(Tree(root), PciDevice(address, identity, "drm", driver, FOLDER)))


@pytest.mark.parametrize(
    "identity",
    ["8086:0BD5", "8086:4905", "8086:5690", "8086:56A0", "8086:56C1", "8086:E20B", "8086:E223"],
)
def test_families_of_cards(identity: str, own_tree: Own) -> None:
    # A virtual machine may have put one where the integrated one used to be.
    assert kind(own_tree, identity) == ("discrete_gpu", "the PCI id is of a family of cards")


@pytest.mark.parametrize(
    "identity",
    [
        "8086:4680",
        "8086:46A6",
        "8086:46D1",
        "8086:7D55",
        "8086:7D67",
        "8086:64A0",
        "8086:9A49",
        "8086:A780",
        "8086:A7A0",
        "8086:B080",
    ],
)
def test_families_of_processors(identity: str, own_tree: Own) -> None:
    assert kind(own_tree, identity, "0000:05:00.0") == ("integrated_gpu", "the PCI id is of a family of processors")


def test_the_old_atoms_are_no_data_centre_gpus(own_tree: Own) -> None:
    assert kind(own_tree, "8086:0BE1", driver="gma500")[0] == "integrated_gpu"


@pytest.mark.parametrize("driver", ["i915", "xe"])
def test_drivers_monitor_cards_only(driver: str, own_tree: Own) -> None:
    found = kind(own_tree, UNKNOWN_INTEL, driver=driver, files={f"{FOLDER}/hwmon/hwmon3/name": driver})
    assert found == ("discrete_gpu", f"{driver} makes a hardware monitor for cards only")


def test_a_threshold_for_its_own_memory(own_tree: Own) -> None:
    assert kind(own_tree, UNKNOWN_INTEL, files={f"{FOLDER}/vram_d3cold_threshold": "300"})[0] == "discrete_gpu"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0000:00:02.0", "integrated_gpu"),
        ("0000:00:02.3", "integrated_gpu"),
        ("0000:03:00.0", "discrete_gpu"),
        ("0001:03:00.0", "discrete_gpu"),
        ("0000:00:05.0", None),
        ("0001:00:02.0", None),
        ("", None),
    ],
)
def test_the_place_on_the_bus_where_the_id_is_not_known(address: str, expected: str | None, own_tree: Own) -> None:
    found, reason = kind(own_tree, UNKNOWN_INTEL, address)
    assert found == expected
    assert reason


def test_in_a_virtual_machine_the_place_says_nothing(own_tree: Own) -> None:
    found, reason = kind(own_tree, UNKNOWN_INTEL, files={"proc/cpuinfo": "flags\t\t: fpu sse4_2 hypervisor lahf_lm\n"})
    assert found is None
    assert "virtual machine" in reason


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"in0_label": "vddgfx", "in1_label": "vddnb", "freq1_label": "sclk"}, "integrated_gpu"),
        ({"in0_label": "vddgfx", "freq1_label": "sclk", "freq2_label": "mclk"}, "discrete_gpu"),
        ({"in0_label": "vddgfx"}, None),
        ({}, None),
    ],
)
def test_amd(labels: dict[str, str], expected: str | None, own_tree: Own) -> None:
    files = {f"{FOLDER}/hwmon/hwmon5/{name}": label for name, label in labels.items()}
    assert kind(own_tree, "1002:744C", "0000:03:00.0", "amdgpu", files)[0] == expected


@pytest.mark.parametrize(("identity", "expected"), [("10DE:2684", "discrete_gpu"), ("10DE:2E12", "integrated_gpu")])
def test_nvidia(identity: str, expected: str, own_tree: Own) -> None:
    assert kind(own_tree, identity, "0000:01:00.0", "nvidia")[0] == expected
