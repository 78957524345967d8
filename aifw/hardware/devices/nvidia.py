"""What the driver nvidia tells without its tools: /proc/driver/nvidia (README of the driver, chapter on its /proc interface)."""

from __future__ import annotations

import re

from aifw.hardware.devices.findings import Findings
from aifw.hardware.devices.pci import PciDevice
from aifw.hardware.tree import Tree, fields, plain

_FOLDER = "proc/driver/nvidia"
_VERSION = re.compile(r"(?:Kernel Module|Kernel Module for \S+)\s+([0-9]+(?:\.[0-9]+)+)")
_TOLD = {"Model": "model", "GPU Firmware": "firmware version", "Video BIOS": "video BIOS"}
"""What is kept of a GPU's information; its UUID is not."""


def nvidia_name(tree: Tree, device: PciDevice) -> str:
    """`NVIDIA GeForce RTX 4090 10DE:2684`; `NVIDIA GPU 10DE:2684` where the driver tells no model."""
    model = _information(tree, device).get("Model", "")
    if not model or "unknown" in model.lower():
        return f"NVIDIA GPU {device.identity}"
    return f"{model if model.upper().startswith('NVIDIA') else f'NVIDIA {model}'} {device.identity}"


def nvidia_unusable(device: PciDevice) -> str:
    """Why CUDA cannot use a GPU, or nothing."""
    return "" if device.driver == "nvidia" else f"CUDA needs the driver nvidia, this GPU has {device.driver}"


def describe_nvidia(found: Findings, device: PciDevice) -> None:
    """Model, driver and firmware of a GPU."""
    if device.driver != "nvidia":
        found.lack(f"model and memory: CUDA's driver is not there, the GPU has the driver {device.driver}")
        return
    version = _VERSION.search(found.tree.look(f"{_FOLDER}/version").text)
    if version is not None:
        found.say("driver version", version[1])
    information = _information(found.tree, device)
    for name, fact in _TOLD.items():
        if information.get(name, "").strip("?. "):
            found.say(fact, information[name])
    if information.get("GPU Excluded", "No") != "No":
        found.lack("model and memory: the driver leaves this GPU out, as it was told to")
    if not information:
        path = f"{_FOLDER}/gpus/{device.address}/information"
        look = found.tree.look(path)
        found.lack(f"model: /{path} {look.problem or 'is empty'}")
    found.lack("memory, its use and busy time: the driver tells them to its own libraries only; nvidia-smi shows them")
    found.lack(
        "number: GPUs are counted in the order of the bus, CUDA by speed unless CUDA_DEVICE_ORDER=PCI_BUS_ID is set"
    )


def _information(tree: Tree, device: PciDevice) -> dict[str, str]:
    text = tree.look(f"{_FOLDER}/gpus/{device.address}/information").text if device.address else ""
    return {name: plain(value) for name, value in fields(text, (*_TOLD, "GPU Excluded"))}
