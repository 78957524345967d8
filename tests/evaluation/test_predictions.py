from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.evaluate import evaluate
from aifw.evaluation.kinds import Evaluate, EvaluateSettings, PredictionRows, PredictionsSettings
from aifw.evaluation.predictions import freeze, item_digest, read_predictions
from aifw.evaluation.report import read
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Input, Job
from aifw.kind import History, InputFacts, Workspace
from aifw.models.kinds import CausalLmSettings

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))


def _rows(right: int, count: int = 40, name: str = "") -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{at:02}{name}",
            "question": f"what is {at}?",
            "label": "yes",
            "predicted": "yes" if at < right else "no",
        }
        for at in range(count)
    ]


def _freeze(folder: Path, lines: list[Any], suite: str = "classification") -> Input:
    folder.mkdir(parents=True)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "rows.jsonl").write_text(text)
    job = Job(
        PredictionsSettings.model_validate({"path": "rows.jsonl", "suite": suite}),
        out=folder / "out",
        root=folder,
        outputs=("predictions",),
    )
    freeze(job)
    facts = job.facts["predictions"]
    return Input(f"datasets.{folder.name}", job.out / "predictions", facts, f"digest of {folder.name}")


def _evaluate(tmp_path: Path, inputs: dict[str, Input], **settings: Any) -> Job[EvaluateSettings]:
    chosen = dict.fromkeys(inputs, "x") | settings
    job = Job(
        EvaluateSettings.model_validate(chosen), out=tmp_path / "evaluation", inputs=inputs, outputs=("evaluation",)
    )
    evaluate(job)
    return job


def test_predictions_are_frozen_by_id(tmp_path: Path) -> None:
    rows = _rows(30)
    frozen = _freeze(tmp_path / "a", [*reversed(rows), ""])
    read_back = read_predictions(frozen)
    assert [row["id"] for row in read_back.rows] == [row["id"] for row in rows]
    assert frozen.facts == {"rows": 40, "suite": "classification", "provenance": "40 predictions in rows.jsonl"}
    assert len(read_predictions(frozen, 7).rows) == 7


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "x", "label": "yes"}, r"rows\.jsonl:2: item 'x' has no `predicted`"),
        ({"id": "x", "label": 3, "predicted": "yes"}, r"rows\.jsonl:2: `label` of item 'x' is 3"),
        ({"label": "yes", "predicted": "yes"}, r"rows\.jsonl:2: there is no `id`"),
        ({"id": 7, "label": "yes", "predicted": "yes"}, r"rows\.jsonl:2: `id` is 7"),
        ({"id": "x", "group": "", "label": "yes", "predicted": "yes"}, r"rows\.jsonl:2: `group` is ''"),
        (
            {"id": "q00", "label": "yes", "predicted": "yes"},
            r"rows\.jsonl:2: item 'q00' is there twice, first in line 1",
        ),
        ('{"id": "x", "label": "yes"', r"rows\.jsonl:2: "),
        ('{"id": "x", "label": "yes", "predicted": "yes", "probabilities": {"yes": NaN}}', r"rows\.jsonl:2: "),
        ("[1]", r"rows\.jsonl:2: "),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(InputInvalid, match=message):
        _freeze(tmp_path / "a", [_rows(1)[0], line])


def test_no_rows_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="holds no row"):
        _freeze(tmp_path / "a", [""])
    settings = PredictionsSettings.model_validate({"path": "none.jsonl", "suite": "rag"})
    with pytest.raises(InputInvalid, match="there are no predictions at"):
        PredictionRows().observe(settings, Workspace(tmp_path, lambda path: "digest"))


def test_two_sets_of_predictions_are_compared(tmp_path: Path) -> None:
    inputs = {"subject": _freeze(tmp_path / "a", _rows(36)), "baseline": _freeze(tmp_path / "b", _rows(20))}
    job = _evaluate(tmp_path, inputs)
    report = read(job.out / "evaluation").report
    compared = report["suites"]["classification"]["compared"]["accuracy"]
    assert (compared["before"], compared["after"]) == (0.5, 0.9)
    assert compared["p"] < 0.001
    facts = job.facts["evaluation"]
    assert (facts["accuracy"], facts["baseline_accuracy"], facts["items"]) == (0.9, 0.5, 40)
    assert facts["subject"] == "digest of a"
    assert "accuracy 0.500 → 0.900" in facts["summary"]


def test_the_same_items_have_the_same_digest_whoever_answered_them(tmp_path: Path) -> None:
    one, other = (read_predictions(_freeze(tmp_path / name, _rows(right))) for name, right in (("a", 3), ("b", 30)))
    assert one.digest() == other.digest()
    third = read_predictions(_freeze(tmp_path / "c", [{**row, "question": "another?"} for row in _rows(3)]))
    assert third.digest() != one.digest()


def test_other_items_and_changed_items_are_refused(tmp_path: Path) -> None:
    subject = _freeze(tmp_path / "a", _rows(30))
    others = _freeze(tmp_path / "b", _rows(30, name="x"))
    with pytest.raises(InputInvalid, match="the items differ"):
        _evaluate(tmp_path, {"subject": subject, "baseline": others})
    changed = _freeze(tmp_path / "c", [{**row, "question": "what else?"} for row in _rows(30)])
    with pytest.raises(InputInvalid, match="not the same on both sides"):
        _evaluate(tmp_path, {"subject": subject, "baseline": changed})
    relabelled = _freeze(tmp_path / "d", [{**row, "label": "no"} for row in _rows(30)])
    with pytest.raises(InputInvalid, match="not the same on both sides"):
        _evaluate(tmp_path, {"subject": subject, "baseline": relabelled})


def test_suites_that_the_rows_are_not_of(tmp_path: Path) -> None:
    subject = _freeze(tmp_path / "a", _rows(30))
    with pytest.raises(InputInvalid, match="has rows of suite `classification`, `suites` asks for rag"):
        _evaluate(tmp_path, {"subject": subject}, suites=["rag"])
    row = {"id": "a", "seconds": 1.0}
    with pytest.raises(InputInvalid, match=r"has rows of suite `classification`, datasets\.b of `latency`"):
        _evaluate(tmp_path, {"subject": subject, "baseline": _freeze(tmp_path / "b", [row], "latency")})


def _settings(**settings: Any) -> EvaluateSettings:
    return EvaluateSettings.model_validate({"subject": "s"} | settings)


PREDICTED = PredictionsSettings.model_validate({"path": "rows.jsonl", "suite": "rag"})
MODEL = CausalLmSettings.model_validate({"source": "model"})


@pytest.mark.parametrize(
    ("settings", "inputs", "said"),
    [
        (_settings(), {"subject": PREDICTED}, []),
        (_settings(suites=["rag"]), {"subject": PREDICTED}, []),
        (_settings(suites=["latency"], data="d"), {"subject": MODEL}, []),
        (_settings(suites=["lm_eval"], harness={"tasks": ["a"]}), {"subject": MODEL}, []),
        (_settings(suites=["routing"]), {"subject": PREDICTED}, [(("suites",), "`s` has rows of suite `rag`")]),
        (_settings(data="d"), {"subject": PREDICTED}, [(("data",), "`s` brings its own items")]),
        (
            _settings(baseline="b"),
            {"subject": PREDICTED, "baseline": MODEL},
            [(("baseline",), "`s` and `b` are a model and predictions")],
        ),
        (
            _settings(suites=["latency"]),
            {"subject": MODEL},
            [(("subject",), "`s` is a model, and there are no items to measure it on")],
        ),
        (_settings(), {"subject": MODEL}, [(("subject",), "`s` is a model, and there are no items to measure it on")]),
        (_settings(suites=["rag"]), {"subject": MODEL}, []),
        (_settings(suites=["latency"]), {}, []),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_runs(
    settings: EvaluateSettings, inputs: dict[str, Any], said: list[Any]
) -> None:
    found = Evaluate().disagreements(settings, inputs)
    assert [(each.field, each.message) for each in found] == said


def test_what_is_answered_is_no_part_of_what_is_asked() -> None:
    row = {"id": "a", "support": {"label": "supported", "predicted": "supported"}}
    other = {"id": "a", "support": {"label": "supported", "predicted": "not_supported"}}
    third = {"id": "a", "support": {"label": "not_supported", "predicted": "not_supported"}}
    assert item_digest("reflection", row) == item_digest("reflection", other) != item_digest("reflection", third)


def test_forecast_goes_by_rows() -> None:
    settings = PredictionsSettings.model_validate({"path": "rows.jsonl", "suite": "rag"})
    unknown = PredictionRows().forecast(settings, {}, HERE, History())
    many = {"observation": InputFacts("", {"rows": 100_000}, True)}
    known = PredictionRows().forecast(settings, many, HERE, History())
    assert "not known" in unknown.basis
    assert known.memory.mid > unknown.memory.mid
    assert known.facts["predictions"] == {"suite": "rag", "rows": 100_000}
