from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from aifw.errors import InputInvalid, JobError, JobStopped
from aifw.evaluation import preference
from aifw.evaluation.evaluate import evaluate
from aifw.evaluation.kinds import Evaluate, EvaluateSettings
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Control, Input, Job
from aifw.kind import History, InputFacts, Standing
from aifw.models.load import load
from aifw.models.pairs import encode, read_pairs
from aifw.models.score import PairScore, score_pairs
from aifw.models.tiny import write_tiny_model

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))


def _write_pairs(folder: Path, answers: list[tuple[str, str]]) -> Input:
    folder.mkdir(parents=True)
    with (folder / "pairs.jsonl").open("w") as file:
        for number, (chosen, rejected) in enumerate(answers):
            row = {"id": f"i{number:03}", "group": f"g{number // 2}", "chosen": chosen, "rejected": rejected}
            row["prompt"] = [{"role": "user", "content": f"question {number}"}]  # type: ignore[assignment]
            file.write(json.dumps(row) + "\n")
    return Input("pairs.heldout", folder)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Input]:
    root = tmp_path_factory.mktemp("inputs")
    answers = [(f"answer {number}", f"another answer {number * 7}") for number in range(11)]
    return {
        "subject": write_tiny_model(root / "ours", seed=1),
        "baseline": write_tiny_model(root / "theirs", seed=2),
        "data": _write_pairs(root / "pairs", [*answers, ("equal", "equal")]),
    }


def _job(tmp_path: Path, inputs: dict[str, Input], name: str = "a", **settings: Any) -> Job[EvaluateSettings]:
    return Job(
        EvaluateSettings.model_validate({"subject": "s", "baseline": "b", "data": "d"} | settings),
        out=tmp_path / name / "out",
        inputs=inputs,
        outputs=("evaluation",),
        cache_root=tmp_path / "cache",
    )


def _read(job: Job[EvaluateSettings]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    out = job.out / "evaluation"
    return json.loads((out / "report.json").read_text()), [
        json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()
    ]


def test_every_item_is_scored_under_both_models(tmp_path: Path, inputs: dict[str, Input]) -> None:
    job = _job(tmp_path, inputs)
    evaluate(job)
    report, rows = _read(job)
    assert report["data"]["items"] == len(rows) == 12
    assert report["data"]["groups"] == 6
    pairs = read_pairs(inputs["data"].path)
    for side in ("subject", "baseline"):
        model = load(inputs[side].path)
        tokens = encode(pairs, model.tokenizer, max_prompt=256, max_answer=256, context=256, keep_equal=True).tokens
        right = 0.0
        for row, score in zip(rows, score_pairs(model, tokens), strict=True):
            assert row[side]["chosen"] == pytest.approx(score.chosen, abs=1e-4)
            right += row[side]["preference_accuracy"]
        measured = report["suites"]["preference"][side]["preference_accuracy"]
        assert measured["value"] == right / 12
        assert measured["low"] < measured["value"] < measured["high"]
    assert rows[-1]["subject"]["preference_accuracy"] == rows[-1]["shorter_wins"] == 0.5
    assert job.facts["evaluation"]["subject"] == inputs["subject"].digest


def test_the_same_evaluation_has_the_same_bytes(tmp_path: Path, inputs: dict[str, Input]) -> None:
    first, second = _job(tmp_path, inputs), _job(tmp_path, inputs, "b")
    second.cache_root = None
    for job in (first, second):
        evaluate(job)
    for name in ("report.json", "items.jsonl"):
        assert (first.out / "evaluation" / name).read_bytes() == (second.out / "evaluation" / name).read_bytes()
    assert first.facts == second.facts


def test_scores_of_a_known_model_are_kept(
    tmp_path: Path, inputs: dict[str, Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(_job(tmp_path, inputs))
    loaded: list[Path] = []
    monkeypatch.setattr(
        "aifw.evaluation.evaluate.load", lambda path, **rest: (loaded.append(path), load(path, **rest))[1]
    )
    other = write_tiny_model(tmp_path / "other", seed=3)
    evaluate(_job(tmp_path, inputs | {"subject": other}, "b"))
    assert loaded == [other.path]


def test_a_model_against_itself_never_differs(tmp_path: Path, inputs: dict[str, Input]) -> None:
    job = _job(tmp_path, inputs | {"baseline": inputs["subject"]})
    evaluate(job)
    report, rows = _read(job)
    assert all(row["subject"] == row["baseline"] for row in rows)
    assert report["suites"]["preference"]["compared"]["preference_accuracy"]["p"] == 1


def test_fewer_items_on_request(tmp_path: Path, inputs: dict[str, Input]) -> None:
    job = _job(tmp_path, inputs, max_items=5)
    evaluate(job)
    assert len(_read(job)[1]) == 5


def test_no_item_is_said(tmp_path: Path, inputs: dict[str, Input]) -> None:
    with pytest.raises(InputInvalid, match=r"none of the 0 items of pairs\.heldout"):
        evaluate(_job(tmp_path, inputs | {"data": _write_pairs(tmp_path / "none", [])}))


def test_scores_that_are_no_numbers(tmp_path: Path, inputs: dict[str, Input]) -> None:
    broken = write_tiny_model(tmp_path / "broken")
    weights = load_file(broken.path / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, broken.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JobError, match="scores that are not numbers"):
        evaluate(_job(tmp_path, inputs | {"subject": broken}))


def test_stopping(tmp_path: Path, inputs: dict[str, Input]) -> None:
    job = _job(tmp_path, inputs)
    job.asked = Control(stop=True)
    with pytest.raises(JobStopped):
        evaluate(job)
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(
    ("score", "per_token", "summed", "shorter"),
    [
        (PairScore(-4, -6, 4, 3), 1, 1, 0),
        (PairScore(-6, -4, 6, 2), 1, 0, 0),
        (PairScore(-4, -4, 2, 2), 0.5, 0.5, 0.5),
        (PairScore(-9, -4, 2, 4), 0, 0, 1),
    ],
)
def test_outcomes(score: PairScore, per_token: float, summed: float, shorter: float) -> None:
    assert preference.outcomes(score) == {"preference_accuracy": per_token, "preference_accuracy_sum": summed}
    assert preference.shorter_wins(score) == shorter


def test_nothing_to_compare_once_the_subject_is_the_alias() -> None:
    kind = Evaluate()
    settings = EvaluateSettings.model_validate({"subject": "dpo", "baseline": "@champion", "data": "d"})
    through = {"baseline": "champion"}
    assert kind.settled(settings, Standing({"subject": "x"}, {"champion": "x"}, through)) == "dpo is champion"
    assert kind.settled(settings, Standing({"subject": "x"}, {"champion": "y"}, through)) is None
    assert kind.settled(settings, Standing({}, {}, through)) is None
    assert kind.settled(settings, Standing({"subject": "x"}, {"champion": "x"}, {})) is None


def test_forecast_grows_with_the_items() -> None:
    kind = Evaluate()
    settings = EvaluateSettings.model_validate({"subject": "s", "baseline": "b", "data": "d"})
    model = {"parameters": 134_515_008, "layers": 30, "hidden": 576, "intermediate": 1536, "vocabulary": 49152}
    data = {"rows": 120, "chars_prompt": 90.0, "chars_chosen": 180.0, "chars_rejected": 180.0}
    known = {"subject": InputFacts("s", model, True), "data": InputFacts("d", data, True)}
    first = kind.forecast(settings, known, HERE, History())
    assert first.memory.high < 3 * 1024**3
    half = kind.forecast(settings.model_copy(update={"max_items": 60}), known, HERE, History())
    assert half.work == pytest.approx(first.work / 2)
    assert "assumed" in kind.forecast(settings, {}, HERE, History()).basis


def test_an_exported_model_is_scored_like_the_one_it_was_made_from(tmp_path: Path, inputs: dict[str, Input]) -> None:
    from aifw.export import export

    facts = export(inputs["subject"].path, tmp_path / "fp32", precision="fp32")
    exported = Input("stages.int8", tmp_path / "fp32", facts, "exported")
    plain, job = _job(tmp_path, inputs, "plain"), _job(tmp_path, {**inputs, "subject": exported}, "exported")
    evaluate(plain)
    evaluate(job)
    (_, expected), (report, rows) = _read(plain), _read(job)
    assert report["subject"]["digest"] == "exported"
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours["subject"]["chosen"] == pytest.approx(theirs["subject"]["chosen"], abs=1e-3)
        assert ours["subject"]["rejected"] == pytest.approx(theirs["subject"]["rejected"], abs=1e-3)
        assert ours["baseline"] == theirs["baseline"]


def test_an_exported_model_needs_what_openvino_holds() -> None:
    model = {"parameters": 26_880, "layers": 2, "hidden": 32, "intermediate": 64, "vocabulary": 259}
    data = {"rows": 10, "chars_prompt": 40, "chars_chosen": 40, "chars_rejected": 40, "chars_longest": 100}

    def memory(facts: dict[str, Any]) -> float:
        settings = EvaluateSettings.model_validate({"subject": "s", "baseline": "b", "data": "d"})
        given = {"subject": InputFacts("s", facts, certain=True), "data": InputFacts("d", data, certain=True)}
        return Evaluate().forecast(settings, given, HERE, History()).memory.mid

    assert memory({**model, "precision": "int8", "share_of_fp32": 0.27}) > memory(model)
