"""KTO, GRPO and RLOO: real training of a tiny model by TRL, against a reward model where one is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from aifw.errors import CheckpointInvalid, InputInvalid, JobError, JobStopped
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Input, Job, latest_checkpoint
from aifw.kind import AnyKind, History, InputFacts
from aifw.models.load import PLAIN, load
from aifw.models.tiny import write_tiny_model
from aifw.training import grpo, kto, reward, rloo
from aifw.training.reward_kinds import RewardSettings
from aifw.training.reward_model import load_reward_model
from aifw.training.rollouts import Judge
from aifw.training.trl_kinds import Grpo, GrpoSettings, Kto, KtoSettings, Rloo, RlooSettings

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))
METHODS: dict[str, tuple[ModuleType, Any, dict[str, Any]]] = {
    "kto": (kto, KtoSettings, {"data": "d", "micro_batch": 2}),
    "grpo": (
        grpo,
        GrpoSettings,
        {"prompts": "p", "reward": "r", "generations": 4, "effective_batch": 8, "micro_batch": 4, "beta": 0.1},
    ),
    "rloo": (
        rloo,
        RlooSettings,
        {"prompts": "p", "reward": "r", "generations": 2, "effective_batch": 8, "micro_batch": 4},
    ),
}
Train = Callable[..., Job[Any]]


@pytest.fixture(scope="module")
def judge(
    inputs: dict[str, Input], make_job: Callable[..., Job[Any]], tmp_path_factory: pytest.TempPathFactory
) -> Input:
    given = {"model": inputs["model"], "data": inputs["pairs"]}
    job = make_job(RewardSettings, tmp_path_factory.mktemp("reward"), given, data="d", epochs=6)
    reward.train(job)
    return Input("reward", job.out / "model", job.facts["model"], "reward")


@pytest.fixture
def train(tmp_path: Path, inputs: dict[str, Input], judge: Input, make_job: Callable[..., Job[Any]]) -> Train:
    def run(method: str, name: str = "a", **changes: Any) -> Job[Any]:
        module, settings, values = METHODS[method]
        given = {"model": changes.pop("base", inputs["model"]), "reward": changes.pop("judge", judge)}
        rows = changes.pop("rows", inputs["pairs"])
        given |= {"data": rows} if method == "kto" else {"prompts": rows}
        values = {"max_completion_tokens": 12, "max_prompt_tokens": 100} | values | changes
        job = make_job(settings, tmp_path / name, given, **values)
        module.train(job)
        return job

    return run


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_with_the_same_bytes(
    train: Train, asking: Any, digests: Callable[..., Any], tmp_path: Path, inputs: dict[str, Input], method: str
) -> None:
    few = {"max_pairs" if method == "kto" else "max_prompts": 8, "lora": {"r": 4, "dropout": 0.2}}
    whole = train(method, "whole", **few)
    assert whole.facts["adapter"]["steps"] == {"kto": 4, "grpo": 4, "rloo": 2}[method]
    step = whole.facts["adapter"]["steps"] - 1
    with pytest.raises(JobStopped, match=f"step {step} of {step + 1} is saved"):
        train(method, "half", asked=asking(step, stop=True), **few)
    found = latest_checkpoint(tmp_path / "half/checkpoints")
    rest = train(method, "rest", resume=found, **few)
    assert digests(rest.out) == digests(whole.out)
    assert rest.facts == whole.facts
    if method != "kto":
        first = json.loads((rest.out / "adapter/metrics.json").read_text())["curve"][0]
        assert {"reward", "reward_deviation", "divergence", "entropy", "answer_tokens", "loss"} < first.keys()
    assert {path.suffix for path in (tmp_path / "half/checkpoints").rglob("*.*")} == {".json", ".safetensors"}
    with pytest.raises(CheckpointInvalid, match="belongs to another run"):
        train(method, "other", resume=found, learning_rate=1e-3, **few)
    before, after = load(inputs["model"].path).module, load(whole.out / "model").module
    ids = torch.arange(3, 23).unsqueeze(0)
    with torch.no_grad():
        assert not torch.allclose(before(ids).logits, after(ids).logits, atol=1e-3)


def test_kto_tells_desirable_answers_from_others(train: Train, curve: Callable[..., Any]) -> None:
    run = train("kto", epochs=4, effective_batch=12, micro_batch=6)
    course = curve(run)
    assert course[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    assert course[-1]["loss"] < 0.45
    assert course[-1]["margin"] > 0
    assert run.facts["model"]["provenance"] == "a random Llama with seed 0, KTO on 18 pairs"


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_rewards_rise(train: Train, curve: Callable[..., Any], method: str) -> None:
    run = train(method, epochs=2, learning_rate=2e-2, effective_batch=24, micro_batch=24, beta=0.0, generations=8)
    rewards = [row["reward"] for row in curve(run)]
    assert len(rewards) == 12
    assert sum(rewards[-4:]) > sum(rewards[:4])
    assert run.facts["adapter"]["prompts"] == 18


def test_a_judge_reads_what_transformers_reads(inputs: dict[str, Input], judge: Input) -> None:
    model = load_reward_model(judge.path, PLAIN)
    asked = [[{"role": "user", "content": "a b"}], [{"role": "user", "content": "c"}]]
    found = Judge(model).reward(completions=["one", [{"role": "assistant", "content": "two more"}]], asked=asked)
    expected = []
    for messages, answer in zip(asked, ("one", "two more"), strict=True):
        text = model.tokenizer.apply_chat_template(
            [*messages, {"role": "assistant", "content": answer}], tokenize=False
        ).rstrip()
        with torch.no_grad():
            expected.append(float(model.module(torch.tensor([model.tokenizer(text)["input_ids"]])).logits))
    assert found == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        model.module.score.weight[:] = torch.nan
    with pytest.raises(JobError, match="a reward that is not a number"):
        Judge(model).reward(completions=["one"], asked=asked[:1])


def test_prompts_that_are_too_long_are_counted(
    train: Train, asking: Any, write_rows: Callable[..., Input], tmp_path: Path
) -> None:
    def pair(number: int, prompt: str) -> dict[str, Any]:
        turn = [{"role": "user", "content": prompt}]
        return {"id": f"p{number}", "group": "g", "prompt": turn, "chosen": "x", "rejected": "y"}

    rows = [pair(0, "a"), pair(1, "a"), pair(2, "b" * 200)]
    asked = asking()
    run = train("rloo", rows=write_rows(tmp_path / "rows", rows), asked=asked)
    assert asked.notes == ["1 pairs not used: its prompt is longer than 100 tokens"]
    assert run.facts["adapter"]["prompts"] == 1
    with pytest.raises(InputInvalid, match="none of the 1 prompts of long can be used for training"):
        train("grpo", "b", rows=write_rows(tmp_path / "long", rows[2:]))
    with pytest.raises(InputInvalid, match="none of the 0 pairs of none"):
        train("kto", "c", rows=write_rows(tmp_path / "none", []))


@pytest.mark.parametrize("method", METHODS)
def test_a_target_that_fits_no_layer(train: Train, method: str) -> None:
    with pytest.raises(InputInvalid, match=r"`lora\.target_modules` fits no layer"):
        train(method, lora={"target_modules": ["flux_capacitor"]})


def test_a_model_without_a_template_is_trained_all_the_same(train: Train, asking: Any, tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "plain", template=None)
    for method in ("kto", "grpo"):
        asked = asking()
        train(method, method, base=base, asked=asked, **{"max_pairs" if method == "kto" else "max_prompts": 2})
        assert "the model has no chat template: messages are joined by blank lines" in asked.notes


def test_the_micro_batch_of_rollouts_may_shrink(train: Train, asking: Any) -> None:
    whole = train("grpo", "whole", max_prompts=6)
    asked = asking(1, shrink=True)
    small = train("grpo", "small", max_prompts=6, asked=asked)
    assert asked.notes == ["micro-batch halved to 2 at step 1"]
    ours, theirs = (load_file(run.out / "adapter/adapter_model.safetensors") for run in (small, whole))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)


def test_batches_hold_whole_groups() -> None:
    with pytest.raises(ValidationError, match="`effective_batch` must be a multiple of `generations`"):
        GrpoSettings.model_validate({"model": "m", "prompts": "p", "reward": "r", "effective_batch": 12})
    with pytest.raises(ValidationError, match="`effective_batch` must be a multiple of `micro_batch`"):
        KtoSettings.model_validate({"model": "m", "data": "d", "effective_batch": 6})


@pytest.mark.parametrize("kind", [Kto(), Grpo(), Rloo()], ids=lambda kind: kind.name)
def test_forecasts_grow_with_the_work(kind: AnyKind) -> None:
    settings = kind.settings.model_validate(
        {"model": "m", "data": "d"} if kind.name == "kto" else {"model": "m", "prompts": "p", "reward": "r"}
    )
    model = {
        "parameters": 134_515_008,
        "layers": 30,
        "hidden": 576,
        "intermediate": 1536,
        "vocabulary": 49152,
        "dtype": "float32",
    }
    data = {"rows": 240, "chars_prompt": 90.0, "chars_chosen": 180.0, "chars_rejected": 180.0, "chars_longest": 400}
    known = {
        "model": InputFacts("m", model, True),
        "data" if kind.name == "kto" else "prompts": InputFacts("d", data, True),
        "reward": InputFacts("r", {**model, "dtype": "bfloat16"}, True),
    }
    first = kind.forecast(settings, known, HERE, History())
    assert first.memory.low < first.memory.mid < first.memory.high < 8 * 1024**3
    assert sum(first.parts.values()) == pytest.approx(first.memory.mid)
    twice = kind.forecast(settings.model_copy(update={"epochs": 2}), known, HERE, History())
    assert twice.work == pytest.approx(2 * first.work, rel=0.05)
    longer = settings.model_copy(update={"max_completion_tokens": 1500, "max_prompt_tokens": 1500})
    far = {**known, "data": InputFacts("d", {**data, "chars_longest": 9000}, True)}
    assert kind.forecast(longer, far, HERE, History()).memory.mid > first.memory.mid
    if kind.name != "kto":
        assert first.parts["reward"] == 4 * model["parameters"]
        assert kind.forecast(settings.model_copy(update={"beta": 0.0}), known, HERE, History()).work <= first.work
    assert "assumed" in kind.forecast(settings, {}, HERE, History()).basis
