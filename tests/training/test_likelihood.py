from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aifw.hardware.libraries.backend import computes_bf16
from aifw.models.conversations import EncodedConversation
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.tiny import write_tiny_model
from aifw.training.adapter import add_adapter
from aifw.training.kinds import LoraSettings
from aifw.training.likelihood import Likelihood


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    write_tiny_model(tmp_path / "model")
    return load(tmp_path / "model")


def _sequences(count: int = 6) -> list[EncodedConversation]:
    drawn = random.Random(5)
    found = []
    for _ in range(count):
        ids = tuple(drawn.randrange(3, 250) for _ in range(drawn.randint(9, 60)))
        middle = len(ids) // 2
        found.append(EncodedConversation(ids, ((2, 4), (middle, drawn.randint(middle + 1, len(ids))))))
    return found


def _expected(model: LanguageModel, sequences: list[EncodedConversation]) -> torch.Tensor:
    found = []
    for each in sequences:
        with torch.no_grad():
            scores = model.module(torch.tensor([each.ids])).logits[0].log_softmax(-1)
        found += [scores[place - 1, each.ids[place]] for place in each.places()]
    return torch.stack(found)


def _ways(way: Likelihood) -> list[Likelihood]:
    return [replace(way, plain=plain, packs=packs) for plain, packs in ((0, 0), (1, 0), (1, 1))]


def test_all_ways_give_what_the_model_gives(model: LanguageModel) -> None:
    sequences = _sequences()
    way = Likelihood.of(model, sequences, packing=True)
    assert way.plain
    assert way.packs
    assert not Likelihood.of(model, sequences, packing=False).packs
    expected = _expected(model, sequences)
    for each in _ways(way):
        with torch.no_grad():
            assert torch.allclose(each.log_probabilities(sequences), expected, atol=1e-4)


def test_all_ways_give_the_same_gradient(model: LanguageModel) -> None:
    sequences = _sequences()
    way = Likelihood.of(model, sequences, packing=True)
    with quiet():
        adapted = add_adapter(model.module, LoraSettings(r=4), 1)
    weights = [each for each in adapted.parameters() if each.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.1)
    count = sum(each.learnt for each in sequences)
    first, *others = (
        torch.autograd.grad((each.log_probabilities(sequences) * torch.arange(count)).sum(), weights)
        for each in _ways(way)
    )
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=2e-2)
            assert ours.abs().max() > 1


@pytest.mark.skipif(not computes_bf16("cpu"), reason="this processor has no arithmetic in bfloat16")
def test_the_short_way_is_taken_in_half_precision(model: LanguageModel) -> None:
    half = replace(model, module=model.module.bfloat16(), precision="bf16")
    assert Likelihood.of(half, _sequences(), packing=True).packs


def _scaled_logits(model: LanguageModel) -> None:
    plain = type(model.module).forward

    class Scaled(type(model.module)):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            output = plain(self, *arguments, **named)
            output.logits = output.logits * 0.5
            return output

    model.module.__class__ = Scaled


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


def _takes_flat_masks_only(model: LanguageModel) -> None:
    plain = type(model.module.model).forward

    class Flat(type(model.module.model)):  # type: ignore[misc]
        def forward(self, *arguments: Any, attention_mask: Any = None, **named: Any) -> Any:
            if attention_mask is not None and attention_mask.dim() != 2:
                raise ValueError("a mask has two dimensions")
            return plain(self, *arguments, attention_mask=attention_mask, **named)

    model.module.model.__class__ = Flat


@pytest.mark.parametrize(
    ("change", "plain"), [(_scaled_logits, False), (_carries_a_state, True), (_takes_flat_masks_only, True)]
)
def test_where_a_short_way_is_wrong_a_longer_one_is_taken(model: LanguageModel, change: Any, plain: bool) -> None:
    change(model)
    sequences = _sequences()
    way = Likelihood.of(model, sequences, packing=True)
    assert way.plain is plain
    assert not way.packs
    with torch.no_grad():
        alone = torch.cat([replace(way, plain=False).log_probabilities([each]) for each in sequences])
        assert torch.allclose(way.log_probabilities(sequences), alone, rtol=1e-4, atol=1e-3)
