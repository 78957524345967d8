from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from aifw.errors import JobStopped
from aifw.job import Control, Input, latest_checkpoint
from aifw.training import dpo
from aifw.training.checkpoint import Progress
from aifw.training.early_stopping import Best, kept_apart
from aifw.training.kinds import EarlyStopping

STOPPING = {"held_out": 0.3, "every": 2, "patience": 2}


@given(st.lists(st.text(min_size=1, max_size=3)), st.floats(0.01, 0.5))
def test_groups_stay_together_and_on_their_side(groups: list[str], share: float) -> None:
    apart = kept_apart(groups, share)
    assert len({groups[index] for index in apart} & {group for at, group in enumerate(groups) if at not in apart}) == 0
    assert not groups or len(apart) < len(groups)
    more = kept_apart([*groups, "another one", "and one more"], share)
    assert apart <= more


def test_the_share_is_about_what_is_wanted() -> None:
    assert len(kept_apart([f"g{number}" for number in range(4000)], 0.1)) == pytest.approx(400, rel=0.1)


def _best(*looks: tuple[float, float], patience: int = 2) -> Best:
    best = Best(EarlyStopping(patience=patience), Progress("run"))
    model = torch.nn.Linear(1, 1)
    for step, (accuracy, loss) in enumerate(looks, 1):
        with torch.no_grad():
            model.weight.fill_(step)
        best.add(step, accuracy, loss, model)
    return best


def test_the_better_accuracy_then_the_lower_loss_then_the_earlier_is_kept() -> None:
    assert _best((0.5, 0.7), (0.6, 0.9), (0.6, 0.8), (0.6, 0.8), (0.4, 0.1)).look["step"] == 3
    best = _best((0.5, 0.7), (0.6, 0.9), (0.6, 0.8), (0.6, 0.8), (0.4, 0.1))
    assert best.weights["weight"].item() == 3
    model = torch.nn.Linear(1, 1)
    best.put_back(model)
    assert model.weight.item() == 3
    assert best.exhausted


def test_patience_is_counted_from_the_best() -> None:
    assert not _best().exhausted
    assert not _best((0.5, 0.7), (0.4, 0.7)).exhausted
    assert _best((0.5, 0.7), (0.4, 0.7), (0.4, 0.7)).exhausted
    assert not _best((0.5, 0.7), (0.4, 0.7), (0.6, 0.7)).exhausted
    assert not _best((0.5, float("nan"))).progress.looks


def test_a_run_ends_early_with_the_weights_that_were_best(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    job = dpo_job("a", dpo_inputs, epochs=40, early_stopping=STOPPING, learning_rate=3e-2)
    dpo.train(job)
    story = json.loads((job.out / "adapter/metrics.json").read_text())
    assert story["kept_apart"] + story["pairs"] == 18
    assert story["steps"] < 40 * story["pairs"] // 4
    assert story["kept_step"] == story["steps"] - 2 * STOPPING["patience"]
    assert [look["step"] for look in story["looks"]] == list(range(2, int(story["steps"]) + 1, 2))
    assert job.facts["adapter"]["kept_accuracy"] == max(look["accuracy"] for look in story["looks"])

    # The same schedule, stopped by hand at that step, has those weights.
    control = Control()

    def report(_name: str, data: Any) -> None:
        control.stop |= data.get("unit") == "step" and data["done"] == story["kept_step"]

    until = dpo_job(
        "until", dpo_inputs, epochs=40, early_stopping=STOPPING, learning_rate=3e-2, asked=control, report=report
    )
    with pytest.raises(JobStopped):
        dpo.train(until)
    found = latest_checkpoint(until.checkpoints)
    assert found is not None
    kept = load_file(found / "tensors.safetensors")
    for name, weight in load_file(job.out / "adapter/adapter_model.safetensors").items():
        assert torch.equal(weight, kept[f"weight/{name}".replace(".weight", ".default.weight")]), name


def test_an_interrupted_run_stops_early_all_the_same(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    changes = {"epochs": 40, "early_stopping": STOPPING, "learning_rate": 3e-2}
    whole = dpo_job("whole", dpo_inputs, **changes)
    dpo.train(whole)
    last = int(json.loads((whole.out / "adapter/metrics.json").read_text())["steps"])
    control = Control()

    def report(_name: str, data: Any) -> None:
        control.stop |= data.get("unit") == "step" and data["done"] == last - 1

    half = dpo_job("half", dpo_inputs, asked=control, report=report, **changes)
    with pytest.raises(JobStopped):
        dpo.train(half)
    rest = dpo_job("rest", dpo_inputs, resume=latest_checkpoint(half.checkpoints), **changes)
    dpo.train(rest)
    for name in ("adapter_model.safetensors", "metrics.json"):
        assert (rest.out / "adapter" / name).read_bytes() == (whole.out / "adapter" / name).read_bytes()


def test_too_few_conversations_are_said(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    notes = []
    job = dpo_job(
        "a",
        dpo_inputs,
        early_stopping={"held_out": 0.0001},
        report=lambda name, data: notes.append(data["text"]) if name == "note" else None,
    )
    dpo.train(job)
    assert any(note.startswith("no early stopping: a share of 0.0001") for note in notes)
