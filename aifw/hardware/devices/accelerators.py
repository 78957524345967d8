"""The accelerators of a machine: GPUs, NPUs and neural compute sticks, from /proc and /sys only.

Names are those a spec uses: `xpu:N` for Intel's GPUs in the order of the kernel's nodes, `cuda:N` for those of NVIDIA and then AMD
(ROCm's PyTorch calls them so too) in the order of the bus, `npu`, `ncs2`; of several NPUs or sticks the second is `npu:1`, `ncs2:1`.
Those that no driver of a library's liking is bound to come last.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aifw.hardware.devices.pci import PciDevice, find_devices
from aifw.hardware.machine import Accelerator
from aifw.hardware.tree import Tree

# A plan has little time, so what only some machines have or only descriptions need is imported where it is used.
if TYPE_CHECKING:
    from aifw.hardware.devices.findings import DeviceDetail
    from aifw.hardware.devices.gpu_kinds import Kind
    from aifw.hardware.devices.movidius import Stick

__all__ = ["DeviceDetail", "Listed", "accelerators", "describe_accelerators", "list_accelerators"]

_INTEL, _NVIDIA, _AMD, _AMD_PROCESSORS = "8086", "10DE", "1002", "1022"
_USB, _MOVIDIUS = "sys/bus/usb/devices", "03e7"
_NOT_ASKED = "not asked yet"


class Listed(NamedTuple):
    """An accelerator, and where it was found.

    Attributes:
        accelerator: The device.
        source: Where its files are.
        kind: Of a GPU, and what says so.
    """

    accelerator: Accelerator
    source: PciDevice | Stick
    kind: Kind | None = None


def accelerators(root: Path = Path("/")) -> tuple[Accelerator, ...]:
    """What is there, as far as planning needs it. Whatever the files hold, there is an answer.

    A GPU of which it cannot be told whether it is integrated counts as integrated: what it uses is counted in the machine's memory.

    Args:
        root: Where `proc`, `sys` and `dev` are.
    """
    return tuple(each.accelerator for each in list_accelerators(Tree(root)))


def describe_accelerators(root: Path = Path("/")) -> tuple[DeviceDetail, ...]:
    """Everything that can be read of each, for `aifw hardware`. Whatever the files hold, there is an answer.

    Args:
        root: Where `proc`, `sys` and `dev` are.
    """
    from aifw.hardware.devices.device_details import describe

    return describe(root, list_accelerators(Tree(root)))


def list_accelerators(tree: Tree) -> list[Listed]:
    """The accelerators of a tree with where they were found."""
    devices = find_devices(tree)
    gpus = [each for each in devices if each.sort == "drm"]
    intel = [each for each in gpus if each.vendor == _INTEL]
    others = [each for each in gpus if each.vendor in {_NVIDIA, _AMD}]
    npus = [each for each in devices if each.sort == "accel" and each.vendor in {_INTEL, _AMD_PROCESSORS}]
    return [
        *(_intel_gpus(tree, intel) if intel else ()),
        *(_cuda(tree, others) if others else ()),
        *(_npus(npus) if npus else ()),
        *_sticks(tree),
    ]


def _intel_gpus(tree: Tree, gpus: list[PciDevice]) -> Iterator[Listed]:
    from aifw.hardware.devices.device_names import intel_gpu
    from aifw.hardware.devices.gpu_kinds import gpu_kind

    for index, device in enumerate(gpus):
        kind = gpu_kind(tree, device)
        accelerator = Accelerator(
            name=f"xpu:{index}",
            what=intel_gpu(device.identity),
            driver=device.driver,
            kind=kind.kind or "integrated_gpu",
            memory=_card_memory(tree, device) if kind.kind == "discrete_gpu" else None,
            unusable=_unusable(device),
        )
        yield Listed(accelerator, device, kind)


def _card_memory(tree: Tree, device: PciDevice) -> int | None:
    from aifw.hardware.devices.intel_gpu import own_memory

    return own_memory(tree, device)


def _cuda(tree: Tree, gpus: list[PciDevice]) -> Iterator[Listed]:
    from aifw.hardware.devices.amd import amd_name, amd_unusable, card_memory
    from aifw.hardware.devices.gpu_kinds import gpu_kind
    from aifw.hardware.devices.nvidia import nvidia_name, nvidia_unusable

    refusals = {each: amd_unusable(each) if each.vendor == _AMD else nvidia_unusable(each) for each in gpus}
    ordered = sorted(gpus, key=lambda each: (refusals[each] != "", each.vendor != _NVIDIA, each.address))
    for index, device in enumerate(ordered):
        kind = gpu_kind(tree, device)
        amd = device.vendor == _AMD
        accelerator = Accelerator(
            name=f"cuda:{index}",
            what=amd_name(tree, device) if amd else nvidia_name(tree, device),
            driver=device.driver,
            kind=kind.kind or "integrated_gpu",
            memory=card_memory(tree, device) if amd and kind.kind == "discrete_gpu" else None,
            unusable=refusals[device] or _NOT_ASKED,
        )
        yield Listed(accelerator, device, kind)


def _npus(found: list[PciDevice]) -> Iterator[Listed]:
    from aifw.hardware.devices.device_names import NPUS, npu

    # Other processing accelerators are of the same class.
    known = [each for each in found if each.identity in NPUS or (each.vendor == _INTEL and each.driver == "intel_vpu")]
    for index, device in enumerate(known):
        accelerator = Accelerator(
            name=_numbered("npu", index),
            what=npu(device.identity),
            driver=device.driver,
            kind="npu",
            unusable=_unusable(device),
        )
        yield Listed(accelerator, device)


def _sticks(tree: Tree) -> Iterator[Listed]:
    ports = [
        port for port in tree.names(_USB, "[0-9]+-[0-9.]+")[0] if tree.text(f"{_USB}/{port}/idVendor") == _MOVIDIUS
    ]
    if not ports:
        return
    from aifw.hardware.devices.movidius import find_sticks

    for index, stick in enumerate(find_sticks(tree, ports)):
        accelerator = Accelerator(
            name=_numbered("ncs2", index),
            what=f"Intel Neural Compute Stick 2 {stick.identity}",
            driver=stick.driver,
            kind="ncs2",
        )
        yield Listed(accelerator, stick)


def _unusable(device: PciDevice) -> str:
    if device.vendor == _AMD_PROCESSORS:
        return "no library that aifw uses computes on AMD's NPUs"
    return "the kernel has no driver bound to it" if device.driver == "none" else _NOT_ASKED


def _numbered(name: str, index: int) -> str:
    return f"{name}:{index}" if index else name


def __getattr__(name: str) -> object:
    if name == "DeviceDetail":
        from aifw.hardware.devices.findings import DeviceDetail

        return DeviceDetail
    raise AttributeError(name)
