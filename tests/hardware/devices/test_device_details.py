"""What is told of each device of captured machines, driver by driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aifw.hardware.devices.accelerators import DeviceDetail, describe_accelerators
from aifw.hardware.devices.npu import busy_time
from aifw.hardware.devices.pci import find_devices
from aifw.hardware.tree import Tree

Captured = Callable[[str], Path]
Own = Callable[..., Path]
GPU = "sys/bus/pci/devices/0000:00:02.0"
NPU = "sys/bus/pci/devices/0000:00:0b.0"
STICK = "sys/bus/usb/devices/1-2"


def detail(root: Path, name: str) -> DeviceDetail:
    return next(each for each in describe_accelerators(root) if each.accelerator.name == name)


def told(found: DeviceDetail, expected: Mapping[str, str]) -> None:
    assert {name: found.facts.get(name) for name in expected} == expected


def lacks(found: DeviceDetail, words: str) -> bool:
    return any(words in reason for reason in found.unknown)


def test_i915_with_two_units(captured: Captured) -> None:
    found = detail(captured("core-ultra-7-155h"), "xpu:0")
    told(
        found,
        {
            "PCI address": "0000:00:02.0",
            "gt0 frequency now": "1450 MHz",
            "gt0 frequency lowest": "100 MHz",
            "gt0 frequency highest": "2250 MHz",
            "gt0 throttled by": "pl1, thermal",
            "gt1 frequency now": "0 MHz, it sleeps",
            "engines": "bcs0, ccs0, rcs0, vcs0, vcs1, vecs0",
            "memory": "the machine's; what it uses is counted in the pool",
            "clients": "2",
            "memory of clients": "system0 279 MiB",
            "access": "/dev/dri/renderD128 may be opened",
        },
    )
    assert found.facts["busy time of clients"].startswith("compute 2.500 s, copy 0.000 s, render 324.436 s")
    assert found.facts["driver version"].startswith("that of kernel ")
    assert "gt1 throttled by" not in found.facts
    assert found.unknown == ()


def test_i915_of_an_older_kernel(own_tree: Own) -> None:
    card = f"{GPU}/drm/card0"
    files = {
        f"{GPU}/uevent": "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:9A49\nPCI_SLOT_NAME=0000:00:02.0",
        "sys/class/drm/renderD128/device/uevent": "DRIVER=i915\nPCI_ID=8086:9A49\nPCI_SLOT_NAME=0000:00:02.0",
        "sys/module/i915/version": "1.25.2.23 backport",
        f"{card}/gt_act_freq_mhz": "700",
        f"{card}/gt_RP0_freq_mhz": "1350",
    }
    found = detail(own_tree(files=files), "xpu:0")
    told(found, {"frequency now": "700 MHz", "frequency highest": "1350 MHz", "driver version": "1.25.2.23 backport"})
    assert lacks(found, "engines: there is no")


def test_xe(captured: Captured) -> None:
    found = detail(captured("core-ultra-7-155h-xe"), "xpu:0")
    told(
        found,
        {
            "tile0/gt0 frequency now": "1450 MHz",
            "tile0/gt0 frequency highest": "2250 MHz",
            "tile0/gt0 idle state": "gt-c0",
            "tile0/gt1 idle state": "gt-c6",
            "engines": "bcs, ccs, rcs, vcs, vecs",
            "memory of clients": "gtt 192 KiB",
        },
    )
    assert "ccs 1000000 of 7655183225 cycles" in found.facts["busy time of clients"]


def test_xe_throttled(own_tree: Own) -> None:
    throttle = f"{GPU}/tile0/gt0/freq0/throttle"
    files = {f"{throttle}/status": "1", f"{throttle}/reason_ratl": "1"}
    found = detail(own_tree("core-ultra-7-155h-xe", files), "xpu:0")
    told(found, {"tile0/gt0 throttled by": "ratl"})


def test_a_suspended_card_is_not_woken(captured: Captured) -> None:
    found = detail(captured("arc-b580"), "xpu:0")
    told(found, {"power": "suspended", "clients": "none seen", "memory the processor reaches": "16.0 GiB"})
    assert not any("frequency" in name for name in found.facts)
    assert lacks(found, "to read them would wake it")
    assert lacks(found, "memory: xe does not tell how much there is"), "a card of 12 GiB has a region of 16"


@pytest.mark.parametrize(
    ("driver", "files", "expected"),
    [
        ("i915", {"drm/card0/lmem_total_bytes": "16225243136"}, 16225243136),
        (
            "xe",
            {"tile0/physical_vram_size_bytes": "8000000000", "tile1/physical_vram_size_bytes": "8000000000"},
            16000000000,
        ),
        ("xe", {"tile0/memory/physical_vram_size_bytes": "12000000000"}, 12000000000),
        ("xe", {"tile0/physical_vram_size_bytes": "0"}, None),
        ("xe", {"tile0/physical_vram_size_bytes": "99999999999999999999"}, None),
        ("i915", {}, None),
    ],
)
def test_memory_of_a_card(driver: str, files: Mapping[str, str], expected: int | None, own_tree: Own) -> None:
    folder = "sys/bus/pci/devices/0000:03:00.0"
    uevent = f"DRIVER={driver}\nPCI_CLASS=38000\nPCI_ID=8086:56C0\nPCI_SLOT_NAME=0000:03:00.0"
    root = own_tree(
        files={
            f"{folder}/uevent": uevent,
            "sys/class/drm/renderD128/device/uevent": uevent,
            **{f"{folder}/{name}": text for name, text in files.items()},
        }
    )
    found = detail(root, "xpu:0")
    assert found.accelerator.memory == expected
    assert ("memory" in found.facts) is (expected is not None)
    assert lacks(found, "memory: ") is (expected is None)


def test_an_arc_card_beside_a_processor_s_gpu(captured: Captured) -> None:
    root = captured("core-i7-12700")
    told(
        detail(root, "xpu:1"),
        {
            "frequency now": "2050 MHz",
            "memory the processor reaches": "16.0 GiB",
            "memory of clients": "local0 512 MiB, system0 2.0 MiB",
        },
    )
    told(detail(root, "xpu:0"), {"frequency now": "0 MHz, it sleeps", "memory of clients": "system0 64.0 MiB"})


@pytest.mark.parametrize("value", ["", "fast", "-100", "99999999", "\x1b[31m"])
def test_an_absurd_frequency_is_unknown(value: str, own_tree: Own) -> None:
    found = detail(own_tree("core-ultra-7-155h-xe", {f"{GPU}/tile0/gt0/freq0/rp0_freq": value}), "xpu:0")
    assert "tile0/gt0 frequency highest" not in found.facts
    assert lacks(found, "tile0/gt0 frequency highest")


def test_a_kind_that_cannot_be_told(own_tree: Own) -> None:
    uevent = "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:FFF0\nPCI_SLOT_NAME=0000:00:05.0"
    found = detail(own_tree(files={"sys/class/drm/renderD128/device/uevent": uevent}), "xpu:0")
    assert found.accelerator.kind == "integrated_gpu", "then what it uses is counted in the machine's memory"
    assert found.accelerator.what == "Intel GPU 8086:FFF0"
    told(found, {"kind": "unknown"})
    assert lacks(found, "integrated or discrete: ")


def test_an_npu_of_a_newer_kernel(captured: Captured) -> None:
    told(
        detail(captured("core-ultra-7-155h-xe"), "npu"),
        {
            "busy time": "4.215 s since the driver was loaded",
            "frequency now": "0 MHz, it sleeps",
            "frequency highest": "1400 MHz",
            "memory in use": "111 MiB of the machine's",
            "scheduler": "HW",
        },
    )


def test_an_npu_of_an_older_kernel(captured: Captured) -> None:
    found = detail(captured("core-ultra-7-258v"), "npu")
    told(found, {"busy time": "98.232 s since the driver was loaded"})
    for name in ("frequency now", "frequency highest", "memory in use", "firmware version"):
        assert name not in found.facts
        assert lacks(found, f"{name}: ")


@pytest.mark.parametrize("folder", ["0000:00:0b.0", "0"])
def test_firmware_of_an_npu(folder: str, own_tree: Own) -> None:
    debug = f"sys/kernel/debug/accel/{folder}"
    files = {f"{debug}/fw_version": "Oct  7 2025*NPU40xx*", f"{debug}/fw_name": "intel/vpu/vpu_40xx_v1.bin"}
    found = detail(own_tree("core-ultra-7-155h-xe", files), "npu")
    told(found, {"firmware version": "Oct  7 2025*NPU40xx*", "firmware file": "intel/vpu/vpu_40xx_v1.bin"})


def test_busy_time_of_an_npu(captured: Captured, own_tree: Own) -> None:
    root = captured("core-ultra-7-258v")
    device = next(each for each in find_devices(Tree(root)) if each.sort == "accel")
    assert busy_time(root, device) == 98231744
    assert busy_time(own_tree("core-ultra-7-155h-xe", {f"{NPU}/npu_busy_time_us": "soon"}), device) is None


def test_amd_s_npu_tells_nothing(captured: Captured) -> None:
    assert lacks(detail(captured("ryzen-7-7840hs"), "npu"), "known of the driver intel_vpu only, not of amdxdna")


def test_an_integrated_amd_gpu_uses_the_pool(captured: Captured) -> None:
    told(
        detail(captured("ryzen-7-7840hs"), "cuda:0"),
        {
            "memory": "the machine's; what it uses is counted in the pool",
            "memory set aside": "512 MiB",
            "memory of the machine it may use": "15.4 GiB",
            "busy": "3 %",
            "frequency now": "800 MHz",
            "memory of clients": "gtt 2.3 MiB, vram 43.5 MiB",
            "busy time of clients": "compute 0.046 s",
        },
    )


def test_a_discrete_amd_gpu(captured: Captured) -> None:
    told(
        detail(captured("workstation-amd"), "cuda:0"),
        {
            "memory": "24.0 GiB",
            "memory in use": "1.1 GiB",
            "busy": "73 %",
            "memory busy": "12 %",
            "frequency now": "2371 MHz",
        },
    )


def test_a_suspended_amd_gpu_is_not_woken(own_tree: Own) -> None:
    files = {"sys/bus/pci/devices/0000:03:00.0/power/runtime_status": "suspended"}
    found = detail(own_tree("workstation-amd", files), "cuda:0")
    told(found, {"power": "suspended", "memory": "24.0 GiB"})
    assert not {"busy", "memory busy", "frequency now"} & found.facts.keys()
    assert lacks(found, "to read them would wake it")


def test_an_amd_gpu_tells_its_name_on_servers(own_tree: Own) -> None:
    files = {"sys/bus/pci/devices/0000:03:00.0/product_name": "AMD Instinct MI210"}
    assert detail(own_tree("workstation-amd", files), "cuda:0").accelerator.what == "AMD Instinct MI210 1002:744C"


@pytest.mark.parametrize("value", ["0", "-1", "much", "99999999999999999999"])
def test_absurd_memory_of_a_card_is_unknown(value: str, own_tree: Own) -> None:
    files = {"sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total": value}
    assert detail(own_tree("workstation-amd", files), "cuda:0").accelerator.memory is None


def test_amd_s_older_driver(own_tree: Own) -> None:
    uevent = "DRIVER=radeon\nPCI_CLASS=30000\nPCI_ID=1002:6819\nPCI_SLOT_NAME=0000:01:00.0"
    found = detail(own_tree(files={"sys/class/drm/renderD128/device/uevent": uevent}), "cuda:0")
    assert found.accelerator.unusable == "ROCm needs the driver amdgpu, this GPU has radeon"
    assert lacks(found, "not of radeon")


def test_nvidia(captured: Captured) -> None:
    found = detail(captured("workstation-nvidia"), "cuda:1")
    told(found, {"model": "NVIDIA GeForce RTX 3080", "driver version": "610.43.02", "video BIOS": "94.02.26.80.5b"})
    assert lacks(found, "nvidia-smi shows them")
    assert "access" not in found.facts, "its nodes are not numbered as those of the others"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024", "550.54.14"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.65.06  Release Build", "580.65.06"),
        ("NVRM version: something else", None),
    ],
)
def test_versions_of_nvidia_s_driver(line: str, expected: str | None, own_tree: Own) -> None:
    root = own_tree("workstation-nvidia", {"proc/driver/nvidia/version": line})
    (root / "sys/module/nvidia/version").unlink()
    assert detail(root, "cuda:0").facts.get("driver version") == expected


def test_an_nvidia_gpu_whose_driver_says_nothing(own_tree: Own) -> None:
    root = own_tree("workstation-nvidia")
    (root / "proc/driver/nvidia/gpus/0000:01:00.0/information").unlink()
    found = detail(root, "cuda:0")
    assert found.accelerator.what == "NVIDIA GPU 10DE:2B85"
    assert lacks(found, "model: /proc/driver/nvidia/gpus/0000:01:00.0/information does not exist")


def test_an_nvidia_gpu_that_is_left_out(own_tree: Own) -> None:
    information = "proc/driver/nvidia/gpus/0000:01:00.0/information"
    root = own_tree("workstation-nvidia", {information: "Model: \t\t Unknown\nGPU Excluded:\t Yes"})
    found = detail(root, "cuda:0")
    assert found.accelerator.what == "NVIDIA GPU 10DE:2B85"
    assert lacks(found, "the driver leaves this GPU out")


def test_sticks_in_the_stock_setting(captured: Captured) -> None:
    root = captured("compute-sticks-stock")
    stock = "stock: no driver of the kernel, libraries use it through usbfs"
    told(
        detail(root, "ncs2"),
        {
            "USB id": "03e7:2485",
            "port": "1-2",
            "state": "not booted",
            "setting": stock,
            "speed": "480 Mbit/s",
            "product": "Movidius MyriadX",
        },
    )
    told(detail(root, "ncs2:1"), {"USB id": "03e7:f63b", "state": "booted", "setting": stock, "speed": "5000 Mbit/s"})
    assert lacks(detail(root, "ncs2"), "OAK")
    assert not lacks(detail(root, "ncs2:1"), "OAK")


def test_sticks_with_a_driver_of_their_own(captured: Captured) -> None:
    root = captured("compute-sticks-custom-driver")
    told(detail(root, "ncs2"), {"setting": "custom driver ncs2_usb", "nodes of the driver": "/dev/ncs2_0, /dev/ncs2_1"})
    told(detail(root, "ncs2:1"), {"setting": "custom driver ncs2_usb", "speed": "480 Mbit/s, it is not on USB 3"})


@pytest.mark.parametrize(
    ("files", "node"),
    [({"dev/ncs2_0": ""}, "/dev/ncs2_0"), ({"sys/class/ncs2/stick0/dev": "240:0"}, "/sys/class/ncs2/stick0")],
)
def test_a_driver_that_shows_by_its_node_only(files: Mapping[str, str], node: str, own_tree: Own) -> None:
    found = detail(own_tree("compute-sticks-stock", files), "ncs2")
    assert found.accelerator.driver == "unknown"
    told(found, {"setting": f"custom driver, which made {node}"})


def test_a_driver_that_shows_by_a_link_only(own_tree: Own) -> None:
    root = own_tree("compute-sticks-stock")
    interface = root / "sys/bus/usb/devices/1-2:1.0"
    (interface / "uevent").unlink()
    (interface / "driver").symlink_to("../../../bus/usb/drivers/myriad")
    told(detail(root, "ncs2"), {"setting": "custom driver myriad"})


def test_cameras_with_the_same_chip_are_no_sticks(captured: Captured) -> None:
    assert len(describe_accelerators(captured("compute-sticks-stock"))) == 2, "and a camera"


def test_a_stick_whose_number_on_the_bus_is_absurd(own_tree: Own) -> None:
    found = detail(own_tree("compute-sticks-stock", {f"{STICK}/devnum": "../../1", f"{STICK}/speed": "0"}), "ncs2")
    assert lacks(found, "access: ")
    assert lacks(found, "speed: ")
    assert "access" not in found.facts


def test_a_stick_that_is_not_passed_through(own_tree: Own) -> None:
    root = own_tree("compute-sticks-stock")
    (root / "dev/bus/usb/001/005").unlink()
    assert lacks(detail(root, "ncs2"), "there is no /dev/bus/usb/001/005")
