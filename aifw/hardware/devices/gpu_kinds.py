"""Integrated or discrete: which GPUs compute in the machine's memory, and what says so.

Intel. A known family of PCI ids decides (include/drm/intel/pciids.h of the kernel). Else the drivers decide: i915 and xe make a
hardware monitor for discrete GPUs only (i915_hwmon.c, xe_hwmon.c), and `vram_d3cold_threshold` too. Else the place does: on every
machine that is no virtual one, Intel's integrated GPU is device 2 of bus 0, and what lies on another bus is a card. In a virtual
machine devices lie wherever they were put.

AMD. amdgpu shows the voltage of the north bridge (`vddnb`) for GPUs in a processor only, and the clock of the memory (`mclk`) for
discrete ones only (amdgpu_pm.c).

NVIDIA. Discrete, but for the few known GPUs that share a package and memory with the processor.
"""

from __future__ import annotations

from typing import NamedTuple

from aifw.hardware.devices.pci import PciDevice, has, sensors
from aifw.hardware.machine import DeviceKind
from aifw.hardware.tree import Tree

_INTEL_DISCRETE = (
    (0x0B69, 0x0B6E),
    (0x0BD0, 0x0BDB),
    (0x4905, 0x4909),
    (0x5690, 0x56C2),
    (0x674C, 0x6750),
    (0xE202, 0xE223),
)
"""Ponte Vecchio, DG1, Arc of the first generation, Crescent Island, Arc of the second."""
_INTEL_INTEGRATED = (
    (0x4626, 0x462A),
    (0x4680, 0x46D4),
    (0x4C80, 0x4C9A),
    (0x6420, 0x64B0),
    (0x7D40, 0x7DD5),
    (0x9A40, 0x9AF8),
    (0xA720, 0xA721),
    (0xA780, 0xA7AD),
    (0xB080, 0xB0B0),
    (0xD740, 0xD75F),
    (0xFD80, 0xFD81),
)
"""Alder Lake, Rocket Lake, Lunar Lake, Meteor and Arrow Lake, Tiger Lake, Raptor Lake, Panther Lake, Nova Lake, Wildcat Lake."""
_NVIDIA_UNIFIED = {"10DE:2E12": "GB10", "10DE:2B00": "Jetson AGX Thor"}
_CPUINFO = 4096
"""Enough for the flags of the first processor."""


class Kind(NamedTuple):
    """What sort of GPU one is.

    Attributes:
        kind: `integrated_gpu`, `discrete_gpu`, or None where that cannot be told.
        basis: What says so, or why it cannot be told.
    """

    kind: DeviceKind | None
    basis: str


def gpu_kind(tree: Tree, device: PciDevice) -> Kind:
    """Whether a GPU is integrated or discrete."""
    if device.vendor == "8086":
        return _intel(tree, device)
    if device.vendor == "1002":
        return _amd(tree, device)
    if device.identity in _NVIDIA_UNIFIED:
        return Kind("integrated_gpu", f"{_NVIDIA_UNIFIED[device.identity]} shares the machine's memory")
    return Kind("discrete_gpu", "NVIDIA's GPUs for PCI are")


def _intel(tree: Tree, device: PciDevice) -> Kind:
    number = int(device.identity[5:], 16)
    if any(first <= number <= last for first, last in _INTEL_DISCRETE):
        return Kind("discrete_gpu", "the PCI id is of a family of cards")
    if any(first <= number <= last for first, last in _INTEL_INTEGRATED):
        return Kind("integrated_gpu", "the PCI id is of a family of processors")
    if any(tree.text(f"{folder}/name") in {"i915", "xe"} for folder in sensors(tree, device)):
        return Kind("discrete_gpu", f"{device.driver} makes a hardware monitor for cards only")
    if has(tree, f"{device.folder}/vram_d3cold_threshold"):
        return Kind("discrete_gpu", f"{device.driver} tells a threshold for its own memory")
    if not device.address:
        return Kind(None, "its PCI id is of no known family, and where it is on the bus is not told")
    if "hypervisor" in tree.look("proc/cpuinfo", _CPUINFO).text:
        return Kind(
            None, "its PCI id is of no known family, and in a virtual machine its place on the bus says nothing"
        )
    domain_and_bus, _, slot = device.address.rpartition(":")
    if domain_and_bus == "0000:00" and slot.startswith("02."):
        return Kind("integrated_gpu", "it is device 2 of bus 0")
    if not domain_and_bus.endswith(":00"):
        return Kind("discrete_gpu", f"it is on bus {domain_and_bus}")
    return Kind(
        None, f"its PCI id is of no known family, and {device.address} is neither the processor's place nor a card's"
    )


def _amd(tree: Tree, device: PciDevice) -> Kind:
    labels = {
        tree.text(f"{folder}/{name}_label")
        for folder in sensors(tree, device)
        for name in ("in1", "freq2", "in0", "freq1")
    }
    if "vddnb" in labels:
        return Kind("integrated_gpu", "its monitor shows the voltage of the north bridge, which only processors have")
    if "mclk" in labels:
        return Kind("discrete_gpu", "its monitor shows the clock of its own memory")
    return Kind(None, "its hardware monitor shows neither a north bridge (vddnb) nor memory of its own (mclk)")
