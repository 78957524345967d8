from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aifw.errors import InputInvalid, JobError, JobStopped, SealedDataLeaked
from aifw.job import Control, Input, latest_checkpoint
from aifw.models.load import load, quiet
from aifw.models.size import Shape
from aifw.models.tiny import write_tiny_model
from aifw.training import checkpoint, dpo, merge
from aifw.training.adapter import add_adapter, drop_in_adapter_only, keep_inputs_only, without_dropout
from aifw.training.kinds import DpoSettings, LoraSettings, dpo_parts, fitting


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def curve(job: Any) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads((job.out / "adapter/metrics.json").read_text())["curve"]
    return found


@pytest.mark.parametrize("tuning", ["full", "dora"])
def test_steps_are_those_of_trl(dpo_inputs: dict[str, Input], dpo_job: Any, tuning: str) -> None:
    jobs = [
        dpo_job(trainer, dpo_inputs, trainer=trainer, tuning=tuning, epochs=2, micro_batch=2, learning_rate=3e-3)
        for trainer in ("aifw", "trl")
    ]
    for job in jobs:
        dpo.train(job)
    for ours, theirs in zip(curve(jobs[0]), curve(jobs[1]), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3, abs=1e-5)
    assert curve(jobs[0])[-1]["loss"] < curve(jobs[0])[0]["loss"]
    ours, theirs = (load_file(job.out / "model/model.safetensors") for job in jobs)
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)


def test_every_weight_is_trained_and_stays_tied(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    job = dpo_job("a", dpo_inputs, tuning="full")
    dpo.train(job)
    before, after = (
        load_file(folder / "model.safetensors") for folder in (dpo_inputs["model"].path, job.out / "model")
    )
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert "lm_head.weight" not in after
    assert [path.name for path in (job.out / "adapter").iterdir()] == ["metrics.json"]
    assert "rank" not in job.facts["adapter"]
    with quiet():
        assert load(job.out / "model").module.get_output_embeddings().weight.shape == (259, 32)


@pytest.mark.parametrize("tuning", ["full", "dora"])
def test_an_interrupted_run_ends_with_the_same_bytes(dpo_inputs: dict[str, Input], dpo_job: Any, tuning: str) -> None:
    whole = dpo_job("whole", dpo_inputs, tuning=tuning, epochs=2)
    dpo.train(whole)

    control = Control()

    def report(_name: str, data: Any) -> None:
        control.stop |= data.get("unit") == "step" and data["done"] == 3

    half = dpo_job("half", dpo_inputs, tuning=tuning, epochs=2, asked=control, report=report)
    with pytest.raises(JobStopped, match="step 3 of 9"):
        dpo.train(half)
    rest = dpo_job("rest", dpo_inputs, tuning=tuning, epochs=2, resume=latest_checkpoint(half.checkpoints))
    dpo.train(rest)
    assert digests(rest.out) == digests(whole.out)


@pytest.mark.parametrize("tuning", ["lora", "dora", "full"])
def test_computing_blocks_again_changes_nothing(dpo_inputs: dict[str, Input], dpo_job: Any, tuning: str) -> None:
    found = []
    for recompute in (False, True):
        job = dpo_job(f"a{recompute}", dpo_inputs, tuning=tuning, recompute=recompute)
        dpo.train(job)
        found.append(digests(job.out))
    assert found[0] == found[1]


def test_blocks_are_computed_again_where_a_pair_does_not_fit() -> None:
    settings = DpoSettings.model_validate({"model": "m", "data": "d", "effective_batch": 8})
    shape = Shape.of(
        {"parameters": 134_515_008, "layers": 30, "hidden": 576, "intermediate": 1536, "vocabulary": 49152}
    )

    def high(pairs: int, again: bool) -> float:
        parts = dpo_parts(shape, settings, pairs, (200.0, 200.0), "cpu", "fp32", recompute=again)
        return parts["worker"] + 1.15 * (sum(parts.values()) - parts["worker"])

    def fits(limit: float | None, **changes: Any) -> tuple[int, bool]:
        return fitting(shape, settings.model_copy(update=changes), (200.0, 200.0), "cpu", "fp32", limit, 8)

    assert fits(None) == (8, False)
    assert fits(high(8, False) + 1) == (8, False)
    assert fits(high(1, False) + 1) == (1, False)
    assert fits(high(1, False) - 1e6)[1] is True
    assert fits(high(2, True) + 1)[0] >= 2
    assert fits(high(1, False) - 1e6, recompute=False) == (1, False)
    assert fits(None, recompute=True) == (8, True)


@pytest.mark.slow
def test_compiled_it_learns_the_same(dpo_inputs: dict[str, Input], tmp_path: Path) -> None:
    # In a process of its own, as jobs are: setuptools, which the compiler imports, refuses to come after the distutils of another test.
    call = (
        "import sys; from aifw.training import dpo; dpo.fine_tune(sys.argv[1], sys.argv[2], sys.argv[3], threads=1, seed=7,"
        " precision='fp32', effective_batch=4, learning_rate=1e-2, lora={'r': 4}, compile=sys.argv[4] == 'True')"
    )
    curves = []
    for compiled in (False, True):
        out = tmp_path / str(compiled)
        arguments = (str(dpo_inputs["model"].path), str(dpo_inputs["data"].path), str(out), str(compiled))
        done = subprocess.run([sys.executable, "-c", call, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        curves.append(json.loads((out / "adapter/metrics.json").read_text())["curve"])
    assert len(curves[0]) == 5
    for plain, compiled in zip(*curves, strict=True):
        assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-4)


def test_a_merge_that_says_something_else_is_refused(
    dpo_inputs: dict[str, Input], dpo_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dpo_job("a", dpo_inputs)
    dpo.train(job)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_bytes((job.out / "adapter/adapter_config.json").read_bytes())
    weights = load_file(job.out / "adapter/adapter_model.safetensors")
    first = next(iter(weights))
    weights[first][0, 0] = float("nan")
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    (tmp_path / "out").mkdir()
    with quiet(), pytest.raises(JobError, match="changes what the model says"):
        merge.merge_adapter(dpo_inputs["model"].path, adapter, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_training_all_weights_of_a_model_in_half_precision(
    tmp_path: Path, dpo_inputs: dict[str, Input], dpo_job: Any
) -> None:
    half = write_tiny_model(tmp_path / "half")
    weights = {name: weight.bfloat16() for name, weight in load_file(half.path / "model.safetensors").items()}
    save_file(weights, half.path / "model.safetensors", metadata={"format": "pt"})
    job = dpo_job("a", dpo_inputs | {"model": half}, tuning="full", epochs=4, learning_rate=3e-3)
    dpo.train(job)
    assert {weight.dtype for weight in load_file(job.out / "model/model.safetensors").values()} == {torch.bfloat16}
    assert curve(job)[-1]["loss"] < curve(job)[0]["loss"]


def test_forecasts_know_what_is_trained() -> None:
    shape = Shape.of(
        {"parameters": 134_515_008, "layers": 30, "hidden": 576, "intermediate": 1536, "vocabulary": 49152}
    )

    def needs(**changes: Any) -> float:
        settings = DpoSettings.model_validate({"model": "m", "data": "d"} | changes)
        return sum(dpo_parts(shape, settings, 1, (100.0, 60.0), "cpu", "fp32").values())

    assert needs() < needs(tuning="dora") < needs(tuning="full")
    assert needs(tuning="full") > 16 * shape.parameters
    assert needs(processes=2, tuning="full") > 1.9 * needs(tuning="full")


def test_blocks_with_dropout_of_their_own_are_computed_again_without_it() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    model = OPTForCausalLM(
        OPTConfig(
            vocab_size=50, hidden_size=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=32, word_embed_proj_dim=16, dropout=0.5,
        )
    ).eval()  # fmt: skip
    ids = torch.randint(3, 50, (1, 8))
    before = model(input_ids=ids).logits
    keep_inputs_only(model)
    after = model(input_ids=ids).logits
    assert torch.equal(before, after)
    after.sum().backward()


def test_an_architecture_without_blocks_is_named() -> None:
    with pytest.raises(InputInvalid, match="no blocks"):
        keep_inputs_only(torch.nn.Linear(2, 2))


def test_magnitudes_see_dropout(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    found = []
    for dropout in (0.0, 0.5):
        job = dpo_job(f"a{dropout}", dpo_inputs, tuning="dora", lora={"r": 4, "dropout": dropout})
        dpo.train(job)
        found.append([row["loss"] for row in curve(job)])
    assert found[0][0] == pytest.approx(found[1][0])
    assert found[0][1:] != found[1][1:]


def test_looks_are_without_dropout(dpo_inputs: dict[str, Input]) -> None:
    with quiet():
        model = add_adapter(load(dpo_inputs["model"].path).module, LoraSettings(r=4, dropout=0.5), 1)
    drop_in_adapter_only(model)
    before = {name for name, module in model.named_modules() if module.training}
    assert before
    with without_dropout(model):
        assert not any(module.training for module in model.modules())
    assert {name for name, module in model.named_modules() if module.training} == before


def test_the_output_layer_is_no_target_where_it_is_the_input_as_well(
    dpo_inputs: dict[str, Input], dpo_job: Any
) -> None:
    with pytest.raises(InputInvalid, match="names the output layer"):
        dpo.train(dpo_job("a", dpo_inputs, lora={"r": 2, "target_modules": ["q_proj", "lm_head"]}))


def test_a_smaller_micro_batch_holds_for_a_run_that_goes_on(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    control, notes = Control(), []

    def report(name: str, data: Any) -> None:
        control.stop |= data.get("unit") == "step" and data["done"] == 2
        if name == "note":
            notes.append(data["text"])

    half = dpo_job("half", dpo_inputs, micro_batch=4, asked=control, report=report)
    with pytest.raises(JobStopped):
        dpo.train(half)
    rest = dpo_job("rest", dpo_inputs, micro_batch=2, resume=latest_checkpoint(half.checkpoints), report=report)
    dpo.train(rest)
    assert "micro-batch 2 from step 2 on, 4 before" in notes
    assert rest.facts["adapter"]["micro_batch_changes"] == [(2, 2)]


def test_weights_that_get_no_gradient_are_saved_without_moments(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 2), "unused": torch.nn.Linear(2, 2)})
    optimizer = torch.optim.AdamW(model.parameters())
    model["used"](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoint.save(tmp_path, checkpoint.Progress("run", step=1), model, optimizer)
    again = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 2), "unused": torch.nn.Linear(2, 2)})
    other = torch.optim.AdamW(again.parameters())
    checkpoint.restore(tmp_path, again, other)
    assert len(other.state) == 2
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again.parameters(), model.parameters(), strict=True))


def test_what_is_held_out_is_not_trained_on(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`data` is `p\.heldout`, which is held out to be measured on; train on `p\.train`"
    ):
        dpo_job("a", dpo_inputs, data="p.heldout")
    job = dpo_job("b", dpo_inputs | {"sealed.0": dpo_inputs["data"]}, sealed=["other.heldout"])
    with pytest.raises(SealedDataLeaked, match=r"18 with other\.heldout"):
        dpo.train(job)


def test_forecasts_know_what_stopping_and_sharing_hold() -> None:
    shape = Shape.of(
        {"parameters": 134_515_008, "layers": 30, "hidden": 576, "intermediate": 1536, "vocabulary": 49152}
    )

    def needs(**changes: Any) -> float:
        settings = DpoSettings.model_validate({"model": "m", "data": "d", "tuning": "full"} | changes)
        return sum(dpo_parts(shape, settings, 1, (100.0, 60.0), "cpu", "fp32").values())

    assert needs(early_stopping={}) == pytest.approx(needs() + 8 * shape.parameters)
    assert needs(compile=True) > needs()
    assert needs(processes=2) > 2 * needs()
