"""Weights in fewer bits: INT8 or INT4 with the arithmetic left as it is, or INT8 throughout by calibration. By NNCF, but for INT8 in groups."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from aifw.errors import DependencyMissing, InputInvalid
from aifw.export.grouped import compress_by_group

LEAST_GROUP = 32
"""The smallest group a layer's weights are cut into where the size wanted does not divide it; below that they stay INT8."""


def undivided(module: Any, group_size: int) -> list[tuple[str, int]]:
    """Linear layers whose inputs a group size does not divide: name without the block's number, and number of inputs.

    Args:
        module: A causal language model of transformers. Its embeddings and its output layer are not looked at: they stay INT8.
        group_size: Weights that share a scale.
    """
    import torch

    output = module.get_output_embeddings()
    found = {
        (".".join(part for part in name.split(".") if not part.isdecimal()), layer.in_features)
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not output and layer.in_features % group_size
    }
    return sorted(found)


def check_group_size(module: Any, group_size: int, name: str, *, adjusts: bool) -> str | None:
    """Say what becomes of layers that the group size does not divide, or None if it divides all.

    Raises:
        InputInvalid: It does not, and nothing else may be done.
    """
    found = undivided(module, group_size)
    if not found:
        return None
    listed = ", ".join(f"{layer} ({inputs:,} inputs)" for layer, inputs in found)
    if not adjusts:
        raise InputInvalid(
            f"`group_size: {group_size}` does not divide every layer of {name}: {listed}",
            hint=f"{_advice(inputs for _, inputs in found)}, or `group_fallback: adjust`",
        )
    kept = [inputs for _, inputs in found if _power_of_two_in(inputs) < LEAST_GROUP]
    rest = f"; where that would be less than {LEAST_GROUP}, INT8" if kept else ""
    return f"group size {group_size} does not divide {listed}; the largest power of two that does is used there{rest}"


def _advice(inputs: Iterator[int]) -> str:
    fitting = min(map(_power_of_two_in, inputs))
    return f"use `group_size: {fitting}`" if fitting >= LEAST_GROUP else "use `precision: int8`"


def _power_of_two_in(number: int) -> int:
    return number & -number


def compress(graph: Any, precision: str, group_size: int | None) -> Any:
    """Weights of a graph in INT8, or in INT4 with embeddings and output layer in INT8.

    INT8 has a scale and a zero point for each group of inputs or, without a group size, for each output of a layer; INT4 a scale for each
    group of inputs.

    Args:
        graph: An `openvino.Model` with weights in fp32; it is changed.
        precision: `int8` or `int4`.
        group_size: Inputs that share a scale.
    """
    if precision == "int8" and group_size is not None:
        return compress_by_group(graph, group_size)
    nncf = _import_nncf()
    with _silent():
        if precision == "int8":
            return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
        advanced = nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=LEAST_GROUP
        )
        return nncf.compress_weights(
            graph,
            mode=nncf.CompressWeightsMode.INT4_SYM,
            group_size=group_size,
            ratio=1.0,
            advanced_parameters=advanced,
        )


def quantize(graph: Any, texts: Sequence[Sequence[int]], seen: Callable[[int], None]) -> Any:
    """Weights and arithmetic in INT8, with ranges found by running the graph on some texts (SmoothQuant, arXiv:2211.10438, and NNCF's defaults).

    What is left in fp32 of the weights, the embeddings above all, is compressed to INT8.

    Args:
        graph: An `openvino.Model` with weights in fp32; it is changed.
        texts: Token ids to calibrate with.
        seen: Called with the number of texts used so far; it may raise to stop.
    """
    import numpy as np

    nncf = _import_nncf()
    used = 0

    def inputs(tokens: Sequence[int]) -> dict[str, Any]:
        nonlocal used
        used += 1
        seen(min(used, len(texts)))
        ids = np.array([tokens], dtype=np.int64)
        return {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": np.arange(ids.shape[1])[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }

    with _silent():
        quantized = nncf.quantize(
            graph,
            nncf.Dataset(list(texts), inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(texts),
        )
        return nncf.compress_weights(quantized, mode=nncf.CompressWeightsMode.INT8_ASYM)


def weight_types(graph: Any) -> dict[str, int]:
    """Bytes of the constants of a graph by type, each counted once however many layers share it."""
    found: Counter[str] = Counter()
    for node in graph.get_ops():
        if node.get_type_name() == "Constant":
            found[node.get_element_type().get_type_name()] += node.get_byte_size()
    return dict(sorted(found.items()))


def _import_nncf() -> Any:
    try:
        import nncf
    except ImportError as error:
        raise DependencyMissing(f"NNCF cannot be used: {error}", hint="pip install 'aifw[openvino]'") from error
    return nncf


@contextmanager
def _silent() -> Iterator[None]:
    """Keep NNCF from drawing bars and tables into the job's log."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logger.setLevel(level)
