"""`aifw doctor` and what it reads from package metadata."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aifw.cli.doctor import command
from aifw.cli.installed import Installation, Package, satisfies, torch_build
from aifw.hardware.libraries.profile import write_profile
from aifw.hardware.libraries.runtime import Library, Runtime, RuntimeDevice
from aifw.hardware.libraries.versions import ipex_mismatch
from aifw.hardware.machine import Accelerator
from aifw.hardware.probe import probe
from aifw.hardware.processor.cores import Cores
from aifw.kind import ArtifactKind, find

SPEC = """
apiVersion: aifw/v1
kind: Stack
metadata: {name: small}
datasets:
  feedback: {kind: feedback, source: feedback.jsonl}
  pairs: {kind: preferences, from: feedback}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _doctor(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return int(result.return_value), result.output


def _findings(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    status, text = _doctor(*arguments, "--json")
    return status, {finding["subject"]: finding for finding in json.loads(text)["findings"]}


def _metadata(folder: Path, name: str, version: str, *lines: str) -> None:
    """Declare a package that is not there; only its metadata is."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines, ""])
    (info / "METADATA").write_text(text)


def test_without_a_spec(folder: Path) -> None:
    status, findings = _findings()
    assert status == 0
    assert findings["python"]["text"].startswith(".".join(map(str, sys.version_info[:3])))
    assert findings["pip"]["state"] == "ok"
    assert "usable cores" in findings["processor"]["text"]
    assert "for work that computes" in findings["cores"]["text"]
    assert str(folder / ".aifw") in findings["state"]["text"]
    assert "budget" not in findings


@pytest.mark.parametrize(
    ("variable", "value", "status", "state", "text"),
    [
        ("AIFW_NO_KERNEL", "1", 0, "note", "numpy, slower than the compiled kernel: AIFW_NO_KERNEL=1"),
        ("AIFW_SIMD", "numpy", 0, "note", "numpy, slower than the compiled kernel: AIFW_SIMD=numpy"),
        ("AIFW_SIMD", "sse9", 1, "missing", "AIFW_SIMD=sse9: no such instruction set"),
    ],
)
def test_what_computes_searches(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, status: int, state: str, text: str
) -> None:
    monkeypatch.setenv(variable, value)
    found, findings = _findings()
    assert (found, findings["search"]["state"], findings["search"]["text"]) == (status, state, text)


def test_the_kernel_and_its_level(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aifw.search._kernel", exc_type=ModuleNotFoundError)
    monkeypatch.delenv("AIFW_NO_KERNEL", raising=False)
    monkeypatch.setenv("AIFW_SIMD", "scalar")
    assert _findings()[1]["search"]["text"].startswith("kernel scalar, ")


def test_kinds_of_cores() -> None:
    from aifw.cli.doctor import _described

    hybrid = Cores({0: "performance", 1: "performance", 2: "efficient"}, "cpu_core/cpus", ((0, 1), (2,)))
    assert _described(hybrid) == "1 for work that computes; performance 0-1, efficient 2 (cpu_core/cpus)"
    unknown = Cores({0: "unknown"}, "the kinds are unknown: no cpu_core/cpus")
    assert _described(unknown) == "1 for work that computes; their kinds are not told here"


def test_an_extra_is_absent_or_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {"old": ("click", ">=999"), "new": ("click", ">=8"), "none": ("no-such-package", ">=1")}
    extras = {
        extra: [Package(name, wanted, version, None if version is None else satisfies(version, wanted))]
        for extra, (name, wanted) in needs.items()
        for version in [Installation().version(name)]
    }
    monkeypatch.setattr(Installation, "extras", lambda self: extras)
    _, findings = _findings()
    assert [findings[f"[{extra}]"]["state"] for extra in needs] == ["note", "ok", "absent"]
    assert "wants >=999" in findings["[old]"]["text"]
    assert "no-such-package" in findings["[none]"]["text"]


def test_a_spec_that_can_run(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    status, text = _doctor()
    assert status == 0
    assert "feedback" in text
    assert "preferences" in text
    assert text.endswith("spec.yaml can run here.\n")


def test_a_missing_package_comes_with_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    kind = find("preferences")
    assert isinstance(kind, ArtifactKind)
    monkeypatch.setattr(type(kind), "requires", {"numpy": "train", "no_such_package": "train"})
    status, findings = _findings("spec.yaml")
    assert status == 1
    assert findings["preferences"]["state"] == "missing"
    assert findings["preferences"]["text"] == "needs no_such_package"
    assert findings["preferences"]["remedy"].startswith(f"{sys.executable} -m pip install ")
    assert "[train]" in findings["preferences"]["remedy"]
    assert findings["feedback"]["state"] == "ok"
    assert "spec.yaml cannot run yet: 1 thing is missing." in _doctor("spec.yaml")[1]


def test_a_budget_larger_than_the_machine(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC + "hardware: {memory: {budget: 900TiB}}\n")
    status, findings = _findings()
    assert status == 0, "plans keep to what there is"
    assert findings["budget"]["state"] == "note"
    assert "900" in findings["budget"]["text"]


def test_a_reserve_larger_than_the_machine(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC + "hardware: {memory: {reserve: 900TiB}}\n")
    status, findings = _findings()
    assert status == 1
    assert findings["budget"]["state"] == "missing"


@pytest.mark.parametrize(
    ("hardware", "status", "name", "state", "text"),
    [
        ("devices: [cpu, npu]", 0, "devices", "note", "no job can compute on npu here; plans use the others"),
        ("devices: {npu: all}", 1, "devices", "missing", "no job can compute on what hardware.devices allows: npu"),
        ("devices: []", 1, "devices", "missing", "allows: nothing"),
        ("threads: 4096", 0, "threads", "note", "4096 asked for"),
    ],
)
def test_devices_and_threads_that_are_not_here(
    folder: Path, hardware: str, status: int, name: str, state: str, text: str
) -> None:
    (folder / "spec.yaml").write_text(f"{SPEC}hardware: {{{hardware}}}\n")
    found, findings = _findings()
    assert (found, findings[name]["state"]) == (status, state)
    assert text in findings[name]["text"]


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    status, findings = _findings()
    assert status == 1
    assert "--state" in findings["state"]["remedy"]


def test_nothing_heavy_is_imported(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    script = (
        "import sys; from aifw.cli.main import run\n"
        "try: run(['doctor'])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'sqlalchemy', 'datasets', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_extension_for_another_torch_is_reported_and_not_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "intel_extension_for_pytorch.py").write_text("raise SystemError('imported')\n")
    _metadata(folder, "intel-extension-for-pytorch", "2.8.0")
    monkeypatch.syspath_prepend(str(folder))
    status, findings = _findings()
    assert status == 0
    assert findings["ipex"]["state"] == "note"
    assert "built for torch 2.8" in findings["ipex"]["text"]
    assert "pip uninstall" in findings["ipex"]["remedy"]


@pytest.mark.parametrize(
    ("extension", "torch", "problem"),
    [
        ("2.8.0", "2.8.0", None),
        ("2.8.10+xpu", "2.8.0+xpu", None),
        ("2.8.0", "2.13.0+cpu", "built for torch 2.8, not for 2.13.0+cpu"),
        ("2.8.0", None, "without torch"),
    ],
)
def test_extension_and_torch(extension: str, torch: str | None, problem: str | None) -> None:
    found = ipex_mismatch(extension, torch)
    assert found is None if problem is None else problem in str(found)


@pytest.mark.parametrize(
    ("version", "requirements", "build"),
    [
        ("2.13.0+cpu", [], "for the processor only"),
        ("2.13.0+xpu", [], "for Intel GPUs"),
        ("2.13.0+cu130", [], "for NVIDIA GPUs"),
        ("2.13.0+rocm6.4", [], "for AMD GPUs"),
        (
            "2.13.0",
            ["filelock", "nvidia-cublas==13.0; platform_system == 'Linux'"],
            "for NVIDIA GPUs, by what it needs",
        ),
        ("2.13.0", ["filelock", "intel-sycl-rt==2025.3"], "for Intel GPUs, by what it needs"),
        ("2.13.0", ["filelock"], "for what is not declared"),
    ],
)
def test_builds_of_torch(version: str, requirements: list[str], build: str) -> None:
    assert torch_build(version, requirements) == build


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("2.13.0+cpu", ">=2.8", True),
        ("2.9", ">=2.13", False),
        ("2.8", "==2.8.0", True),
        ("2.8.1", "==2.8.0", False),
        ("5.0", "", True),
        ("5.0", ">=4,!=5.0", None),
        ("3.9", ">=4,!=5.0", False),
    ],
)
def test_versions(version: str, wanted: str, fits: bool | None) -> None:
    assert satisfies(version, wanted) is fits


def test_extras_come_from_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _metadata(
        tmp_path,
        "stack-under-test",
        "1.0",
        "Provides-Extra: train",
        "Provides-Extra: all",
        "Requires-Dist: click>=8",
        "Requires-Dist: click>=999; extra == 'train'",
        'Requires-Dist: no-such-package[fast]>=1 ; (python_version > "3") and extra == "train"',
        "Requires-Dist: stack-under-test[train]; extra == 'all'",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    installation = Installation("stack-under-test")
    ((extra, packages),) = installation.extras().items()
    assert extra == "train"
    assert [(package.name, package.wanted, package.fits) for package in packages] == [
        ("click", ">=999", False),
        ("no-such-package", ">=1", None),
    ]
    assert packages[1].version is None


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _metadata(tmp_path, "stack-under-test", "1.0", "Provides-Extra: train", "Provides-Extra: serve")
    monkeypatch.syspath_prepend(str(tmp_path))
    pip = f"{sys.executable} -m pip install"
    wheel = Installation("stack-under-test")
    assert wheel.command(["serve", "train"]) == f"{pip} 'stack-under-test[serve,train]'"
    assert wheel.command(["train", "someone-elses-package"]) == f"{pip} 'stack-under-test[train]' someone-elses-package"
    (tmp_path / "stack_under_test-1.0.dist-info/direct_url.json").write_text(
        json.dumps({"url": "file:///home/me/my%20stack", "dir_info": {"editable": True}})
    )
    assert Installation("stack-under-test").command(["train"]) == (
        f"{pip} -c '/home/me/my stack/constraints.txt' -e '/home/me/my stack[train]'"
    )


def test_not_installed_at_all() -> None:
    assert Installation("no-such-package").extras() == {}
    assert Installation("no-such-package").version("no-such-package") is None


def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU and an NPU that the kernel knows of."""
    found = dataclasses.replace(
        probe(),
        detected=(
            Accelerator("xpu:0", "Intel Arc Graphics 8086:7D55", "xe"),
            Accelerator("npu", "Intel NPU 8086:7D1D", "intel_vpu", "npu"),
        ),
    )
    monkeypatch.setattr("aifw.hardware.probe.probe", lambda: found)


def test_accelerators_nobody_asked_about(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch)
    _, findings = _findings()
    assert findings["xpu:0"]["state"] == "note"
    assert findings["xpu:0"]["text"].endswith("driver xe; nobody asked the libraries yet")
    assert findings["xpu:0"]["remedy"] == "aifw hardware --refresh"


def test_what_libraries_said_is_repeated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch)
    devices = tuple(RuntimeDevice(name, "torch", name, name) for name in ("cpu", "xpu:0"))
    libraries = (Library("torch", "2.13.0+xpu"), Library("openvino", "2026.4.1", "crashed: SIGSEGV"))
    write_profile(folder / ".aifw", runtime=Runtime(libraries, devices, {"openvino npu": "it finds no such device"}))
    status, findings = _findings()
    assert status == 0
    assert findings["torch"]["text"] == "2.13.0+xpu, computes on cpu, xpu:0"
    assert (findings["openvino"]["state"], findings["openvino"]["text"]) == ("note", "crashed: SIGSEGV")
    assert findings["xpu:0"]["text"].endswith("jobs can compute on it")
    assert findings["npu"]["text"].endswith("jobs cannot compute on it: openvino: it finds no such device")
