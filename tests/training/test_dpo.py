from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from aifw.errors import CheckpointInvalid, InputInvalid, JobError, JobStopped
from aifw.hardware.libraries.backend import computes_bf16
from aifw.hardware.machine import Cpu, Machine, Measured, Memory
from aifw.job import Control, Input, latest_checkpoint
from aifw.kind import History, InputFacts
from aifw.models.chat import EncodedPair
from aifw.models.load import load, quiet
from aifw.models.pairs import Encoded
from aifw.models.tiny import write_tiny_model
from aifw.training import dpo
from aifw.training.adapter import add_adapter, drop_in_adapter_only
from aifw.training.checkpoint import Progress
from aifw.training.kinds import OF_BATCHES, SMOOTHED, Dpo, DpoSettings, LoraSettings, micro_batch
from aifw.training.losses import LOSSES
from aifw.training.watch import Watch

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class _Asking:
    """Asks for something once a step is done, and remembers what was reported."""

    def __init__(self, step: int, **asked: bool) -> None:
        self.control, self.step, self.asked = Control(), step, asked
        self.notes: list[str] = []
        self.steps: list[int] = []

    def __call__(self, name: str, data: Mapping[str, Any]) -> None:
        if name == "note":
            self.notes.append(data["text"])
        if name == "progress" and data["unit"] == "step":
            self.steps.append(data["done"])
            if data["done"] == self.step:
                vars(self.control).update(self.asked)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("step", [1, 4])
def test_an_interrupted_run_ends_with_the_same_bytes(
    tmp_path: Path, dpo_inputs: dict[str, Input], dropout: float, step: int, dpo_job: Any
) -> None:
    changes = {"epochs": 2, "micro_batch": 2, "lora": {"r": 4, "dropout": dropout}}
    whole = dpo_job("whole", dpo_inputs, **changes)
    dpo.train(whole)
    asking = _Asking(step, stop=True)
    with pytest.raises(JobStopped, match=f"step {step} of 9 is saved"):
        dpo.train(dpo_job("half", dpo_inputs, asked=asking.control, report=asking, **changes))
    rest = dpo_job("rest", dpo_inputs, resume=latest_checkpoint(tmp_path / "half/checkpoints"), **changes)
    dpo.train(rest)
    assert _digests(rest.out) == _digests(whole.out)
    assert rest.facts == whole.facts
    assert all(path.suffix in {".json", ".safetensors"} for path in (tmp_path / "half/checkpoints/").rglob("*.*"))


def test_training_prefers_what_it_was_taught(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    job = dpo_job("a", dpo_inputs, epochs=6)
    dpo.train(job)
    curve = json.loads((job.out / "adapter/metrics.json").read_text())["curve"]
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert curve[-1]["loss"] < 0.6
    assert curve[-1]["margin"] > 0
    assert [row["step"] for row in curve] == list(range(1, 28))
    assert job.facts["adapter"]["pairs"] == 18
    assert job.facts["model"]["layers"] == 2
    assert job.facts["model"]["provenance"] == "a random Llama with seed 0, DPO on 18 pairs"


def test_merged_weights_compute_what_the_adapter_does(
    tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any
) -> None:
    job = dpo_job("a", dpo_inputs)
    dpo.train(job)
    base, merged = load(dpo_inputs["model"].path), load(job.out / "model")
    ids = torch.randint(3, 200, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), quiet():
        before = base.module(ids).logits
        beside = PeftModel.from_pretrained(base.module, job.out / "adapter").eval()(ids).logits
        after = merged.module(ids).logits
    assert torch.allclose(after, beside, atol=1e-4)
    assert not torch.allclose(after, before, atol=1e-2)
    assert "model" not in json.loads((job.out / "adapter/adapter_config.json").read_text())["target_modules"]
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        assert (job.out / "model" / name).read_bytes() == (dpo_inputs["model"].path / name).read_bytes()


def test_the_loss_is_the_published_one(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    """After one step: -log sigmoid(beta * (margin under the model - margin under the reference)), from the merged weights."""
    from aifw.models.pairs import encode, read_pairs
    from aifw.models.score import score_pairs

    exact = {"max_pairs": 4, "warmup": 0, "schedule": "constant", "beta": 0.5, "precision": "fp32"}
    first = dpo_job("one", dpo_inputs, **exact)
    dpo.train(first)
    second = dpo_job("two", dpo_inputs, **exact, epochs=2)
    dpo.train(second)
    reference, trained = load(dpo_inputs["model"].path), load(first.out / "model")
    names = {pair.id for pair in dpo.choose(read_pairs(dpo_inputs["data"].path), 4)}
    pairs = [pair for pair in read_pairs(dpo_inputs["data"].path) if pair.id in names]
    tokens = encode(pairs, reference.tokenizer, max_prompt=99, max_answer=99, context=256, keep_equal=False).tokens
    losses = [
        math.log1p(math.exp(-0.5 * (ours.margin - theirs.margin)))
        for ours, theirs in zip(score_pairs(trained, tokens), score_pairs(reference, tokens), strict=True)
    ]
    curve = json.loads((second.out / "adapter/metrics.json").read_text())["curve"]
    assert curve[1]["loss"] == pytest.approx(sum(losses) / 4, rel=1e-3)


def test_shrinking_keeps_the_effective_batch(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    whole = dpo_job("whole", dpo_inputs, micro_batch=4, epochs=2)
    dpo.train(whole)
    asking = _Asking(3, shrink=True)
    small = dpo_job("small", dpo_inputs, micro_batch=4, epochs=2, asked=asking.control, report=asking)
    dpo.train(small)
    assert asking.notes == ["micro-batch halved to 2 at step 3"]
    assert asking.steps == list(range(1, 10))
    assert small.facts["adapter"]["micro_batch_changes"] == [(3, 2)]
    ours, theirs = (load_file(job.out / "adapter/adapter_model.safetensors") for job in (small, whole))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)


def test_a_checkpoint_on_request_changes_nothing(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    whole = dpo_job("whole", dpo_inputs)
    dpo.train(whole)
    asking = _Asking(2, checkpoint=True)
    other = dpo_job("other", dpo_inputs, asked=asking.control, report=asking)
    dpo.train(other)
    assert [path.name for path in (tmp_path / "other/checkpoints").iterdir()] == ["step-000000002"]
    assert _digests(other.out) == _digests(whole.out)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    asking = _Asking(1, stop=True)
    with pytest.raises(JobStopped):
        dpo.train(dpo_job("a", dpo_inputs, asked=asking.control, report=asking))
    found = latest_checkpoint(tmp_path / "a/checkpoints")
    assert found is not None
    with pytest.raises(CheckpointInvalid, match="belongs to another run"):
        dpo.train(dpo_job("b", dpo_inputs, beta=0.2, resume=found))
    save_file({"random": torch.zeros(1)}, found / "tensors.safetensors")
    with pytest.raises(CheckpointInvalid, match="does not fit"):
        dpo.train(dpo_job("c", dpo_inputs, resume=found))
    (found / "state.json").write_text("{")
    with pytest.raises(CheckpointInvalid, match="cannot be read"):
        dpo.train(dpo_job("d", dpo_inputs, resume=found))


def test_no_usable_pair_is_said(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none/pairs.jsonl").touch()
    with pytest.raises(InputInvalid, match="none of the 0 pairs of nothing"):
        dpo.train(dpo_job("a", dpo_inputs | {"data": Input("nothing", tmp_path / "none")}))


def test_a_target_that_fits_no_layer(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    with pytest.raises(InputInvalid, match=r"`lora\.target_modules` fits no layer"):
        dpo.train(dpo_job("a", dpo_inputs, lora={"target_modules": ["flux_capacitor"]}))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run(
    tmp_path: Path, dpo_inputs: dict[str, Input], number: float, dpo_job: Any
) -> None:
    progress = Progress("run", step=2)
    watch = Watch(dpo_job("a", dpo_inputs), progress, 5)
    good = {"loss": 0.5, "margin": 0.1, "accuracy": 1.0, "learning_rate": 1e-3, "grad_norm": 1.0}
    watch.after_step(good, None, None)
    with pytest.raises(JobError, match=f"the loss is {number} at step 4 of 5"):
        watch.after_step(good | {"loss": number}, None, None)
    with pytest.raises(JobError, match=r"the loss is 0\.5 at step 5 of 5"):
        watch.after_step(good | {"grad_norm": number}, None, None)
    assert len(progress.history) == 1


def test_a_reference_that_is_no_number_ends_the_run(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    broken = write_tiny_model(tmp_path / "broken")
    weights = load_file(broken.path / "model.safetensors")
    weights["model.norm.weight"][:] = 1e38
    save_file(weights, broken.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JobError, match="a probability that is not a number"):
        dpo.train(dpo_job("a", dpo_inputs | {"model": broken}))
    assert not (tmp_path / "a/checkpoints").exists()


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"discopop"}))
def test_every_loss_widens_the_margin(tmp_path: Path, dpo_inputs: dict[str, Input], loss: str, dpo_job: Any) -> None:
    smoothing = {"label_smoothing": 0.1} if loss in SMOOTHED["aifw"] else {}
    job = dpo_job(loss, dpo_inputs, loss=loss, epochs=4, effective_batch=6, **smoothing)
    dpo.train(job)
    curve = json.loads((job.out / "adapter/metrics.json").read_text())["curve"]
    assert sum(row["margin"] for row in curve[-3:]) > sum(row["margin"] for row in curve[:3])


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_are_those_of_trl(tmp_path: Path, dpo_inputs: dict[str, Input], loss: str, dpo_job: Any) -> None:
    curves, adapters = [], []
    smoothing = {"label_smoothing": 0.1} if loss in {"robust", "exo_pair"} else {}
    for trainer in ("aifw", "trl"):
        job = dpo_job(trainer, dpo_inputs, trainer=trainer, loss=loss, epochs=2, micro_batch=2, **smoothing)
        dpo.train(job)
        curves.append(json.loads((job.out / "adapter/metrics.json").read_text())["curve"])
        adapters.append(load_file(job.out / "adapter/adapter_model.safetensors"))
    assert len(curves[0]) == 9
    for ours, theirs in zip(*curves, strict=True):
        # What a loss is relative to: near its least value the difference of two logarithms is all there is.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4, abs=1e-6)
        assert ours["margin"] == pytest.approx(theirs["margin"], rel=1e-3, abs=1e-3)
        assert ours["learning_rate"] == pytest.approx(theirs["learning_rate"])
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3, abs=1e-5)
    assert adapters[0].keys() == adapters[1].keys()
    for name, weight in adapters[0].items():
        assert torch.allclose(weight, adapters[1][name], atol=2e-4), name


@pytest.mark.parametrize("loss", OF_BATCHES)
def test_losses_that_trl_alone_has(dpo_inputs: dict[str, Input], loss: str, dpo_job: Any) -> None:
    with pytest.raises(ValueError, match=f"`loss: {loss}` needs `trainer: trl`"):
        dpo_job("ours", dpo_inputs, loss=loss)
    job = dpo_job("trl", dpo_inputs, trainer="trl", loss=loss, epochs=4)
    dpo.train(job)
    curve = json.loads((job.out / "adapter/metrics.json").read_text())["curve"]
    assert curve[-1]["loss"] < curve[0]["loss"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "hinge", "label_smoothing": 0.1}, "no effect on `loss: hinge` with `trainer: aifw`"),
        ({"trainer": "trl", "label_smoothing": 0.1}, "no effect on `loss: sigmoid` with `trainer: trl`"),
        ({"tuning": "full", "lora": {"r": 4}}, "`lora` has no effect with `tuning: full`"),
        ({"trainer": "trl", "early_stopping": {}}, "`early_stopping` needs `trainer: aifw`"),
        ({"trainer": "trl", "processes": 2}, "`processes` needs `trainer: aifw`"),
        ({"trainer": "trl", "compile": True}, "`compile` needs `trainer: aifw`"),
    ],
)
def test_settings_without_effect_are_refused(
    dpo_inputs: dict[str, Input], dpo_job: Any, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        dpo_job("a", dpo_inputs, **changes)


def test_a_second_run_does_not_score_the_reference_again(
    tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any
) -> None:
    def units(name: str, **changes: Any) -> set[str]:
        seen = set()

        def report(event: str, data: Mapping[str, Any]) -> None:
            if event == "progress":
                seen.add(data["unit"])

        dpo.train(dpo_job(name, dpo_inputs, report=report, **changes))
        return seen

    assert units("first") == {"reference pair", "step"}
    assert units("second", learning_rate=1e-3, micro_batch=1) == {"step"}
    assert units("third", max_pairs=8) == {"reference pair", "step"}


def test_a_model_that_cannot_share_prompts_is_trained_all_the_same(
    tmp_path: Path, dpo_inputs: dict[str, Input], monkeypatch: pytest.MonkeyPatch, dpo_job: Any
) -> None:
    shared = dpo_job("shared", dpo_inputs)
    dpo.train(shared)
    monkeypatch.setattr("aifw.training.policy.has_plain_head", lambda _module: False)
    asking = _Asking(2, stop=True)
    with pytest.raises(JobStopped):
        dpo.train(dpo_job("apart", dpo_inputs, asked=asking.control, report=asking))
    assert any(note.startswith("prompts are computed for each answer") for note in asking.notes)
    apart = dpo_job("apart", dpo_inputs, resume=latest_checkpoint(tmp_path / "apart/checkpoints"))
    dpo.train(apart)
    ours, theirs = (load_file(job.out / "adapter/adapter_model.safetensors") for job in (shared, apart))
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-4) for name in theirs)


def test_dropout_is_the_adapters_alone(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    module = load(tmp_path / "model").module
    module.model.embed_tokens = torch.nn.Sequential(module.model.embed_tokens, torch.nn.Dropout(0.5))
    with quiet():
        model = add_adapter(module, LoraSettings(dropout=0.2), 0)
    drop_in_adapter_only(model)
    dropping = {each.p for each in model.modules() if isinstance(each, torch.nn.Dropout) and each.training}
    assert dropping == {0.2}


def test_trl_resumes_with_the_same_bytes(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    changes = {"epochs": 2, "micro_batch": 2, "trainer": "trl", "loss": "exo_pair", "lora": {"r": 4, "dropout": 0.2}}
    whole = dpo_job("whole", dpo_inputs, **changes)
    dpo.train(whole)
    asking = _Asking(4, stop=True)
    with pytest.raises(JobStopped, match="step 4 of 9 is saved"):
        dpo.train(dpo_job("half", dpo_inputs, asked=asking.control, report=asking, **changes))
    rest = dpo_job("rest", dpo_inputs, resume=latest_checkpoint(tmp_path / "half/checkpoints"), **changes)
    dpo.train(rest)
    assert _digests(rest.out) == _digests(whole.out)


@pytest.mark.parametrize("trainer", ["aifw", "trl"])
def test_half_precision_of_the_processor(
    tmp_path: Path, dpo_inputs: dict[str, Input], trainer: str, dpo_job: Any
) -> None:
    if not computes_bf16("cpu"):
        pytest.skip("this processor has no arithmetic in bfloat16")
    job = dpo_job(trainer, dpo_inputs, trainer=trainer, precision="bf16", epochs=4)
    dpo.train(job)
    curve = json.loads((job.out / "adapter/metrics.json").read_text())["curve"]
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=0.02)
    assert curve[-1]["margin"] > 1


def _encoded(lengths: list[int]) -> Encoded:
    return Encoded(tokens=[EncodedPair((1,) * size, (1,), (2,)) for size in lengths])


@pytest.mark.parametrize(("memory", "micro"), [(None, 4), (100 * 1024**3, 4), (1024**2, 1)])
def test_micro_batch_fits_the_memory(
    tmp_path: Path, dpo_inputs: dict[str, Input], memory: int | None, micro: int, dpo_job: Any
) -> None:
    job = dpo_job("a", dpo_inputs, memory=memory)
    assert dpo._micro_batch(job, _encoded([10, 20])) == (micro, memory == 1024**2)


@pytest.mark.parametrize(
    ("wanted", "effective", "tokens", "device", "hidden", "micro"),
    [
        ("auto", 16, 200, "cpu", 576, 1),
        ("auto", 16, 70, "cpu", 576, 4),
        ("auto", 16, 70, "cpu", 4096, 4),
        ("auto", 16, 200, "cpu", 224, 4),
        ("auto", 16, 5000, "cpu", 576, 1),
        ("auto", 16, 200, "xpu:0", 4096, 16),
        ("auto", 64, 200, "cpu", 8, 32),
        (3, 16, 200, "cpu", 576, 2),
        (99, 6, 200, "cpu", 576, 6),
    ],
)
def test_micro_batch_suits_the_device(
    wanted: Any, effective: int, tokens: float, device: str, hidden: float, micro: int
) -> None:
    assert micro_batch(wanted, effective, tokens, device, hidden) == micro


def test_micro_batch_divides(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    asking = _Asking(0)
    job = dpo_job("a", dpo_inputs, micro_batch=5, effective_batch=12, report=asking)
    assert dpo._micro_batch(job, _encoded([10])) == (4, False)
    assert asking.notes == ["micro-batch 4 instead of 5, so that it divides 12"]


def test_forecast_grows_with_the_work_and_the_longest_pair() -> None:
    kind, settings = Dpo(), DpoSettings.model_validate({"model": "m", "data": "d"})
    model = {"parameters": 134_515_008, "layers": 30, "hidden": 576, "intermediate": 1536, "vocabulary": 49152}
    data = {"rows": 240, "chars_prompt": 90.0, "chars_chosen": 180.0, "chars_rejected": 180.0, "chars_longest": 400}
    known = {"model": InputFacts("m", model, True), "data": InputFacts("d", data, True)}
    first = kind.forecast(settings, known, HERE, History())
    assert first.memory.low < first.memory.mid < first.memory.high < 4 * 1024**3
    twice = kind.forecast(settings.model_copy(update={"epochs": 2}), known, HERE, History())
    # The reference's scores are computed once.
    assert 1.5 * first.work < twice.work < 2 * first.work
    assert twice.memory == first.memory
    assert first.memory.high <= 1.5 * first.memory.low
    assert sum(first.parts.values()) == pytest.approx(first.memory.mid)
    fast = replace(HERE, measured={"cpu": Measured(throughput={"fp32": 1e12})})
    assert kind.forecast(settings, known, fast, History()).seconds.mid < first.seconds.mid
    longer = {**known, "data": InputFacts("d", {**data, "chars_longest": 4000}, True)}
    assert kind.forecast(settings, longer, HERE, History()).memory.mid > first.memory.mid
    blind = kind.forecast(settings, {}, HERE, History())
    assert "assumed" in blind.basis
    assert blind.memory.high / blind.memory.mid > first.memory.high / first.memory.mid


def test_a_model_in_half_precision_stays_so(tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    half = write_tiny_model(tmp_path / "half")
    weights = {name: weight.bfloat16() for name, weight in load_file(half.path / "model.safetensors").items()}
    save_file(weights, half.path / "model.safetensors", metadata={"format": "pt"})
    job = dpo_job("a", dpo_inputs | {"model": half})
    dpo.train(job)
    merged = load_file(job.out / "model/model.safetensors")
    assert {weight.dtype for weight in merged.values()} == {torch.bfloat16}
    assert merged.keys() == weights.keys()
