from __future__ import annotations

import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aifw.hardware.libraries.backend import computes_bf16
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


def _longest(pairs: list[EncodedPair]) -> EncodedPair:
    return max(pairs, key=lambda pair: len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)))


def _ways(policy: Policy) -> list[Policy]:
    return [replace(policy, plain=plain, shares=shares) for plain, shares in ((0, 0), (1, 0), (1, 1))]


def test_all_ways_give_what_scoring_gives(model: LanguageModel) -> None:
    pairs = _pairs()
    policy = Policy.of(model, _longest(pairs))
    assert policy.plain
    assert policy.shares
    expected = _expected(model, pairs)
    for way in _ways(policy):
        with torch.no_grad():
            assert torch.allclose(way.log_probabilities(pairs), expected, atol=1e-4)


def test_all_ways_give_the_same_gradient(model: LanguageModel) -> None:
    pairs = _pairs()
    policy = Policy.of(model, pairs[0])
    with quiet():
        adapted = add_adapter(model.module, LoraSettings(r=4), 1)
    weights = [each for each in adapted.parameters() if each.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.1)
    first, *others = (
        torch.autograd.grad((way.log_probabilities(pairs) * torch.arange(12).view(6, 2)).sum(), weights)
        for way in _ways(policy)
    )
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-2)
            assert ours.abs().max() > 1


@pytest.mark.skipif(not computes_bf16("cpu"), reason="this processor has no arithmetic in bfloat16")
def test_the_short_way_is_taken_in_half_precision(model: LanguageModel) -> None:
    pairs = _pairs()
    half = replace(model, module=model.module.bfloat16(), precision="bf16")
    policy = Policy.of(half, _longest(pairs))
    assert policy.shares
    _scaled_logits(half)
    assert not Policy.of(half, _longest(pairs)).plain


def _scaled_logits(model: LanguageModel) -> None:
    """As architectures do that scale logits behind the output layer."""
    plain = type(model.module).forward

    class Scaled(type(model.module)):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            output = plain(self, *arguments, **named)
            output.logits = output.logits * 0.5
            return output

    model.module.__class__ = Scaled


def _said_to_scale_logits(model: LanguageModel) -> None:
    model.module.config.logit_scale = 0.9


def _bias(model: LanguageModel) -> None:
    head = model.module.lm_head
    head.bias = torch.nn.Parameter(torch.randn(head.out_features))


def _adapter_beside_the_head(model: LanguageModel) -> None:
    model.module.config.tie_word_embeddings = False
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        add_adapter(model.module, LoraSettings(r=4, target_modules=["lm_head"]), 1)
    model.module.eval()


def _looks_back(tokens: int) -> Any:
    """As sliding windows do."""

    def change(model: LanguageModel) -> None:
        plain = type(model.module.model).forward

        class Windowed(type(model.module.model)):  # type: ignore[misc]
            def forward(self, input_ids: torch.Tensor, attention_mask: Any = None, **named: Any) -> Any:
                length = input_ids.shape[1]
                near = torch.ones(length, length, dtype=torch.bool).tril().triu(-tokens)
                if attention_mask is not None and attention_mask.dim() == 4:
                    near = near & (attention_mask[0, 0] == 0)
                mask = (
                    torch.zeros(1, 1, length, length).masked_fill(~near, -torch.inf).expand(len(input_ids), -1, -1, -1)
                )
                return plain(self, input_ids=input_ids, attention_mask=mask, **named)

        model.module.model.__class__ = Windowed

    return change


def _carries_a_state(model: LanguageModel) -> None:
    """As recurrent layers do, whatever the mask says."""
    plain = type(model.module.model).forward

    class Recurrent(type(model.module.model)):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            output = plain(self, *arguments, **named)
            states = output.last_hidden_state
            steps = torch.arange(1, states.shape[1] + 1).view(1, -1, 1)
            output.last_hidden_state = states + 0.3 * states.cumsum(1) / steps
            return output

    model.module.model.__class__ = Recurrent


@pytest.mark.parametrize(
    ("change", "plain"),
    [
        (_scaled_logits, False),
        (_said_to_scale_logits, False),
        (_bias, False),
        (_adapter_beside_the_head, False),
        (_looks_back(3), True),
        (_looks_back(60), True),
        (_carries_a_state, True),
    ],
)
def test_where_a_short_way_is_wrong_a_longer_one_is_taken(model: LanguageModel, change: Any, plain: bool) -> None:
    change(model)
    longest = EncodedPair(tuple(range(3, 13)), tuple(range(20, 90)), tuple(range(100, 190)))
    policy = Policy.of(model, longest)
    assert policy.plain is plain
    assert not policy.shares
    pairs = [longest, *_pairs()]
    with torch.no_grad():
        alone = torch.cat([replace(policy, plain=False).log_probabilities([pair]) for pair in pairs])
        assert torch.allclose(policy.log_probabilities(pairs), alone, rtol=1e-4, atol=1e-3)


def test_lack_of_memory_is_no_reason_for_a_longer_way(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(type(model.module.model), "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        Policy.of(model, _pairs()[0])
