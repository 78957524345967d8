"""Attention without a mask in memory sees exactly what the mask lets it see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch.nn.attention.flex_attention import create_mask
from transformers import LlamaConfig, LlamaForCausalLM

from aifw.models.chat import EncodedPair
from aifw.training import policy
from aifw.training.flexible_attention import attending, has_flexible_attention, seen
from aifw.training.pair_rows import lay_rows
from aifw.training.policy import Policy

TOKENS = some.lists(some.integers(1, 30), min_size=1, max_size=9).map(tuple)
PAIRS = some.lists(some.builds(EncodedPair, TOKENS, TOKENS, TOKENS), min_size=1, max_size=4)


@given(PAIRS)
def test_it_sees_what_the_mask_shows(pairs: list[EncodedPair]) -> None:
    rows = lay_rows(pairs, 0, "cpu", torch.float32)
    length = rows.ids.shape[1]
    found = create_mask(seen(pairs, "cpu"), len(pairs), None, length, length, device="cpu")
    assert torch.equal(found.expand_as(rows.mask), rows.mask == 0)


def _llama() -> Any:
    torch.manual_seed(3)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    ).eval()


def test_a_model_attends_as_before_afterwards() -> None:
    module = _llama()
    with attending(module):
        assert module.config._attn_implementation == "flex_attention"
    assert module.config._attn_implementation == "sdpa"


def test_a_processor_is_not_asked_for_what_has_no_gradients_there() -> None:
    assert not has_flexible_attention("cpu")


def test_another_gradient_is_noticed() -> None:
    shared = Policy(_llama(), 0, "cpu", "fp32", plain=True, shares=True)
    pair = EncodedPair((1, 2, 3), (4, 5), (6,))
    assert policy._same_gradient(shared, shared, pair)
    broken = Policy(_llama(), 0, "cpu", "fp32", plain=True, shares=True)
    with torch.no_grad():
        next(iter(broken.module.parameters())).mul_(1.5)
    assert not policy._same_gradient(shared, broken, pair)


@pytest.mark.slow
# From what torch.compile imports.
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_the_compiled_kernel_gives_the_same_log_probabilities() -> None:
    shared = Policy(_llama(), 0, "cpu", "fp32", plain=True, shares=True)
    flexible = Policy(shared.module, 0, "cpu", "fp32", plain=True, shares=True, flexible=True)
    pairs = [EncodedPair((1, 2, 3, 4), (5, 6, 7), (8, 9)), EncodedPair((1, 2), (5,), (8, 9, 10, 11))]
    with torch.no_grad():
        torch.testing.assert_close(flexible.log_probabilities(pairs), shared.log_probabilities(pairs))
