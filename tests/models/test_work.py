"""What is counted from a shape, held against what PyTorch is seen to do."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from aifw.models.load import quiet
from aifw.models.memory import Batch
from aifw.models.memory_training import Training
from aifw.models.size import Shape
from aifw.models.work import (
    Work,
    adapter,
    backward,
    blocks,
    embedding_work,
    generation_work,
    micro_step,
    openvino_conversion_work,
    openvino_work,
    optimizer_step,
    scoring_work,
)

ROWS, LENGTH = 2, 32
SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "vocab_size": 300}
FACTS = {"hidden": 64, "intermediate": 160, "heads": 4, "vocabulary": 300, "parameters": 1e5}


class Counted(TorchDispatchMode):
    """Operators called, and bytes of the tensors they wrote: new ones, and those changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it and look at what came of it."""
        found = func(*args, **(kwargs or {}))
        self.calls += 1
        given = {each.untyped_storage().data_ptr() for each in _tensors((args, kwargs))}
        in_place = func._schema.name.endswith("_")
        for tensor in _tensors(found):
            if in_place or tensor.untyped_storage().data_ptr() not in given:
                self.made += tensor.nbytes
        return found


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, torch.Tensor)]


def shape_of(layers: int, **facts: Any) -> Shape:
    return Shape.of({**FACTS, "layers": layers, "kv_heads": 2, **facts})


def seen(layers: int, attention: str, rank: int | None, padded: bool, back: bool) -> tuple[int, int, int]:
    """Operations, bytes made and operators called in one pass of a decoder."""
    config = LlamaConfig(**SIZES, num_hidden_layers=layers, num_key_value_heads=2, attn_implementation=attention)
    module = LlamaForCausalLM(config).train()
    inner = module.model
    if rank is not None:
        with quiet():
            chosen = LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")
            inner = get_peft_model(module, chosen).get_base_model().model
    ids = torch.randint(3, 300, (ROWS, LENGTH))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, -3:] = 0

    def forward() -> torch.Tensor:
        states: torch.Tensor = inner(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return states

    states = forward()
    with FlopCounterMode(display=False) as operations, Counted() as counted:
        states.backward(torch.ones_like(states)) if back else forward()  # type: ignore[no-untyped-call]
    return operations.get_total_flops(), counted.made, counted.calls


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("back", [False, True])
def test_a_block_does_what_torch_does(attention: Any, rank: int | None, padded: bool, back: bool) -> None:
    batch = Batch(ROWS, LENGTH, padded, attention)

    def expected(layers: int) -> Work:
        shape = shape_of(layers)
        if back:
            return backward(shape, batch, rank)
        return blocks(shape, batch) + (Work() if rank is None else adapter(shape, batch, rank))

    operations, made, calls = (
        more - less
        for more, less in zip(
            seen(3, attention, rank, padded, back), seen(2, attention, rank, padded, back), strict=True
        )
    )
    more, less = expected(3), expected(2)
    assert more.made - less.made == pytest.approx(made, rel=0.11)
    assert more.calls - less.calls == pytest.approx(calls, rel=0.3)
    if attention == "eager":
        # Torch does not count what its fused attention does on the processor.
        assert more.operations - less.operations == operations


def test_a_block_of_an_encoder_does_what_torch_does() -> None:
    def both(layers: int) -> tuple[Work, int, int]:
        module = BertModel(BertConfig(**SIZES, num_hidden_layers=layers, attn_implementation="eager")).eval()
        ids = torch.randint(3, 300, (ROWS, LENGTH))
        with torch.no_grad(), FlopCounterMode(display=False) as operations, Counted() as counted:
            module(input_ids=ids, attention_mask=torch.ones_like(ids))
        batch = Batch(ROWS, LENGTH, padded=False, attention="eager")
        shape = shape_of(layers, architecture="bert", kv_heads=4)
        return embedding_work(shape, batch), operations.get_total_flops(), counted.made

    (more, *seen_more), (less, *seen_less) = both(3), both(2)
    assert more.operations - less.operations == seen_more[0] - seen_less[0]
    assert more.made - less.made == pytest.approx(seen_more[1] - seen_less[1], rel=0.15)


@pytest.mark.parametrize("full", [False, True])
def test_the_output_layer_does_what_that_of_trl_does(full: bool) -> None:
    hidden = torch.randn(50, 64, requires_grad=True)
    weight = torch.randn(3000, 64, requires_grad=full)
    with Counted() as counted:
        found = ChunkedLogProbFunction.apply(
            hidden, weight, None, torch.arange(50), 1.0, 3000, None, 1.0, ("entropy", "is_top1")
        )
        found[0].sum().backward()
    how = Training(Batch(1, 50), rank=None if full else 4)
    shape = shape_of(0, vocabulary=3000)
    expected = micro_step(shape, how)
    logits = 4 * 50 * 3000
    other = 4 * shape.parameters if full else 0
    assert (expected.made - other) / logits == pytest.approx(counted.made / logits, rel=0.15)


SHAPES = st.builds(
    lambda layers, hidden, inner, vocabulary: shape_of(
        layers, hidden=hidden, intermediate=inner, vocabulary=vocabulary
    ),
    st.integers(1, 40),
    st.sampled_from([64, 256, 1024]),
    st.integers(64, 8192),
    st.integers(100, 200_000),
)


@given(SHAPES, st.integers(1, 64), st.integers(8, 2048), st.one_of(st.none(), st.integers(1, 64)))
def test_more_is_more(shape: Shape, rows: int, length: int, rank: int | None) -> None:
    def grows(less: Work, more: Work) -> bool:
        return all(0 <= low <= high for low, high in zip(astuple(less), astuple(more), strict=True))

    how = Training(Batch(rows, length), rank=rank)
    assert grows(micro_step(shape, how), micro_step(shape, replace(how, batch=Batch(rows + 1, length))))
    assert grows(micro_step(shape, how), micro_step(shape, replace(how, checkpointing=True)))
    assert grows(micro_step(shape, how), micro_step(shape, how, computes_reference=True))
    assert grows(optimizer_step(shape, replace(how, rank=1)), optimizer_step(shape, replace(how, rank=2)))
    assert grows(scoring_work(shape, rows, length, 8), scoring_work(shape, rows + 1, length, 8))
    assert grows(generation_work(shape, rows, length, 8), generation_work(shape, rows, length, 9))
    assert grows(openvino_work(shape, Batch(rows, length)), openvino_work(shape, Batch(rows + 1, length), requests=2))
    plain, compressed = (openvino_conversion_work(shape, compressed=each) for each in (False, True))
    assert grows(plain, compressed)


def test_work_adds_up() -> None:
    one = Work(1, 2, 3, 4)
    assert one + one == one.times(2)
    assert one + Work() == one
