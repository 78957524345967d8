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
from aifw.hardware.machine import Cpu, Machine, Measured, Memory
from aifw.job import Input, Job, latest_checkpoint
from aifw.kind import History, InputFacts
from aifw.models.conversations import encode_conversations, read_conversations
from aifw.models.load import load
from aifw.models.tiny import write_tiny_model
from aifw.training import sft
from aifw.training.likelihood import Likelihood
from aifw.training.sft_kinds import Sft, SftSettings, Sizes

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))
Jobs = Callable[..., Job[SftSettings]]


@pytest.fixture
def job(tmp_path: Path, inputs: dict[str, Input], make_job: Callable[..., Job[Any]]) -> Jobs:
    def make(name: str = "a", **changes: Any) -> Job[SftSettings]:
        data = changes.pop("rows", inputs["conversations"])
        given = {"model": changes.pop("base", inputs["model"]), "data": data}
        return make_job(SftSettings, tmp_path / name, given, data="d", **changes)

    return make


def _adapter(job: Job[Any]) -> dict[str, torch.Tensor]:
    return load_file(job.out / "adapter/adapter_model.safetensors")


@pytest.mark.parametrize(("data", "packing"), [("conversations", True), ("pairs", False)])
def test_steps_are_those_of_trl(
    job: Jobs, inputs: dict[str, Input], curve: Callable[..., Any], data: str, packing: bool
) -> None:
    """Several micro-batches of unequal numbers of learnt tokens make a step, so a mean of means would show."""
    runs = {}
    for trainer in ("aifw", "trl"):
        runs[trainer] = job(trainer, rows=inputs[data], trainer=trainer, epochs=2, micro_batch=2, packing=packing)
        sft.train(runs[trainer])
    ours, theirs = curve(runs["aifw"]), curve(runs["trl"])
    assert len(ours) == len(theirs) == (7 if data == "conversations" else 9)
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["learning_rate"] == pytest.approx(other["learning_rate"])
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    theirs_adapter = _adapter(runs["trl"])
    for name, weight in _adapter(runs["aifw"]).items():
        assert torch.allclose(weight, theirs_adapter[name], atol=2e-4), name


def test_the_loss_is_the_mean_over_learnt_tokens(
    job: Jobs, inputs: dict[str, Input], curve: Callable[..., Any]
) -> None:
    """Of the first step, from the logits of the model as it came."""
    run = job(rows=inputs["conversations"], effective_batch=14, micro_batch=7)
    sft.train(run)
    model = load(inputs["model"].path)
    sequences = encode_conversations(
        read_conversations(inputs["conversations"].path), model.tokenizer, window=256
    ).sequences
    total, count = 0.0, 0
    for sequence in sequences:
        with torch.no_grad():
            scores = model.module(torch.tensor([sequence.ids])).logits[0].log_softmax(-1)
        for place in sequence.places():
            total -= float(scores[place - 1, sequence.ids[place]])
            count += 1
    assert curve(run)[0]["loss"] == pytest.approx(total / count, rel=1e-5)
    assert json.loads((run.out / "adapter/metrics.json").read_text())["learnt_tokens"] == count


@pytest.mark.parametrize(("trainer", "step"), [("aifw", 1), ("aifw", 3), ("trl", 3)])
def test_an_interrupted_run_ends_with_the_same_bytes(
    job: Jobs, asking: Any, digests: Callable[..., Any], tmp_path: Path, trainer: str, step: int
) -> None:
    changes = {"trainer": trainer, "micro_batch": 2, "lora": {"r": 4, "dropout": 0.2}}
    whole = job("whole", **changes)
    sft.train(whole)
    with pytest.raises(JobStopped, match=f"step {step} of 4 is saved"):
        sft.train(job("half", asked=asking(step, stop=True), **changes))
    rest = job("rest", resume=latest_checkpoint(tmp_path / "half/checkpoints"), **changes)
    sft.train(rest)
    assert digests(rest.out) == digests(whole.out)
    assert rest.facts == whole.facts
    assert {path.suffix for path in (tmp_path / "half/checkpoints").rglob("*.*")} == {".json", ".safetensors"}


def test_answers_become_more_probable(job: Jobs, curve: Callable[..., Any], inputs: dict[str, Input]) -> None:
    run = job(epochs=4)
    sft.train(run)
    losses = [row["loss"] for row in curve(run)]
    assert losses[-1] < 0.8 * losses[0]
    assert run.facts["adapter"] == {"conversations": 14, "rank": 4, "steps": 14, "loss": losses[-1]}
    assert run.facts["model"]["provenance"] == "a random Llama with seed 0, SFT on 14 conversations"
    before, after = load(inputs["model"].path), load(run.out / "model")
    ids = torch.randint(3, 200, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(before.module(ids).logits, after.module(ids).logits, atol=1e-2)


def test_shrinking_keeps_the_effective_batch(job: Jobs, asking: Any) -> None:
    whole = job("whole", micro_batch=4, epochs=2)
    sft.train(whole)
    asked = asking(3, shrink=True)
    small = job("small", micro_batch=4, epochs=2, asked=asked)
    sft.train(small)
    assert asked.notes == ["micro-batch halved to 2 at step 3"]
    assert asked.steps == list(range(1, 8))
    assert small.facts["adapter"]["micro_batch_changes"] == [(3, 2)]
    ours, theirs = _adapter(small), _adapter(whole)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)


def test_a_checkpoint_of_another_run_is_refused(job: Jobs, asking: Any, tmp_path: Path) -> None:
    with pytest.raises(JobStopped):
        sft.train(job("a", asked=asking(1, stop=True)))
    found = latest_checkpoint(tmp_path / "a/checkpoints")
    with pytest.raises(CheckpointInvalid, match="belongs to another run"):
        sft.train(job("b", learning_rate=1e-3, resume=found))
    sft.train(job("c", micro_batch=1, packing=False, resume=found))


def test_what_cannot_be_used_is_counted(
    job: Jobs, asking: Any, write_rows: Callable[..., Input], tmp_path: Path
) -> None:
    def pair(number: int, prompt: str, answer: str) -> dict[str, Any]:
        turn = [{"role": "user", "content": prompt}]
        return {"id": f"p{number}", "group": "g", "prompt": turn, "chosen": answer, "rejected": "x"}

    rows = [pair(0, "a", "b"), pair(1, "c" * 300, "d"), pair(2, "e", " "), pair(3, "f", "g" * 300)]
    asked = asking()
    run = job(rows=write_rows(tmp_path / "rows", rows), max_tokens=100, asked=asked, effective_batch=1)
    sft.train(run)
    assert asked.notes == [
        "1 conversations not used: its answer is empty",
        "1 conversations not used: no answer begins within 100 tokens",
        "1 conversations shortened to the limit",
    ]
    assert run.facts["adapter"]["conversations"] == 2
    with pytest.raises(InputInvalid, match="none of the 1 conversations of empty can be used") as caught:
        sft.train(job("b", rows=write_rows(tmp_path / "empty", rows[2:3])))
    assert caught.value.hint == "1 conversations not used: its answer is empty"
    with pytest.raises(InputInvalid, match="none of the 0 conversations"):
        sft.train(job("c", rows=write_rows(tmp_path / "none", [])))


@pytest.mark.parametrize("trainer", ["aifw", "trl"])
def test_a_target_that_fits_no_layer(job: Jobs, trainer: str) -> None:
    with pytest.raises(InputInvalid, match=r"`lora\.target_modules` fits no layer"):
        sft.train(job(trainer=trainer, lora={"target_modules": ["flux_capacitor"]}))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_trl_takes_no_adapter_beside_the_output_layer(job: Jobs) -> None:
    with pytest.raises(InputInvalid, match=r"`lora\.target_modules` names the output layer"):
        sft.train(job(trainer="trl", lora={"target_modules": ["lm_head", "q_proj"]}))


def test_a_loss_that_is_no_number_ends_the_run(job: Jobs, tmp_path: Path) -> None:
    broken = write_tiny_model(tmp_path / "broken")
    weights = load_file(broken.path / "model.safetensors")
    weights["model.norm.weight"][:] = math.inf
    save_file(weights, broken.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JobError, match="the loss is nan at step 1 of 4"):
        sft.train(job(base=broken))


def test_a_model_without_a_template_is_said_to_be_so(job: Jobs, asking: Any, tmp_path: Path) -> None:
    asked = asking()
    run = job(base=write_tiny_model(tmp_path / "plain", template=None), asked=asked)
    sft.train(run)
    assert asked.notes == ["the model has no chat template: messages are joined by blank lines"]


def test_where_packing_is_wrong_each_conversation_has_a_row(
    job: Jobs, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = job("packed")
    sft.train(packed)
    monkeypatch.setattr("aifw.training.likelihood.has_plain_head", lambda _module: False)
    asked = asking()
    apart = job("apart", asked=asked)
    sft.train(apart)
    assert asked.notes == [
        "each conversation has a row of its own: this model gives other numbers where several share one"
    ]
    ours, theirs = _adapter(packed), _adapter(apart)
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-4) for name in theirs)


@pytest.mark.skipif(not computes_bf16("cpu"), reason="this processor has no arithmetic in bfloat16")
def test_half_precision_of_the_processor(job: Jobs, curve: Callable[..., Any]) -> None:
    whole, half = job("whole", epochs=3), job("half", epochs=3, precision="bf16")
    for run in (whole, half):
        sft.train(run)
    for one, other in zip(curve(whole), curve(half), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.05)


@pytest.mark.parametrize(("memory", "micro"), [(None, 4), (100 * 1024**3, 4), (1024**2, 1)])
def test_micro_batch_fits_the_memory(job: Jobs, inputs: dict[str, Input], memory: int | None, micro: int) -> None:
    tokenizer = load(inputs["model"].path).tokenizer
    encoded = encode_conversations(read_conversations(inputs["pairs"].path), tokenizer, window=256)
    assert sft._micro_batch(job(memory=memory, effective_batch=4), encoded.sequences, "fp32") == micro


def test_shares_have_about_as_many_tokens(inputs: dict[str, Input]) -> None:
    model = load(inputs["model"].path)
    encoded = encode_conversations(read_conversations(inputs["conversations"].path), model.tokenizer, window=256)
    way = Likelihood.of(model, encoded.sequences, packing=True)
    assert way.packs
    shares = sft._shares(encoded.sequences, 7, packed=True)
    assert sorted(index for share in shares for index in share) == list(range(14))
    sizes = [sum(len(encoded.sequences[index].ids) for index in share) for share in shares]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) < max(len(each.ids) for each in encoded.sequences)


def test_forecast_grows_with_the_work_and_the_longest_conversation() -> None:
    kind, settings = Sft(), SftSettings.model_validate({"model": "m", "data": "d"})
    model = {"parameters": 134_515_008, "layers": 30, "hidden": 576, "intermediate": 1536, "vocabulary": 49152}
    data = {"rows": 240, "chars_prompt": 90.0, "chars_answer": 180.0, "chars_longest": 400}
    known = {"model": InputFacts("m", model, True), "data": InputFacts("d", data, True)}
    first = kind.forecast(settings, known, HERE, History())
    assert first.memory.low < first.memory.mid < first.memory.high < 4 * 1024**3
    assert sum(first.parts.values()) == pytest.approx(first.memory.mid)
    twice = kind.forecast(settings.model_copy(update={"epochs": 2}), known, HERE, History())
    assert twice.work == pytest.approx(2 * first.work)
    assert twice.memory == first.memory
    longer = {**known, "data": InputFacts("d", {**data, "chars_longest": 4000}, True)}
    assert kind.forecast(settings, longer, HERE, History()).memory.mid > first.memory.mid
    pairs = {"rows": 240, "chars_prompt": 90.0, "chars_chosen": 180.0, "chars_longest": 400}
    assert kind.forecast(settings, {**known, "data": InputFacts("d", pairs, True)}, HERE, History()) == first
    fast = replace(HERE, measured={"cpu": Measured(throughput={"fp32": 1e12})})
    assert kind.forecast(settings, known, fast, History()).seconds.mid < first.seconds.mid
    theirs = kind.forecast(settings.model_copy(update={"trainer": "trl"}), known, HERE, History())
    assert theirs.memory.mid > first.memory.mid
    blind = kind.forecast(settings, {}, HERE, History())
    assert "assumed" in blind.basis
    assert blind.memory.high / blind.memory.mid > first.memory.high / first.memory.mid


def test_sizes_are_cut_at_the_limit() -> None:
    sizes = Sizes.of({"chars_prompt": 10_000.0, "chars_answer": 10_000.0, "chars_longest": 90_000}, 100)
    assert (sizes.prompt, sizes.answer, sizes.mean, sizes.longest) == (99, 1, 100, 100)
