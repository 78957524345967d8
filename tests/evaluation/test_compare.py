from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.compare import compare
from aifw.evaluation.kinds import Compare, CompareSettings
from aifw.evaluation.report import build, read, write
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Input, Job
from aifw.kind import History, InputFacts

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))
Change = Callable[[dict[str, Any]], None]


def _environment(**changed: Any) -> dict[str, Any]:
    pressure = {"cpu": 0.0, "memory": 0.0, "io": 0.0}
    return {
        "time": "2026-01-02T03:04:05Z",
        "aifw": "0",
        "python": "3.11",
        "packages": {},
        "hardware": {"processor": "one", "cores": 2, "memory": 1000, "devices": []},
        "threads": 1,
        "device": "cpu",
        "seed": 7,
        "spec": None,
        "contention": {"before": pressure, "after": pressure, "contended": False},
    } | changed


def _evaluation(
    folder: Path,
    right: int,
    *,
    suites: tuple[str, ...] = ("classification",),
    items: int = 40,
    precision: str = "fp32",
    environment: dict[str, Any] | None = None,
) -> Input:
    answers = [
        {"id": f"q{at:02}", "item_digest": "same", "label": "yes", "predicted": "yes" if at < right else "no"}
        for at in range(items)
    ]
    times = [{"id": f"q{at:02}", "item_digest": "same", "seconds": 1 + at / 100 + right / 1000} for at in range(items)]
    rows: dict[str, Any] = {"classification": (answers, None), "latency": (times, None)}
    report, lines = build(
        subject={"address": f"stages.{folder.name}", "digest": folder.name, "name": "a model"},
        baseline=None,
        data={"address": "pairs", "digest": "pairs", "name": "pairs"},
        settings={"precision": precision},
        rows={suite: rows[suite] for suite in suites},
        environment=environment or _environment(),
    )
    folder.mkdir()
    write(folder, report, lines)
    return Input(f"stages.check_{folder.name}", folder)


def _compare(tmp_path: Path, subject: Input, baseline: Input) -> tuple[Job[CompareSettings], list[str]]:
    notes: list[str] = []

    def report(kind: str, data: Any) -> None:
        if kind == "note":
            notes.append(data["text"])

    job = Job(
        CompareSettings.model_validate({"subject": "a", "baseline": "b"}),
        out=tmp_path / "out",
        inputs={"subject": subject, "baseline": baseline},
        outputs=("evaluation",),
        report=report,
    )
    compare(job)
    return job, notes


def test_two_evaluations_become_one_with_both_sides(tmp_path: Path) -> None:
    job, notes = _compare(tmp_path, _evaluation(tmp_path / "new", 36), _evaluation(tmp_path / "old", 20))
    evidence = read(job.out / "evaluation")
    assert (evidence.report["subject"]["digest"], evidence.report["baseline"]["digest"]) == ("new", "old")
    compared = evidence.report["suites"]["classification"]["compared"]["accuracy"]
    assert (compared["before"], compared["after"], compared["n"]) == (0.5, 0.9, 40)
    facts = job.facts["evaluation"]
    assert (facts["subject"], facts["baseline"], facts["accuracy"], facts["baseline_accuracy"]) == (
        "new",
        "old",
        0.9,
        0.5,
    )
    assert not notes


def test_only_what_both_measured_is_compared(tmp_path: Path) -> None:
    both = _evaluation(tmp_path / "new", 36, suites=("classification", "latency"))
    job, notes = _compare(tmp_path, both, _evaluation(tmp_path / "old", 20))
    assert set(read(job.out / "evaluation").report["suites"]) == {"classification"}
    assert notes == ["not compared, since only stages.check_new has it: latency"]
    with pytest.raises(InputInvalid, match="have no suite in common"):
        _compare(tmp_path, _evaluation(tmp_path / "a", 36, suites=("latency",)), _evaluation(tmp_path / "b", 20))


def test_other_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="the items differ"):
        _compare(tmp_path, _evaluation(tmp_path / "new", 20), _evaluation(tmp_path / "old", 20, items=39))


def test_other_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="`precision` is 'fp32' and 'bf16'"):
        _compare(tmp_path, _evaluation(tmp_path / "new", 20), _evaluation(tmp_path / "old", 20, precision="bf16"))


def test_times_of_two_machines_are_refused(tmp_path: Path) -> None:
    elsewhere = _environment(hardware={"processor": "another", "cores": 2, "memory": 1000, "devices": []})
    here = _evaluation(tmp_path / "new", 20, suites=("latency",))
    there = _evaluation(tmp_path / "old", 20, suites=("latency",), environment=elsewhere)
    with pytest.raises(InputInvalid, match="processor is 'one' and 'another'"):
        _compare(tmp_path, here, there)
    answers = _evaluation(tmp_path / "answers", 20)
    _compare(tmp_path, answers, _evaluation(tmp_path / "others", 20, environment=elsewhere))


def test_what_either_measured_under_contention_is_marked(tmp_path: Path) -> None:
    quiet = _environment()
    busy = _environment(contention={**quiet["contention"], "contended": True})
    here = _evaluation(tmp_path / "new", 20, suites=("latency",))
    there = _evaluation(tmp_path / "old", 20, suites=("latency",), environment=busy)
    job, _ = _compare(tmp_path, here, there)
    suite = read(job.out / "evaluation").report["suites"]["latency"]
    assert suite["subject"]["latency_p50"]["contended"]
    assert suite["compared"]["latency_p50"]["contended"]


def test_an_edited_evaluation_is_refused(tmp_path: Path) -> None:
    subject, baseline = _evaluation(tmp_path / "new", 20), _evaluation(tmp_path / "old", 20)
    report = json.loads((subject.path / "report.json").read_text())
    report["suites"]["classification"]["subject"]["accuracy"]["value"] = 0.99
    (subject.path / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputInvalid, match="was edited"):
        _compare(tmp_path, subject, baseline)


def test_forecast_goes_by_items() -> None:
    settings = CompareSettings.model_validate({"subject": "a", "baseline": "b"})
    known = {"subject": InputFacts("a", {"items": 200_000}, True), "baseline": InputFacts("b", {}, False)}
    assert Compare().forecast(settings, known, HERE, History()).basis == "200,000 rows"
    assert "not known" in Compare().forecast(settings, {}, HERE, History()).basis
