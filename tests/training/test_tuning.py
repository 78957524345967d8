from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aifw.errors import JobError, JobStopped
from aifw.job import Control, Input, latest_checkpoint
from aifw.models.load import load, quiet
from aifw.models.size import Shape
from aifw.models.tiny import write_tiny_model
from aifw.training import dpo, merge
from aifw.training.kinds import Dpo, DpoSettings, dpo_parts, fitting


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


def test_compiled_it_learns_the_same(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    jobs = [dpo_job(f"a{compiled}", dpo_inputs, compile=compiled) for compiled in (False, True)]
    for job in jobs:
        dpo.train(job)
    for plain, compiled in zip(*map(curve, jobs), strict=True):
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
    assert Dpo().version == 2
