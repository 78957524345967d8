from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from aifw.training import log_probabilities
from aifw.training.log_probabilities import token_log_probabilities


def _problem(tokens: int = 11, hidden: int = 7, words: int = 23) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(tokens, hidden, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(words, hidden, generator=generator, dtype=torch.float64)
    return states, weight, torch.randint(0, words, (tokens,), generator=generator)


def _expected(states: torch.Tensor, weight: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(states @ weight.T, dim=1)[torch.arange(len(tokens)), tokens]


@pytest.mark.parametrize("most", [1 << 24, 3 * 23, 1])
def test_values_and_gradients_are_those_of_log_softmax(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(log_probabilities, "ANSWER_LOGITS", most)
    states, weight, tokens = _problem()
    scale = torch.linspace(-2, 3, len(tokens))
    found = token_log_probabilities(states, weight, tokens)
    (ours,) = torch.autograd.grad((found * scale).sum(), states)
    expected = _expected(states, weight, tokens)
    (theirs,) = torch.autograd.grad((expected * scale).sum(), states)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_weight_that_is_trained_gets_its_gradient() -> None:
    states, weight, tokens = _problem()
    weight.requires_grad_()
    (ours,) = torch.autograd.grad(token_log_probabilities(states, weight, tokens).sum(), weight)
    (theirs,) = torch.autograd.grad(_expected(states, weight, tokens).sum(), weight)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    states, weight, tokens = _problem()
    products = 0

    class Counting(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            nonlocal products
            products += function is torch.Tensor.__matmul__ or function is torch.Tensor.matmul
            return function(*arguments, **(named or {}))

    for context, expected in ((torch.no_grad(), 1), (torch.inference_mode(), 1), (torch.enable_grad(), 2)):
        products = 0
        with context, Counting():
            found = token_log_probabilities(states, weight, tokens)
        assert products == expected
        assert torch.allclose(found.detach().double(), _expected(states, weight, tokens).detach(), atol=1e-5)


def test_hopeless_tokens_have_finite_gradients() -> None:
    states = torch.full((1, 2), 1e4, requires_grad=True)
    weight = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    found = token_log_probabilities(states, weight, torch.tensor([1]))
    found.sum().backward()
    assert found.item() == pytest.approx(-4e4)
    assert states.grad is not None
    assert states.grad.tolist() == [[-2.0, -2.0]]
