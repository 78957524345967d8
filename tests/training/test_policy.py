from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from aifw.models.chat import EncodedPair
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.score import score_pairs
from aifw.models.tiny import write_tiny_model
from aifw.training.adapter import add_adapter
from aifw.training.kinds import LoraSettings
from aifw.training.policy import Policy


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    write_tiny_model(tmp_path / "model")
    return load(tmp_path / "model")


def _pairs(count: int = 6) -> list[EncodedPair]:
    drawn = random.Random(5)

    def tokens(most: int) -> tuple[int, ...]:
        return tuple(drawn.randrange(3, 250) for _ in range(drawn.randint(1, most)))

    return [EncodedPair(tokens(30), tokens(20), tokens(20)) for _ in range(count)]


def _expected(model: LanguageModel, pairs: list[EncodedPair]) -> torch.Tensor:
    return torch.tensor([[score.chosen, score.rejected] for score in score_pairs(model, pairs)])


def test_both_ways_give_what_scoring_gives(model: LanguageModel) -> None:
    pairs = _pairs()
    policy = Policy.of(model, pairs[0])
    assert policy.shares
    expected = _expected(model, pairs)
    with torch.no_grad():
        assert torch.allclose(policy.log_probabilities(pairs), expected, atol=1e-4)
        policy.shares = False
        assert torch.allclose(policy.log_probabilities(pairs), expected, atol=1e-4)


def test_both_ways_give_the_same_gradient(model: LanguageModel) -> None:
    pairs = _pairs()
    policy = Policy.of(model, pairs[0])
    with quiet():
        adapted = add_adapter(model.module, LoraSettings(r=4), 1)
    weights = [each for each in adapted.parameters() if each.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.1)
    found = []
    for shares in (True, False):
        policy.shares = shares
        scores = policy.log_probabilities(pairs)
        found.append(torch.autograd.grad((scores * torch.arange(12).view(6, 2)).sum(), weights))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-2)
        assert ours.abs().max() > 1


def _scaled_logits(model: LanguageModel) -> None:
    """As architectures do that scale logits behind the output layer."""
    plain = type(model.module).forward

    class Scaled(type(model.module)):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            output = plain(self, *arguments, **named)
            output.logits = output.logits * 0.5
            return output

    model.module.__class__ = Scaled


def _bias(model: LanguageModel) -> None:
    head = model.module.lm_head
    head.bias = torch.nn.Parameter(torch.randn(head.out_features))


def _looks_back_three_tokens(model: LanguageModel) -> None:
    """As sliding windows do."""
    plain = type(model.module.model).forward

    class Windowed(type(model.module.model)):  # type: ignore[misc]
        def forward(self, input_ids: torch.Tensor, attention_mask: Any = None, **named: Any) -> Any:
            length = input_ids.shape[1]
            near = torch.ones(length, length, dtype=torch.bool).tril().triu(-3).expand(len(input_ids), 1, -1, -1)
            return plain(self, input_ids=input_ids, attention_mask=near, **named)

    model.module.model.__class__ = Windowed


@pytest.mark.parametrize("change", [_scaled_logits, _bias, _looks_back_three_tokens])
def test_where_the_short_way_is_wrong_the_model_itself_is_asked(model: LanguageModel, change: Any) -> None:
    change(model)
    pairs = _pairs()
    policy = Policy.of(model, pairs[0])
    assert not policy.shares
    with torch.no_grad():
        one_by_one = torch.cat([policy.log_probabilities([pair]) for pair in pairs])
        assert torch.allclose(policy.log_probabilities(pairs), one_by_one, atol=1e-4)
