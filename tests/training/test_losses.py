from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from aifw.training.kinds import OF_BATCHES, DpoSettings
from aifw.training.losses import LOSSES, Ratios


def _ratios(**changes: Any) -> Ratios:
    values = {
        "chosen": torch.tensor([0.0, 2.0, -3.0], requires_grad=True),
        "rejected": torch.tensor([0.0, -1.0, 4.0], requires_grad=True),
        "chosen_tokens": torch.tensor([4.0, 2.0, 3.0]),
        "rejected_tokens": torch.tensor([4.0, 1.0, 2.0]),
        "beta": 0.5,
        "smoothing": 0.1,
    }
    return Ratios(**(values | changes))


def _log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


def test_the_setting_lists_them_all() -> None:
    known = set(DpoSettings.model_fields["loss"].annotation.__args__)  # type: ignore[union-attr]
    assert known == {*LOSSES, *OF_BATCHES}


@pytest.mark.parametrize(
    ("name", "of_second_pair"),
    [
        ("sigmoid", -0.9 * _log_sigmoid(1.5) - 0.1 * _log_sigmoid(-1.5)),
        ("sigmoid_norm", -0.9 * _log_sigmoid(0.5 * (1 + 1)) - 0.1 * _log_sigmoid(-0.5 * (1 + 1))),
        ("robust", (-0.9 * _log_sigmoid(1.5) + 0.1 * _log_sigmoid(-1.5)) / 0.8),
        ("hinge", 0.0),
        ("ipo", (1 + 1 - 1) ** 2),
        ("nca_pair", -_log_sigmoid(1) - 0.5 * _log_sigmoid(-1) - 0.5 * _log_sigmoid(0.5)),
        ("bco_pair", -_log_sigmoid(1) - _log_sigmoid(0.5)),
        ("discopop", -_log_sigmoid(1.5) / (1 + math.exp(30)) + math.exp(-1.5) / (1 + math.exp(-30))),
        ("sppo_hard", (2 - 1) ** 2 + (-1 + 1) ** 2),
        ("apo_zero", 1 - 1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(0.5))),
        ("apo_down", 1 / (1 + math.exp(-1)) + 1 - 1 / (1 + math.exp(-1.5))),
    ],
)
def test_formulas(name: str, of_second_pair: float) -> None:
    assert LOSSES[name](_ratios())[1].item() == pytest.approx(of_second_pair, abs=1e-6)


def test_exo_is_the_divergence_from_smoothed_labels() -> None:
    likely = 1 / (1 + math.exp(-1.5))
    expected = likely * math.log(likely / 0.9) + (1 - likely) * math.log((1 - likely) / 0.1)
    assert LOSSES["exo_pair"](_ratios())[1].item() == pytest.approx(expected, abs=1e-6)
    assert LOSSES["exo_pair"](_ratios(smoothing=0.0)).isfinite().all()


def test_without_smoothing_it_is_the_published_loss() -> None:
    assert LOSSES["sigmoid"](_ratios(smoothing=0.0))[1].item() == pytest.approx(-_log_sigmoid(1.5))


# The one found by a search rises at a margin of zero: it has a second minimum below.
@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"discopop"}))
def test_a_step_against_the_gradient_widens_the_margin(name: str) -> None:
    ratios = _ratios(chosen=torch.zeros(1, requires_grad=True), rejected=torch.zeros(1, requires_grad=True),
                     chosen_tokens=torch.ones(1), rejected_tokens=torch.ones(1))  # fmt: skip
    loss = LOSSES[name](ratios)
    by_chosen, by_rejected = torch.autograd.grad(loss.sum(), (ratios.chosen, ratios.rejected))
    assert loss.shape == (1,)
    assert (by_rejected - by_chosen).item() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_large_ratios_overflow_nothing(name: str) -> None:
    ratios = _ratios(
        chosen=torch.tensor([-3e4, 3e4, 0], requires_grad=True),
        rejected=torch.tensor([3e4, -3e4, 0], requires_grad=True),
    )
    loss = LOSSES[name](ratios)
    gradients = torch.autograd.grad(loss.sum(), (ratios.chosen, ratios.rejected))
    assert loss.isfinite().all()
    assert all(each.isfinite().all() for each in gradients)
