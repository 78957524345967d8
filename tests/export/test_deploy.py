"""Devices, the way down when one fails, and latencies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import JobError, JobStopped
from aifw.export.deploy import chain, deploy, keeping, percentiles
from aifw.export.kinds import Deployment, DeploymentSettings
from aifw.hardware.libraries.backend import backend_for
from aifw.job import Control, Input, Job
from aifw.models.openvino_model import OpenvinoLanguageModel, load_openvino

SMALL = {"requests": 3, "prompt_tokens": 5, "tokens": 4, "precision": "fp32"}


def _job(
    tmp_path: Path, folder: Path, device: str = "cpu", **settings: Any
) -> tuple[Job[DeploymentSettings], list[str]]:
    notes: list[str] = []
    job = Job(
        DeploymentSettings.model_validate({"model": "m", **SMALL, **settings}),
        tmp_path / "out",
        {"model": Input("stages.int8", folder, {"provenance": "tiny"}, "abc")},
        device=device,
        outputs=("deployment",),
        cache_root=tmp_path / "cache",
        report=lambda event, data: notes.append(data["text"]) if event == "note" else None,
    )
    return job, notes


@pytest.mark.parametrize("shapes", ["auto", "static"])
def test_on_the_processor(shapes: str, exported: Callable[[str], Path], tmp_path: Path) -> None:
    static = {"prompts": [4, 8], "positions": 16}
    job, notes = _job(tmp_path, exported("int8"), shapes=shapes, static=static)
    deploy(job)
    document = json.loads((job.out / "deployment/smoke.json").read_text())
    assert document["device"] == "cpu"
    assert document["shapes"] == ("static" if shapes == "static" else "dynamic")
    assert document["passed_over"] == {}
    assert notes == []
    first, rest = document["seconds"]["first_token"], document["seconds"]["token"]
    assert (first["samples"], rest["samples"]) == (3, 9)
    assert 0 < first["p50"] <= first["p95"]
    assert 0 < rest["p50"] <= rest["p95"]
    assert first["p99"] == rest["p99"] == "too few"
    facts = job.facts["deployment"]
    assert facts["token_p95"] == rest["p95"]
    assert facts["model"] == "abc"
    assert (facts["passed_over"], facts["first_token_samples"], facts["token_samples"]) == ({}, 3, 9)
    documented = Deployment.__doc__ or ""
    names = {name.removeprefix("first_token").removeprefix("token") or name for name in facts}
    assert all(f"`{name}`" in documented for name in names - {"summary"})
    assert facts["summary"].startswith("cpu, first token ")


def test_devices_that_are_not_here_are_passed_over(exported: Callable[[str], Path], tmp_path: Path) -> None:
    job, notes = _job(tmp_path, exported("int8"), device="npu", devices=["npu", "cpu"])
    deploy(job)
    document = json.loads((job.out / "deployment/smoke.json").read_text())
    assert document["device"] == "cpu"
    assert "cannot compute on npu" in document["passed_over"]["npu"]
    assert notes[0].startswith("npu was passed over: OpenVINO")


def test_a_device_that_cannot_compile_is_passed_over(
    exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    really = openvino.Core.compile_model

    def compile_model(core: Any, graph: Any, target: str, config: dict[str, str]) -> Any:
        if config.get("PERFORMANCE_HINT") == "LATENCY" and not refused:
            refused.append(target)
            raise RuntimeError("Exception from src/plugin.cpp:1:\nout of tiles")
        return really(core, graph, target, config)

    refused: list[str] = []
    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    monkeypatch.setattr("aifw.export.deploy.chain", lambda *_: ["cpu", "cpu"])
    job, notes = _job(tmp_path, exported("int8"))
    deploy(job)
    assert refused == ["CPU"]
    assert notes == ["cpu was passed over: the model cannot be compiled for cpu: out of tiles"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Exception from src/infer.cpp:1:\nshape is too large"), "shape is too large"),
        (RuntimeError(""), "RuntimeError"),
        (AssertionError("keys and values are joined"), "keys and values are joined"),
    ],
)
def test_a_device_that_refuses_what_is_asked_of_it_is_passed_over(
    error: Exception, said: str, exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = OpenvinoLanguageModel.read
    asked: list[int] = []

    def read(decoder: OpenvinoLanguageModel, tokens: Sequence[int]) -> Any:
        asked.append(len(tokens))
        if len(asked) == 1:
            raise error
        return really(decoder, tokens)

    monkeypatch.setattr(OpenvinoLanguageModel, "read", read)
    monkeypatch.setattr("aifw.export.deploy.chain", lambda *_: ["cpu", "cpu"])
    job, notes = _job(tmp_path, exported("int8"))
    deploy(job)
    assert asked[:3] == [SMALL["prompt_tokens"], SMALL["prompt_tokens"], 1]
    assert notes == [f"cpu was passed over: {said}"]


def test_no_device_is_left(exported: Callable[[str], Path], tmp_path: Path) -> None:
    job, _ = _job(tmp_path, exported("int8"), device="npu", devices=["npu"])
    with pytest.raises(
        JobError, match=r"stages.int8 runs on none of the devices allowed. npu: OpenVINO .* cannot compute on npu"
    ):
        deploy(job)


def test_what_was_compiled_is_used_again(exported: Callable[[str], Path], tmp_path: Path) -> None:
    job, _ = _job(tmp_path, exported("int8"))
    backend = backend_for("cpu", "fp32", library="openvino")
    first = load_openvino(exported("int8"), backend, keeping(job, backend))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.blob")}
    assert len(kept) == 1
    second = load_openvino(exported("int8"), backend, keeping(job, backend))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.blob")} == kept
    assert second.request.get_compiled_model().get_property("LOADED_FROM_CACHE")
    assert not first.request.get_compiled_model().get_property("LOADED_FROM_CACHE")
    assert second.read([3, 4]) == pytest.approx(first.read([3, 4]))
    # Another configuration is another compiled form.
    throughput = backend_for("cpu", "fp32", library="openvino", hint="throughput")
    load_openvino(exported("int8"), throughput, keeping(job, throughput))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_too_slow(exported: Callable[[str], Path], tmp_path: Path) -> None:
    job, _ = _job(tmp_path, exported("int8"), max_token_p95="0.000001 s")
    with pytest.raises(JobError, match=r"too slow on cpu: p95 of the token is [\d.]+ ms, at most 0.0 ms wanted"):
        deploy(job)


def test_it_stops_when_asked(exported: Callable[[str], Path], tmp_path: Path) -> None:
    job, _ = _job(tmp_path, exported("int8"))
    job.asked = Control(stop=True)
    with pytest.raises(JobStopped):
        deploy(job)


@pytest.mark.parametrize(
    ("device", "wanted", "tried"),
    [
        ("npu", ("npu", "xpu", "cpu"), ["npu", "xpu:0", "cpu"]),
        ("xpu:1", ("npu", "xpu", "cpu"), ["xpu:1", "npu", "cpu"]),
        ("cpu", ("npu", "xpu", "cpu"), ["cpu", "npu", "xpu:0"]),
        ("npu", ("cpu", "xpu", "npu"), ["npu", "cpu", "xpu:0"]),
        ("cpu", ("npu",), ["npu"]),
    ],
)
def test_order_of_devices(device: str, wanted: tuple[str, ...], tried: list[str]) -> None:
    assert chain(device, wanted) == tried


@given(st.lists(st.floats(0, 10), min_size=1, max_size=1200))
def test_percentiles(samples: list[float]) -> None:
    found = percentiles(samples)
    assert sum(each <= found["p95"] for each in samples) >= 0.95 * len(samples)
    assert sum(each < found["p95"] for each in samples) < 0.95 * len(samples) or found["p95"] == min(samples)
    assert found["p50"] <= found["p95"]
    assert (found["p99"] == "too few") == (len(samples) < 1000)
