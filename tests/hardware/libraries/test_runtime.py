"""Asking torch and OpenVINO: the real ones here, and ones that crash, hang, lie or have devices that are not here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from aifw.hardware.libraries import runtime as asked
from aifw.hardware.libraries.runtime import Library, Runtime, RuntimeDevice, ask
from aifw.hardware.libraries.versions import COMPUTING, installed_versions

PACKAGE = str(Path(__file__).parents[3])

SMALL_TORCH = """
class Module:
    def __init__(self, count, reason): self.count, self.reason = count, reason
    def is_available(self): return self.count > 0
    def device_count(self): return self.count
class Accelerator:
    is_available = staticmethod(lambda: False)
class Anything:
    def __getattr__(self, name): return Anything()
    def __call__(self, *a, **k): return Anything()
    def __mod__(self, other): return self
    def __mul__(self, other): return self
    __rmul__ = __mul__
    def __matmul__(self, other): return self
    def __str__(self): return "anything"
__version__ = "2.13.0+small"
version, backends, ops = Anything(), Anything(), Anything()
accelerator = Accelerator
float32 = int64 = None
get_num_threads = lambda: 2
arange = lambda *a, **k: Anything()
equal = lambda a, b: True
def zeros(*a, device): raise AssertionError("Torch not compiled with " + device)
xpu, cuda = Module(0, ""), Module(0, "")
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a library of our own before the real ones, its metadata included, and hides the others."""

    def place(name: str, text: str, version: str = "2.13.0", *more: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
        for each in (f"{name}-{version}", *more):
            (tmp_path / f"{each}.dist-info").mkdir()
        monkeypatch.setattr(asked, "installed_versions", lambda: installed_versions([str(tmp_path)]))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), PACKAGE]))

    return place


def test_what_is_here_computes() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("openvino")
    found = ask()
    assert [library.name for library in found.libraries if not library.refusal][:2] == ["torch", "openvino"]
    assert found.libraries[0].version == installed_versions()["torch"]
    assert "cpu" in {device.name for device in found.computing("torch")}
    assert "cpu" in {device.name for device in found.computing("openvino")}
    # A device is either told, or it is told why it is not.
    for library, families in (("torch", ("xpu", "cuda")), ("openvino", ("xpu", "npu", "ncs2"))):
        for family in families:
            listed = any(each.library == library and each.name.startswith(family) for each in found.devices)
            assert listed != (f"{library} {family}" in found.absent)
    (processor,) = (device for device in found.computing("torch") if device.name == "cpu")
    import torch

    assert ("bf16" in processor.precisions) == torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_without_libraries_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "installed_versions", dict)
    found = ask()
    assert found.libraries == found.devices == ()
    assert found.why_not("xpu:0") == "none of the installed libraries lists it"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed: SIGSEGV"),
        ("import os; os.abort()", "crashed: SIGABRT"),
        ("import time; time.sleep(100)", "gave no answer within 3 s"),
        ("raise ImportError('libsycl.so.8: cannot open shared object file')", "libsycl.so.8"),
        ("import sys; sys.exit('no licence')", "no licence"),
        ("print('x' * 1000)", "failed: AttributeError"),
    ],
)
def test_a_library_that_cannot_be_imported_is_a_finding(library: Any, text: str, words: str) -> None:
    library("torch", text, "2.13.0+xpu")
    found = ask(3.0)
    (told,) = found.libraries
    assert (told.name, told.version) == ("torch", "2.13.0+xpu")
    assert words in told.refusal
    assert found.devices == ()
    assert words in found.why_not("xpu:0")


def test_garbage_on_its_output_does_no_harm(library: Any) -> None:
    library("torch", f"print('{{\"library\": 3}}'); import os; os.system('echo garbage')\n{SMALL_TORCH}")
    found = ask()
    assert [(each.name, each.refusal) for each in found.libraries] == [("torch", "")]
    assert [each.name for each in found.computing("torch")] == ["cpu"]


def test_what_was_told_before_a_crash_is_kept(library: Any) -> None:
    crash = "def crash():\n    import os\n    os.abort()\nxpu.is_available = crash\n"
    library("torch", SMALL_TORCH + crash)
    found = ask()
    assert [each.name for each in found.computing("torch")] == ["cpu"]
    assert found.absent["torch xpu"] == "crashed: SIGABRT"
    assert found.why_not("xpu:0") == "torch: crashed: SIGABRT"


def test_a_device_that_crashes_is_named(library: Any) -> None:
    crash = "def crash(index):\n    import os\n    os.abort()\nxpu.count = 1\nxpu.get_device_properties = crash\n"
    library("torch", SMALL_TORCH + crash)
    found = ask()
    (device,) = (each for each in found.devices if each.name == "xpu:0")
    assert device.refusal == "crashed: SIGABRT"
    assert found.why_not("xpu:0") == "torch sees it but crashed: SIGABRT"


def test_a_gpu_and_what_it_says(library: Any) -> None:
    gpu = """
class Properties:
    name, device_id, total_memory, driver_version = "Intel(R) Arc(TM) Graphics", 0x7D55, 1 << 34, "1.6.33578"
def refuse(index): raise RuntimeError("The device does not have the ext_intel_free_memory aspect\\nmore")
xpu.count = 1
xpu.get_device_properties = lambda index: Properties
xpu.is_bf16_supported = lambda including_emulation: True
xpu.mem_get_info = refuse
"""
    library("torch", SMALL_TORCH + gpu)
    found = ask()
    (device,) = (each for each in found.computing("torch") if each.name == "xpu:0")
    assert (device.what, device.pci, device.memory) == ("Intel(R) Arc(TM) Graphics", "8086:7D55", 1 << 34)
    assert device.precisions == ("fp32", "fp16", "bf16")
    assert device.facts["driver_version"] == "1.6.33578"
    assert device.facts["memory in use"] == "unknown: The device does not have the ext_intel_free_memory aspect"


def test_a_wrong_result_makes_a_device_useless(library: Any) -> None:
    library("torch", SMALL_TORCH + "equal = lambda a, b: False\n")
    (device,) = ask().devices
    assert device.refusal == "computes wrong results on it"


def test_the_extension_is_not_imported_beside_another_torch(library: Any, tmp_path: Path) -> None:
    library("torch", SMALL_TORCH, "2.13.0", "intel_extension_for_pytorch-2.8.0")
    (tmp_path / "intel_extension_for_pytorch.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    found = ask()
    extension = next(each for each in found.libraries if each.name == "intel-extension-for-pytorch")
    assert "built for torch 2.8, not for 2.13.0" in extension.refusal
    assert not (tmp_path / "imported").exists()
    assert found.computing("torch")


@pytest.mark.parametrize(("last", "refusal"), [("", ""), ("import os; os.abort()\n", "crashed: SIGABRT")])
def test_the_extension_is_asked_beside_its_own_torch(library: Any, tmp_path: Path, last: str, refusal: str) -> None:
    library("torch", SMALL_TORCH, "2.8.0", "intel_extension_for_pytorch-2.8.0")
    (tmp_path / "intel_extension_for_pytorch.py").write_text(f"__version__ = '2.8.0'\n{last}")
    found = ask()
    extension = next(each for each in found.libraries if each.name == "intel-extension-for-pytorch")
    assert extension.refusal == refusal
    assert [each.name for each in found.computing("torch")] == ["cpu"], "torch is told of before"


def test_an_answer_that_is_not_understood(library: Any) -> None:
    text = SMALL_TORCH.replace('__version__ = "2.13.0+small"', "__version__ = 7")
    library("torch", text)
    found = ask()
    assert "is no text" in found.absent["answers"]
    assert [each.name for each in found.computing("torch")] == ["cpu"]


def test_why_not_collects_what_each_library_said() -> None:
    runtime = Runtime(
        (Library("torch", "2", ""), Library("openvino", "2026", "crashed: SIGSEGV")),
        (RuntimeDevice("npu", "openvino", "NPU", "NPU", refusal="cannot compute on it: no driver"),),
        {"torch xpu": "not built", "openvino xpu": "no OpenCL"},
    )
    assert runtime.why_not("npu") == "openvino sees it but cannot compute on it: no driver"
    assert runtime.why_not("xpu:0") == "torch: not built; openvino: no OpenCL"
    assert runtime.why_not("ncs2") == "openvino: crashed: SIGSEGV"
    assert runtime.computing("openvino") == ()


def test_both_libraries_number_gpus_alike() -> None:
    def gpu(library: str, name: str, pci: str) -> RuntimeDevice:
        return RuntimeDevice(name, library, name, name, pci)

    torchs = (gpu("torch", "xpu:0", "8086:E20B"), gpu("torch", "xpu:1", "8086:7D55"))
    others = (gpu("openvino", "xpu:0", "8086:7D55"), gpu("openvino", "xpu:1", "8086:E20B"))
    assert [each.name for each in asked._numbered_alike((*torchs, *others))] == ["xpu:0", "xpu:1", "xpu:1", "xpu:0"]
    twins = tuple(each._replace(pci="8086:E20B") for each in others)
    assert asked._numbered_alike((*torchs, *twins)) == (*torchs, *twins)
    assert asked._numbered_alike(others) == others


def test_the_values_need_no_library() -> None:
    assert "torch" in COMPUTING
    assert asked.__name__ in sys.modules
