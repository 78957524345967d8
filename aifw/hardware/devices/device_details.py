"""Everything /proc and /sys say of each accelerator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aifw.hardware.devices.accelerators import Listed
from aifw.hardware.devices.amd import describe_amd
from aifw.hardware.devices.fdinfo import EngineTime, Reading, read_clients
from aifw.hardware.devices.findings import DeviceDetail, Findings
from aifw.hardware.devices.intel_gpu import describe_intel, say_memory
from aifw.hardware.devices.movidius import Stick, describe_stick
from aifw.hardware.devices.npu import describe_npu
from aifw.hardware.devices.nvidia import describe_nvidia
from aifw.hardware.devices.pci import PciDevice
from aifw.hardware.tree import Tree
from aifw.units import format_bytes

_OF_THE_KERNEL = {"amdgpu", "amdxdna", "i915", "intel_vpu", "nouveau", "radeon", "xe"}
"""Drivers that have the kernel's version where they have none of their own."""


def describe(root: Path, listed: Iterable[Listed]) -> tuple[DeviceDetail, ...]:
    """Describe accelerators.

    Args:
        root: Where `proc`, `sys` and `dev` are.
        listed: From `list_accelerators` of the same tree.
    """
    tree = Tree(root)
    devices = tuple(listed)
    # Going through all open files is worth it only where something uses that way of telling.
    reading = read_clients(root) if any(isinstance(each.source, PciDevice) for each in devices) else None
    return tuple(_describe(tree, each, reading) for each in devices)


def _describe(tree: Tree, listed: Listed, reading: Reading | None) -> DeviceDetail:
    found = Findings(tree)
    if isinstance(listed.source, Stick):
        describe_stick(found, listed.source)
    else:
        _describe_pci(found, listed, listed.source)
        if reading is not None and listed.source.driver not in {"nvidia", "none"}:
            _say_use(found, listed, listed.source, reading)
    return DeviceDetail(listed.accelerator, found.facts, found.unknown())


def _describe_pci(found: Findings, listed: Listed, device: PciDevice) -> None:
    found.say("PCI id", device.identity)
    found.say("PCI address", device.address)
    if listed.kind is not None:
        if listed.kind.kind is None:
            found.say("kind", "unknown")
            found.lack(f"integrated or discrete: {listed.kind.basis}; it counts as integrated")
        else:
            found.say("kind", f"{listed.kind.kind.removesuffix('_gpu')}: {listed.kind.basis}")
    if device.driver in {"none", "unknown"}:
        found.lack(
            "driver: the kernel has none bound to it, so it tells nothing"
            if device.driver == "none"
            else "driver: the device does not say which one it has"
        )
    else:
        _say_driver(found, device.driver)
    if device.driver != "nvidia":
        _say_node(found, device)
    if device.sort == "accel":
        describe_npu(found, device)
    elif device.vendor == "8086":
        describe_intel(found, device)
        if listed.accelerator.kind == "discrete_gpu" and device.driver != "none":
            say_memory(found, device, listed.accelerator.memory)
    elif device.vendor == "1002":
        describe_amd(found, device, listed.accelerator.kind == "integrated_gpu")
    else:
        describe_nvidia(found, device)
    if listed.accelerator.kind == "integrated_gpu":
        found.say("memory", "the machine's; what it uses is counted in the pool")


def _say_driver(found: Findings, driver: str) -> None:
    path = f"sys/module/{driver}/version"
    look = found.tree.look(path)
    kernel = found.tree.text("proc/sys/kernel/osrelease")
    if not look.missing:
        found.text("driver version", path)
    elif kernel and driver in _OF_THE_KERNEL:
        found.say("driver version", f"that of kernel {kernel}")
    elif driver in _OF_THE_KERNEL:
        found.lack(f"driver version: there is no /{path}, and the kernel does not tell its release")
    elif "driver version" not in found.facts:
        found.lack(f"driver version: there is no /{path}")


def _say_node(found: Findings, device: PciDevice) -> None:
    """Whether this user may compute there."""
    if not device.node:
        if device.driver != "none":
            found.lack(f"access: {device.driver} made no node that programs compute through")
        return
    node = f"dev/{'dri' if device.sort == 'drm' else 'accel'}/{device.node}"
    found.say_access(node, "the group that owns it (mostly render) may")


def _say_use(found: Findings, listed: Listed, device: PciDevice, reading: Reading) -> None:
    """What the processes that can be looked into use of a device."""
    name = device.address or device.driver
    clients = reading.count(name)
    if clients or device.sort == "drm":
        found.say("clients", f"{clients or 'none seen'}")
    memory = reading.memory(name)
    regions = ", ".join(f"{region} {format_bytes(size)}" for region, size in sorted(memory.items()) if size)
    if memory:
        found.say("memory of clients", regions or "0 B")
    elif clients:
        found.lack(f"memory of clients: {device.driver} of this kernel does not tell it")
    busy = [f"{engine} {_time(used)}" for engine, used in sorted(reading.engines(name).items())]
    if busy:
        found.say("busy time of clients", ", ".join(busy))
    elif clients and device.sort == "drm":
        found.lack(f"busy time of clients: {device.driver} of this kernel does not tell it")
    if reading.hidden:
        found.lack(
            f"clients: {reading.hidden} {'process' if reading.hidden == 1 else 'processes'} of others may not be looked into; "
            f"what they use of {listed.accelerator.name} is not in its figures"
        )


def _time(used: EngineTime) -> str:
    if used.nanoseconds is not None:
        return f"{used.nanoseconds / 1e9:.3f} s"
    return f"{used.cycles} of {used.total_cycles} cycles" if used.total_cycles is not None else f"{used.cycles} cycles"
