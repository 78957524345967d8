"""How something is run on a device: for real on the processor, with a clear message where the device is absent."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aifw.errors import AifwError, DependencyMissing, JobError
from aifw.hardware.libraries import backend as how
from aifw.hardware.libraries.backend import Backend, backend_for, measured_beside, use_threads
from aifw.hardware.libraries.measurement import Figure, Measurement
from aifw.hardware.libraries.openvino_core import shared_core
from aifw.hardware.libraries.precision import bf16_is_faster, expected_precision
from aifw.hardware.libraries.profile import write_profile
from aifw.hardware.libraries.versions import installed_versions
from aifw.hardware.machine import Cpu, Machine, Measured, Memory

torch = pytest.importorskip("torch")

FASTER = {"cpu": Measured(throughput={"fp32": 1e9, "bf16": 3e9})}
SLOWER = {"cpu": Measured(throughput={"fp32": 3e9, "bf16": 1e9})}
HALF = {"cpu": Measured(throughput={"fp32": 3e9})}


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says whether devices compute in bf16 themselves."""
    return lambda value: monkeypatch.setattr(how, "computes_bf16", lambda device: value)


def test_the_processor_as_it_is() -> None:
    found = backend_for("cpu", threads=2)
    assert (found.library, found.device, found.target, found.threads) == ("torch", "cpu", "cpu", 2)
    assert found.precision == ("bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32")
    ones = torch.ones(4, 4, dtype=found.dtype(), device=found.target)
    assert (ones @ ones).sum() == 64


@pytest.mark.parametrize(
    ("has", "measured", "chosen"),
    [
        (True, {}, "bf16"),
        (True, HALF, "bf16"),
        (True, FASTER, "bf16"),
        (True, SLOWER, "fp32"),
        (False, {}, "fp32"),
        (False, FASTER, "fp32"),
        (False, SLOWER, "fp32"),
    ],
)
def test_bf16_where_the_processor_has_it_and_is_faster(
    native: Any, has: bool, measured: dict[str, Measured], chosen: str
) -> None:
    native(has)
    found = backend_for("cpu", measured=measured)
    assert found.precision == chosen
    assert bool(found.notes) == (has and measured is SLOWER)


def test_what_is_asked_for_is_done_and_what_it_costs_is_said(native: Any) -> None:
    native(False)
    found = backend_for("cpu", "bf16")
    assert found.precision == "bf16"
    assert "fp32 is many times faster here" in found.notes[0]
    assert backend_for("cpu", "fp32").notes == ()
    native(True)
    assert backend_for("cpu", "bf16", measured=SLOWER).notes == ()


def test_a_format_torch_is_not_asked_for() -> None:
    with pytest.raises(JobError, match="int8") as caught:
        backend_for("cpu", "int8")
    assert "OpenVINO" in str(caught.value.hint)


@pytest.mark.parametrize("device", ["xpu:0", "cuda:0"])
def test_a_device_torch_was_not_built_for(device: str) -> None:
    module = getattr(torch, device.partition(":")[0])
    if module.is_available():
        pytest.skip("there is one")
    with pytest.raises(AifwError) as caught:
        backend_for(device)
    assert device in caught.value.message
    assert torch.__version__ in caught.value.message
    assert "torch computes here on cpu" in str(caught.value.hint)
    if "not compiled with" in caught.value.message:
        assert isinstance(caught.value, DependencyMissing)
        assert "pip install torch" in str(caught.value.hint)


@pytest.mark.parametrize("device", ["npu", "ncs2"])
def test_torch_never_computes_there(device: str) -> None:
    with pytest.raises(JobError, match=f"torch does not compute on {device}") as caught:
        backend_for(device)
    assert "OpenVINO" in str(caught.value.hint)


class _Gpus:
    def __init__(self, count: int, bf16: bool) -> None:
        self.count, self.bf16 = count, bf16

    def is_available(self) -> bool:
        return self.count > 0

    def device_count(self) -> int:
        return self.count

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return self.bf16 or including_emulation


@pytest.mark.parametrize("family", ["xpu", "cuda"])
@pytest.mark.parametrize(("bf16", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_gpus_that_are_not_here(family: str, bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, family, _Gpus(1, bf16))
    found = backend_for(f"{family}:0", measured=SLOWER)
    assert (found.target, found.precision, found.notes) == (f"{family}:0", chosen, ())
    with pytest.raises(JobError, match=f"there is no {family}:1 for torch") as caught:
        backend_for(f"{family}:1")
    assert f"{family}:0, cpu" in str(caught.value.hint)


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs the metadata of an extension, and a module in its place that says what it was asked for."""
    calls: list[Any] = []

    def install(version: str, beside: str) -> list[Any]:
        (tmp_path / f"intel_extension_for_pytorch-{version}.dist-info").mkdir()
        (tmp_path / f"torch-{beside}.dist-info").mkdir()
        monkeypatch.setattr(how, "installed_versions", lambda: installed_versions([str(tmp_path)]))
        module = ModuleType("intel_extension_for_pytorch")
        module.optimize = lambda model, dtype: calls.append((model, dtype)) or model  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "intel_extension_for_pytorch", module)
        return calls

    return install


def test_the_extension_where_it_was_built_for_this_torch(extension: Any) -> None:
    calls = extension("2.8.0", "2.8.0")
    found = backend_for("cpu", "fp32")
    assert found.ipex
    module = torch.nn.Linear(2, 2)
    assert found.optimised(module) is module
    assert calls == [(module, torch.float32)]
    assert not module.training


def test_the_extension_beside_another_torch_is_left_alone(extension: Any) -> None:
    calls = extension("2.8.0", "2.13.0")
    found = backend_for("cpu", "fp32")
    assert not found.ipex
    assert "built for torch 2.8" in found.notes[0]
    found.optimised(torch.nn.Linear(2, 2))
    assert calls == []


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DependencyMissing, match="torch cannot be used") as caught:
        backend_for("cpu")
    assert "aifw[train]" in str(caught.value.hint)


def test_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(how, "shared_core", shared_core.__wrapped__)
    with pytest.raises(DependencyMissing, match="OpenVINO cannot be used") as caught:
        backend_for("npu", library="openvino")
    assert "aifw[openvino]" in str(caught.value.hint)


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_openvino_on_the_processor_runs_with_what_it_is_given(hint: Any) -> None:
    openvino = pytest.importorskip("openvino")
    np = pytest.importorskip("numpy")
    found = backend_for("cpu", "fp32", library="openvino", threads=1, hint=hint)
    assert (found.target, found.static_shapes) == ("CPU", False)
    operations = openvino.opset13
    parameter = operations.parameter([2, 2], np.float32)
    model = openvino.Model([operations.multiply(parameter, parameter)], [parameter])
    compiled = shared_core().compile_model(model, found.target, dict(found.config))
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert not compiled.get_property("ENABLE_CPU_PINNING")
    assert np.array_equal(compiled(np.full((2, 2), 3, np.float32))[0], np.full((2, 2), 9))


def test_openvino_says_what_it_will_not_do() -> None:
    pytest.importorskip("openvino")
    if "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("it will")
    assert backend_for("cpu", library="openvino").precision == "fp32"
    assert "fp32 instead" in backend_for("cpu", "bf16", library="openvino").notes[0]


@pytest.mark.parametrize("device", ["npu", "xpu:0", "ncs2", "cuda:0"])
def test_a_device_openvino_does_not_list(device: str) -> None:
    pytest.importorskip("openvino")
    if any(not target.startswith("CPU") for target in shared_core().available_devices):
        pytest.skip("there is more than a processor")
    with pytest.raises(JobError, match=f"cannot compute on {device}: ") as caught:
        backend_for(device, library="openvino")
    assert "it computes here on cpu" in str(caught.value.hint)
    assert "--refresh" in str(caught.value.hint)


class _Core:
    available_devices = ("CPU", "GPU.0", "GPU.1", "NPU")

    def get_property(self, target: str, name: str) -> list[str]:
        return {"C": ["FP32", "BF16", "INT8"], "G": ["FP32", "FP16", "INT8"], "N": ["FP16", "INT8"]}[target[0]]


@pytest.mark.parametrize(
    ("device", "wanted", "target", "precision", "hint"),
    [
        ("npu", "auto", "NPU", "fp16", "f16"),
        ("npu", "int8", "NPU", "int8", None),
        ("xpu:1", "auto", "GPU.1", "fp16", "f16"),
        ("xpu:0", "fp32", "GPU.0", "fp32", "f32"),
        ("cpu", "auto", "CPU", "bf16", "bf16"),
    ],
)
def test_openvinos_devices_that_are_not_here(
    monkeypatch: pytest.MonkeyPatch, device: str, wanted: Any, target: str, precision: str, hint: str | None
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(how, "shared_core", _Core)
    found = backend_for(device, wanted, library="openvino", threads=3)
    assert (found.target, found.precision, found.config.get("INFERENCE_PRECISION_HINT")) == (target, precision, hint)
    assert found.static_shapes == (device == "npu")
    assert ("INFERENCE_NUM_THREADS" in found.config) == (device == "cpu")


@pytest.mark.parametrize(("identities", "target"), [({"GPU.0": "0x7d55", "GPU.1": "0xe20b"}, "GPU.1"), ({}, "GPU.0")])
def test_of_several_gpus_the_one_torch_means(
    monkeypatch: pytest.MonkeyPatch, identities: dict[str, str], target: str
) -> None:
    pytest.importorskip("openvino")

    class Core(_Core):
        def get_property(self, target: str, name: str) -> Any:
            if name != "GPU_DEVICE_ID":
                return super().get_property(target, name)
            if target not in identities:
                raise RuntimeError("unsupported")
            return identities[target]

    class Gpus(_Gpus):
        def get_device_properties(self, index: int) -> Any:
            return type("Properties", (), {"device_id": [0xE20B, 0x7D55][index]})

    monkeypatch.setattr(how, "shared_core", Core)
    monkeypatch.setattr(torch, "xpu", Gpus(2, True))
    assert backend_for("xpu:0", library="openvino").target == target


def test_a_format_a_device_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(how, "shared_core", _Core)
    assert backend_for("cpu", library="openvino", measured=SLOWER).precision == "fp32"
    with pytest.raises(JobError, match="fp16 or int8 only"):
        backend_for("npu", "fp32", library="openvino")
    with pytest.raises(JobError, match="does not compute in bf16"):
        backend_for("xpu:0", "bf16", library="openvino")


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        use_threads(0)
        assert torch.get_num_threads() == 1
    finally:
        use_threads(before)


def test_what_was_measured_lies_beside_the_cache(tmp_path: Path) -> None:
    assert measured_beside(None) == {}
    assert measured_beside(tmp_path / "cache") == {}
    figure = Figure("cpu", "torch", "product", "fp32", 2.0, 1.0, 3.0, 5, 2, 64, "exact")
    write_profile(tmp_path, measurement=Measurement("now", 1.0, "a processor", 2, (figure,)))
    assert measured_beside(tmp_path / "cache") == {"cpu": Measured(None, {"fp32": 2.0})}


def test_a_backend_is_a_value() -> None:
    assert backend_for("cpu", "fp32") == backend_for("cpu", "fp32")
    assert hash(Backend("torch", "cpu", "cpu", "fp32")) == hash(Backend("torch", "cpu", "cpu", "fp32"))


@pytest.mark.parametrize(
    ("flags", "measured", "expected"),
    [
        ({"avx2", "fma"}, {}, "fp32"),
        ({"avx512bw", "avx512vl", "avx512dq"}, {}, "bf16"),
        ({"avx512bw", "avx512vl"}, {}, "fp32"),
        ({"avx_ne_convert"}, FASTER, "bf16"),
        ({"avx_ne_convert"}, SLOWER, "fp32"),
        ({"avx2"}, FASTER, "fp32"),
    ],
)
def test_what_forecasts_expect(flags: set[str], measured: dict[str, Measured], expected: str) -> None:
    machine = Machine("m", Cpu("c", 1, frozenset(flags)), Memory(1, 1), measured=measured)
    assert expected_precision("auto", "cpu", machine) == expected
    assert expected_precision("fp32", "cpu", machine) == "fp32"
    assert expected_precision("bf16", "cpu", machine) == "bf16"
    assert expected_precision("auto", "xpu:0", machine) == "bf16"


def test_the_expectation_is_what_is_chosen_here() -> None:
    from aifw.hardware.probe import probe

    assert expected_precision("auto", "cpu", probe()) == backend_for("cpu").precision


def test_both_have_to_be_measured() -> None:
    assert bf16_is_faster("cpu", {}) is bf16_is_faster("cpu", HALF) is None
    assert bf16_is_faster("cpu", FASTER) is True
    assert bf16_is_faster("cpu", SLOWER) is False
