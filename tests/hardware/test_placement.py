"""The placement matrix as data, and the places of a machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import UsageError
from aifw.hardware import placement
from aifw.hardware.machine import Accelerator, Cpu, Machine, Measured, Memory
from aifw.hardware.placement import LABELS, overridden, places, seen_from, shipped
from aifw.hardware.processor.cores import CoreKind, Cores
from aifw.hardware.workloads import COLUMN_WORDS, COLUMNS, RATINGS, WORKLOAD_WORDS, WORKLOADS

# The table of the project: NPU, integrated GPU, NCS2, performance cores, efficient cores, cloud.
PROJECT = {
    "embeddings": "best good acceptable good fallback -",
    "vector_search": "good - - best good -",
    "lora_training": "- best - acceptable - good",
    "dpo": "- best - acceptable - good",
    "ppo": "- acceptable - fallback - best",
    "int8_inference": "best good good acceptable fallback -",
    "reranking": "good good best good fallback -",
    "gating": "good best - acceptable - -",
}
PROJECT_COLUMNS = ("npu", "integrated_gpu", "ncs2", "performance_cores", "efficient_cores", "cloud")


def machine(cores: int, layout: Cores | None, *devices: str, detected: tuple[Accelerator, ...] = ()) -> Machine:
    return Machine(
        "tested",
        Cpu("unknown", cores, layout=layout),
        Memory(2**34, 2**34),
        devices=(*devices, "cpu"),
        detected=detected,
    )


def cores(**kinds: tuple[int, ...]) -> Cores:
    names: dict[str, CoreKind] = {"p": "performance", "e": "efficient", "lp": "low-power", "unknown": "unknown"}
    return Cores({cpu: names[kind] for kind, cpus in kinds.items() for cpu in cpus}, "")


def test_the_matrix_is_that_of_the_project() -> None:
    matrix = shipped()
    for workload, row in PROJECT.items():
        expected = dict(zip(PROJECT_COLUMNS, row.split(), strict=True))
        found = {column: matrix[workload].get(column, "-") for column in PROJECT_COLUMNS}  # type: ignore[call-overload]
        assert found == expected, workload


def test_every_workload_has_a_row_and_can_run_on_a_processor() -> None:
    assert tuple(shipped()) == WORKLOADS == tuple(WORKLOAD_WORDS)
    assert set(LABELS) == set(COLUMN_WORDS) == set(COLUMNS)
    for workload, row in shipped().items():
        assert "best" in row.values(), workload
        assert "performance_cores" in row, workload
        assert set(row) <= set(COLUMNS)
        assert set(row.values()) <= set(RATINGS)


def test_single_ratings_are_changed_and_the_rest_stands() -> None:
    changed = overridden(shipped(), {"dpo": {"npu": "fallback", "integrated_gpu": "never"}})
    assert changed["dpo"] == {**shipped()["dpo"], "npu": "fallback", "integrated_gpu": "never"}
    assert {name: row for name, row in changed.items() if name != "dpo"} == {
        name: row for name, row in shipped().items() if name != "dpo"
    }
    assert overridden(shipped(), {}) is shipped()


@pytest.mark.parametrize("text", ["{", "dpo: 1", "just text", "[1]"])
def test_a_damaged_matrix_is_said_to_be_one(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "placement.yaml").write_text(text)
    monkeypatch.setattr(placement, "__file__", str(tmp_path / "placement.py"))
    with pytest.raises(UsageError, match="placement matrix"):
        shipped.__wrapped__()


def test_a_missing_or_misspelt_matrix_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "__file__", str(tmp_path / "placement.py"))
    with pytest.raises(UsageError, match="cannot be read"):
        shipped.__wrapped__()
    text = Path(placement.__spec__.origin or "").with_name("placement.yaml").read_text()
    (tmp_path / "placement.yaml").write_text(text.replace("best", "beste"))
    with pytest.raises(UsageError, match="something unknown about embeddings"):
        shipped.__wrapped__()


def test_performance_and_efficient_cores_are_two_places() -> None:
    layout = replace(cores(p=(0, 1, 2, 3), e=(4, 5), lp=(6, 7)), siblings=((0, 1), (2, 3)))
    strong, spare = places(machine(8, layout))
    assert (strong.column, strong.label, strong.device) == ("performance_cores", "P-cores", "cpu")
    assert (set(strong.cpus), strong.threads) == ({0, 1, 2, 3}, 2)
    assert (spare.column, spare.label, spare.device) == ("efficient_cores", "E-cores", "cpu")
    assert (spare.cpus, spare.threads) == ((4, 5, 6, 7), 4)


@pytest.mark.parametrize(
    ("layout", "threads"),
    [
        (None, 4),
        (cores(p=(0, 1, 2, 3)), 4),
        (cores(e=(0, 1, 2, 3)), 4),
        (cores(unknown=(0, 1, 2, 3)), 4),
        (cores(p=(0, 1), e=(2,), unknown=(3,)), 4),
        (replace(cores(unknown=(0, 1, 2, 3)), siblings=((0, 1), (2, 3))), 2),
    ],
)
def test_cores_of_one_kind_or_an_unknown_one_are_a_single_place(layout: Cores | None, threads: int) -> None:
    (place,) = places(machine(4, layout))
    assert (place.column, place.label, place.device, place.cpus) == ("performance_cores", "cpu", "cpu", ())
    assert place.threads == threads


def test_accelerators_are_places_once_they_can_be_used() -> None:
    detected = (
        Accelerator("xpu:0", "Intel GPU", kind="integrated_gpu"),
        Accelerator("xpu:1", "Intel GPU", kind="discrete_gpu"),
        Accelerator("npu", "Intel NPU", kind="npu"),
    )
    assert [each.device for each in places(machine(4, None, detected=detected))] == ["cpu"]
    found = places(machine(4, None, "xpu:0", "xpu:1", "npu", detected=detected))
    assert [(each.device, each.column, each.label) for each in found] == [
        ("xpu:0", "integrated_gpu", "iGPU"),
        ("xpu:1", "discrete_gpu", "GPU"),
        ("npu", "npu", "NPU"),
        ("cpu", "performance_cores", "cpu"),
    ]


def test_several_of_a_sort_are_told_apart_and_a_device_nobody_listed_has_a_column() -> None:
    found = places(machine(4, None, "cuda:0", "cuda:1", "ncs2"))
    assert [(each.label, each.column) for each in found[:3]] == [
        ("GPU 0", "discrete_gpu"),
        ("GPU 1", "discrete_gpu"),
        ("NCS2", "ncs2"),
    ]


def test_a_machine_seen_from_a_place_has_one_device_and_the_cores_there() -> None:
    hybrid = machine(8, cores(p=(0, 1), e=(2, 3, 4, 5, 6, 7)), "xpu:0")
    gpu, strong, spare = places(hybrid)
    assert [(seen.devices, seen.cpu.cores) for seen in (seen_from(hybrid, each) for each in (gpu, strong, spare))] == [
        (("xpu:0",), 1),
        (("cpu",), 2),
        (("cpu",), 6),
    ]


def test_what_was_measured_of_a_whole_processor_is_shared_by_its_places() -> None:
    def speeds(cpus: int, layout: Cores | None, threads: int | None = None) -> list[float]:
        here = replace(machine(cpus, layout, "npu"), measured={"cpu": Measured(7e9, {"fp32": 100.0})})
        found = [each if threads is None else replace(each, threads=threads) for each in places(here)]
        seen = [seen_from(here, each).measured["cpu"] for each in found if each.device == "cpu"]
        assert {each.bandwidth for each in seen} == {7e9}
        assert seen_from(here, found[0]).measured == here.measured, "a processor is no slower for a job elsewhere"
        return [each.throughput["fp32"] for each in seen]

    pairs = Cores(dict.fromkeys(range(8), "performance"), "", ((0, 1), (2, 3), (4, 5), (6, 7)))
    assert speeds(8, pairs) == [100.0], "second threads of cores make a matrix product no faster"
    assert speeds(2, pairs) == [100.0], "it was measured with this quota"
    assert speeds(8, pairs, threads=1) == [25.0]
    assert speeds(4, None) == [100.0]
    strong, spare = speeds(12, cores(p=(0, 1, 2, 3), e=tuple(range(4, 12))))
    assert strong == spare == 50.0


@given(
    st.dictionaries(
        st.integers(0, 63),
        st.sampled_from(["performance", "efficient", "low-power", "unknown"]),
        min_size=1,
        max_size=24,
    ),
    st.integers(1, 24),
    st.booleans(),
)
def test_no_more_threads_than_the_cpuset_or_the_quota_and_no_processor_twice(
    kinds: dict[int, CoreKind], quota: int, paired: bool
) -> None:
    found = sorted(kinds)
    pairs = tuple(zip(found[::2], found[1::2], strict=False)) if paired else ()
    allowed = min(len(kinds), quota)
    here = places(machine(allowed, Cores(kinds, "", pairs)))
    assert 1 <= len(here) <= 2
    for place in here:
        assert 1 <= place.threads <= allowed
        assert place.threads <= len(place.cpus or kinds)
    used = [cpu for place in here for cpu in place.cpus]
    assert len(used) == len(set(used))
    assert set(used) <= set(kinds)
    assert len(here) == 1 or set(used) == set(kinds)
