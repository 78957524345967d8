"""What the driver amdgpu tells of AMD's GPUs (gpu/amdgpu/driver-misc.rst and gpu/amdgpu/thermal.rst of the kernel's documentation)."""

from __future__ import annotations

from aifw.hardware.devices.findings import Findings
from aifw.hardware.devices.pci import PciDevice, sensors
from aifw.hardware.tree import Tree, plain
from aifw.units import format_bytes

_MOST_MEMORY = 1 << 44
_MOST_HERTZ = 20_000_000_000


def amd_name(tree: Tree, device: PciDevice) -> str:
    """`AMD Instinct MI210 1002:740F` where the card tells its name, as those for servers do; else `AMD GPU 1002:744C`."""
    name = plain(tree.text(f"{device.folder}/product_name"), 64)
    return f"{name if name.startswith('AMD') else f'AMD {name}' if name else 'AMD GPU'} {device.identity}"


def amd_unusable(device: PciDevice) -> str:
    """Why ROCm cannot use a GPU, or nothing."""
    return "" if device.driver == "amdgpu" else f"ROCm needs the driver amdgpu, this GPU has {device.driver}"


def card_memory(tree: Tree, device: PciDevice) -> int | None:
    """Bytes of a discrete GPU's memory, or None where the driver does not tell."""
    return tree.number(f"{device.folder}/mem_info_vram_total", 1, _MOST_MEMORY).value


def describe_amd(found: Findings, device: PciDevice, integrated: bool) -> None:
    """Memory, load and clock of a GPU. What is set aside for an integrated one is no memory the machine still has."""
    if device.driver != "amdgpu":
        found.lack(f"memory and load: they are known of the driver amdgpu only, not of {device.driver}")
        return
    names = ("memory set aside", "memory set aside in use") if integrated else ("memory", "memory in use")
    for name, file in zip(names, ("vram_total", "vram_used"), strict=True):
        _say_size(found, name, f"{device.folder}/mem_info_{file}", "amdgpu shows it of every GPU")
    _say_size(found, "memory of the machine it may use", f"{device.folder}/mem_info_gtt_total")
    _say_size(found, "memory of the machine in use", f"{device.folder}/mem_info_gtt_used")
    if found.tree.text(f"{device.folder}/power/runtime_status") == "suspended":
        found.say("power", "suspended")
        found.lack("busy and frequency: it is suspended, and to read them would wake it")
        return
    found.number("busy", f"{device.folder}/gpu_busy_percent", "%", 100, absent="this GPU or kernel does not measure it")
    found.number("memory busy", f"{device.folder}/mem_busy_percent", "%", 100)
    for folder in sensors(found.tree, device):
        clock = found.number("frequency now", f"{folder}/freq1_input", "Hz", _MOST_HERTZ)
        if clock is not None:
            found.say("frequency now", f"{clock / 1e6:.0f} MHz")


def _say_size(found: Findings, name: str, path: str, absent: str = "") -> None:
    size = found.number(name, path, "B", _MOST_MEMORY, absent=absent)
    if size is not None:
        found.say(name, format_bytes(size))
