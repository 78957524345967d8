"""What computing with a model has to do, counted from its shape: products of matrices, weights read, tensors made, operators called.

Each of the four has a speed of its own on a machine (`aifw.models.speed`). Products alone would say that a token of a small model costs
what one of a large model costs per weight; but the smaller the matrices, the more of the time goes into what surrounds them.

Counted are the tensors that transformers, PEFT and TRL make in PyTorch without compiling: every norm, gate, rotation, sum and loss
writes one, into pages that the system has filled with zeros before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aifw.models.memory import FLOAT, Batch
from aifw.models.memory_inference import cache, scored_at_once
from aifw.models.memory_training import Training
from aifw.models.size import Shape

_CALLS_OF_BLOCK = 73
"""Operators of a block's forward pass, views included."""
_CALLS_OF_ADAPTER = 10
"""Of LoRA beside one linear layer: to its format, dropout, two products, scaling, sum."""
_CALLS_OF_PASS = 150
"""Around the blocks: embeddings, mask, rotations, output, loss."""
_LOGITS_FORWARD, _LOGITS_BACKWARD = 6.5, 12.3
"""Tensors of the size of all logits that TRL's output layer writes (`trl/kernels/chunked_logprob.py`): in the forward pass the product, two
scaled ones, exponentials and what entropy and accuracy need; in the backward pass those of `TILE_BUFFERS` and what is copied."""
_LOGITS_WHOLE = 4
"""The same of the loss of transformers, both passes: product, log-softmax, and the gradient by each."""
_LOGITS_ANSWERS, _LOGITS_REFERENCE = 3, 2
"""The same of `aifw.training.log_probabilities`: the product, and what is written over it, with and without gradients."""
_LOGITS_AGAIN = 8
"""The same of the first where the output layer is trained and its logits are made twice: product, exponentials, twice, and the gradient."""
_LOGITS_SCORED = 3
"""The same of scores without gradients: product, difference to the largest, exponentials."""
_OPTIMIZER_NUMBERS = 14
"""Numbers AdamW writes or goes through per weight, the gradient and the clipping of its norm included (`torch/optim/adamw.py`)."""

_FUSED = 0.3
"""Of the tensors that PyTorch would make, what OpenVINO's graph writes. Assumed."""
_PASSES_CONVERTED, _PASSES_COMPRESSED = 10, 3
"""How often all weights are written, in effect, when a model is traced, converted and put on the disk, and once more where they are
compressed. Measured with OpenVINO 2026.4 and NNCF 3.4, like what follows."""
_CALLS_CONVERTED = 40_000
_CALLS_CONVERTED_OF_BLOCK, _CALLS_COMPRESSED_OF_BLOCK = 26_000, 19_000
"""The same in calls of operators: of the whole, of a block, and of a block that is compressed."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much there is to do.

    Attributes:
        operations: Multiplications and additions of products of matrices, each counted.
        read: Bytes of weights and of kept keys and values that products go through.
        made: Bytes of the tensors that are written.
        calls: Operators that are called.
    """

    operations: float = 0.0
    read: float = 0.0
    made: float = 0.0
    calls: float = 0.0

    def __add__(self, other: Work) -> Work:
        """One after the other."""
        return Work(
            self.operations + other.operations, self.read + other.read, self.made + other.made, self.calls + other.calls
        )

    def times(self, count: float) -> Work:
        """The same so often."""
        return Work(self.operations * count, self.read * count, self.made * count, self.calls * count)


def blocks(shape: Shape, batch: Batch, *, before: float = 0.0) -> Work:
    """The forward pass of all blocks.

    Args:
        shape: Of the model.
        batch: Computed at once.
        before: Positions whose keys and values were kept, on top of the batch's.
    """
    tokens, seen = batch.tokens, batch.length + before
    causal = shape.gated and batch.attention == "sdpa" and not batch.padded
    pairs = tokens * (before + batch.length / 2 if causal else seen)
    numbers = tokens * _made_by_block(shape, batch)
    numbers += shape.heads * pairs * (4 if batch.attention == "eager" else 1)
    return Work(
        operations=2 * tokens * shape.linear + 4 * shape.layers * shape.queries * pairs,
        read=batch.bytes_each * shape.linear + cache(shape, batch.rows, seen, batch.bytes_each),
        made=batch.bytes_each * shape.layers * numbers,
        calls=shape.layers * _CALLS_OF_BLOCK + _CALLS_OF_PASS,
    )


def adapter(shape: Shape, batch: Batch, rank: int) -> Work:
    """What the forward pass of all blocks has to do besides where every linear layer has a LoRA adapter."""
    weights = shape.lora(rank)
    # The second product, that scaled, and the sum with the layer's own output.
    numbers = batch.tokens * shape.layers * (3 * shape.outputs + _linear_layers(shape) * rank)
    return Work(
        operations=2 * batch.tokens * weights,
        read=batch.bytes_each * weights,
        made=batch.bytes_each * numbers,
        calls=_CALLS_OF_ADAPTER * _linear_layers(shape) * shape.layers,
    )


def norms(shape: Shape, batch: Batch, rank: int) -> Work:
    """What magnitudes of outputs add to the forward pass of all blocks (DoRA): norms of summed weights, and outputs scaled by them.

    PEFT multiplies the thin matrices out, by way of an identity, for every layer and pass.
    """
    weights = sum(inputs * outputs for inputs, outputs in _matrices(shape)) * shape.layers
    identities = sum(inputs * inputs for inputs, _ in _matrices(shape)) * shape.layers
    return Work(
        operations=2 * rank * (weights + identities),
        read=batch.bytes_each * weights,
        made=FLOAT * (4 * weights + identities) + batch.bytes_each * 3 * batch.tokens * shape.layers * shape.outputs,
        calls=20 * _linear_layers(shape) * shape.layers,
    )


def backward(shape: Shape, batch: Batch, rank: int | None) -> Work:
    """The backward pass of all blocks: two products for each of the forward pass, and twice as many tensors.

    Weights that are not trained need only one of the two. An adapter needs both; of its tensors only those gradients that
    are added up at the inputs of linear layers are new.
    """
    whole = blocks(shape, batch).times(2)
    if rank is None:
        return whole
    beside = adapter(shape, batch, rank)
    return whole + Work(
        operations=2 * beside.operations - 2 * batch.tokens * shape.linear,
        read=2 * beside.read,
        made=0.5 * beside.made,
        calls=1.4 * beside.calls,
    )


def output(shape: Shape, positions: float, tensors: float, products: float = 1) -> Work:
    """The output layer at some positions, and what is made of its logits.

    Args:
        shape: Of the model.
        positions: At which logits are computed.
        tensors: Of the size of all logits that are made.
        products: Of the matrix with the states, its gradients included.
    """
    logits = positions * shape.vocabulary
    return Work(
        operations=2 * products * positions * shape.embedding,
        read=FLOAT * products * shape.embedding,
        made=FLOAT * tensors * logits,
    )


def optimizer_step(shape: Shape, how: Training) -> Work:
    """One step: the micro-batches are counted by `micro_step`."""
    trained = shape.parameters if how.rank is None else shape.lora(how.rank)
    matrices = shape.layers * _linear_layers(shape) * (1 if how.rank is None else 2)
    return Work(made=FLOAT * _OPTIMIZER_NUMBERS * trained, calls=20 * matrices)


def micro_step(shape: Shape, how: Training, *, computes_reference: bool = False) -> Work:
    """Forward and backward pass of a batch, and the sum of the gradients.

    Args:
        shape: Of the model.
        how: It is trained.
        computes_reference: The model without its adapter, or another one, is run beside it.
    """
    batch, full = how.batch, how.rank is None
    forward = blocks(shape, batch)
    if how.rank is not None:
        forward += adapter(shape, batch, how.rank)
        if how.magnitudes:
            forward += norms(shape, batch, how.rank)
    done = forward.times(1 + how.checkpointing) + backward(shape, batch, how.rank)
    if full:
        # The embedding of tokens gets a gradient of its full size, whatever tokens there are.
        done += Work(made=FLOAT * (shape.parameters + 2 * shape.embedding))
    if how.head == "whole":
        done += output(shape, batch.tokens, _LOGITS_WHOLE, 3 if full else 2)
    elif how.head == "answers":
        done += output(shape, how.answers, *((_LOGITS_AGAIN, 4) if full else (_LOGITS_ANSWERS, 2)))
    else:
        done += output(shape, batch.tokens, _LOGITS_FORWARD + _LOGITS_BACKWARD, 4 if full else 3)
    if computes_reference:
        done += blocks(shape, batch) + output(shape, batch.tokens, _LOGITS_FORWARD)
    return done


def scoring_work(shape: Shape, pairs: float, prompt: float, answer: float, *, bytes_each: int = FLOAT) -> Work:
    """Scores of pairs of answers by `aifw.models.score`.

    Args:
        shape: Of the model.
        pairs: How many.
        prompt: Mean tokens of a prompt.
        answer: Mean tokens of an answer.
        bytes_each: Of a number in the format computed in.
    """
    at_once = scored_at_once(shape, prompt, answer)
    batch = Batch(2 * at_once, prompt + answer, padded=False, bytes_each=bytes_each)
    one = blocks(shape, batch) + output(shape, batch.rows * (answer + 1), _LOGITS_SCORED)
    return one.times(pairs / at_once)


def answers_work(shape: Shape, how: Training) -> Work:
    """Log-probabilities of the answers of a batch, without gradients."""
    return blocks(shape, how.batch) + output(shape, how.answers, _LOGITS_REFERENCE)


def generation_work(shape: Shape, rows: float, prompt: float, new: float) -> Work:
    """Prompts read at once, and continued position by position with keys and values kept, which are copied each time."""
    reading = blocks(shape, Batch(rows, prompt, padded=rows > 1)) + output(shape, rows, _LOGITS_SCORED)
    kept = cache(shape, rows, prompt + new / 2)
    writing = blocks(shape, Batch(rows, 1, padded=False), before=prompt + new / 2) + output(shape, rows, _LOGITS_SCORED)
    return reading + (writing + Work(made=kept)).times(max(0.0, new - 1))


def embedding_work(shape: Shape, batch: Batch) -> Work:
    """Texts through an encoder."""
    return blocks(shape, batch)


def openvino_work(
    shape: Shape, batch: Batch, *, weight_bytes: float = 1, whole_logits: bool = True, requests: float = 1.0
) -> Work:
    """Requests to a model of OpenVINO, which keeps its tensors from one to the next and joins what surrounds a product to it.

    Args:
        shape: Of the model.
        batch: Asked at once.
        weight_bytes: Of one weight: 4, or 1 for INT8, which are laid out anew at the first request.
        whole_logits: Logits of all positions are asked for.
        requests: How many.
    """
    positions = batch.tokens if whole_logits else batch.rows
    done = blocks(shape, replace(batch, attention="sdpa", padded=False)) + output(shape, positions, 2)
    weights = weight_bytes * (shape.linear + shape.embedding)
    # Written into memory that is there already, and read again.
    request = Work(operations=done.operations, read=weights + 2 * _FUSED * done.made)
    return request.times(requests) + Work(made=2 * weights if weight_bytes < 4 else 0.0)


def openvino_conversion_work(shape: Shape, *, compressed: bool) -> Work:
    """A model of torch traced, converted and written for OpenVINO, its weights compressed to INT8 where wanted."""
    weights = FLOAT * shape.parameters
    done = Work(made=_PASSES_CONVERTED * weights, calls=_CALLS_CONVERTED + _CALLS_CONVERTED_OF_BLOCK * shape.layers)
    if compressed:
        done += Work(made=_PASSES_COMPRESSED * weights, calls=_CALLS_COMPRESSED_OF_BLOCK * shape.layers)
    return done


def _linear_layers(shape: Shape) -> int:
    return 7 if shape.gated else 6


def _matrices(shape: Shape) -> list[tuple[float, float]]:
    """Inputs and outputs of every linear layer of a block."""
    hidden, inner, queries, keys = shape.hidden, shape.intermediate, shape.queries, shape.keys
    up = [(hidden, inner)] * (2 if shape.gated else 1)
    return [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden), *up, (inner, hidden)]


def _made_by_block(shape: Shape, batch: Batch) -> float:
    """Numbers written per position by a block's forward pass, scores of attention apart.

    A norm writes squares, the scaled and the weighted states; queries and keys are rotated by two products, a shifted copy with
    another sign and a sum; every linear layer writes its output, every sum and the gate theirs. With a mask or without a fused
    kernel, keys and values are repeated for the heads that share them.
    """
    hidden, inner, queries, keys = shape.hidden, shape.intermediate, shape.queries, shape.keys
    shared = 2 * queries if keys < queries and (batch.padded or batch.attention == "eager") else 0.0
    if not shape.gated:
        return 6 * hidden + 2 * inner + 3 * queries + 2 * keys
    rotated = 4.5 * (queries + keys)
    return 10 * hidden + 4 * inner + 2 * queries + 2 * keys + rotated + shared
