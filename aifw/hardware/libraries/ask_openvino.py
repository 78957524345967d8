"""Asks OpenVINO what it can compute on: `python -P -m aifw.hardware.libraries.ask_openvino`. Run by `aifw.hardware.libraries.runtime.ask` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aifw.hardware.libraries.child import answers
from aifw.hardware.libraries.openvino_core import shared_core
from aifw.hardware.libraries.openvino_devices import FAMILIES, device_name, gpu_identity

_SIDE = 16
_FACTS: Mapping[str, str] = {
    "DEVICE_ARCHITECTURE": "architecture",
    "DEVICE_TYPE": "type",
    "DEVICE_UUID": "uuid",
    "GPU_EXECUTION_UNITS_COUNT": "execution units",
    "GPU_UARCH_VERSION": "microarchitecture",
    "NPU_DRIVER_VERSION": "driver version",
    "NPU_COMPILER_VERSION": "compiler version",
    "NPU_MAX_TILES": "tiles",
    "NPU_DEVICE_ALLOC_MEM_SIZE": "bytes allocated",
    "RANGE_FOR_STREAMS": "streams",
    "INFERENCE_PRECISION_HINT": "computes in",
}
"""What is worth telling, by OpenVINO's name for it. Its DEVICE_GOPS is a figure of a data sheet and is left alone."""
_MEMORY = ("GPU_DEVICE_TOTAL_MEM_SIZE", "NPU_DEVICE_TOTAL_MEM_SIZE")
_PRECISIONS = {"FP32": "fp32", "BF16": "bf16", "FP16": "fp16", "INT8": "int8"}


def main() -> None:
    """Answer line by line."""
    answer = answers()
    import openvino

    version, _, build = openvino.__version__.partition("-")
    answer({"library": {"name": "openvino", "version": version, "facts": {"build": build}}})
    answer({"now": {"family": "openvino"}})
    core = shared_core()
    targets = list(core.available_devices)
    here = {target.partition(".")[0] for target in targets}
    for family, name in FAMILIES.items():
        if family not in here:
            answer({"now": {"family": name}})
            answer({"absent": {f"openvino {name}": _why_none(core, family)}})
    for target in targets:
        answer({"now": {"name": device_name(target), "target": target, "what": target}})
        answer({"device": _device(openvino, core, target)})


def _device(openvino: Any, core: Any, target: str) -> dict[str, Any]:
    facts: dict[str, str] = {}
    supported = frozenset(core.get_property(target, "SUPPORTED_PROPERTIES"))
    for name, label in _FACTS.items():
        # Every processor is of the type "integrated".
        if name in supported and (name, target) != ("DEVICE_TYPE", "CPU"):
            facts[label] = _property(core, target, name)
    try:
        plugin = next(iter(core.get_versions(target).values())).build_number
        facts |= {"plugin": plugin} if plugin != openvino.__version__ else {}
    except (RuntimeError, StopIteration) as error:
        facts["plugin"] = f"unknown: {_last_line(error)}"
    memory = next((_property(core, target, name) for name in _MEMORY if name in supported), "")
    capabilities = core.get_property(target, "OPTIMIZATION_CAPABILITIES")
    return {
        "name": device_name(target),
        "library": "openvino",
        "target": target,
        "what": _property(core, target, "FULL_DEVICE_NAME"),
        "pci": gpu_identity(core, target) if "GPU_DEVICE_ID" in supported else "",
        "memory": int(memory) if memory.isdecimal() and int(memory) else None,
        "precisions": [_PRECISIONS[each] for each in capabilities if each in _PRECISIONS],
        "facts": facts,
        "refusal": _computes(openvino, core, target),
    }


def _property(core: Any, target: str, name: str) -> str:
    try:
        value = core.get_property(target, name)
    except (RuntimeError, TypeError) as error:
        return f"unknown: {_last_line(error)}"
    if isinstance(value, tuple):
        return " to ".join(map(str, value))
    return f"{value}".removeprefix("Type.").removeprefix("<Type: '").removesuffix("'>")


def _why_none(core: Any, family: str) -> str:
    """What OpenVINO says when it is asked for a device it does not list."""
    try:
        core.get_property(family, "FULL_DEVICE_NAME")
    except (RuntimeError, TypeError) as error:
        text = _last_line(error)
        # The NPU's part answers so when there is none to ask.
        return "it finds no such device" if text.startswith("Unsupported configuration key") else text
    return "it finds no such device"


def _computes(openvino: Any, core: Any, target: str) -> str:
    """Why a small product does not come out right on a device, or nothing. The factors are small whole numbers: exact even in fp16."""
    import numpy as np

    left = (np.arange(_SIDE * _SIDE, dtype=np.float32).reshape(_SIDE, _SIDE)) % 7
    right = left.T % 5
    operations = openvino.opset13
    parameter = operations.parameter([_SIDE, _SIDE], np.float32)
    model = openvino.Model([operations.matmul(parameter, operations.constant(right), False, False)], [parameter])
    try:
        found = core.compile_model(model, target)(left)[0]
    except (RuntimeError, TypeError) as error:
        return f"cannot compute on it: {_last_line(error)}"
    return "" if np.array_equal(found, left @ right) else "computes wrong results on it"


def _last_line(error: Exception) -> str:
    """OpenVINO puts where it happened first and what happened last."""
    lines = [line.strip() for line in f"{error}".splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


if __name__ == "__main__":
    main()
