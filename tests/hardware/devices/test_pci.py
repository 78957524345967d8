"""Devices on the PCI bus that compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware.devices.pci import cards, find_devices, unidentified
from aifw.hardware.tree import Tree

Own = Callable[..., Path]
GPU = "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:56A0\nPCI_SLOT_NAME=0000:03:00.0"


def test_the_kernel_s_order_is_by_number(own_tree: Own) -> None:
    files = {
        f"sys/class/drm/renderD{node}/device/uevent": GPU.replace("03:", f"{bus}:")
        for node, bus in ((1000, "01"), (128, "09"), (129, "04"))
    }
    found = find_devices(Tree(own_tree(files=files)))
    assert [each.node for each in found] == ["renderD128", "renderD129", "renderD1000"]


def test_vendor_and_device_where_there_is_no_uevent(own_tree: Own) -> None:
    folder = "sys/class/drm/renderD128/device"
    (found,) = find_devices(Tree(own_tree(files={f"{folder}/vendor": "0x8086", f"{folder}/device": "0x56a0"})))
    assert (found.identity, found.address, found.driver) == ("8086:56A0", "", "unknown")


@pytest.mark.parametrize("code", ["20000", "60400", "C0330", "0", "", "garbage", "1180000000000"])
def test_other_classes_are_passed_over(code: str, own_tree: Own) -> None:
    files = {"sys/bus/pci/devices/0000:03:00.0/uevent": GPU.replace("30000", code)}
    assert find_devices(Tree(own_tree(files=files))) == []


@pytest.mark.parametrize("identity", ["", "8086", "8086:56A0:1", "zzzz:56A0", "../../etc"])
def test_no_device_without_identity(identity: str, own_tree: Own) -> None:
    text = GPU.replace("8086:56A0", identity)
    root = own_tree(
        files={"sys/bus/pci/devices/0000:03:00.0/uevent": text, "sys/class/drm/renderD128/device/uevent": text}
    )
    assert find_devices(Tree(root)) == []
    assert unidentified(Tree(root)) == (
        "what renderD128 is cannot be told: neither its uevent nor its vendor and device can be read",
    )


def test_an_address_that_is_none_leads_nowhere(own_tree: Own) -> None:
    text = GPU.replace("0000:03:00.0", "../../../etc")
    (found,) = find_devices(Tree(own_tree(files={"sys/class/drm/renderD128/device/uevent": text})))
    assert (found.address, found.folder) == ("", "sys/class/drm/renderD128/device")


def test_cards_by_address_where_the_device_does_not_list_them(own_tree: Own) -> None:
    files = {
        "sys/class/drm/renderD128/device/uevent": GPU,
        "sys/class/drm/card0/device/uevent": GPU.replace("03:", "04:"),
        "sys/class/drm/card1/device/uevent": GPU,
        "sys/class/drm/card1-DP-1/device/uevent": GPU,
    }
    tree = Tree(own_tree(files=files))
    assert [list(cards(tree, each)) for each in find_devices(tree)] == [["sys/class/drm/card1"]]


def test_where_everything_is_identified_there_is_nothing_to_say(captured: Callable[[str], Path]) -> None:
    assert unidentified(Tree(captured("core-ultra-7-155h"))) == ()
