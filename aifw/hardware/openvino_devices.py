"""OpenVINO's names of devices and those of specs."""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: Mapping[str, str] = {"CPU": "cpu", "GPU": "xpu", "NPU": "npu", "MYRIAD": "ncs2"}
"""Family in specs by OpenVINO's. Its GPU part knows Intel's GPUs only."""
_NUMBERED = {"xpu"}


def device_name(target: str) -> str:
    """What a spec calls a device of OpenVINO: `GPU.1` is `xpu:1`, `NPU` is `npu`."""
    family, _, number = target.partition(".")
    name = FAMILIES.get(family, family.lower())
    # Of NPUs and sticks OpenVINO tells the architecture or the port behind the point, not a number.
    return f"{name}:{number if number.isdecimal() else 0}" if name in _NUMBERED else name


def target_name(name: str, listed: tuple[str, ...]) -> str | None:
    """What OpenVINO calls a device of a spec, among those it lists, or None."""
    return next((target for target in listed if device_name(target) == name), None)
