from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from aifw.errors import InputInvalid, JobError, JobStopped
from aifw.evaluation.evaluate import evaluate
from aifw.evaluation.kinds import Evaluate, EvaluateSettings
from aifw.evaluation.report import read
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Control, Input, Job
from aifw.kind import History, InputFacts, Standing
from aifw.models.load import load
from aifw.models.pairs import encode, read_pairs
from aifw.models.score import score_pairs
from aifw.models.tiny import write_tiny_model

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))


def _write_pairs(folder: Path, answers: list[tuple[str, str]]) -> Input:
    folder.mkdir(parents=True)
    with (folder / "pairs.jsonl").open("w") as file:
        for number, (chosen, rejected) in enumerate(answers):
            row = {"id": f"i{number:03}", "group": f"g{number // 2}", "chosen": chosen, "rejected": rejected}
            row["prompt"] = [{"role": "user", "content": f"question {number}"}]  # type: ignore[assignment]
            file.write(json.dumps(row) + "\n")
    return Input("pairs.heldout", folder, {"provenance": "some pairs"}, folder.name)


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
    evidence = read(job.out / "evaluation")
    return evidence.report, evidence.items


def test_every_item_is_scored_under_both_models(tmp_path: Path, inputs: dict[str, Input]) -> None:
    job = _job(tmp_path, inputs)
    evaluate(job)
    report, rows = _read(job)
    assert report["data"]["items"] == len(rows) == 12
    assert report["data"]["groups"] == 6
    assert {name: report["data"][name] for name in ("address", "digest", "name")} == {
        "address": "pairs.heldout",
        "digest": "pairs",
        "name": "some pairs",
    }
    pairs = read_pairs(inputs["data"].path)
    for side in ("subject", "baseline"):
        model = load(inputs[side].path)
        tokens = encode(pairs, model.tokenizer, max_prompt=256, max_answer=256, context=256, keep_equal=True).tokens
        right = 0.0
        for row, score in zip(rows, score_pairs(model, tokens), strict=True):
            assert row[side]["chosen"] == pytest.approx(score.chosen, abs=1e-4)
            right += row[f"{side}_values"]["preference_accuracy"]
        measured = report["suites"]["preference"][side]["preference_accuracy"]
        assert measured["value"] == right / 12
        assert measured["low"] < measured["value"] < measured["high"]
    assert rows[-1]["subject_values"]["preference_accuracy"] == 0.5
    facts = job.facts["evaluation"]
    assert (facts["subject"], facts["baseline"]) == (inputs["subject"].digest, inputs["baseline"].digest)
    assert facts["preference_accuracy"] == report["suites"]["preference"]["subject"]["preference_accuracy"]["value"]
    assert facts["data"] == "pairs"
    assert len(facts["sketch"]) == 12


def test_the_sentence_tells_both_forms_and_what_length_alone_would_get(
    tmp_path: Path, inputs: dict[str, Input]
) -> None:
    job = _job(tmp_path, inputs)
    evaluate(job)
    facts = job.facts["evaluation"]
    before, after = facts["baseline_preference_accuracy"], facts["preference_accuracy"]
    summed = f"{facts['baseline_preference_accuracy_sum']:.3f} → {facts['preference_accuracy_sum']:.3f} summed"
    sentence = (
        f"preference accuracy {before:.3f} → {after:.3f} per token, {summed}; "
        f"shorter wins {facts['shorter_wins']:.3f}; n 12"
    )
    assert facts["summary"].startswith(sentence)


def test_a_model_is_measured_without_a_baseline(tmp_path: Path, inputs: dict[str, Input]) -> None:
    alone = {name: each for name, each in inputs.items() if name != "baseline"}
    job = _job(tmp_path, alone, baseline=None)
    evaluate(job)
    report, rows = _read(job)
    assert report["baseline"] is None
    assert "baseline" not in rows[0]
    assert "compared" not in report["suites"]["preference"]
    assert not [name for name in job.facts["evaluation"] if name.startswith("baseline")]
    assert "→" not in job.facts["evaluation"]["summary"]


def test_the_same_evaluation_gives_the_same_items_and_measures(tmp_path: Path, inputs: dict[str, Input]) -> None:
    first, second = _job(tmp_path, inputs), _job(tmp_path, inputs, "b")
    second.cache_root = None
    for job in (first, second):
        evaluate(job)
    assert (first.out / "evaluation/items.jsonl").read_bytes() == (second.out / "evaluation/items.jsonl").read_bytes()
    reports = [_read(job)[0] for job in (first, second)]
    assert reports[0]["suites"] == reports[1]["suites"]
    told = [
        {name: value for name, value in job.facts["evaluation"].items() if name != "summary"} for job in (first, second)
    ]
    assert told[0] == told[1]


def test_scores_of_a_known_model_are_kept(
    tmp_path: Path, inputs: dict[str, Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(_job(tmp_path, inputs))
    loaded: list[Path] = []
    monkeypatch.setattr(
        "aifw.evaluation.runs.side.load", lambda path, **rest: (loaded.append(path), load(path, **rest))[1]
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


def test_all_that_can_be_run_on_a_model_lands_in_one_report(tmp_path: Path, inputs: dict[str, Input]) -> None:
    suites = ["preference", "language_model", "generation", "latency", "throughput", "resources", "cost"]
    job = _job(
        tmp_path,
        {**inputs, "trained_on.0": inputs["data"]},
        suites=[*suites, "contamination"],
        trained_on=["d"],
        language_model={"generate": True, "max_tokens": 6, "max_items": 5},
        generation={"prompts": 4, "max_tokens": 8},
        timing={"requests": 15, "max_tokens": 4, "warm_up": 1},
        prices={"instance_hour": "$0.36"},
    )
    evaluate(job)
    report, _ = _read(job)
    assert set(report["suites"]) == {*suites, "contamination"}
    measured = {name: entry for suite in report["suites"].values() for name, entry in suite["subject"].items()}
    scores = [row["subject"] for row in _read(job)[1] if row["suite"] == "preference"]
    loss = -sum(row["chosen"] for row in scores) / sum(row["chosen_tokens"] for row in scores)
    assert measured["perplexity"]["value"] == pytest.approx(math.exp(loss))
    assert measured["exact_match"]["n"] == 5
    assert measured["contamination"]["value"] == 1
    assert measured["latency_p50"]["value"] > 0
    assert measured["cloud_cost"]["value"] > 0
    assert measured["peak_memory"]["value"] > 0
    assert measured["latency_p99"]["value"] is None
    assert "too few" in measured["latency_p99"]["note"]
    assert report["suites"]["generation"]["baseline"]["kl_to_reference"]["value"] == 0
    assert measured["kl_to_reference"]["value"] > 0
    assert report["suites"]["generation"]["baseline"]["length_drift"]["value"] == 0
    assert report["settings"]["timing"]["requests"] == 15
    # Neither a whole run nor one more request is a further item.
    assert report["data"]["items"] == 12
    assert "preference accuracy" in job.facts["evaluation"]["summary"]
    assert "perplexity" in job.facts["evaluation"]["summary"]


def test_predictions_are_not_measured_by_what_a_model_runs(tmp_path: Path, inputs: dict[str, Input]) -> None:
    with pytest.raises(InputInvalid, match=r"ours is a model; rag measure predictions"):
        evaluate(_job(tmp_path, inputs, suites=["rag"]))


def test_a_model_needs_items(tmp_path: Path, inputs: dict[str, Input]) -> None:
    alone = {name: each for name, each in inputs.items() if name != "data"}
    with pytest.raises(InputInvalid, match="there are no items to measure it on"):
        evaluate(_job(tmp_path, alone, data=None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"suites": ["cost"]}, "needs `prices`"),
        ({"suites": ["contamination"]}, "needs `trained_on"),
        ({"suites": ["lm_eval"]}, "needs `harness"),
        ({"suites": ["preference", "preference"]}, "named twice"),
        ({"suites": []}, "at least 1"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluateSettings.model_validate({"subject": "s", "data": "d"} | settings)


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
    answering = settings.model_copy(update={"suites": ("preference", "generation", "latency")})
    longer = kind.forecast(answering, known, HERE, History())
    assert longer.seconds.mid > first.seconds.mid
    assert "187 prompts answered" in longer.basis
    model["dtype"] = "float16"
    timed = [
        kind.forecast(settings.model_copy(update={"suites": ("latency",), "baseline": each}), known, HERE, History())
        for each in (settings.baseline, None)
    ]
    assert timed[0].parts["weights"] == 2 * timed[1].parts["weights"] > 0
    del model["dtype"]
    alone = kind.forecast(settings.model_copy(update={"baseline": None}), known, HERE, History())
    assert alone.work == pytest.approx(first.work / 2)
    brought = {"subject": InputFacts("p", {"suite": "rag", "rows": 1000}, True)}
    rows = kind.forecast(EvaluateSettings.model_validate({"subject": "p"}), brought, HERE, History())
    assert rows.basis == "1,000 rows"
    assert rows.facts["evaluation"]["items"] == 1000


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
