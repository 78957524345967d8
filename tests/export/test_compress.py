"""What becomes of weights, and that nothing is stored twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from aifw.errors import InputInvalid
from aifw.export import export
from aifw.export.compress import check_group_size, undivided, weight_types
from aifw.job import Input
from aifw.models.openvino_model import read_graph

PARAMETERS = 26_880
"""Weights of the tiny model, its tied embeddings counted once."""


def test_the_tiny_model_is_as_large_as_said(source: Input) -> None:
    assert source.facts["parameters"] == PARAMETERS


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [("fp32", 0.99, 1.01), ("fp16", 0.49, 0.51), ("int8", 0.25, 0.30), ("int8_full", 0.25, 0.30), ("int4", 0.12, 0.20)],
)
def test_size_on_disk(precision: str, least: float, most: float, exported: Callable[[str], Path]) -> None:
    size = (exported(precision) / "openvino_model.bin").stat().st_size
    assert least < size / (4 * PARAMETERS) < most
    document = json.loads((exported(precision) / "export.json").read_text())
    assert document["bytes"] == size
    assert document["share_of_fp32"] == size / (4 * PARAMETERS)
    assert sum(document["bytes_by_type"].values()) == pytest.approx(size, rel=0.1)


def test_embeddings_that_are_the_output_layer_are_int8_and_there_once(exported: Callable[[str], Path]) -> None:
    graph = read_graph(exported("int8"))
    sizes = [
        (node.get_element_type().get_type_name(), tuple(node.shape))
        for node in graph.get_ops()
        if node.get_type_name() == "Constant" and node.get_byte_size() >= 259 * 32
    ]
    assert sizes == [("u8", (259, 1, 32))]


def test_int4_keeps_embeddings_in_int8(exported: Callable[[str], Path]) -> None:
    types = weight_types(read_graph(exported("int4")))
    assert types["i4"] == 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) / 2
    assert types["u8"] >= 259 * 32


def test_int8_full_computes_in_int8(exported: Callable[[str], Path]) -> None:
    kinds = [node.get_type_name() for node in read_graph(exported("int8_full")).get_ops()]
    # Ranges of activations are quantised on the way; weights alone would need none.
    assert kinds.count("FakeQuantize") >= 8
    assert "FakeQuantize" not in [node.get_type_name() for node in read_graph(exported("int8")).get_ops()]


def _llama(hidden: int, inner: int) -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=1, num_attention_heads=2
        )
    )


def test_layers_that_a_group_size_does_not_divide_are_named() -> None:
    module = _llama(96, 128)
    assert undivided(module, 32) == []
    assert check_group_size(module, 32, "mine", adjusts=False) is None
    found = dict(undivided(module, 64))
    assert found["model.layers.self_attn.q_proj"] == 96
    assert "model.layers.mlp.down_proj" not in found
    with pytest.raises(
        InputInvalid, match=r"`group_size: 64` does not divide every layer of mine: .*\(96 inputs\)"
    ) as error:
        check_group_size(module, 64, "mine", adjusts=False)
    assert error.value.hint is not None
    assert error.value.hint.startswith("use `group_size: 32`")
    noted = check_group_size(module, 64, "mine", adjusts=True)
    assert noted is not None
    assert noted.endswith("the largest power of two that does is used there")


def test_layers_that_no_group_divides_stay_int8() -> None:
    module = _llama(72, 128)
    with pytest.raises(InputInvalid) as error:
        check_group_size(module, 64, "mine", adjusts=False)
    assert error.value.hint == "use `precision: int8`, or `group_fallback: adjust`"
    noted = check_group_size(module, 64, "mine", adjusts=True)
    assert noted is not None
    assert noted.endswith("where that would be less than 32, INT8")


def test_a_group_size_that_does_not_divide_is_noted_or_refused(
    source: Input, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    notes = json.loads((exported("int4") / "export.json").read_text())["notes"]
    assert len(notes) == 1
    assert notes[0].startswith("group size 64 does not divide model.layers.mlp.gate_proj (32 inputs)")
    with pytest.raises(InputInvalid, match="does not divide every layer"):
        export(source.path, tmp_path / "out", precision="int4", group_fallback="error")
    made = export(source.path, tmp_path / "fine", precision="int4", group_size=32, group_fallback="error")
    assert made["precision"] == "int4"
    assert json.loads((tmp_path / "fine/export.json").read_text())["notes"] == []
