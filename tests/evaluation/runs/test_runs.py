from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from aifw.errors import InputInvalid, JobError
from aifw.evaluation.kinds import (
    EvaluateSettings,
    GenerationOptions,
    LanguageModelOptions,
    Prices,
    TimingOptions,
)
from aifw.evaluation.runs import Run
from aifw.evaluation.runs.contamination import ContaminationRun
from aifw.evaluation.runs.generation import GenerationRun
from aifw.evaluation.runs.items import HeldOut, Items, digest, read_as, read_held_out
from aifw.evaluation.runs.language_model import LanguageModelRun
from aifw.evaluation.runs.preference import PreferenceRun
from aifw.evaluation.runs.side import Side
from aifw.evaluation.runs.timing import TimingRun
from aifw.evaluation.suites import find
from aifw.job import Input, Job
from aifw.models.pairs import Pair
from aifw.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Input]:
    root = tmp_path_factory.mktemp("models")
    return {
        "subject": write_tiny_model(root / "ours", seed=1),
        "baseline": write_tiny_model(root / "theirs", seed=2),
    }


@pytest.fixture
def held_out() -> HeldOut:
    pairs = [
        Pair(f"i{at}", f"g{at // 2}", ({"role": "user", "content": f"what is {at}?"},), f"it is {at}", "who knows")
        for at in range(6)
    ]
    return HeldOut("pairs", pairs, preferences=True)


def _side(tmp_path: Path, models: dict[str, Input], name: str = "subject") -> Side:
    job = Job(
        EvaluateSettings.model_validate({"subject": "s", "data": "d"}),
        out=tmp_path / "out",
        inputs=models,
        outputs=("evaluation",),
        cache_root=tmp_path / "cache",
    )
    return Side(job, name)


def _items(side: Side, held_out: HeldOut) -> Items:
    return read_as(held_out, side.tokenizer, side.context, max_prompt=64, max_answer=64)


def _measure(run: Run, side: Side, items: Items) -> dict[str, list[dict[str, Any]]]:
    """Rows of a side; all of them fit their suite."""
    run.measure(side, items)
    rows = {suite: [dict(row) for row in found] for suite, found in run.rows(side.name).items()}
    for suite, found in rows.items():
        for row in found:
            find(suite).check(row)
    assert set(rows) <= set(run.suites)
    return rows


def test_every_row_says_which_item_it_is_of(tmp_path: Path, models: dict[str, Input], held_out: HeldOut) -> None:
    side = _side(tmp_path, models)
    items = _items(side, held_out)
    rows = _measure(PreferenceRun(6), side, items)["preference"]
    assert [(row["id"], row["group"]) for row in rows] == [(pair.id, pair.group) for pair in held_out.pairs]
    assert len({row["item_digest"] for row in rows}) == 6
    changed = Pair("i0", "g0", held_out.pairs[0].prompt, "it is not", "who knows")
    assert digest(changed) != rows[0]["item_digest"] == digest(held_out.pairs[0])


def test_answers_are_as_probable_alone_as_in_pairs(tmp_path: Path, models: dict[str, Input], held_out: HeldOut) -> None:
    side = _side(tmp_path, models)
    items = _items(side, held_out)
    preference = PreferenceRun(6)
    scores = _measure(preference, side, items)["preference"]
    alone = _measure(LanguageModelRun(6, LanguageModelOptions(), None), side, items)["language_model"]
    shared = _measure(LanguageModelRun(6, LanguageModelOptions(), preference), side, items)["language_model"]
    for score, one, other in zip(scores, alone, shared, strict=True):
        assert one["log_probability"] == pytest.approx(score["chosen"], abs=1e-4)
        assert other["log_probability"] == score["chosen"]
        assert one["tokens"] == other["tokens"] == score["chosen_tokens"]
        assert "answer" not in one


def test_greedy_answers_stand_beside_what_people_said(
    tmp_path: Path, models: dict[str, Input], held_out: HeldOut
) -> None:
    side = _side(tmp_path, models)
    options = LanguageModelOptions(generate=True, max_tokens=5, max_items=4)
    run = LanguageModelRun(6, options, None)
    rows = _measure(run, side, _items(side, held_out))["language_model"]
    answered = [row for row in rows if "answer" in row]
    assert len(answered) == 4
    assert run.steps == 10
    said = {pair.id: pair.chosen for pair in held_out.pairs}
    assert all(row["references"] == [said[row["id"]]] for row in answered)
    again = _measure(LanguageModelRun(6, options, None), side, _items(side, held_out))["language_model"]
    assert again == rows


def test_conversations_are_measured_by_their_last_answer(tmp_path: Path, models: dict[str, Input]) -> None:
    (tmp_path / "conversations.jsonl").write_text(
        '{"id": "a", "messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, '
        '{"role": "user", "content": "three"}, {"role": "assistant", "content": "four"}, {"role": "user", "content": "five"}]}\n'
    )
    held_out = read_held_out(tmp_path, "talks", None)
    (pair,) = held_out.pairs
    assert ([each["content"] for each in pair.prompt], pair.chosen) == (["one", "two", "three"], "four")
    side = _side(tmp_path, models)
    items = _items(side, held_out)
    (row,) = _measure(LanguageModelRun(1, LanguageModelOptions(), None), side, items)["language_model"]
    assert row["log_probability"] < 0
    with pytest.raises(InputInvalid, match="conversations have one"):
        PreferenceRun(1).measure(side, items)


def test_two_items_of_one_id_are_refused(tmp_path: Path) -> None:
    line = '{"id": "a", "group": "g", "prompt": [{"role": "user", "content": "x"}], "chosen": "y", "rejected": "z"}\n'
    (tmp_path / "pairs.jsonl").write_text(line * 2)
    with pytest.raises(InputInvalid, match="two items of the same id"):
        read_held_out(tmp_path, "pairs", None)


def test_sampled_answers_and_their_divergence(tmp_path: Path, models: dict[str, Input], held_out: HeldOut) -> None:
    run = GenerationRun(6, GenerationOptions(prompts=4, max_tokens=12), 3)
    subject, baseline = _side(tmp_path, models), _side(tmp_path, models, "baseline")
    items = _items(subject, held_out)
    run.measure(subject, items)
    run.measure(baseline, items)
    rows, theirs = run.rows("subject")["generation"], run.rows("baseline")["generation"]
    assert len(rows) == 4
    for row, other in zip(rows, theirs, strict=True):
        assert row["reference_tokens"] == other["reference_tokens"] == len(other["tokens"])
        assert other["kl"] == 0
        at = next(place for place, pair in enumerate(items.encoded.pairs) if pair.id == row["id"])
        prompt = items.encoded.tokens[at].prompt
        own = subject.model.score_rows([(prompt, row["tokens"])])[0]
        reference = baseline.model.score_rows([(prompt, row["tokens"])])[0]
        assert row["kl"] == pytest.approx((own - reference) / len(row["tokens"]), abs=1e-4)
        assert 0 < row["entropy"] <= math.log(subject.model.vocabulary)
    assert sum(row["kl"] for row in rows) > 0


def test_without_a_baseline_lengths_are_those_held_out(
    tmp_path: Path, models: dict[str, Input], held_out: HeldOut
) -> None:
    side = _side(tmp_path, models)
    rows = _measure(GenerationRun(6, GenerationOptions(prompts=6, max_tokens=40), 3), side, _items(side, held_out))
    lengths = {row["id"]: row["reference_tokens"] for row in rows["generation"]}
    assert lengths["i0"] == len("it is 0") + 1
    assert all("kl" not in row for row in rows["generation"])


def test_no_divergence_between_models_of_different_vocabularies(
    tmp_path: Path, models: dict[str, Input], held_out: HeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, baseline = _side(tmp_path, models), _side(tmp_path, models, "baseline")
    baseline.tokenizer.add_tokens(["another"])
    run = GenerationRun(6, GenerationOptions(prompts=2, max_tokens=4), 3)
    run.measure(subject, _items(subject, held_out))
    run.measure(baseline, _items(baseline, held_out))
    assert all("kl" not in row for row in run.rows("subject")["generation"])


def test_requests_are_timed_one_by_one(tmp_path: Path, models: dict[str, Input], held_out: HeldOut) -> None:
    told: list[int] = []
    side = _side(tmp_path, models)
    side.tell = told.append
    prices = Prices.model_validate({"kilowatt_hour": "$0.30", "watts": 20})
    options = TimingOptions(requests=14, warm_up=2, max_tokens=3)
    run = TimingRun(["cost", "latency", "resources", "throughput"], 6, options, prices, paired=False)
    rows = _measure(run, side, _items(side, held_out))
    assert len(rows["latency"]) == 14
    assert told == list(range(16))
    assert len({row["id"] for row in rows["latency"]}) == 14
    # Repetitions of an item are no samples of their own.
    assert len({row["group"] for row in rows["latency"]}) == 3
    assert all(0 < row["first_token"] <= row["seconds"] for row in rows["latency"])
    assert all(row["tokens"] > row["new_tokens"] > 0 for row in rows["throughput"])
    assert rows["resources"][0]["items"] == 14
    assert rows["cost"][0]["tokens"] == sum(row["tokens"] for row in rows["latency"])
    assert rows["cost"][0]["prices"] == {"kilowatt_hour": 300_000, "watts": 20}
    assert set(TimingRun(["latency"], 6, options, prices, paired=False).suites) == {"latency"}


@pytest.mark.parametrize(("wanted", "alone"), [(["latency"], 0), (["latency", "resources"], 1)])
def test_two_models_are_timed_in_turn(
    tmp_path: Path,
    models: dict[str, Input],
    held_out: HeldOut,
    monkeypatch: pytest.MonkeyPatch,
    wanted: list[str],
    alone: int,
) -> None:
    asked: list[str] = []
    names: dict[int, str] = {}

    def timed(decoder: Any, prompt: Any, most: int, ends: Any) -> dict[str, Any]:
        asked.append(names[id(decoder)])
        return {"seconds": 1.0, "first_token": 0.5, "new_tokens": 1, "tokens": 9}

    class Named(Side):
        @property
        def decoder(self) -> Any:  # type: ignore[override]
            names[id(self)] = self.name
            return self

    monkeypatch.setattr("aifw.evaluation.runs.timing._timed", timed)
    told: list[int] = []
    sides = [Named(_side(tmp_path, models, name).job, name, told.append) for name in ("subject", "baseline")]
    run = TimingRun(wanted, 6, TimingOptions(requests=4, warm_up=2, max_tokens=3), Prices(), paired=True)
    for side in sides:
        run.measure(side, _items(side, held_out))
    in_turn = asked[6 * alone :][6 * alone if alone else 0 :]
    both = ["subject", "baseline"]
    assert in_turn == [*both, *both[::-1]] * 3
    assert asked[: 12 * alone] == ["subject"] * 6 * alone + ["baseline"] * 6 * alone
    assert run.steps == 6 * (1 + alone)
    assert told[-1] == run.steps - 1
    ids = [[row["id"] for row in run.rows(side)["latency"]] for side in both]
    assert len(ids[0]) == 4
    assert ids[0] == ids[1]
    assert set(run.rows("subject")) == set(wanted)


def test_items_that_training_saw_are_found(tmp_path: Path, models: dict[str, Input], held_out: HeldOut) -> None:
    near = "It is a long enough sentence that one letter more or less leaves it nearly the same as it was before"
    pairs = [
        *held_out.pairs[:2],
        Pair("near", "g", ({"role": "user", "content": "describe the sentence that follows"},), near, "no idea at all"),
        Pair("far", "g", ({"role": "user", "content": "altogether something else"},), "unrelated words", "blue green"),
    ]
    held_out = HeldOut("pairs", pairs, preferences=True)
    (tmp_path / "train").mkdir()
    import json

    trained = [
        {"prompt": [{"role": "user", "content": "WHAT is 0?"}], "chosen": "fine weather", "rejected": "rain"},
        {"prompt": [{"role": "user", "content": "unlike anything"}], "chosen": f"{near}s", "rejected": "clouds"},
    ]
    (tmp_path / "train/pairs.jsonl").write_text(
        "".join(json.dumps({"id": str(at), "group": str(at), **row}) + "\n" for at, row in enumerate(trained))
    )
    run = ContaminationRun(held_out, {"pairs.train": tmp_path / "train"}, 0.8)
    side = _side(tmp_path, models)
    rows = {
        row["id"]: row
        for row in _measure(run, side, read_as(held_out, side.tokenizer, 256, max_prompt=256, max_answer=256))[
            "contamination"
        ]
    }
    assert (rows["i0"]["seen"], rows["i0"]["where"], rows["i0"]["nearest"]) == (True, "pairs.train, exactly", 1.0)
    assert (rows["near"]["seen"], rows["near"]["where"]) == (True, "pairs.train, nearly")
    assert not rows["far"]["seen"]
    assert run.rows("baseline") == {}


def test_numbers_that_are_none(tmp_path: Path, models: dict[str, Input], held_out: HeldOut) -> None:
    from safetensors.torch import load_file, save_file

    broken = write_tiny_model(tmp_path / "broken")
    weights = load_file(broken.path / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, broken.path / "model.safetensors", metadata={"format": "pt"})
    side = _side(tmp_path, {**models, "subject": broken})
    items = _items(side, held_out)
    for run in (
        PreferenceRun(6),
        LanguageModelRun(6, LanguageModelOptions(), None),
        GenerationRun(6, GenerationOptions(prompts=2, max_tokens=4), 0),
    ):
        with pytest.raises(JobError, match="not numbers"):
            run.measure(side, items)


def test_an_exported_model_runs_like_the_one_it_was_made_from(
    tmp_path: Path, models: dict[str, Input], held_out: HeldOut
) -> None:
    from aifw.export import export

    facts = export(models["subject"].path, tmp_path / "fp32", precision="fp32")
    exported = Input("stages.int8", tmp_path / "fp32", facts, "exported")
    plain, side = _side(tmp_path, models), _side(tmp_path, {**models, "subject": exported})
    options = LanguageModelOptions(generate=True, max_tokens=5)
    for run in (lambda: LanguageModelRun(6, options, None),):
        expected, found = (_measure(run(), each, _items(each, held_out))["language_model"] for each in (plain, side))
        for ours, theirs in zip(found, expected, strict=True):
            assert ours["log_probability"] == pytest.approx(theirs["log_probability"], abs=1e-3)
            assert ours["answer"] == theirs["answer"]
    sampled = _measure(GenerationRun(6, GenerationOptions(prompts=2, max_tokens=4), 0), side, _items(side, held_out))
    assert all(row["entropy"] > 0 for row in sampled["generation"])
    timed = TimingRun(["latency"], 6, TimingOptions(requests=2, warm_up=0, max_tokens=3), Prices(), paired=False)
    assert len(_measure(timed, side, _items(side, held_out))["latency"]) == 2
