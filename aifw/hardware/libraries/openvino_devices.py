"""OpenVINO's names of devices and those of specs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FAMILIES: Mapping[str, str] = {"CPU": "cpu", "GPU": "xpu", "NPU": "npu", "MYRIAD": "ncs2"}
"""Family in specs by OpenVINO's. Its GPU part knows Intel's GPUs only."""
_NUMBERED = {"xpu"}


def device_name(target: str) -> str:
    """What a spec calls a device of OpenVINO: `GPU.1` is `xpu:1`, `NPU` is `npu`."""
    family, _, number = target.partition(".")
    name = FAMILIES.get(family, family.lower())
    # Of NPUs and sticks OpenVINO tells the architecture or the port behind the point, not a number.
    return f"{name}:{number if number.isdecimal() else 0}" if name in _NUMBERED else name


def gpu_identity(core: Any, target: str) -> str:
    """PCI vendor and device of a GPU, `8086:7D55`, or nothing where OpenVINO does not tell.

    Args:
        core: An `openvino.Core`.
        target: What it calls the GPU.
    """
    try:
        said = f"{core.get_property(target, 'GPU_DEVICE_ID')}"
    except (RuntimeError, TypeError):
        return ""
    return f"8086:{int(said, 16):04X}" if re.fullmatch("(0x)?[0-9A-Fa-f]{1,4}", said) else ""


def target_name(name: str, listed: tuple[str, ...]) -> str | None:
    """What OpenVINO calls a device of a spec, among those it lists, or None."""
    return next((target for target in listed if device_name(target) == name), None)
