from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aifw.errors import CheckpointInvalid, InputInvalid, JobError, JobStopped
from aifw.hardware.libraries.backend import computes_bf16
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Input, Job, latest_checkpoint
from aifw.kind import History, InputFacts
from aifw.models.chat import EncodedPair
from aifw.models.load import PLAIN, load_tokenizer, quiet
from aifw.models.pairs import choose, encode, read_pairs
from aifw.models.tiny import write_tiny_model
from aifw.training import reward
from aifw.training.adapter import lora_config
from aifw.training.course import lay_out, learning_rate_factor
from aifw.training.reward_kinds import Reward, RewardSettings
from aifw.training.reward_model import Rewards, load_reward_model

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))
Jobs = Callable[..., Job[RewardSettings]]


@pytest.fixture
def job(tmp_path: Path, inputs: dict[str, Input], make_job: Callable[..., Job[Any]]) -> Jobs:
    def make(name: str = "a", **changes: Any) -> Job[RewardSettings]:
        given = {"model": changes.pop("base", inputs["model"]), "data": changes.pop("rows", inputs["pairs"])}
        if "evaluation" in changes:
            given["evaluation"] = changes.pop("evaluation")
            changes["evaluation"] = "e"
        return make_job(RewardSettings, tmp_path / name, given, data="d", **changes)

    return make


def _tokens(inputs: dict[str, Input], name: str = "pairs") -> list[EncodedPair]:
    tokenizer = load_tokenizer(inputs["model"].path)
    pairs = choose(read_pairs(inputs[name].path), None)
    return encode(pairs, tokenizer, max_prompt=99, max_answer=99, context=256, keep_equal=False).tokens


def _losses_of_trl(job: Job[RewardSettings], folder: Path, tokens: list[EncodedPair]) -> tuple[list[float], Any]:
    """Per-step losses of TRL's trainer on the same pairs in the same order, from the same first weights."""
    from datasets import Dataset
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback
    from trl import RewardConfig, RewardTrainer

    settings = job.settings
    order = lay_out(
        [len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in tokens],
        settings.epochs,
        settings.effective_batch,
        job.seed,
    )
    steps = len(order) // settings.effective_batch
    rows = []
    for index in order:
        pair = tokens[index]
        row = {"chosen_ids": [*pair.prompt, *pair.chosen], "rejected_ids": [*pair.prompt, *pair.rejected]}
        rows.append(row | ({"margin": settings.margin} if settings.margin else {}))

    class Ordered(RewardTrainer):  # type: ignore[misc]
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            def factor(step: int) -> float:
                return learning_rate_factor(step, steps, settings.warmup, settings.schedule)

            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
            return self.lr_scheduler

    losses: list[float] = []

    class Collect(TrainerCallback):  # type: ignore[misc]
        def on_log(self, *_: object, logs: dict[str, float], **__: object) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    with quiet():
        model = load_reward_model(job.inputs["model"].path, PLAIN, job.seed)
        config = lora_config(settings.lora)
        config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
        trainer = Ordered(
            model=model.module,
            args=RewardConfig(
                output_dir=str(folder / "scratch"),
                max_steps=steps,
                per_device_train_batch_size=2,
                gradient_accumulation_steps=settings.effective_batch // 2,
                learning_rate=settings.learning_rate,
                center_rewards_coefficient=settings.centring or None,
                max_length=None,
                max_grad_norm=1.0,
                weight_decay=0.0,
                optim="adamw_torch",
                seed=job.seed,
                bf16=False,
                use_cpu=True,
                activation_checkpointing=False,
                train_sampling_strategy="sequential",
                dataloader_pin_memory=False,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=model.tokenizer,
            peft_config=config,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Collect())
        trainer.train()
    return losses, trainer.accelerator.unwrap_model(trainer.model)


@pytest.mark.parametrize("changes", [{}, {"margin": 0.5, "centring": 0.1}])
def test_steps_are_those_of_trl(
    job: Jobs, inputs: dict[str, Input], tmp_path: Path, curve: Callable[..., Any], changes: dict[str, float]
) -> None:
    from peft import get_peft_model_state_dict

    run = job(epochs=2, micro_batch=2, **changes)
    reward.train(run)
    losses, model = _losses_of_trl(run, tmp_path, _tokens(inputs))
    ours = [row["loss"] for row in curve(run)]
    assert len(ours) == len(losses) == 9
    assert ours == pytest.approx(losses, rel=1e-4, abs=1e-6)
    theirs = get_peft_model_state_dict(model)
    adapter = load_file(run.out / "adapter/adapter_model.safetensors")
    assert adapter.keys() == theirs.keys()
    assert "base_model.model.score.weight" in adapter
    for name, weight in adapter.items():
        assert torch.allclose(weight, theirs[name], atol=2e-4), name


def test_transformers_loads_it_and_reads_the_rewards(
    job: Jobs, inputs: dict[str, Input], curve: Callable[..., Any]
) -> None:
    from transformers import AutoModelForSequenceClassification

    run = job(epochs=8, evaluation=inputs["heldout"])
    reward.train(run)
    assert curve(run)[-1]["loss"] < 0.4
    with quiet():
        module = AutoModelForSequenceClassification.from_pretrained(run.out / "model", use_safetensors=True).eval()
    assert module.config.num_labels == 1
    share = {}
    for name in ("pairs", "heldout"):
        right = 0
        for pair in _tokens(inputs, name):
            with torch.no_grad():
                chosen, rejected = (
                    float(module(torch.tensor([[*pair.prompt, *answer]])).logits)
                    for answer in (pair.chosen, pair.rejected)
                )
            right += chosen > rejected
        share[name] = right / len(_tokens(inputs, name))
    assert run.facts["model"]["accuracy"] == share["pairs"] > 0.8
    assert run.facts["model"]["heldout_accuracy"] == share["heldout"]
    assert run.facts["model"]["heldout_pairs"] == 6
    assert run.facts["model"]["parameters"] == sum(each.numel() for each in module.parameters())
    assert (run.out / "model/tokenizer.json").read_bytes() == (inputs["model"].path / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("step", [3])
def test_an_interrupted_run_ends_with_the_same_bytes(
    job: Jobs, asking: Any, digests: Callable[..., Any], tmp_path: Path, step: int
) -> None:
    changes = {"micro_batch": 2, "lora": {"r": 4, "dropout": 0.2}}
    whole = job("whole", **changes)
    reward.train(whole)
    with pytest.raises(JobStopped, match=f"step {step} of 5 is saved"):
        reward.train(job("half", asked=asking(step, stop=True), **changes))
    rest = job("rest", resume=latest_checkpoint(tmp_path / "half/checkpoints"), **changes)
    reward.train(rest)
    assert digests(rest.out) == digests(whole.out)
    assert rest.facts == whole.facts
    with pytest.raises(CheckpointInvalid, match="belongs to another run"):
        reward.train(job("other", resume=latest_checkpoint(tmp_path / "half/checkpoints"), margin=1.0))


def test_shrinking_keeps_the_effective_batch(job: Jobs, asking: Any) -> None:
    whole = job("whole", micro_batch=4)
    reward.train(whole)
    asked = asking(3, shrink=True)
    small = job("small", micro_batch=4, asked=asked)
    reward.train(small)
    assert asked.notes == ["micro-batch halved to 2 at step 3"]
    ours, theirs = (load_file(run.out / "adapter/adapter_model.safetensors") for run in (small, whole))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)


def test_an_evaluation_on_what_is_trained_is_refused(job: Jobs, inputs: dict[str, Input]) -> None:
    with pytest.raises(InputInvalid, match="18 of 18 pairs of pairs have a prompt that is trained on"):
        reward.train(job(evaluation=inputs["pairs"]))


def test_what_cannot_be_used_is_counted(
    job: Jobs, asking: Any, write_rows: Callable[..., Input], tmp_path: Path
) -> None:
    turn = [{"role": "user", "content": "a"}]
    rows = [
        {"id": f"p{number}", "group": "g", "prompt": turn, "chosen": chosen, "rejected": "x"}
        for number, chosen in enumerate(["y", " ", "x", "z" * 200])
    ]
    asked = asking()
    reward.train(job(rows=write_rows(tmp_path / "rows", rows), asked=asked, max_completion_tokens=50))
    assert asked.notes == [
        "1 pairs not used: an answer is empty",
        "1 pairs not used: both answers are the same",
        "1 answers shortened to the limit",
    ]
    with pytest.raises(InputInvalid, match="none of the 1 pairs of bad can be used for training"):
        reward.train(job("b", rows=write_rows(tmp_path / "bad", rows[1:2])))
    with pytest.raises(InputInvalid, match=r"`lora\.target_modules` fits no layer"):
        reward.train(job("c", lora={"target_modules": ["flux_capacitor"]}))


def test_a_loss_that_is_no_number_ends_the_run(job: Jobs, tmp_path: Path) -> None:
    broken = write_tiny_model(tmp_path / "broken")
    weights = load_file(broken.path / "model.safetensors")
    weights["model.norm.weight"][:] = math.inf
    save_file(weights, broken.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JobError, match="the loss is nan at step 1 of 5"):
        reward.train(job(base=broken))


def _rewards(inputs: dict[str, Input]) -> tuple[Any, list[EncodedPair]]:
    return load_reward_model(inputs["model"].path, PLAIN, 3), _tokens(inputs)


def test_both_ways_give_the_same_rewards_and_gradients(inputs: dict[str, Input]) -> None:
    model, pairs = _rewards(inputs)
    # Some answers end with what pads rows, one is nothing else.
    pairs[1] = EncodedPair(pairs[1].prompt, (*pairs[1].chosen, 0, 0), (0,))
    shared = Rewards.of(model, pairs[0])
    assert shared.shares
    apart = replace(shared, shares=False)
    assert torch.allclose(shared.of_pairs(pairs), apart.of_pairs(pairs), atol=1e-5)
    weights = list(model.module.parameters())
    ours, theirs = (
        torch.autograd.grad((way.of_pairs(pairs) * torch.arange(36).view(18, 2)).sum(), weights)
        for way in (shared, apart)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-2)


def test_where_sharing_is_wrong_prompts_are_computed_twice(inputs: dict[str, Input]) -> None:
    model, pairs = _rewards(inputs)
    plain = type(model.module.model).forward

    class Recurrent(type(model.module.model)):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            output = plain(self, *arguments, **named)
            output.last_hidden_state = output.last_hidden_state + 0.3 * output.last_hidden_state.cumsum(1)
            return output

    model.module.model.__class__ = Recurrent
    assert not Rewards.of(model, pairs[0]).shares


@pytest.mark.skipif(not computes_bf16("cpu"), reason="this processor has no arithmetic in bfloat16")
def test_half_precision_of_the_processor(job: Jobs, curve: Callable[..., Any]) -> None:
    run = job(epochs=6, precision="bf16")
    reward.train(run)
    assert curve(run)[-1]["loss"] < curve(run)[0]["loss"]
    assert json.loads((run.out / "model/config.json").read_text())["dtype"] == "float32"


def test_forecast_grows_with_the_work_and_the_longest_pair() -> None:
    kind, settings = Reward(), RewardSettings.model_validate({"model": "m", "data": "d"})
    model = {"parameters": 134_515_008, "layers": 30, "hidden": 576, "intermediate": 1536, "vocabulary": 49152}
    data = {"rows": 240, "chars_prompt": 90.0, "chars_chosen": 180.0, "chars_rejected": 180.0, "chars_longest": 400}
    known = {"model": InputFacts("m", model, True), "data": InputFacts("d", data, True)}
    first = kind.forecast(settings, known, HERE, History())
    assert first.memory.low < first.memory.mid < first.memory.high < 4 * 1024**3
    assert sum(first.parts.values()) == pytest.approx(first.memory.mid)
    twice = kind.forecast(settings.model_copy(update={"epochs": 2}), known, HERE, History())
    # The rewards of all pairs are computed once.
    assert 1.5 * first.work < twice.work < 2 * first.work
    longer = {**known, "data": InputFacts("d", {**data, "chars_longest": 4000}, True)}
    assert kind.forecast(settings, longer, HERE, History()).memory.mid > first.memory.mid
    measured = {**known, "evaluation": InputFacts("e", {"rows": 1000}, True)}
    with_evaluation = settings.model_copy(update={"evaluation": "e"})
    assert kind.forecast(with_evaluation, measured, HERE, History()).work > first.work
    assert "assumed" in kind.forecast(settings, {}, HERE, History()).basis
