"""Peak memory of running a model: scoring, generating, embedding, and what OpenVINO holds when it converts and loads one."""

from __future__ import annotations

from dataclasses import replace

from aifw.models.memory import FLOAT, WORKERS, Batch
from aifw.models.size import Shape

BATCH_TOKENS = 2048
BATCH_LOGITS = 24 * 1024**2
"""Most positions, and most logits, of a batch that is scored; a single pair may exceed them."""

EXAMPLE_TOKENS = 32
"""Positions of the input a model is traced with, unless said otherwise."""

_CALL_BYTES = 15e6
"""What libraries load or keep once a model is loaded and called. Measured."""
_GENERATION_BYTES, _ENCODER_BYTES = 8e6, 7e6
"""The same where one batch is asked after the other: of a decoder that generates, and of an encoder. Measured."""
GRAPH_BYTES_OF_BLOCK = 3.3e6
"""What OpenVINO's graph and kernels of one block take beside its weights. Measured with OpenVINO 2026.4: 3.0 MB on a
processor with AVX-512, 3.9 MB on another."""
_TRACING_BYTES = 15e6
_TRACING_BYTES_OF_BLOCK = 6.3e6
"""What tracing a model and turning the trace into OpenVINO's graph take. Measured with torch 2.13 and OpenVINO 2026.4."""
_TRACED_LOGITS = 13.8
"""Logits of the example at once while a trace is checked: `torch.jit.trace` has those of the module, of the trace and of both once more, and
`torch.testing.assert_close` makes temporaries of the same size. Measured by stopping there."""
_COMPRESSION_BYTES = 14e6
"""What compression loads on top of that. Measured with NNCF 3.4."""
_LOGIT_COPIES = 2
"""Logits, and the exponentials of how far they are below their largest."""
_PROMPTS_DIFFER = 0.25
"""By how much of the longest prompt, those of one batch whose pairs are about equally long."""
_SAMPLE_COPIES = 4
"""Logits of the last positions, their copy, and what two processors of `generate` make of them."""


def forward_of_block(shape: Shape, batch: Batch) -> float:
    """Bytes that are there at once in the forward pass of a block that keeps nothing.

    The embeddings and the input of the block stay until the end of the pass, for the functions that called it still name them.
    """
    hidden, inner = shape.hidden, shape.intermediate
    # The sum after attention and, before the gate's matrix, its norm.
    feed_forward = (4 * hidden + 3 * inner) if shape.gated else (3 * hidden + 2 * inner)
    rotary = 3 * hidden + 4 * shape.queries + 2 * shape.keys
    attention = 3 * hidden + 4 * shape.queries
    if batch.attention == "eager":
        attention += 2 * shape.heads * batch.length
        # A block in transformers names the probabilities, which it does not use, until its end.
        feed_forward += shape.heads * batch.length
    elif batch.padded:
        attention += batch.length
    return batch.bytes_each * batch.tokens * max(feed_forward, rotary, attention)


def cache(shape: Shape, rows: float, positions: float, bytes_each: int = FLOAT) -> float:
    """Bytes of the keys and values of all blocks."""
    return 2 * bytes_each * shape.layers * shape.keys * rows * positions


def scoring(
    shape: Shape,
    prompt: float,
    answer: float,
    *,
    mapped: bool,
    shared: bool = True,
    varied: bool = True,
    bytes_each: int = FLOAT,
    worker: str = "torch",
) -> dict[str, float]:
    """Parts of a process that scores pairs of answers by `aifw.models.score`.

    Args:
        shape: Of the model.
        prompt: Tokens of the prompt of the longest pair.
        answer: Tokens of its longer answer.
        mapped: Weights stay in their file; see `aifw.models.memory.is_mapped`.
        bytes_each: Of a number in the format computed in.
        varied: Pairs differ in length, so that some batch is about as full as batches may be.
        shared: All prompts begin alike, so that this part is computed once and kept.
        worker: Which libraries are imported.
    """
    length = prompt + answer
    rows = 2 * scored_at_once(shape, prompt, answer)
    logits = rows * (answer + 1) * shape.vocabulary
    if varied:
        logits = max(logits, _logits_of_a_full_batch(shape, prompt, answer))
    logits *= _LOGIT_COPIES * FLOAT
    batch = Batch(rows, length, bytes_each=bytes_each)
    kept = cache(shape, rows, length, bytes_each) if shared else 0.0
    return _inference(shape, batch, mapped=mapped, kept=kept, logits=logits, worker=worker)


def scored_at_once(shape: Shape, prompt: float, answer: float) -> float:
    """Pairs that `aifw.models.score` computes at once if all are of this length."""
    by_logits = BATCH_LOGITS // (2 * (answer + 1) * shape.vocabulary)
    return max(1.0, min(BATCH_TOKENS // (2 * (prompt + answer)), by_logits))


def _logits_of_a_full_batch(shape: Shape, prompt: float, answer: float) -> float:
    """How many logits the fullest batch has, of pairs up to a length.

    Pairs are added while they fit, so of the room for one more about half stays empty. Logits are kept from the end of the shortest
    prompt of a batch on, and prompts of pairs that are about equally long differ.
    """
    kept = answer + _PROMPTS_DIFFER * prompt
    limit = min(BATCH_LOGITS, BATCH_TOKENS * shape.vocabulary * kept / (prompt + answer))
    pairs = limit / (2 * (answer + 1) * shape.vocabulary)
    return limit * (1 - 0.5 / (pairs + 1)) if pairs >= 1 else 0.0


def generation(shape: Shape, rows: float, prompt: float, new: float, *, mapped: bool) -> dict[str, float]:
    """Parts of a process that continues `rows` prompts by `new` tokens, keys and values kept."""
    batch = Batch(rows, prompt, padded=rows > 1)
    logits = _SAMPLE_COPIES * FLOAT * rows * shape.vocabulary
    reading = _inference(shape, batch, mapped=mapped, kept=cache(shape, rows, prompt), logits=logits, worker="torch")
    # While a position is added, one block's keys and values are there twice.
    kept = cache(shape, rows, prompt + new) * (1 + 1 / max(1.0, shape.layers))
    writing = _inference(shape, Batch(rows, 1, padded=False), mapped=mapped, kept=kept, logits=logits, worker="torch")
    largest = max((reading, writing), key=lambda parts: sum(parts.values()))
    return {**largest, "libraries": _GENERATION_BYTES}


def embedding(shape: Shape, batch: Batch, *, mapped: bool) -> dict[str, float]:
    """Parts of a process that embeds texts with an encoder, batch by batch: the states of the batch before are held until there are others."""
    kept = batch.bytes_each * batch.tokens * shape.hidden
    parts = _inference(shape, batch, mapped=mapped, kept=0.0, logits=0.0, worker="embedding")
    return {**parts, "libraries": _ENCODER_BYTES, "states": kept}


def openvino(shape: Shape, batch: Batch, *, weight_bytes: float = 1, whole_logits: bool = True) -> dict[str, float]:
    """Parts of a process that loads a model of OpenVINO for the processor and asks it.

    The weights are held twice: mapped from their file, which costs nothing here, and laid out anew for the kernels, fp32 while the
    model is compiled, INT8 when it is first asked.

    Args:
        shape: Of the model.
        batch: Asked at once.
        weight_bytes: Of one weight: 4, or 1 for INT8 and a little more with scales in groups.
        whole_logits: Logits of all positions are asked for; the plugin keeps them beside what it gives back.
    """
    positions = batch.tokens if whole_logits else batch.rows
    return {
        "worker": WORKERS["openvino"],
        "graph": GRAPH_BYTES_OF_BLOCK * shape.layers,
        "weights": weight_bytes * (shape.linear + shape.embedding),
        "activations": 2 * forward_of_block(shape, replace(batch, attention="sdpa", padded=False)),
        "logits": 2 * FLOAT * positions * shape.vocabulary,
    }


def openvino_scoring(shape: Shape, prompt: float, answer: float, *, weight_bytes: float = 1) -> dict[str, float]:
    """Parts of a process that scores pairs of answers by a model of OpenVINO, whose logits are asked for where answers are.

    Args:
        shape: Of the model.
        prompt: Tokens of the prompt of the longest pair.
        answer: Tokens of its longer answer.
        weight_bytes: Of one weight: 4, or 1 for INT8 and a little more with scales in groups.
    """
    rows = 2 * scored_at_once(shape, prompt, answer)
    parts = openvino(shape, Batch(rows, prompt + answer), weight_bytes=weight_bytes)
    # What the plugin keeps, its copy, and one row in double precision with its exponentials.
    logits = (2 * FLOAT + 16 / rows) * rows * (answer + 1) * shape.vocabulary
    return {**parts, "worker": WORKERS["conversion"], "logits": logits}


def openvino_conversion(
    shape: Shape, *, mapped: bool, compressed: bool, example: float = EXAMPLE_TOKENS
) -> dict[str, float]:
    """Parts of a process that converts a model of torch for OpenVINO.

    Args:
        shape: Of the model.
        mapped: Its weights stay in their file; see `aifw.models.memory.is_mapped`.
        compressed: They are compressed to INT8, which are there beside the others, one matrix after the other: first the embeddings of
            tokens, then those of the output, then the blocks. A matrix is there in fp32 once more meanwhile, and what came of the one
            before it twice.
        example: Positions of the input it is traced with, all of whose logits are computed.
    """
    graph = {"libraries": _TRACING_BYTES, "graph": _TRACING_BYTES_OF_BLOCK * shape.layers}
    fixed = {"worker": WORKERS["conversion"], "weights": 0.0 if mapped else shape.weights(), **graph}
    moments = [{"logits": _TRACED_LOGITS * FLOAT * example * shape.vocabulary}]
    if compressed:
        inner = FLOAT * shape.hidden * shape.intermediate
        matrices = 1 if shape.tied else 3
        moments += [
            {"embeddings": FLOAT * shape.embedding, "compressed weights": matrices * shape.embedding},
            {"blocks": inner, "compressed weights": shape.parameters},
        ]
        fixed["libraries"] += _COMPRESSION_BYTES
    return max(({**fixed, **moment} for moment in moments), key=lambda parts: sum(parts.values()))


def converting(shape: Shape) -> dict[str, float]:
    """Parts of a process that turns a quantised file into plain weights: in fp32 first, then in half of that."""
    return {
        "worker": WORKERS["torch"],
        "libraries": _CALL_BYTES,
        "weights": shape.weights(),
        "weights to write": shape.weights(2),
    }


def copying() -> dict[str, float]:
    """Parts of a process that copies the files of a model and reads their headers."""
    return {"worker": WORKERS["torch"], "libraries": _CALL_BYTES}


def _inference(
    shape: Shape, batch: Batch, *, mapped: bool, kept: float, logits: float, worker: str
) -> dict[str, float]:
    block = forward_of_block(shape, batch)
    return {
        "worker": WORKERS[worker],
        "libraries": _CALL_BYTES,
        "weights": 0.0 if mapped else shape.weights(batch.bytes_each),
        "cache": kept,
        "activations": block,
        "logits": max(0.0, logits - block),
    }
