from __future__ import annotations

import json
import os
from itertools import chain
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aifw.errors import InputInvalid, JobError, JobStopped
from aifw.job import Control, Input, latest_checkpoint
from aifw.training import dpo
from aifw.training.ranks import Ranks, together


def test_alone_nothing_is_shared() -> None:
    ranks = Ranks()
    assert list(ranks.share(range(0, 8, 2))) == [0, 2, 4, 6]
    assert ranks.add_up([], [1.0, 2.0]) == [1.0, 2.0]
    assert ranks.agree(True)
    assert not ranks.agree(False)


def test_parts_are_each_ones_own() -> None:
    parts = [list(Ranks(rank, 3).share(range(8))) for rank in range(3)]
    assert sorted(chain.from_iterable(parts)) == list(range(8))


def _fails(_ranks: Ranks) -> None:
    raise SystemExit(3)


def test_one_that_fails_ends_the_job() -> None:
    with (
        pytest.raises(JobError, match="one of 2 training processes ended with status 3"),
        together(2, _fails, ()) as ranks,
    ):
        ranks.add_up([torch.nn.Parameter(torch.ones(2))], [1.0])


def test_two_processes_learn_what_one_does(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    changes: dict[str, Any] = {"micro_batch": 2, "epochs": 2, "early_stopping": {"held_out": 0.3, "every": 2}}
    alone = dpo_job("alone", dpo_inputs, **changes)
    dpo.train(alone)
    control = Control()

    def report(_name: str, data: Any) -> None:
        control.stop |= data.get("unit") == "step" and data["done"] == 2

    half = dpo_job("half", dpo_inputs, processes=2, asked=control, report=report, **changes)
    with pytest.raises(JobStopped, match="step 2"):
        dpo.train(half)
    both = dpo_job("both", dpo_inputs, processes=2, resume=latest_checkpoint(half.checkpoints), **changes)
    dpo.train(both)
    ours, theirs = (json.loads((job.out / "adapter/metrics.json").read_text()) for job in (both, alone))
    assert ours["steps"] == theirs["steps"]
    for row, other in zip(ours["curve"], theirs["curve"], strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert row["accuracy"] == other["accuracy"]
    weights = load_file(alone.out / "adapter/adapter_model.safetensors")
    for name, weight in load_file(both.out / "adapter/adapter_model.safetensors").items():
        assert torch.allclose(weight, weights[name], atol=2e-4), name


def _dies_early(_ranks: Ranks) -> None:
    raise AssertionError("never called")


class _Unreadable:
    """Ends the process that is to read it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (5,)


def test_one_that_dies_before_it_begins_is_not_waited_for() -> None:
    with (
        pytest.raises(JobError, match="one of 2 training processes ended with status 5"),
        together(2, _dies_early, (_Unreadable(),)),
    ):
        pass


def test_processes_draw_the_dropout_that_one_does(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    changes: dict[str, Any] = {"micro_batch": 1, "lora": {"r": 4, "dropout": 0.3}}
    losses = []
    for processes in (1, 3):
        job = dpo_job(f"a{processes}", dpo_inputs, processes=processes, **changes)
        dpo.train(job)
        losses.append([row["loss"] for row in json.loads((job.out / "adapter/metrics.json").read_text())["curve"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_more_processes_than_pairs_of_a_step_are_refused(dpo_inputs: dict[str, Input], dpo_job: Any) -> None:
    with pytest.raises(ValueError, match="`processes: 5` share the 4 pairs"):
        dpo_job("a", dpo_inputs, processes=5)
    job = dpo_job("b", dpo_inputs, processes=2)
    job.device = "cuda:0"
    with pytest.raises(InputInvalid, match="`processes: 2` share a processor"):
        dpo.train(job)
