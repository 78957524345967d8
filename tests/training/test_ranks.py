from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aifw.errors import JobError, JobStopped
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
