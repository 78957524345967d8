from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from aifw.models.load import quiet
from aifw.models.memory import WORKERS, Batch, bytes_each, estimated, is_mapped, largest_batch
from aifw.models.memory_inference import (
    BATCH_LOGITS,
    cache,
    converting,
    copying,
    embedding,
    generation,
    openvino,
    openvino_conversion,
    scoring,
)
from aifw.models.memory_training import Training, merging, saved_by_block, training
from aifw.models.size import Shape

SMALL = {"layers": 3, "hidden": 64, "intermediate": 160, "heads": 4, "kv_heads": 2, "vocabulary": 300}


def model(layers: int = 3, *, tied: bool = True, attention: str = "sdpa") -> Any:
    config = LlamaConfig(
        vocab_size=SMALL["vocabulary"],
        hidden_size=SMALL["hidden"],
        intermediate_size=SMALL["intermediate"],
        num_hidden_layers=layers,
        num_attention_heads=SMALL["heads"],
        num_key_value_heads=SMALL["kv_heads"],
        tie_word_embeddings=tied,
    )
    config._attn_implementation = attention
    return LlamaForCausalLM(config).train()


def shape_of(module: Any, layers: int = 3) -> Shape:
    return Shape.of({**SMALL, "layers": layers, "parameters": module.num_parameters()})


def with_adapter(module: Any, rank: int, dora: bool = False) -> Any:
    with quiet():
        return get_peft_model(
            module, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=dora)
        )


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_counted_as_torch_counts_them(tied: bool) -> None:
    module = model(tied=tied)
    shape = shape_of(module)
    norms = SMALL["hidden"] * (2 * SMALL["layers"] + 1)
    assert shape.tied is tied
    assert shape.linear + shape.embedding * (1 if tied else 2) + norms == module.num_parameters()


@pytest.mark.parametrize("rank", [1, 8])
def test_weights_of_an_adapter_are_counted_as_peft_counts_them(rank: int) -> None:
    module = with_adapter(model(), rank)
    trained = sum(each.numel() for each in module.parameters() if each.requires_grad)
    assert shape_of(model()).lora(rank) == trained


def saved_bytes(module: Any, rows: int, length: int, padded: bool, half: bool = False, masks_once: bool = False) -> int:
    """Bytes of storages that autograd keeps, weights apart, by its own hooks."""
    known = {each.untyped_storage().data_ptr() for each in module.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept.setdefault(storage.data_ptr(), (storage.nbytes(), tensor))
        return tensor

    ids = torch.randint(3, SMALL["vocabulary"], (rows, length))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, -3:] = 0
    if masks_once:
        mask = torch.zeros((rows, 1, length, length), dtype=torch.bfloat16 if half else torch.float32)
    inner = module.get_base_model().model if hasattr(module, "get_base_model") else module.model
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=half),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        output = inner(input_ids=ids, attention_mask=mask, use_cache=False)
    assert output.last_hidden_state.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("padded", [False, True])
def test_a_block_keeps_what_autograd_says(attention: Any, rank: int | None, padded: bool) -> None:
    found = []
    for layers in (2, 3):
        module = model(layers, attention=attention)
        found.append(saved_bytes(module if rank is None else with_adapter(module, rank), 2, 32, padded))
    expected = saved_by_block(shape_of(model()), Batch(2, 32, padded, attention), rank)
    assert expected == pytest.approx(found[1] - found[0], rel=0.002)


@pytest.mark.parametrize("padded", [False, True])
def test_a_block_in_half_precision_keeps_what_autograd_says(padded: bool) -> None:
    found = [saved_bytes(with_adapter(model(layers).bfloat16(), 4), 2, 32, padded, half=True) for layers in (2, 3)]
    expected = saved_by_block(shape_of(model()), Batch(2, 32, padded, bytes_each=2), 4)
    assert expected == pytest.approx(found[1] - found[0], rel=0.002)


def test_magnitudes_of_outputs_keep_what_autograd_says() -> None:
    found = [saved_bytes(with_adapter(model(layers), 4, dora=True), 2, 32, False) for layers in (2, 3)]
    inputs = [SMALL["hidden"]] * 6 + [SMALL["intermediate"]]
    # The thin matrices are multiplied out by way of an identity, which is let go of at once; norms stay, three numbers an output.
    gone = 4 * sum(each * each + 4 * each for each in inputs)
    norms = 3 * 4 * shape_of(model()).outputs
    expected = saved_by_block(shape_of(model()), Batch(2, 32, padded=False), 4, magnitudes=True)
    assert expected + gone + norms == pytest.approx(found[1] - found[0], rel=0.002)


@pytest.mark.parametrize("half", [False, True])
def test_a_mask_that_is_made_once_is_kept_once(half: bool) -> None:
    found = []
    for layers in (2, 3):
        module = model(layers).bfloat16() if half else model(layers)
        found.append(saved_bytes(with_adapter(module, 4), 2, 32, True, half=half, masks_once=True))
    batch = Batch(2, 32, bytes_each=2 if half else 4, masks_once=True)
    assert saved_by_block(shape_of(model()), batch, 4) == pytest.approx(found[1] - found[0], rel=0.002)


def test_the_cache_is_as_large_as_that_of_transformers() -> None:
    module = model().eval()
    with torch.inference_mode():
        kept = module(input_ids=torch.ones((3, 17), dtype=torch.long), past_key_values=DynamicCache()).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in kept.layers)
    assert cache(shape_of(module), 3, 17) == held


def total(parts: dict[str, float]) -> float:
    assert all(value >= 0 for value in parts.values())
    assert parts["worker"] in WORKERS.values()
    return sum(parts.values())


SHAPES = st.builds(
    lambda layers, heads, groups, width, inner, vocabulary: Shape.of(
        {
            "layers": layers,
            "hidden": heads * width,
            "intermediate": inner * heads * width,
            "heads": heads,
            "kv_heads": heads // groups if heads % groups == 0 else heads,
            "vocabulary": vocabulary,
            "parameters": layers * (4 + 3 * inner) * (heads * width) ** 2 + vocabulary * heads * width,
        }
    ),
    st.integers(1, 40),
    st.integers(1, 16),
    st.integers(1, 4),
    st.sampled_from([32, 64, 128]),
    st.integers(1, 4),
    st.integers(100, 200_000),
)
BATCHES = st.builds(Batch, st.integers(1, 64), st.integers(8, 2048), st.booleans(), st.sampled_from(["sdpa", "eager"]))
WAYS = st.builds(
    Training,
    BATCHES,
    st.one_of(st.none(), st.integers(1, 64)),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["tiled", "whole"]),
    st.booleans(),
)


@given(SHAPES, WAYS, st.booleans())
def test_training_needs_more_for_more(shape: Shape, how: Training, mapped: bool) -> None:
    def needs(**changes: Any) -> float:
        return total(training(shape, replace(how, **changes), mapped=mapped))

    batch = how.batch
    base = needs()
    assert needs(batch=replace(batch, rows=batch.rows + 1)) >= base
    assert needs(batch=replace(batch, length=batch.length + 64)) >= base
    assert needs(accumulates=True) >= base
    assert needs(reference=True) >= base
    assert needs(checkpointing=True) <= needs(checkpointing=False)
    deeper = replace(shape, layers=shape.layers + 4, parameters=shape.parameters + 4 * shape.linear / shape.layers)
    assert total(training(deeper, how, mapped=mapped)) > base


@given(SHAPES, WAYS)
def test_an_adapter_needs_less_than_all_weights(shape: Shape, how: Training) -> None:
    adapter = training(shape, replace(how, rank=4), mapped=True)
    whole = training(shape, replace(how, rank=None), mapped=True)
    if shape.lora(4) * 6 < shape.parameters:
        assert total(adapter) < total(whole)


@given(SHAPES, st.integers(8, 1000), st.integers(1, 500))
def test_inference_adds_up(shape: Shape, prompt: int, answer: int) -> None:
    for mapped in (True, False):
        assert total(scoring(shape, prompt, answer, mapped=mapped)) > WORKERS["torch"]
        few = total(generation(shape, 1, prompt, answer, mapped=mapped))
        assert total(generation(shape, 1, prompt, answer + 10, mapped=mapped)) >= few
        assert total(embedding(shape, Batch(4, prompt), mapped=mapped)) > WORKERS["embedding"]
        plain = total(openvino_conversion(shape, mapped=mapped, compressed=False))
        assert total(openvino_conversion(shape, mapped=mapped, compressed=True)) > plain
        assert total(merging(shape, 8, mapped=mapped)) > WORKERS["training"]
    assert total(openvino(shape, Batch(1, prompt), weight_bytes=1)) < total(
        openvino(shape, Batch(1, prompt), weight_bytes=4)
    )
    assert total(copying()) < total(converting(shape))


def test_a_batch_that_is_scored_keeps_the_limits_of_scoring() -> None:
    shape = Shape.of({**SMALL, "parameters": 1e6, "vocabulary": 100_000})
    logits = scoring(shape, 100, 30, mapped=True)["logits"]
    assert 0 < logits <= 2 * 4 * BATCH_LOGITS
    alone = scoring(shape, 1500, 500, mapped=True)["logits"]
    assert alone == pytest.approx(2 * 4 * 2 * 501 * 100_000, rel=0.05)


@given(SHAPES, st.integers(8, 1000), st.integers(1, 500))
def test_pairs_of_varied_lengths_fill_their_batches(shape: Shape, prompt: int, answer: int) -> None:
    alike, varied = (scoring(shape, prompt, answer, mapped=True, varied=each)["logits"] for each in (False, True))
    assert alike <= varied
    assert varied <= max(alike, 2 * 4 * BATCH_LOGITS)


def test_a_trace_is_checked_with_all_logits_of_its_example() -> None:
    shape = Shape.of({**SMALL, "parameters": 1e6, "vocabulary": 100_000})
    few, many = (openvino_conversion(shape, mapped=True, compressed=False, example=each) for each in (16, 32))
    assert many["logits"] == 2 * few["logits"] > 4 * 32 * 100_000


@given(st.integers(1, 64), st.floats(1, 1e6), st.floats(0, 1e5), st.floats(1, 1e4))
def test_the_largest_batch_fits_and_divides(effective: int, limit: float, fixed: float, each: float) -> None:
    def needs(rows: int) -> float:
        return fixed + each * rows

    found = largest_batch(needs, limit, effective)
    assert effective % found == 0
    assert found == 1 or needs(found) <= limit
    assert all(effective % size or needs(size) > limit for size in range(found + 1, effective + 1))
    assert largest_batch(needs, limit, effective, most=found) == found
    assert largest_batch(needs, 1e12, effective, most=3) <= 3


def test_the_range_is_narrow_where_everything_is_known() -> None:
    parts = {"worker": 300e6, "weights": 500e6, "activations": 200e6}
    known, guessed = (estimated(parts, certain=certain) for certain in (True, False))
    assert known.mid == guessed.mid == sum(parts.values())
    assert known.low < known.mid < known.high <= 1.5 * known.low
    assert guessed.low < known.low
    assert guessed.high > known.high
    assert guessed.low > parts["worker"]


@pytest.mark.parametrize(
    ("stored", "device", "precision", "mapped"),
    [
        ("float32", "cpu", "fp32", True),
        ("bfloat16", "cpu", "fp32", False),
        ("bfloat16", "cpu", "bf16", True),
        ("float32", "xpu:0", "fp32", False),
        ("q4", "cpu", "fp32", False),
    ],
)
def test_weights_stay_in_the_file_only_as_they_are(stored: str, device: str, precision: str, mapped: bool) -> None:
    shape = Shape.of({"parameters": 1e8, "dtype": stored})
    assert is_mapped(shape, device, precision) is mapped


def test_bytes_of_a_format() -> None:
    assert [bytes_each(each) for each in ("fp32", "bf16")] == [4, 2]


def test_a_shape_without_facts_is_marked_so() -> None:
    assert not Shape.of({}).certain
    assert not Shape.of({"parameters": 1e9}).certain
    assert Shape.of({**SMALL, "parameters": 1e6}).certain
