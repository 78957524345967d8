"""How to run something on a device: the one place that knows. Only workers import it, since it asks the libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aifw.errors import DependencyMissing, JobError
from aifw.hardware.libraries.openvino_core import shared_core
from aifw.hardware.libraries.openvino_devices import device_name, gpu_identity, target_name
from aifw.hardware.libraries.precision import Precision, bf16_is_faster
from aifw.hardware.libraries.versions import CUDA_ORDER, IPEX, OPENVINO, TORCH, installed_versions, ipex_mismatch
from aifw.hardware.machine import Measured

LibraryName = Literal["torch", "openvino"]
Wanted = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Hint = Literal["latency", "throughput"]

_BUILDS = {"xpu": "Intel GPUs", "cuda": "NVIDIA or AMD GPUs"}
_INDEXES = {
    "xpu": "pip install torch --index-url https://download.pytorch.org/whl/xpu",
    "cuda": "pip install torch, from the index for your CUDA or ROCm: https://pytorch.org/get-started/locally",
}
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


@dataclass(frozen=True, slots=True)
class Backend:
    """How to run something on a device.

    Attributes:
        library: What computes.
        device: As a spec names it.
        target: What the library calls it: `model.to(target)`, `core.compile_model(model, target, config)`.
        precision: Number format of the arithmetic. `int8` says that the model is quantised.
        threads: Of the processor, at least 1.
        ipex: Whether `optimised` lets intel-extension-for-pytorch at a model.
        static_shapes: The device takes only models whose shapes are all known.
        config: For OpenVINO's `compile_model`.
        notes: What a user should know, in a sentence each.
    """

    library: LibraryName
    device: str
    target: str
    precision: str
    threads: int = 1
    ipex: bool = False
    static_shapes: bool = False
    config: Mapping[str, str] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()

    def dtype(self) -> Any:
        """The number format as torch names it; of a quantised model, that of the rest of it."""
        import torch

        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)

    def optimised(self, module: Any) -> Any:
        """A model in evaluation mode, rewritten by intel-extension-for-pytorch where that applies, else as it is."""
        if not self.ipex:
            return module
        import intel_extension_for_pytorch as extension

        return extension.optimize(module.eval(), dtype=self.dtype())


def backend_for(
    device: str,
    precision: Wanted = "auto",
    *,
    library: LibraryName = "torch",
    threads: int = 1,
    measured: Mapping[str, Measured] | None = None,
    hint: Hint = "latency",
) -> Backend:
    """Find out how to run something on a device.

    Args:
        device: As a spec names it: `cpu`, `xpu:0`, `cuda:0`, `npu`, `ncs2`.
        precision: `auto` is what the device is good at: bf16 on GPUs that have it; on a processor only where it computes in bf16
            itself and was not measured to be slower so; what OpenVINO names as the device's own (fp16 on GPU and NPU).
        library: What is to compute.
        threads: How many of the processor may be used.
        measured: What was measured here, by device; see `measured_beside`.
        hint: What OpenVINO should favour.

    Raises:
        DependencyMissing: The library is not installed or not built for the device.
        JobError: The device is not here, or this library never computes on it, or not in this format.
    """
    if library == "openvino":
        return _openvino(device, precision, max(1, threads), measured or {}, hint)
    return _torch(device, precision, max(1, threads), measured or {})


def use_threads(count: int) -> None:
    """Let torch compute with that many threads; results are equal bit for bit only at the same number."""
    import torch

    torch.set_num_threads(max(1, count))


def measured_beside(cache: Path | None) -> Mapping[str, Measured]:
    """What the machine profile next to a job's cache holds; nothing where there is none or it is stale."""
    if cache is None:
        return {}
    from aifw.hardware.libraries.profile import read_profile

    return read_profile(cache.parent).measured


def computes_bf16(device: str) -> bool:
    """Whether torch has a device compute in bf16 itself. Emulated on a processor it is many times slower than fp32."""
    import torch

    family = device.partition(":")[0]
    if family == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    module: Any = getattr(torch, family)
    return bool(module.is_bf16_supported(including_emulation=False))


def _torch(device: str, wanted: Wanted, threads: int, measured: Mapping[str, Measured]) -> Backend:
    family = device.partition(":")[0]
    if family not in {"cpu", "xpu", "cuda"}:
        raise JobError(
            f"torch does not compute on {device}",
            hint=f"it does on {', '.join(_with_torch())}; OpenVINO may on {device}",
        )
    present = _with_torch()
    if device not in present:
        raise _absent(device, family, present)
    if wanted not in {"auto", "fp32", "bf16"}:
        raise JobError(
            f"torch is not asked to compute in {wanted} here",
            hint="use `fp32` or `bf16`, or a model quantised for OpenVINO",
        )
    notes: list[str] = []
    native, faster = computes_bf16(device), bf16_is_faster(device, measured)
    chosen: Precision
    if wanted == "auto":
        slower = family == "cpu" and faster is False
        chosen = "bf16" if native and not slower else "fp32"
        if native and slower:
            notes.append("the processor computes in bf16, but was measured to be no faster so than in fp32")
    else:
        chosen = "bf16" if wanted == "bf16" else "fp32"
    if chosen == "bf16" and not native:
        notes.append(f"{device} does not compute in bf16 itself; fp32 is many times faster here")
    versions = installed_versions()
    ipex = False
    if IPEX in versions and family in {"cpu", "xpu"}:
        mismatch = ipex_mismatch(versions[IPEX], versions.get(TORCH))
        ipex = mismatch is None
        if mismatch is not None:
            notes.append(mismatch)
    return Backend("torch", device, device, chosen, threads, ipex, notes=tuple(notes))


def _with_torch() -> list[str]:
    """Devices torch computes on here.

    Raises:
        DependencyMissing: torch cannot be imported.
    """
    os.environ.setdefault(*CUDA_ORDER)
    try:
        import torch
    except (ImportError, OSError) as error:
        raise DependencyMissing(f"torch cannot be used: {error}", hint="pip install 'aifw[train]'") from error
    found: list[str] = []
    for family, module in (("xpu", torch.xpu), ("cuda", torch.cuda)):
        count = module.device_count() if module.is_available() else 0
        found += [f"{family}:{index}" for index in range(count)]
    return [*found, "cpu"]


def _absent(device: str, family: str, present: list[str]) -> JobError:
    import torch

    here = f"torch computes here on {', '.join(present)}; `hardware.devices` says which may be used"
    if any(name.startswith(family) for name in present):
        return JobError(f"there is no {device} for torch", hint=here)
    try:
        torch.zeros(1, device=family)
    except (RuntimeError, AssertionError) as error:
        reason = next((line.strip() for line in f"{error}".splitlines() if line.strip()), "no reason was given")
    else:
        reason = "it finds none"
    told = f"torch {torch.__version__} cannot compute on {device}: {reason}"
    if "not compiled with" in reason:
        return DependencyMissing(told, hint=f"{here}. A torch for {_BUILDS[family]}: {_INDEXES[family]}")
    return JobError(told, hint=f"{here}. `aifw hardware --refresh` says what drivers and libraries see")


def _openvino(device: str, wanted: Wanted, threads: int, measured: Mapping[str, Measured], hint: Hint) -> Backend:
    try:
        core = shared_core()
    except (ImportError, OSError) as error:
        raise DependencyMissing(f"OpenVINO cannot be used: {error}", hint="pip install 'aifw[openvino]'") from error
    listed = tuple(core.available_devices)
    target = _same_gpu(core, device, listed) or target_name(device, listed)
    if target is None:
        here = ", ".join(map(device_name, listed)) or "nothing"
        raise JobError(
            f"OpenVINO {installed_versions().get(OPENVINO, '')} cannot compute on {device}: {_why_not(core, device)}",
            hint=f"it computes here on {here}. `aifw hardware --refresh` says what drivers and libraries see",
        )
    capabilities = frozenset(core.get_property(target, "OPTIMIZATION_CAPABILITIES"))
    chosen = _own_format(device, capabilities, measured) if wanted == "auto" else wanted
    if chosen == "fp32" and device.startswith("npu"):
        raise JobError("the NPU computes in fp16 or int8 only", hint="use `precision: auto`, or another device")
    if _CAPABILITIES[chosen] not in capabilities and device != "cpu":
        raise JobError(
            f"{device} does not compute in {chosen}", hint=f"OpenVINO says it does in {', '.join(sorted(capabilities))}"
        )
    notes: list[str] = []
    if _CAPABILITIES[chosen] not in capabilities:
        notes.append(f"the processor does not compute in {chosen} itself; OpenVINO will use fp32 instead")
    config = {"PERFORMANCE_HINT": hint.upper()}
    if chosen in _HINTS:
        config["INFERENCE_PRECISION_HINT"] = _HINTS[chosen]
    if device == "cpu":
        # The engine has chosen the processors already; pinning again would put the threads of several jobs on the same ones.
        config |= {"INFERENCE_NUM_THREADS": f"{threads}", "ENABLE_CPU_PINNING": "NO"}
        if hint == "latency":
            config["NUM_STREAMS"] = "1"
    return Backend(
        "openvino",
        device,
        target,
        chosen,
        threads,
        static_shapes=device.startswith(("npu", "ncs2")),
        config=config,
        notes=tuple(notes),
    )


def _same_gpu(core: Any, device: str, listed: tuple[str, ...]) -> str | None:
    """Of several GPUs the one torch gives this number to: OpenVINO may count them in another order. None where that is not plain."""
    gpus = [target for target in listed if target.partition(".")[0] == "GPU"]
    family, _, number = device.partition(":")
    if family != "xpu" or len(gpus) < 2 or device not in _listed_by_torch():
        return None
    import torch

    identity = getattr(torch.xpu.get_device_properties(int(number)), "device_id", None)
    wanted = f"8086:{identity:04X}" if isinstance(identity, int) else ""
    same = [target for target in gpus if gpu_identity(core, target) == wanted]
    return same[0] if len(same) == 1 else None


def _listed_by_torch() -> list[str]:
    try:
        return _with_torch()
    except DependencyMissing:
        return []


def _own_format(device: str, capabilities: frozenset[str], measured: Mapping[str, Measured]) -> Wanted:
    if device == "cpu":
        return "bf16" if "BF16" in capabilities and bf16_is_faster(device, measured) is not False else "fp32"
    return "fp16" if "FP16" in capabilities else "fp32"


def _why_not(core: Any, device: str) -> str:
    from aifw.hardware.libraries.openvino_devices import FAMILIES

    family = next((theirs for theirs, ours in FAMILIES.items() if ours == device.partition(":")[0]), "")
    if not family:
        return "it has no part for such devices"
    try:
        core.get_property(family, "FULL_DEVICE_NAME")
    except (RuntimeError, TypeError) as error:
        lines = [line.strip() for line in f"{error}".splitlines() if line.strip()]
        if lines and not lines[-1].startswith("Unsupported configuration key"):
            return lines[-1]
    return "it finds no such device"
