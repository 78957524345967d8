"""What the driver intel_vpu tells of Intel's NPUs.

Source: drivers/accel/ivpu/ivpu_sysfs.c and ivpu_debugfs.c of the kernel. Busy time came first, then the memory, the frequencies in 6.16.
"""

from __future__ import annotations

from pathlib import Path

from aifw.hardware.devices.findings import Findings
from aifw.hardware.devices.pci import PciDevice
from aifw.hardware.tree import Tree
from aifw.units import format_bytes

_MOST_MHZ = 20_000
_MOST_BYTES = 1 << 44
_MOST_MICROSECONDS = 1 << 62
_DEBUG = "sys/kernel/debug/accel"


def busy_time(root: Path, device: PciDevice) -> int | None:
    """Microseconds for which an NPU had work since its driver was loaded, or None if that is not told.

    The kernel asks to read it at most about once a second: reading takes a lock that submitting work takes too.
    """
    return Tree(root).number(f"{device.folder}/npu_busy_time_us", 0, _MOST_MICROSECONDS).value


def describe_npu(found: Findings, device: PciDevice) -> None:
    """Busy time, frequencies, memory, scheduler and firmware of an NPU, as far as its driver shows them."""
    folder = device.folder
    if device.driver != "intel_vpu":
        found.lack(
            f"busy time, frequencies and memory: they are known of the driver intel_vpu only, not of {device.driver}"
        )
        return
    busy = found.number(
        "busy time",
        f"{folder}/npu_busy_time_us",
        "us",
        _MOST_MICROSECONDS,
        absent="the driver of an older kernel has none",
    )
    if busy is not None:
        found.say("busy time", f"{busy / 1e6:.3f} s since the driver was loaded")
    now = found.number(
        "frequency now", f"{folder}/npu_current_frequency_mhz", "MHz", _MOST_MHZ, absent="kernels before 6.16 have none"
    )
    if now == 0:
        found.say("frequency now", "0 MHz, it sleeps")
    found.number(
        "frequency highest",
        f"{folder}/npu_max_frequency_mhz",
        "MHz",
        _MOST_MHZ,
        1,
        absent="kernels before 6.16 have none",
    )
    used = found.number(
        "memory in use",
        f"{folder}/npu_memory_utilization",
        "B",
        _MOST_BYTES,
        absent="the driver of an older kernel has none",
    )
    if used is not None:
        found.say("memory in use", f"{format_bytes(used)} of the machine's")
    found.text("scheduler", f"{folder}/sched_mode")
    _say_firmware(found, device)


def _say_firmware(found: Findings, device: PciDevice) -> None:
    for name in (device.address, device.node.removeprefix("accel")):
        if not name:
            continue
        look = found.tree.look(f"{_DEBUG}/{name}/fw_version")
        if look.problem and not look.missing:
            found.lack(
                f"firmware version: /{_DEBUG}/{name}/fw_version {look.problem}; the driver tells the administrator only"
            )
            return
        if look.text.strip():
            found.text("firmware version", f"{_DEBUG}/{name}/fw_version")
            found.text("firmware file", f"{_DEBUG}/{name}/fw_name")
            return
    found.lack(
        f"firmware version: there is none in /{_DEBUG}; debugfs is not mounted, or the driver of this kernel shows none"
    )
