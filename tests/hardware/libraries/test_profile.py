"""The machine profile: what is kept, for how long it holds, and what planning makes of it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.hardware.libraries.measurement import Figure, Measurement
from aifw.hardware.libraries.profile import PROFILE, Profile, circumstances, joined, plain, read_profile, write_profile
from aifw.hardware.libraries.runtime import Library, Runtime, RuntimeDevice, ToolDevice
from aifw.hardware.machine import Accelerator, Cpu, Machine, Measured, Memory
from aifw.hardware.probe import probe

GIB = 1 << 30
TORCH_CPU = RuntimeDevice("cpu", "torch", "cpu", "processor", precisions=("fp32",), facts={"bf16": "emulated"})
OPENVINO_CPU = RuntimeDevice("cpu", "openvino", "CPU", "a processor")
RUNTIME = Runtime(
    (Library("torch", "2.13.0+cpu", facts={"threads": "2"}), Library("openvino", "2026.4.1")),
    (TORCH_CPU, OPENVINO_CPU),
    {"torch xpu": "Torch not compiled with XPU enabled", "openvino xpu": "libOpenCL.so.1 is not there"},
    (ToolDevice("nvidia-smi", "0000:01:00.0", "a card", "580.1", 8 * GIB),),
    ("amd-smi: it did not answer within 10 s",),
)


def figure(device: str, library: str, quantity: str, precision: str, value: float, threads: int | None = 2) -> Figure:
    return Figure(device, library, quantity, precision, value, value / 2, value * 2, 5, threads, 1024, "exact")  # type: ignore[arg-type]


FIGURES = (
    figure("cpu", "torch", "bandwidth", "fp32", 20e9),
    figure("cpu", "torch", "bandwidth", "fp32", 12e9, threads=1),
    figure("cpu", "torch", "product", "fp32", 80e9),
    figure("cpu", "torch", "product", "fp32", 45e9, threads=1),
    figure("cpu", "torch", "product", "int8", 1e9),
    figure("cpu", "openvino", "product", "fp32", 90e9),
    figure("cpu", "openvino", "product", "int8", 150e9),
    figure("npu", "openvino", "product", "fp16", 4e12, threads=None),
)
MEASUREMENT = Measurement("2026-01-02T03:04:05Z", 31.5, "AMD EPYC", 2, FIGURES, ("a failure",), 0.25)

Tree = Callable[..., Path]


@pytest.fixture
def root(own_tree: Tree) -> Path:
    return own_tree(
        None,
        {
            "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555",
            "proc/sys/kernel/osrelease": "6.18.0",
            "proc/sys/kernel/hostname": "laptop",
            "sys/module/xe/refcnt": "3",
            "etc/machine-id": "0123456789abcdef",
            "usr/lib64/libze_intel_gpu.so.1.6.33578": "",
        },
    )


@pytest.fixture
def kept(tmp_path: Path, root: Path) -> Path:
    """A state folder with both halves of a profile."""
    write_profile(tmp_path / ".aifw", runtime=RUNTIME, measurement=MEASUREMENT, asked_at="2026-01-02", root=root)
    return tmp_path / ".aifw"


def test_what_is_written_is_read(kept: Path, root: Path) -> None:
    profile = read_profile(kept, root)
    assert profile.stale == ()
    assert plain(profile.runtime) == plain(RUNTIME)
    assert profile.measurement == MEASUREMENT
    assert profile.asked_at == "2026-01-02"
    assert profile.measured["cpu"] == Measured(20e9, {"fp32": 80e9, "int8": 150e9}), "torch's fp32, OpenVINO's int8"
    assert profile.measured["npu"] == Measured(None, {"fp16": 4e12})


def test_nothing_is_known_before_anybody_asked(tmp_path: Path) -> None:
    assert read_profile(tmp_path) == Profile()


def test_each_half_is_kept_beside_the_other(tmp_path: Path, root: Path) -> None:
    write_profile(tmp_path, runtime=RUNTIME, root=root)
    assert read_profile(tmp_path, root).measurement is None
    write_profile(tmp_path, measurement=MEASUREMENT, root=root)
    assert read_profile(tmp_path, root).runtime is not None
    write_profile(tmp_path, runtime=Runtime(), root=root)
    profile = read_profile(tmp_path, root)
    assert profile.runtime == Runtime()
    assert profile.measurement == MEASUREMENT


@pytest.mark.parametrize(
    ("path", "content", "words", "measured_too"),
    [
        ("proc/sys/kernel/random/boot_id", "another", "started again", False),
        ("sys/module/xe/version", "2.0", "driver xe was 6.18.0, is 2.0", True),
        ("sys/module/intel_vpu/refcnt", "1", "driver intel_vpu was not there, is 6.18.0", True),
        ("usr/lib64/libOpenCL.so.1", "", "library libOpenCL.so.1 was not there", True),
        ("etc/machine-id", "fedcba9876543210", "another machine", True),
    ],
)
def test_what_no_longer_holds_is_ignored_with_a_reason(
    kept: Path, root: Path, path: str, content: str, words: str, measured_too: bool
) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)
    profile = read_profile(kept, root)
    assert profile.runtime is None
    assert words in profile.stale[0]
    assert "--refresh" in profile.stale[0]
    assert (profile.measurement is None) == measured_too == (not profile.measured)
    assert [("--measure" in each) for each in profile.stale] == [False] + [True] * measured_too


def test_a_package_that_changed_makes_both_stale(kept: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "site/torch-99.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(root / "site"))
    profile = read_profile(kept, root)
    assert len(profile.stale) == 2
    assert "is 99.0" in profile.stale[0]


def test_hidden_devices_make_it_stale(kept: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZE_AFFINITY_MASK", "1")
    assert "ZE_AFFINITY_MASK was not there, is 1" in read_profile(kept, root).stale[0]


def test_what_a_library_links_to_tells_its_version(root: Path) -> None:
    (root / "usr/lib64/libze_intel_gpu.so.1").symlink_to("libze_intel_gpu.so.1.6.33578")
    assert circumstances(root)["library libze_intel_gpu.so.1"] == "libze_intel_gpu.so.1.6.33578"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "no machine profile"),
        ('{"format": "something else 7"}', "no machine profile"),
        (" " * ((1 << 20) + 1), "larger"),
    ],
)
def test_a_foreign_or_damaged_file_is_ignored(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / PROFILE).write_text(content)
    profile = read_profile(tmp_path)
    assert profile._replace(stale=()) == Profile()
    assert words in profile.stale[0]
    assert str(tmp_path / PROFILE) in profile.stale[0]


def test_what_is_no_file_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a" / PROFILE).mkdir(parents=True)
    assert "cannot be read" in read_profile(tmp_path / "a").stale[0]
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / PROFILE)
    assert read_profile(tmp_path / "b").stale
    (tmp_path / "c").write_text("a file where a folder belongs")
    assert read_profile(tmp_path / "c").stale


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in _places(each, (*path, key)))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage_is_survived(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any one value of a real profile replaced by anything: read without an error, and never half a device."""
    root = tmp_path_factory.getbasetemp()
    folder = root / "damaged"
    write_profile(folder, runtime=RUNTIME, measurement=MEASUREMENT, asked_at="now", root=root)
    document = json.loads((folder / PROFILE).read_text())
    place = data.draw(st.sampled_from(_places(document)))
    value = data.draw(JSON)
    if place:
        target = document
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = value
    else:
        document = value
    (folder / PROFILE).write_text(json.dumps(document))
    profile = read_profile(folder, root)
    machine = joined(Machine("m", Cpu("AMD EPYC", 2), Memory(GIB, GIB)), profile)
    assert "cpu" in machine.devices
    for measured in machine.measured.values():
        for number in (measured.bandwidth, *measured.throughput.values()):
            assert number is None or 0 < number < float("inf")
    (folder / PROFILE).unlink()


def test_an_interrupted_write_leaves_the_old_file(kept: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (kept / PROFILE).read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_profile(kept, runtime=Runtime(), root=root)
    assert (kept / PROFILE).read_bytes() == before
    assert [path.name for path in kept.iterdir()] == [PROFILE]


def test_a_foreign_file_is_replaced(tmp_path: Path, root: Path) -> None:
    (tmp_path / PROFILE).write_text("{}")
    write_profile(tmp_path, runtime=RUNTIME, root=root)
    assert read_profile(tmp_path, root).runtime is not None


def _machine(*detected: Accelerator, cores: int = 2) -> Machine:
    return Machine("laptop", Cpu("AMD EPYC", cores), Memory(GIB, GIB), detected=detected)


def _on_torch(name: str, pci: str = "", memory: int | None = None, refusal: str = "") -> RuntimeDevice:
    return RuntimeDevice(name, "torch", name, name, pci, memory, refusal=refusal)


IGPU = Accelerator("xpu:0", "Intel Arc Graphics (Meteor Lake) 8086:7D55", "xe")
CARD = Accelerator("xpu:1", "Intel Arc B580 8086:E20B", "xe", "discrete_gpu")
NPU = Accelerator("npu", "Intel NPU (Meteor Lake) 8086:7D1D", "intel_vpu", "npu")
STICK = Accelerator("ncs2", "Intel Neural Compute Stick 2 03e7:2485", "usb", "ncs2")


def test_without_a_profile_a_machine_is_what_it_was() -> None:
    machine = _machine(IGPU, NPU)
    assert joined(machine, Profile()) == machine


def test_the_best_comes_first_and_what_only_some_work_fits_last() -> None:
    npu = RuntimeDevice("npu", "openvino", "NPU", "NPU")
    stick = RuntimeDevice("ncs2", "openvino", "MYRIAD", "stick")
    devices = (TORCH_CPU, _on_torch("xpu:0", "8086:7D55"), _on_torch("xpu:1", "8086:E20B", 12 * GIB), stick, npu)
    machine = joined(_machine(IGPU, CARD, NPU, STICK), Profile(Runtime(devices=devices)))
    assert machine.devices == ("xpu:1", "xpu:0", "cpu", "npu", "ncs2")
    assert [each.unusable for each in machine.detected] == [""] * 4
    assert [each.memory for each in machine.detected] == [None, 12 * GIB, None, None], "the pool is counted once"


def test_a_stick_that_was_pulled_out_is_no_device() -> None:
    runtime = Runtime(devices=(TORCH_CPU, RuntimeDevice("ncs2", "openvino", "MYRIAD", "stick")))
    assert joined(_machine(), Profile(runtime)).devices == ("cpu",)


def test_why_not_is_said_of_each() -> None:
    runtime = RUNTIME._replace(
        devices=(TORCH_CPU, RuntimeDevice("xpu:0", "openvino", "GPU", "GPU")),
        absent={"torch xpu": "Torch not compiled with XPU enabled", "openvino npu": "it finds no such device"},
    )
    machine = joined(_machine(IGPU, NPU, STICK), Profile(runtime))
    assert machine.devices == ("cpu",)
    gpu, npu, stick = (each.unusable for each in machine.detected)
    assert gpu == "only OpenVINO computes on it, as GPU; torch: Torch not compiled with XPU enabled"
    assert npu == "openvino: it finds no such device"
    assert stick == "none of the installed libraries lists it"


def test_what_the_kernel_said_already_stands() -> None:
    bare = dataclasses.replace(IGPU, driver="none", unusable="the kernel has no driver bound to it")
    assert joined(_machine(bare), Profile(RUNTIME)).detected == (bare,)


def test_a_device_that_computed_wrong_is_none() -> None:
    runtime = Runtime(devices=(TORCH_CPU, _on_torch("xpu:0", refusal="computes wrong results on it")))
    machine = joined(_machine(IGPU), Profile(runtime))
    assert machine.devices == ("cpu",)
    assert machine.detected[0].unusable == "torch sees it but computes wrong results on it"


def test_the_numbers_are_those_of_the_library() -> None:
    devices = (TORCH_CPU, _on_torch("xpu:0", "8086:E20B"), _on_torch("xpu:1", "8086:7D55"))
    machine = joined(_machine(IGPU, CARD), Profile(Runtime(devices=devices)))
    assert [(each.name, each.what[:15]) for each in machine.detected] == [
        ("xpu:1", IGPU.what[:15]),
        ("xpu:0", CARD.what[:15]),
    ]
    assert machine.devices == ("xpu:0", "xpu:1", "cpu")


def test_a_torch_for_amd_counts_amds_gpus_alone() -> None:
    nvidia = Accelerator("cuda:0", "NVIDIA RTX 4090 10DE:2684", "nvidia", "discrete_gpu")
    amd = Accelerator("cuda:1", "AMD RX 7900 XTX 1002:744C", "amdgpu", "discrete_gpu")
    runtime = Runtime(devices=(TORCH_CPU, _on_torch("cuda:0", "1002")))
    machine = joined(_machine(nvidia, amd), Profile(runtime))
    assert [(each.name, each.driver, bool(each.unusable)) for each in machine.detected] == [
        ("cuda:1", "nvidia", True),
        ("cuda:0", "amdgpu", False),
    ]


def test_a_processor_measured_with_other_cores_is_not_measured() -> None:
    profile = Profile(measured={"cpu": Measured(1e9), "npu": Measured(2e9)}, measurement=MEASUREMENT)
    assert joined(_machine(), profile).measured.keys() == {"cpu", "npu"}
    machine = joined(_machine(cores=1), profile)
    assert machine.measured.keys() == {"npu"}
    assert "AMD EPYC with 2 cores" in machine.unknown[0]


def test_every_captured_machine_can_be_joined(captured: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("core-ultra-7-155h", "core-ultra-7-258v", "core-i7-12700", "ryzen-9-7950x", "xeon-silver-4410y"):
        tree = captured(name)
        write_profile(tmp_path / name, runtime=RUNTIME, root=tree)
        profile = read_profile(tmp_path / name, tree)
        assert profile.runtime is not None, profile.stale
        machine = joined(probe(tree), profile)
        assert machine.devices == ("cpu",)
        assert all(each.unusable != "not asked yet" for each in machine.detected)


def test_reading_imports_nothing_heavy_and_starts_nothing(kept: Path, root: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "sys.addaudithook(lambda event, _: event in {'subprocess.Popen', 'os.fork', 'os.posix_spawn', 'os.exec'} and 1 / 0)\n"
        "from aifw.hardware.libraries.profile import read_profile\n"
        f"profile = read_profile(pathlib.Path({str(kept)!r}), pathlib.Path({str(root)!r}))\n"
        "assert profile.runtime is not None and profile.measured, profile.stale\n"
        "print(sorted({'torch', 'openvino', 'numpy', 'subprocess', 'importlib.metadata', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plain_is_json() -> None:
    machine = joined(probe(), Profile(RUNTIME, {"cpu": Measured(1.0, {"fp32": 2.0})}, measurement=MEASUREMENT))
    document = json.loads(json.dumps(plain(machine), allow_nan=False))
    assert isinstance(document, Mapping)
    assert document["devices"] == list(machine.devices)
    assert document["cpu"]["flags"] == sorted(machine.cpu.flags)
