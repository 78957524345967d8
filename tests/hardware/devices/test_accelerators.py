"""Accelerators of captured machines, and of damaged trees of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifw.hardware.devices.accelerators import DeviceDetail, accelerators, describe_accelerators
from aifw.hardware.machine import Accelerator

LISTINGS = sorted(path.stem for path in (Path(__file__).parents[1] / "trees/devices").glob("*.txt"))
Captured = Callable[[str], Path]
Tree = Callable[..., Path]

# Name, words of what it is, driver, kind, memory.
MACHINES: dict[str, list[tuple[str, str, str, str, int | None]]] = {
    "arc-b580": [("xpu:0", "Intel Arc B580 8086:E20B", "xe", "discrete_gpu", None)],
    "compute-sticks-custom-driver": [
        ("ncs2", "Intel Neural Compute Stick 2 03e7:2485", "ncs2_usb", "ncs2", None),
        ("ncs2:1", "Intel Neural Compute Stick 2 03e7:f63b", "ncs2_usb", "ncs2", None),
    ],
    "compute-sticks-stock": [
        ("ncs2", "Intel Neural Compute Stick 2 03e7:2485", "none", "ncs2", None),
        ("ncs2:1", "Intel Neural Compute Stick 2 03e7:f63b", "none", "ncs2", None),
    ],
    "core-i7-12700": [
        ("xpu:0", "Intel UHD Graphics 770 (Alder Lake) 8086:4680", "i915", "integrated_gpu", None),
        ("xpu:1", "Intel Arc A770 8086:56A0", "i915", "discrete_gpu", None),
    ],
    "core-ultra-7-155h": [
        ("xpu:0", "Intel Arc Graphics (Meteor Lake) 8086:7D55", "i915", "integrated_gpu", None),
        ("npu", "Intel NPU (Meteor Lake) 8086:7D1D", "intel_vpu", "npu", None),
    ],
    "core-ultra-7-155h-xe": [
        ("xpu:0", "Intel Arc Graphics (Meteor Lake) 8086:7D55", "xe", "integrated_gpu", None),
        ("npu", "Intel NPU (Meteor Lake) 8086:7D1D", "intel_vpu", "npu", None),
    ],
    "core-ultra-7-258v": [
        ("xpu:0", "Intel Arc Graphics 130V/140V (Lunar Lake) 8086:64A0", "xe", "integrated_gpu", None),
        ("npu", "Intel NPU (Lunar Lake) 8086:643E", "intel_vpu", "npu", None),
    ],
    "ryzen-7-7840hs": [
        ("cuda:0", "AMD GPU 1002:15BF", "amdgpu", "integrated_gpu", None),
        ("npu", "AMD NPU (Phoenix) 1022:1502", "amdxdna", "npu", None),
    ],
    "workstation-amd": [
        ("cuda:0", "AMD GPU 1002:744C", "amdgpu", "discrete_gpu", 25753026560),
        ("cuda:1", "AMD GPU 1002:164E", "amdgpu", "integrated_gpu", None),
    ],
    "workstation-nvidia": [
        ("cuda:0", "NVIDIA GeForce RTX 5090 10DE:2B85", "nvidia", "discrete_gpu", None),
        ("cuda:1", "NVIDIA GeForce RTX 3080 10DE:2206", "nvidia", "discrete_gpu", None),
    ],
}


def detail(root: Path, name: str) -> DeviceDetail:
    return next(each for each in describe_accelerators(root) if each.accelerator.name == name)


def sound(details: tuple[DeviceDetail, ...]) -> None:
    """Whatever lies in a tree: facts and reasons are short printable words."""
    names = [each.accelerator.name for each in details]
    assert len(set(names)) == len(names)
    for each in details:
        texts = [*each.facts, *each.facts.values(), *each.unknown, each.accelerator.what, each.accelerator.driver]
        assert all(text and text.isprintable() and len(text) < 500 for text in texts)
        assert each.accelerator.memory is None or each.accelerator.memory > 0


def test_every_listing_is_looked_at() -> None:
    assert sorted(MACHINES) == LISTINGS


@pytest.mark.parametrize("machine", LISTINGS)
def test_what_is_there(machine: str, captured: Captured) -> None:
    root = captured(machine)
    found = accelerators(root)
    assert [(each.name, each.what, each.driver, each.kind, each.memory) for each in found] == MACHINES[machine]
    details = describe_accelerators(root)
    assert tuple(each.accelerator for each in details) == found
    sound(details)


def test_only_what_nobody_can_use_is_called_unusable_before_libraries_are_asked(captured: Captured) -> None:
    reasons = {each.unusable for machine in LISTINGS for each in accelerators(captured(machine))}
    assert reasons == {"not asked yet", "no library that aifw uses computes on AMD's NPUs"}


def test_no_identity_of_a_single_device_is_told(captured: Captured) -> None:
    for machine in LISTINGS:
        for each in describe_accelerators(captured(machine)):
            told = " ".join((*each.facts.values(), *each.unknown, each.accelerator.what))
            assert "GPU-0000" not in told
            assert "03e72485" not in told


def test_an_empty_tree_has_none(tmp_path: Path) -> None:
    assert accelerators(tmp_path) == ()
    assert describe_accelerators(tmp_path) == ()


def test_this_machine() -> None:
    sound(describe_accelerators())


def test_a_gpu_without_driver_is_there_but_not_usable(own_tree: Tree) -> None:
    root = own_tree(
        "core-ultra-7-155h-xe",
        {
            "sys/bus/pci/devices/0000:03:00.0/uevent": "PCI_CLASS=30000\nPCI_ID=8086:56A0\nPCI_SLOT_NAME=0000:03:00.0",
            "sys/bus/pci/devices/0000:00:0c.0/class": "0x120000",
            "sys/bus/pci/devices/0000:00:0c.0/vendor": "0x8086",
            "sys/bus/pci/devices/0000:00:0c.0/device": "0x643e",
            "sys/bus/pci/devices/0000:00:0d.0/uevent": "PCI_CLASS=120000\nPCI_ID=8086:0B30",
        },
    )
    found = {each.name: each for each in accelerators(root)}
    assert list(found) == ["xpu:0", "xpu:1", "npu", "npu:1"], "an accelerator card of another sort is no NPU"
    assert found["xpu:0"].driver == "xe"
    assert found["xpu:1"] == Accelerator(
        "xpu:1", "Intel Arc A770 8086:56A0", "none", "discrete_gpu", None, "the kernel has no driver bound to it"
    )
    assert found["npu:1"].driver == "unknown", "there is no uevent that could tell"
    assert any(reason.startswith("driver: the kernel has none") for reason in detail(root, "xpu:1").unknown)


def test_virtual_functions_given_away_are_not_ours(own_tree: Tree) -> None:
    gone = "sys/bus/pci/devices/0000:00:02.1"
    files = {
        f"{gone}/uevent": "DRIVER=vfio-pci\nPCI_CLASS=30000\nPCI_ID=8086:7D55\nPCI_SLOT_NAME=0000:00:02.1",
        f"{gone}/physfn/uevent": "DRIVER=i915",
    }
    assert [each.name for each in accelerators(own_tree("core-ultra-7-155h-xe", files))] == ["xpu:0", "npu"]


def test_partitions_of_a_gpu_are_one(own_tree: Tree) -> None:
    node = "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0"
    root = own_tree("workstation-amd", {"sys/class/drm/renderD140/device/uevent": node})
    assert [each.name for each in accelerators(root)] == ["cuda:0", "cuda:1"]


def test_gpus_cuda_cannot_use_come_last(own_tree: Tree) -> None:
    files = {
        "sys/bus/pci/devices/0000:01:00.0/uevent": "DRIVER=nouveau\nPCI_CLASS=30000\nPCI_ID=10DE:2B85\nPCI_SLOT_NAME=0000:01:00.0"
    }
    found = accelerators(own_tree("workstation-nvidia", files))
    assert [(each.name, each.driver) for each in found] == [("cuda:0", "nvidia"), ("cuda:1", "nouveau")]
    assert found[1].unusable == "CUDA needs the driver nvidia, this GPU has nouveau"


def test_a_node_that_is_not_passed_through_is_a_finding(own_tree: Tree) -> None:
    root = own_tree("core-ultra-7-155h-xe")
    shutil.rmtree(root / "dev")
    for name, node in (("xpu:0", "dri/renderD128"), ("npu", "accel/accel0")):
        assert (
            f"access: there is no /dev/{node}; in a container it has to be passed through" in detail(root, name).unknown
        )


def test_a_node_that_may_not_be_opened_is_told(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for machine, name in (("core-ultra-7-155h", "xpu:0"), ("compute-sticks-stock", "ncs2")):
        assert "may not be opened by this user" in detail(captured(machine), name).facts["access"]


def test_what_others_use_is_said_to_be_missing(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    root = captured("core-ultra-7-155h")
    real = os.listdir

    def listdir(path: str) -> list[str]:
        if path.endswith("proc/2417/fdinfo"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    found = detail(root, "xpu:0")
    assert found.facts["clients"] == "1"
    assert any(reason.startswith("clients: 1 process of others may not be looked into") for reason in found.unknown)


@pytest.mark.parametrize("machine", LISTINGS)
def test_permission_denied_everywhere_is_a_reason_or_silence(
    machine: str, captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def deny(path: str, flags: int, mode: int = 0o777) -> int:
        if path.endswith(("uevent", "vendor", "device", "class", "idVendor", "idProduct", "product", "name", "_label")):
            return real(path, flags, mode)
        raise PermissionError(13, "Permission denied", path)

    root = captured(machine)
    monkeypatch.setattr(os, "open", deny)
    details = describe_accelerators(root)
    assert len(details) == len(MACHINES[machine])
    sound(details)
    assert all(each.unknown for each in details)
    assert all("0 B" not in each.facts.values() for each in details)


def test_nothing_that_identifies_a_device_can_be_read(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: str, flags: int, mode: int = 0o777) -> int:
        raise PermissionError(13, "Permission denied", path)

    root = captured("core-ultra-7-155h")
    monkeypatch.setattr(os, "open", deny)
    assert accelerators(root) == ()


@pytest.mark.parametrize("machine", LISTINGS)
def test_files_vanish_while_they_are_read(machine: str, captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    root, real, count = captured(machine), os.read, 0

    def read(file: int, most: int) -> bytes:
        nonlocal count
        count += 1
        if count % 3 == 0:
            raise OSError(19, "No such device")
        return real(file, most)

    monkeypatch.setattr(os, "read", read)
    sound(describe_accelerators(root))


damage = st.one_of(
    st.sampled_from(
        [b"", b"\n", b"-1", b"18446744073709551616", b"9" * 5000, b"nan", b"0x", b"\x00\xff\x1b[2J", "\u202e".encode()]
    ),
    st.binary(max_size=64),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_contents(data: st.DataObject, captured: Captured, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("hostile") / "root"
    shutil.copytree(captured(data.draw(st.sampled_from(LISTINGS))), root, ignore=shutil.ignore_patterns("system"))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=25, unique=True)):
        path.unlink()
        sort = data.draw(st.sampled_from(["bytes", "bytes", "bytes", "folder", "loop", "pipe", "gone"]))
        if sort == "bytes":
            path.write_bytes(data.draw(damage))
        elif sort == "folder":
            path.mkdir()
        elif sort == "loop":
            path.symlink_to(path.name)
        elif sort == "pipe":
            os.mkfifo(path)
    sound(describe_accelerators(root))
    shutil.rmtree(root)
