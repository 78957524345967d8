"""The benchmarks: what is measured where, what becomes of failures, and real ones on the processor."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aifw.hardware.libraries import measure as measuring
from aifw.hardware.libraries.child import converse
from aifw.hardware.libraries.measure import benches, measure
from aifw.hardware.libraries.measurement import Figure, Measurement, figure_from, summary
from aifw.hardware.libraries.openvino_core import shared_core
from aifw.hardware.libraries.runtime import Runtime, RuntimeDevice, ask
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.hardware.probe import probe

MIB = 1 << 20
CPU = RuntimeDevice("cpu", "torch", "cpu", "processor", precisions=("fp32",))
OPENVINO_CPU = RuntimeDevice("cpu", "openvino", "CPU", "processor", precisions=("fp32", "bf16", "int8"))
XPU = RuntimeDevice("xpu:0", "torch", "xpu:0", "Arc")
OPENVINO_XPU = RuntimeDevice("xpu:0", "openvino", "GPU", "Arc", precisions=("fp32", "fp16", "int8"))
NPU = RuntimeDevice("npu", "openvino", "NPU", "NPU", precisions=("fp16", "int8"))
RUNTIME = Runtime(devices=(XPU, CPU, NPU, OPENVINO_XPU, OPENVINO_CPU))


def test_what_is_measured_where() -> None:
    planned = {f"{bench.device.library} {bench.device.name}": bench.tasks for bench in benches(RUNTIME, 8)}
    assert list(planned)[:2] == ["torch cpu", "openvino cpu"]
    assert planned == {
        "torch cpu": (
            "bandwidth:fp32:8",
            "bandwidth:fp32:1",
            "product:fp32:8",
            "product:fp32:1",
            "product:bf16:8",
            "product:int8:8",
        ),
        "openvino cpu": ("product:fp32:8", "product:bf16:8", "product:int8:8"),
        "torch xpu:0": ("bandwidth:fp32:8", "product:fp32:8", "product:bf16:8", "product:int8:8"),
        "openvino npu": ("bandwidth:fp16:8", "product:fp16:8", "product:int8:8"),
        "openvino xpu:0": ("product:fp32:8", "product:fp16:8", "product:int8:8"),
    }


def test_one_processor_is_measured_once() -> None:
    (bench,) = benches(Runtime(devices=(CPU,)), 1)
    assert len(set(bench.tasks)) == len(bench.tasks) == 4


def test_without_torch_openvino_reads_the_memory() -> None:
    (bench,) = benches(Runtime(devices=(OPENVINO_CPU,)), 2)
    assert bench.tasks[0] == "bandwidth:fp32:2"


def test_a_device_that_does_not_compute_is_not_measured() -> None:
    assert benches(Runtime(devices=(XPU._replace(refusal="computes wrong results on it"),)), 2) == ()


def _machine(available: int = 8 << 30) -> Machine:
    return Machine("m", Cpu("AMD EPYC", 2), Memory(8 << 30, available))


ANSWER: dict[str, Any] = {
    "quantity": "product",
    "precision": "fp32",
    "value": 2.0,
    "lowest": 1.0,
    "highest": 3.0,
    "repetitions": 5,
    "threads": 2,
    "size": 64,
    "check": "exact",
}


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replaces the processes: each gives the answers listed, and ends as told."""
    asked: list[tuple[str, list[str], Mapping[str, str]]] = []

    def use(lines: list[Mapping[str, Any]], end: str) -> list[Any]:
        def answer(
            module: str, arguments: list[str], seconds: float, hear: Callable[..., None], environment: Mapping[str, str]
        ) -> str:
            asked.append((module, arguments, environment))
            for line in lines:
                hear(line)
            return end

        monkeypatch.setattr(measuring, "converse", answer)
        return asked

    return use


def test_every_task_is_a_figure_or_a_failure(children: Any) -> None:
    lines = [
        {"now": {"task": "bandwidth:fp32:2"}},
        {"task": "bandwidth:fp32:2", "failed": "the sums are wrong"},
        {"now": {"task": "bandwidth:fp32:1"}},
        {"task": "bandwidth:fp32:1", "figure": {**ANSWER, "value": float("nan")}},
        {"task": "product:fp32:2", "figure": ANSWER},
        {"task": "product:fp32:2", "figure": ANSWER},
        {"task": "nobody:asked:1", "figure": ANSWER},
        {"now": {"task": "product:fp32:1"}},
    ]
    asked = children(lines, "crashed: SIGILL")
    told: list[Any] = []
    found = measure(_machine(), Runtime(devices=(CPU,)), lambda *each: told.append(each))
    assert found.figures == (Figure("cpu", "torch", "product", "fp32", 2.0, 1.0, 3.0, 5, 2, 64, "exact"),)
    assert [each.removeprefix("torch on cpu: ") for each in found.failures] == [
        "memory bandwidth, 2 threads: the sums are wrong",
        "memory bandwidth, 1 thread: an answer was not understood: nan is no figure",
        "fp32 product, 1 thread: crashed: SIGILL",
        "bf16 product, 2 threads: not begun, because of the one before",
        "int8 product, 2 threads: not begun, because of the one before",
    ]
    assert [each[1:] for each in told] == [(0, 6), (1, 6), (3, 6), (6, 6)]
    (module, arguments, environment) = asked[0]
    assert (module, arguments[0]) == ("aifw.hardware.libraries.measure_torch", "cpu")
    assert environment["OMP_NUM_THREADS"] == "2", "thread counts are set, whatever the environment says"


def test_without_room_no_bandwidth_is_measured(children: Any) -> None:
    asked = children([], "")
    found = measure(_machine(available=24 * MIB), Runtime(devices=(CPU,)), lambda *each: None)
    assert not any(task.startswith("bandwidth") for task in asked[0][1])
    assert sum("may be taken" in failure for failure in found.failures) == 2
    assert sum("it was not answered" in failure for failure in found.failures) == 1


def test_what_other_programs_took_is_told_or_unknown(children: Any, tmp_path: Path) -> None:
    children([], "")
    found = measure(_machine(), Runtime(), lambda *each: None)
    assert found.others is not None
    assert 0 <= found.others <= 1
    assert measure(_machine(), Runtime(), lambda *each: None, tmp_path).others is None


def _measured(module: str, arguments: list[str]) -> list[Mapping[str, Any]]:
    heard: list[Mapping[str, Any]] = []
    environment = {"OMP_NUM_THREADS": "1"}
    assert converse(f"aifw.hardware.libraries.{module}", arguments, 120.0, heard.append, environment) == ""
    return [line for line in heard if "now" not in line]


def test_torch_on_this_processor() -> None:
    pytest.importorskip("torch")
    tasks = ["bandwidth:fp32:1", "product:fp32:1", "product:int8:1"]
    lines = _measured("measure_torch", ["cpu", f"{64 * MIB}", f"{16 * MIB}", *tasks])
    assert [line["task"] for line in lines] == tasks
    for line in lines:
        found = figure_from({**line["figure"], "device": "cpu", "library": "torch"})
        assert found.lowest <= found.value <= found.highest
        assert found.threads == 1
        assert found.check
    assert lines[0]["figure"]["size"] == 16 * MIB


def test_openvino_on_this_processor() -> None:
    pytest.importorskip("openvino")
    tasks = ["bandwidth:fp32:1", "product:fp32:1", "product:int8:1"]
    lines = _measured("measure_openvino", ["CPU", f"{64 * MIB}", f"{16 * MIB}", *tasks])
    assert [line["task"] for line in lines] == tasks
    assert "computed in f32" in lines[1]["figure"]["check"]
    assert "computed in " in lines[2]["figure"]["check"]
    assert "exact" in lines[2]["figure"]["check"]


def test_a_format_that_is_replaced_is_not_credited() -> None:
    """On a processor without bf16 OpenVINO takes the hint and computes in fp32."""
    pytest.importorskip("openvino")
    (line,) = _measured("measure_openvino", ["CPU", f"{64 * MIB}", f"{MIB}", "product:bf16:1"])
    native = "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert ("figure" in line) == native
    assert native or line["failed"] == "it was computed in f32 instead"


def test_a_device_that_is_absent_fails_with_a_reason() -> None:
    torch = pytest.importorskip("torch")
    if torch.xpu.is_available():
        pytest.skip("there is one")
    (line,) = _measured("measure_torch", ["xpu:0", f"{64 * MIB}", f"{MIB}", "product:fp32:1"])
    assert "XPU" in line["failed"]


def test_the_summary_favours_who_does_the_work() -> None:
    def made(library: str, precision: str, value: float, threads: int | None) -> Figure:
        return Figure("cpu", library, "product", precision, value, value, value, 5, threads, 64, "exact")

    figures = [
        made("openvino", "fp32", 9.0, 4),
        made("torch", "fp32", 7.0, 4),
        made("torch", "fp32", 8.0, 1),
        made("torch", "int8", 99.0, 4),
        made("openvino", "int8", 5.0, 4),
        made("openvino", "bf16", 6.0, 4),
    ]
    assert summary(figures)["cpu"].throughput == {"fp32": 8.0, "int8": 5.0, "bf16": 6.0}
    assert summary(figures)["cpu"].bandwidth is None
    assert summary([]) == {}


@pytest.mark.slow
def test_all_of_it_on_this_machine() -> None:
    pytest.importorskip("torch")
    found: Measurement = measure(probe(), ask(), lambda *each: None)
    assert found.failures == ()
    threads = len(os.sched_getaffinity(0))
    assert {(each.library, each.quantity, each.precision) for each in found.figures if each.device == "cpu"} >= {
        ("torch", "bandwidth", "fp32"),
        ("torch", "product", "fp32"),
        ("torch", "product", "bf16"),
        ("torch", "product", "int8"),
    }
    assert all(each.threads in {1, threads} for each in found.figures if each.device == "cpu")
