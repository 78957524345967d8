"""What exporting a model and trying it on a device will take, from facts alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aifw.hardware.machine import Machine
from aifw.kind import Estimate, Forecast
from aifw.models.memory import Batch, estimated, is_mapped
from aifw.models.memory_inference import cache, forward_of_block, openvino, openvino_conversion
from aifw.models.size import Shape
from aifw.models.speed import seconds_for
from aifw.models.work import Work, generation_work, openvino_conversion_work, openvino_work

BITS = {"fp32": 32.0, "fp16": 16.0, "int8": 9.0, "int8_full": 8.1, "int4": 4.5}
"""Of a weight on disk, with its share of scales and zero points."""
_SECONDS_TO_START = 12.0
"""Importing torch, transformers, OpenVINO and NNCF, and loading."""
_MEAN_OF_LONGEST = 0.35
"""Of the longest text allowed, the mean."""
_CONTINUED_TOKENS = 32
_CALIBRATION_PASSES = 3
"""Runs of every calibration text: for SmoothQuant, for ranges, for biases."""


def export_forecast(
    model: Mapping[str, Any],
    machine: Machine,
    precision: str,
    *,
    texts: float,
    continued: float,
    calibrated: float,
    longest: float,
) -> Forecast:
    """Of `export`.

    Args:
        model: Facts of the text model.
        machine: As seen from the place considered.
        precision: Of the weights.
        texts: Compared.
        continued: Prompts continued by both models.
        calibrated: Texts to calibrate with.
        longest: Tokens of the longest of either.
    """
    shape = Shape.of(model)
    compressed = precision not in {"fp32", "fp16"}
    mapped = is_mapped(shape, "cpu")
    moments = [openvino_conversion(shape, mapped=mapped, compressed=compressed)]
    batch = Batch(1, max(1.0, longest), padded=False)
    if texts:
        moments.append(_both(shape, batch, precision, mapped=mapped))
    if calibrated:
        moments.append(_calibrating(shape, batch, mapped=mapped))
    parts = max(moments, key=lambda each: sum(each.values()))
    mean = max(1.0, _MEAN_OF_LONGEST * longest)
    work = openvino_conversion_work(shape, compressed=compressed)
    if texts:
        ours = Batch(1, mean, padded=False)
        work += openvino_work(shape, ours, weight_bytes=_weight_bytes(precision), requests=2 * texts)
        work += generation_work(shape, 1, mean, _CONTINUED_TOKENS).times(2 * continued)
    if calibrated:
        work += openvino_work(
            shape, Batch(1, mean, padded=False), weight_bytes=4, requests=_CALIBRATION_PASSES * calibrated
        )
    seconds, measured = seconds_for(work, machine)
    bits = BITS[precision]
    return Forecast(
        memory=estimated(parts, certain=shape.certain),
        seconds=Estimate.around(_SECONDS_TO_START + seconds, 0.6 if measured else 1.2),
        basis=f"{shape.parameters / 1e6:,.0f} million weights"
        + (f", compared on up to {texts:,.0f} texts" if texts else "")
        + ("" if shape.certain else "; the model is not known yet, so sizes are assumed"),
        work=work.operations + work.made,
        facts={"model": {**model, "precision": precision, "share_of_fp32": bits / 32}},
        parts=parts,
        startup=_SECONDS_TO_START,
    )


def deployment_forecast(
    model: Mapping[str, Any],
    machine: Machine,
    *,
    requests: float,
    prompt: float,
    tokens: float,
    static: bool,
    sizes: tuple[tuple[int, ...], int],
) -> Forecast:
    """Of `deployment`.

    Args:
        model: Facts of the OpenVINO model.
        machine: As seen from the place considered.
        requests: Prompts answered.
        prompt: Tokens of each.
        tokens: Of each answer.
        static: Shapes are fixed: a model for every length of prompts, and one for the answer.
        sizes: The lengths, and the positions kept.
    """
    shape = Shape.of(model)
    weight_bytes = _weight_bytes(str(model.get("precision", "int8")))
    lengths, positions = sizes
    parts = openvino(shape, Batch(1, max(lengths) if static else prompt), weight_bytes=weight_bytes, whole_logits=False)
    kept = cache(shape, 1, positions if static else prompt + tokens)
    if static:
        # Every length is compiled by itself, with weights laid out for it; keys and values go in and come out.
        parts = {
            **parts,
            "weights": parts["weights"] * (1 + len(lengths)),
            "graph": parts["graph"] * (1 + len(lengths)),
        }
        kept *= 3
    parts = {**parts, "worker": parts["worker"] + _TOKENIZER_BYTES, "cache": kept}
    read = openvino_work(shape, Batch(1, prompt, padded=False), weight_bytes=weight_bytes, whole_logits=False)
    write = openvino_work(shape, Batch(1, 1, padded=False), weight_bytes=weight_bytes, whole_logits=False)
    work = read.times(requests) + write.times(requests * tokens)
    work += Work(made=_COMPILING_PASSES * shape.weights())
    seconds, measured = seconds_for(work, machine, "int8" if weight_bytes < 4 else "fp32")
    return Forecast(
        memory=estimated(parts, certain=shape.certain),
        seconds=Estimate.around(_SECONDS_TO_START + seconds, 0.6 if measured else 1.2),
        basis=f"{requests:,.0f} answers of {tokens:,.0f} tokens"
        + ("" if shape.certain else "; the model is not known yet, so sizes are assumed"),
        work=work.operations,
        parts=parts,
        startup=_SECONDS_TO_START,
    )


_TOKENIZER_BYTES = 195e6
"""Of importing transformers for its tokenizer, beside OpenVINO. Measured with one exported model."""
_COMPILING_PASSES = 4
"""How often all weights are written while a graph is compiled and its compiled form kept."""


def _weight_bytes(precision: str) -> float:
    return {"int8": BITS["int8"] / 8}.get(precision, 1.0 if precision.startswith("int") else 4.0)


def _both(shape: Shape, batch: Batch, precision: str, *, mapped: bool) -> dict[str, float]:
    """The model as it was and the compressed one, one text at a time under each."""
    theirs = openvino(shape, batch, weight_bytes=_weight_bytes(precision))
    conversion = openvino_conversion(shape, mapped=mapped, compressed=False)
    return {
        "worker": conversion["worker"],
        "libraries": conversion["libraries"],
        "weights": conversion["weights"],
        "compressed weights": theirs["weights"],
        "graph": theirs["graph"],
        "activations": max(theirs["activations"], forward_of_block(shape, batch)),
        "logits": 2 * theirs["logits"],
    }


def _calibrating(shape: Shape, batch: Batch, *, mapped: bool) -> dict[str, float]:
    """The graph in fp32, every activation of it collected for one text at a time."""
    theirs = openvino(shape, batch, weight_bytes=4)
    conversion = openvino_conversion(shape, mapped=mapped, compressed=True)
    return {
        "worker": conversion["worker"],
        "libraries": conversion["libraries"],
        "weights": conversion["weights"] + theirs["weights"],
        "graph": 2 * theirs["graph"],
        "activations": theirs["activations"] * max(1.0, shape.layers),
        "logits": theirs["logits"],
    }
