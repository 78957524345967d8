"""Asks torch what it can compute on: `python -P -m aifw.hardware.libraries.ask_torch [--ipex]`. Run by `aifw.hardware.libraries.runtime.ask` alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from aifw.hardware.libraries.child import answers
from aifw.hardware.libraries.versions import CUDA_ORDER

_SIDE = 64
_INTEL, _NVIDIA, _AMD = "8086", "10DE", "1002"


def main(arguments: list[str]) -> None:
    """Answer line by line. With `--ipex` the extension, which was built for this torch, is imported as the last thing."""
    answer = answers()
    os.environ.setdefault(*CUDA_ORDER)
    import torch

    answer({"library": {"name": "torch", "version": torch.__version__, "facts": _facts(torch)}})
    answer({"now": {"name": "cpu", "target": "cpu", "what": "processor"}})
    answer({"device": _cpu(torch)})
    for family, module in (("xpu", torch.xpu), ("cuda", torch.cuda)):
        answer({"now": {"family": family}})
        for line in _family(torch, family, module):
            answer(line)
    if "--ipex" in arguments:
        library = {"name": "intel-extension-for-pytorch", "version": "unknown"}
        answer({"now": {"library": library}})
        import intel_extension_for_pytorch as extension

        answer({"library": {**library, "version": extension.__version__}})


def _facts(torch: Any) -> dict[str, str]:
    found = {
        "built for": ", ".join(
            f"{name} {version}"
            for name in ("cuda", "hip", "xpu")
            if (version := getattr(torch.version, name, None)) is not None
        )
        or "the processor only",
        "threads": f"{torch.get_num_threads()}",
        "instruction set used": f"{torch.backends.cpu.get_cpu_capability()}",
        "oneDNN": "available" if torch.backends.mkldnn.is_available() else "not built in",
    }
    if torch.accelerator.is_available():
        current = torch.accelerator.current_accelerator()
        found["accelerator"] = f"{current.type}, {torch.accelerator.device_count()} of them"
    else:
        found["accelerator"] = "none"
    return found


def _cpu(torch: Any) -> dict[str, Any]:
    facts: dict[str, str] = {}
    precisions = ["fp32"]
    for precision, name in (("bf16", "_is_mkldnn_bf16_supported"), ("fp16", "_is_mkldnn_fp16_supported")):
        try:
            supported = bool(getattr(torch.ops.mkldnn, name)())
        except (AttributeError, RuntimeError) as error:
            facts[precision] = f"unknown: {_first_line(error)}"
            continue
        facts[precision] = "computed by the processor" if supported else "emulated, many times slower than fp32"
        if supported:
            precisions.append(precision)
    return {
        "name": "cpu",
        "library": "torch",
        "target": "cpu",
        "what": "processor",
        "precisions": precisions,
        "facts": facts,
        "refusal": _computes(torch, "cpu"),
    }


def _family(torch: Any, family: str, module: Any) -> Iterator[Mapping[str, Any]]:
    count = 0
    try:
        count = module.device_count() if module.is_available() else 0
    except (RuntimeError, AssertionError) as error:
        yield {"absent": {f"torch {family}": _first_line(error)}}
        return
    if count == 0:
        yield {"absent": {f"torch {family}": _why_none(torch, family)}}
    for index in range(count):
        target = f"{family}:{index}"
        yield {"now": {"name": target, "target": target, "what": target}}
        yield {"device": _gpu(torch, module, target, index)}


def _why_none(torch: Any, family: str) -> str:
    try:
        torch.zeros(1, device=family)
    except (RuntimeError, AssertionError) as error:
        return _first_line(error)
    return "it finds no such device"


def _gpu(torch: Any, module: Any, target: str, index: int) -> dict[str, Any]:
    properties = module.get_device_properties(index)
    facts = {"memory in use": _memory(module, index)}
    for name in ("driver_version", "major", "minor", "gpu_eu_count", "multi_processor_count", "gcnArchName"):
        value = getattr(properties, name, None)
        if value is not None:
            facts[name] = f"{value}"
    identity = getattr(properties, "device_id", None)
    total = getattr(properties, "total_memory", None)
    return {
        "name": target,
        "library": "torch",
        "target": target,
        "what": f"{properties.name}",
        "pci": _pci(torch, target, identity),
        "memory": total if isinstance(total, int) and total > 0 else None,
        "precisions": _precisions(module),
        "facts": facts,
        "refusal": _computes(torch, target),
    }


def _pci(torch: Any, target: str, identity: Any) -> str:
    """Vendor and device, as far as torch tells: of its CUDA devices it tells at most that they are AMD's."""
    if not target.startswith("xpu"):
        return _NVIDIA if getattr(torch.version, "hip", None) is None else _AMD
    return f"{_INTEL}:{identity:04X}" if isinstance(identity, int) else _INTEL


def _precisions(module: Any) -> list[str]:
    try:
        native = bool(module.is_bf16_supported(including_emulation=False))
    except TypeError:
        native = bool(module.is_bf16_supported())
    except (AttributeError, RuntimeError):
        native = False
    return ["fp32", "fp16", *(["bf16"] if native else [])]


def _memory(module: Any, index: int) -> str:
    try:
        free, total = module.mem_get_info(index)
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        # Integrated GPUs: what is free is what the machine has free.
        return f"unknown: {_first_line(error)}"
    return f"{free} of {total} bytes are free"


def _computes(torch: Any, target: str) -> str:
    """Why a small product does not come out right on a device, or nothing. The factors are whole numbers, so it is exact."""
    try:
        left = torch.arange(_SIDE * _SIDE, dtype=torch.float32).reshape(_SIDE, _SIDE) % 7
        right = left.T % 5
        found = (left.to(target) @ right.to(target)).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return f"cannot compute on it: {_first_line(error)}"
    expected = (left.to(torch.int64) @ right.to(torch.int64)).to(torch.float32)
    return "" if torch.equal(found, expected) else "computes wrong results on it"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in f"{error}".splitlines() if line.strip()), type(error).__name__)[:300]


if __name__ == "__main__":
    main(sys.argv[1:])
