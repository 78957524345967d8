"""`aifw hardware` on captured machines, and what of it a plan may touch."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifw.cli.hardware import document
from aifw.cli.hardware_report import report
from aifw.hardware.libraries.measurement import Figure, Measurement
from aifw.hardware.libraries.profile import Profile, joined, read_profile, write_profile
from aifw.hardware.libraries.runtime import Library, Runtime, RuntimeDevice, ToolDevice
from aifw.hardware.probe import probe
from aifw.hardware.survey import survey

GIB = 1 << 30
GROWING = Path(__file__).parents[1] / "hardware/conftest.py"

LAPTOP = Runtime(
    (
        Library("torch", "2.13.0+xpu", facts={"built for": "xpu 20250302", "threads": "16"}),
        Library("openvino", "2026.4.1"),
        Library("intel-extension-for-pytorch", "2.8.0", "it was built for torch 2.8, not for 2.13.0+xpu"),
    ),
    (
        RuntimeDevice("cpu", "torch", "cpu", "processor", precisions=("fp32",), facts={"bf16": "emulated"}),
        RuntimeDevice(
            "xpu:0",
            "torch",
            "xpu:0",
            "Intel(R) Arc(TM) Graphics",
            "8086:7D55",
            28 * GIB,
            ("fp32", "fp16", "bf16"),
            {"memory in use": "unknown: the device does not tell"},
        ),
        RuntimeDevice("cpu", "openvino", "CPU", "Intel(R) Core(TM) Ultra 7 155H", precisions=("fp32", "int8")),
        RuntimeDevice("npu", "openvino", "NPU", "Intel(R) AI Boost", refusal="cannot compute on it: no compiler"),
    ),
    {"torch cuda": "Torch not compiled with CUDA enabled", "openvino ncs2": "there is no such part"},
)
WORKSTATION = Runtime(
    (Library("torch", "2.13.0+cu130", "crashed: SIGSEGV"),),
    tools=(ToolDevice("nvidia-smi", "0000:01:00.0", "NVIDIA GeForce RTX 5090", "610.43.02", 32607 << 20),),
    failures=("rocm-smi: it did not answer within 10 s",),
)
MEASUREMENT = Measurement(
    "2026-03-04T05:06:07Z",
    27.4,
    "Intel(R) Core(TM) Ultra 7 155H",
    22,
    (
        Figure("cpu", "torch", "bandwidth", "fp32", 61.2e9, 58e9, 63.1e9, 9, 22, 256 << 20, "the sum of every row"),
        Figure("cpu", "torch", "product", "fp32", 712e9, 650e9, 803e9, 12, 22, 2048, "64 rows"),
        Figure("cpu", "torch", "product", "bf16", 31.4e9, 30e9, 31.9e9, 6, 22, 512, "64 rows"),
        Figure("cpu", "openvino", "product", "int8", 2.13e12, 2e12, 2.2e12, 12, 22, 2048, "64 rows"),
        Figure("xpu:0", "torch", "product", "bf16", 9.87e12, 9.5e12, 9.9e12, 15, None, 8192, "64 rows"),
    ),
    ("torch on xpu:0: int8 product, 22 threads: it is not implemented",),
    0.31,
)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tree of a captured machine."""
    found = importlib.util.spec_from_file_location("growing", GROWING)
    assert found is not None
    assert found.loader is not None
    growing = importlib.util.module_from_spec(found)
    found.loader.exec_module(growing)

    def grow(machine: str) -> Path:
        # Of the workstation only the devices are listed.
        parts = ["virtual-machine", machine] if machine.startswith("workstation") else [machine]
        listings = [listing for part in parts for listing in growing.listings(part)]
        made = growing.grown(tmp_path_factory.mktemp(machine), *listings)
        assert isinstance(made, Path)
        return made

    return grow


def _plain(text: str, role: str) -> str:
    return text


def _printed(root: Path, profile: Profile, width: int | None = 80) -> str:
    lines = report(survey(root), joined(probe(root), profile), profile, width, _plain)
    return "\n".join([*lines, ""])


@pytest.mark.parametrize(
    ("machine", "profile"),
    [
        ("core-ultra-7-155h", Profile(LAPTOP, {}, "2026-03-04T05:06:00Z", MEASUREMENT)),
        ("workstation-nvidia", Profile(WORKSTATION, {}, "2026-03-04T05:06:00Z")),
        (
            "virtual-machine",
            Profile(stale=("what the libraries said is ignored: the machine was started again since",)),
        ),
        ("xeon-silver-4410y", Profile()),
    ],
)
def test_captured_machines(
    tree: Callable[[str], Path], golden: Callable[..., None], machine: str, profile: Profile
) -> None:
    golden(f"hardware_{machine}", _printed(tree(machine), profile))


def test_a_table_too_wide_for_the_terminal_goes_without_its_spread(tree: Callable[[str], Path]) -> None:
    profile = Profile(LAPTOP, {}, "2026-03-04T05:06:00Z", MEASUREMENT)
    lines = _printed(tree("core-ultra-7-155h"), profile, 60).splitlines()
    assert "  cpu     bf16 emulated  22       31.4 GFLOP/s   torch" in lines
    assert "  xpu:0   bf16 product            9,870 GFLOP/s  torch" in lines


def test_it_fits_eighty_columns(tree: Callable[[str], Path]) -> None:
    profile = Profile(LAPTOP, {}, "2026-03-04T05:06:00Z", MEASUREMENT)
    for line in _printed(tree("core-ultra-7-155h"), profile).splitlines():
        assert len(line) <= 80 or " " not in line.strip()[24:], "only a word that is longer may reach beyond"


def test_a_pipe_gets_whole_lines(tree: Callable[[str], Path]) -> None:
    text = _printed(tree("virtual-machine"), Profile(), None)
    reasons = survey(tree("virtual-machine")).unknown()
    assert reasons
    for reason in reasons:
        assert f"  · {reason}\n" in text


def test_json_has_all_of_it(shell: Any, tree: Callable[[str], Path]) -> None:
    root = tree("core-ultra-7-155h")
    write_profile(shell.folder / ".aifw", runtime=LAPTOP, measurement=MEASUREMENT, asked_at="then", root=root)
    found = json.loads(shell.aifw("hardware", "--json", "--root", str(root)).out)
    assert list(found) == ["format", "kernel_tells", "libraries_say", "measured", "planning_sees", "ignored", "unknown"]
    assert found["format"] == "aifw hardware 1"
    assert found["libraries_say"]["at"] == "then"
    assert [each["name"] for each in found["libraries_say"]["devices"]] == ["cpu", "xpu:0", "cpu", "npu"]
    assert found["measured"]["figures"][0]["value"] == 61.2e9
    assert found["planning_sees"]["devices"] == ["xpu:0", "cpu"]
    assert {each["name"]: each["unusable"] for each in found["planning_sees"]["detected"]} == {
        "xpu:0": "",
        "npu": "openvino sees it but cannot compute on it: no compiler",
    }
    assert found["kernel_tells"]["processor"]["kinds"][0]["kind"] == "performance"
    assert found["ignored"] == []
    assert found["unknown"] == list(survey(root).unknown())


def test_json_of_what_was_never_asked(tree: Callable[[str], Path]) -> None:
    root = tree("virtual-machine")
    found = document(survey(root), probe(root), Profile())
    assert found["libraries_say"] is found["measured"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_machine_that_tells_nothing(shell: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = shell.aifw("hardware", "--root", str(empty)).out
    assert "how much memory there is cannot be found out" in text
    assert "unknown" in text
    assert json.loads(shell.aifw("hardware", "--json", "--root", str(empty)).out)["planning_sees"] is None


def test_a_captured_tree_is_not_asked(shell: Any, tmp_path: Path) -> None:
    assert "looked at only" in shell.aifw("hardware", "--refresh", "--root", str(tmp_path), status=64).err


def test_before_anybody_asked_it_says_how_to(shell: Any) -> None:
    text = shell.aifw("hardware").out
    assert "not asked yet; `aifw hardware --refresh` asks them" in text
    assert "nothing yet; `aifw hardware --measure` does" in text
    assert not (shell.folder / ".aifw").exists()


def test_what_is_stale_is_said(shell: Any) -> None:
    write_profile(shell.folder / ".aifw", runtime=LAPTOP)
    path = shell.folder / ".aifw/machine.json"
    kept = json.loads(path.read_text())
    kept["runtime"]["under"]["boot"] = "another"
    path.write_text(json.dumps(kept))
    text = shell.aifw("hardware").out
    assert "the machine was started again since; `aifw hardware --refresh` asks again" in text


def test_refresh_asks_and_keeps(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifw.hardware.libraries.runtime.ask", lambda: LAPTOP)
    text = shell.aifw("hardware", "--refresh", "--state", "elsewhere").out
    assert "2.13.0+xpu" in text
    assert read_profile(shell.folder / "elsewhere").runtime is not None
    assert not (shell.folder / ".aifw").exists()
    # Only a terminal sees a bar.
    assert "asking" not in text


def test_measuring_keeps_both(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifw.hardware.libraries.runtime.ask", lambda: LAPTOP)
    monkeypatch.setattr("aifw.hardware.libraries.measure.measure", lambda machine, runtime, tell: MEASUREMENT)
    text = shell.aifw("hardware", "--measure").out
    assert "GFLOP/s" in text
    profile = read_profile(shell.folder / ".aifw")
    assert profile.runtime is not None
    assert profile.measurement == MEASUREMENT


def test_what_cannot_be_kept_is_an_error(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifw.hardware.libraries.runtime.ask", lambda: LAPTOP)
    (shell.folder / "taken").write_text("")
    told = shell.aifw("hardware", "--refresh", "--state", "taken/below", status=1).err
    assert "cannot be kept" in told
    assert "--state" in told


def test_looking_imports_no_heavy_library(tmp_path: Path) -> None:
    write_profile(tmp_path / ".aifw", runtime=LAPTOP, measurement=MEASUREMENT)
    script = (
        "import sys; from aifw.cli.main import run\n"
        "sys.addaudithook(lambda event, _: event in {'subprocess.Popen', 'os.fork', 'os.posix_spawn'} and 1 / 0)\n"
        "try: run(['hardware'])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "print(sorted({'torch', 'openvino', 'numpy', 'rich', 'pydantic', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_plan_asks_and_measures_nothing(shell: Any) -> None:
    """With a profile that holds, one that is stale and none: no process is started and nothing heavy imported."""
    script = (
        "import sys; from aifw.cli.main import run\n"
        "begun = []\n"
        "starts = {'subprocess.Popen', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.exec', 'os.system', 'pty.spawn'}\n"
        "sys.addaudithook(lambda event, _: event in starts and begun.append(event))\n"
        "try: run(['plan'])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "print(begun, sorted({'torch', 'openvino', 'numpy', 'aifw.hardware.libraries.child', 'aifw.hardware.libraries.measure',"
        " 'aifw.hardware.devices.vendor_tools', 'aifw.hardware.libraries.backend'} & set(sys.modules)))"
    )

    def plan() -> None:
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=shell.folder,
            env=shell.environment,
        )
        assert done.stdout.splitlines()[-1] == "[] []", done.stderr

    plan()
    write_profile(shell.folder / ".aifw", runtime=LAPTOP, measurement=MEASUREMENT)
    plan()
    path = shell.folder / ".aifw/machine.json"
    path.write_text(path.read_text().replace('"boot": "', '"boot": "not '))
    plan()


@pytest.mark.slow
def test_measuring_for_real(shell: Any) -> None:
    pytest.importorskip("torch")
    text = shell.aifw("hardware", "--measure").out
    assert "every result was checked" in text
    assert "bf16 " in text
