"""Peak memory of training a model with AdamW.

A step has few moments that can be its peak, and the largest counts: the output layer on top of all activations, the backward pass of
the last block, the end of the backward pass when all gradients are there, and the optimiser's step with two temporaries of the
largest matrix. What blocks keep follows from the formulas that PyTorch's autograd uses for each operation, and is held against
`torch.autograd.graph.saved_tensors_hooks` in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from aifw.models.memory import FLOAT, WORKERS, Batch
from aifw.models.size import Shape

TILE_TOKENS = 4096
TILE_VOCABULARY = 32768
"""Of TRL's output layer (`trl/kernels/chunked_logprob.py`): most positions and words of one tile."""
TILE_BUFFERS = 7.25
"""Of that size at once in its backward pass in torch, in fp32 beside the tile itself: two scaled copies, log p, p, gradient, two terms
of it, a mask of bytes."""

ANSWER_LOGITS = 1 << 24
"""Most logits of `aifw.training.log_probabilities` at once."""

HALF_MULTIPLE = 64
"""Of lengths and numbers of answer tokens in bf16: oneDNN keeps code and buffers, some megabytes, for every shape of a product that it has seen."""

_LOOP_BYTES = 33e6
"""Trainer, data set, tokenizer and what libraries load or keep once a training begins. Measured."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained.

    Attributes:
        batch: Computed at once.
        rank: Of a LoRA adapter on all linear layers, or None if every weight is trained.
        accumulates: More than one micro-batch goes into a step, so gradients are there while another one is computed.
        checkpointing: Of each block only the input is kept, and the rest computed again.
        head: `tiled`: log-probabilities without all logits at once, as TRL computes them; `whole`: the loss of transformers; `answers`: those
            of the tokens of answers only, in chunks, with their gradients, as `aifw.training.log_probabilities` computes them.
        answers: Positions that predict tokens of answers, in all rows.
        reference: A second copy of the model is in memory.
        magnitudes: The adapter has one for every output, so each layer computes the norms of its summed weights (DoRA).
    """

    batch: Batch
    rank: int | None = None
    accumulates: bool = False
    checkpointing: bool = False
    head: Literal["tiled", "whole", "answers"] = "tiled"
    answers: float = 0.0
    reference: bool = False
    magnitudes: bool = False


def on_pairs(
    pairs: int, prompt: float, answer: float, *, rank: int | None, accumulates: bool = False, bytes_each: int = FLOAT
) -> Training:
    """Training on pairs, a row each: the prompt and both answers.

    Args:
        pairs: Computed at once.
        prompt: Tokens of a prompt.
        answer: Tokens of an answer.
        rank: Of the adapter, or None if every weight is trained.
        accumulates: More than one micro-batch goes into a step.
        bytes_each: Of a number in the format computed in; in bf16, sizes are filled up to a multiple.
    """
    multiple = HALF_MULTIPLE if bytes_each < FLOAT else 1
    length, answers = (multiple * ceil(size / multiple) for size in (prompt + 2 * answer, 2 * pairs * answer))
    batch = Batch(pairs, length, bytes_each=bytes_each, masks_once=True)
    return Training(batch, rank, accumulates, head="answers", answers=answers)


def training(
    shape: Shape, how: Training, *, mapped: bool, worker: Literal["training", "adapting"] = "training"
) -> dict[str, float]:
    """Parts of a training process at its peak.

    Args:
        shape: Of the model.
        how: It is trained.
        mapped: Weights that are only read stay in their file; see `aifw.models.memory.is_mapped`.
        worker: What is imported: TRL, or PEFT only.
    """
    batch, full, tiled = how.batch, how.rank is None, how.head == "tiled"
    states = batch.bytes_each * batch.tokens * shape.hidden
    block = saved_by_block(shape, batch, how.rank, magnitudes=how.magnitudes)
    trained = shape.parameters if how.rank is None else shape.lora(how.rank)
    gradients = FLOAT * trained
    fixed = {
        "worker": WORKERS[worker],
        "weights": _weights(shape, how, mapped=mapped),
        "reference": shape.weights(batch.bytes_each) if how.reference and not mapped else 0.0,
        "adapter": 0.0 if full else gradients,
        "optimizer": 2 * gradients,
        "trainer": _LOOP_BYTES,
    }
    early = gradients if how.accumulates else 0.0
    output = FLOAT * shape.embedding if full else 0.0
    of_block = (gradients - output) / max(1.0, shape.layers) if full else 0.0
    kept = shape.layers * (states if how.checkpointing else block)
    if batch.padded and batch.masks_once:
        kept += batch.bytes_each * batch.tokens * batch.length
    again = block - states if how.checkpointing else 0.0
    passing = backward_of_block(shape, batch)
    ends = (2.0 if tiled else 3.0) * states if full else 0.0
    moments = [
        {
            "gradients": max(early, 0.0 if how.head == "whole" else output),
            "activations": kept + ends,
            "logits": head(shape, how),
        },
        {"gradients": max(early, output), "activations": kept + again + passing},
        {
            "gradients": max(early, gradients - of_block),
            "activations": block + passing,
        },
        {"gradients": gradients, "optimizer": fixed["optimizer"] + 2 * FLOAT * _largest(shape, how.rank)},
    ]
    return max(({**fixed, **moment} for moment in moments), key=lambda parts: sum(parts.values()))


def merging(
    shape: Shape, rank: int, *, mapped: bool, worker: Literal["training", "adapting"] = "training"
) -> dict[str, float]:
    """Parts of a process that adds an adapter to the weights, in fp32, and writes them in the format they came in.

    Args:
        shape: Of the model.
        rank: Of the adapter, which is there as it is read and as PEFT holds it.
        mapped: Weights that are only read stay in their file; those that are added to do not.
        worker: What is imported: TRL, or PEFT only.
    """
    stored = 0.0 if shape.stored == "float32" else shape.stored_bytes
    return {
        "worker": WORKERS[worker],
        "trainer": _LOOP_BYTES,
        "adapter": 2 * FLOAT * shape.lora(rank),
        "weights": FLOAT * shape.linear if mapped else shape.weights() + stored,
    }


def saved_by_block(shape: Shape, batch: Batch, rank: int | None, *, magnitudes: bool = False) -> float:
    """Bytes one block keeps for its backward pass.

    Inputs of both norms and what comes out of them, queries, keys, values, attention's output, and every product of the feed-forward
    part. Attention keeps the probabilities of all pairs of positions (eager) or one number for each query and head; with a mask,
    keys and values are repeated for the heads that share them, and the mask is kept as floats. Gradients of norms need their
    normalised input as well; an adapter needs what its first matrix gives.

    In a format of fewer bytes norms keep their inputs in fp32, and an adapter, whose weights stay in fp32, keeps a copy of its own of its
    input and of its weights in that format: PEFT casts the input for each, autocast casts both again. Magnitudes of outputs (DoRA) have both
    sums they scale kept.
    """
    hidden, inner, queries = shape.hidden, shape.intermediate, shape.queries
    eager = batch.attention == "eager"
    keys = queries if eager or batch.padded else shape.keys
    per_token = 4 * hidden + 2 + (4 if shape.gated else 2) * inner + 2 * queries + 2 * keys
    per_token += 2 * hidden if rank is None else (7 if shape.gated else 6) * rank
    per_token += shape.heads * (batch.length if eager else 1)
    if magnitudes:
        per_token += 2 * shape.outputs
    if batch.padded and not eager and not batch.masks_once:
        per_token += batch.length
    kept = batch.bytes_each * batch.tokens * per_token
    if rank is not None and batch.bytes_each < FLOAT:
        wider = (FLOAT - batch.bytes_each) * (2 * hidden + 2 + (0 if eager else shape.heads))
        copies = batch.bytes_each * (3 * hidden + queries)
        kept += batch.tokens * (wider + copies) + batch.bytes_each * shape.lora(rank) / max(1.0, shape.layers)
    return kept


def backward_of_block(shape: Shape, batch: Batch) -> float:
    """Bytes of temporaries in the backward pass of a block, on top of what it kept."""
    kept_by_feed_forward = (4 if shape.gated else 2) * shape.intermediate + 2 * shape.hidden
    feed_forward = 2 * shape.intermediate + 2 * shape.hidden
    attention = 3 * shape.queries + shape.hidden - kept_by_feed_forward
    if batch.attention == "eager":
        attention += 2 * shape.heads * batch.length
    return batch.bytes_each * batch.tokens * max(feed_forward, attention)


def head(shape: Shape, how: Training) -> float:
    """Bytes of output layer and loss at their peak, in the backward pass, with the gradient of their input."""
    batch = how.batch
    if how.head == "whole":
        # The log-softmax that was kept, the gradient by it, and the gradient by the logits.
        return 3 * FLOAT * batch.tokens * shape.vocabulary
    if how.head == "answers" and how.rank is None:
        # Made again in the backward pass: logits, their exponentials and the gradient by each, and a second gradient of the layer.
        chunk = min(how.answers * shape.vocabulary, ANSWER_LOGITS)
        return (
            4 * FLOAT * chunk + FLOAT * shape.embedding + batch.bytes_each * (how.answers + batch.tokens) * shape.hidden
        )
    if how.head == "answers":
        # States at those positions, the gradient by each, and that by all states.
        states = batch.bytes_each * (2 * how.answers + batch.tokens) * shape.hidden
        # What narrower products come out as stands beside its copy in fp32.
        each = FLOAT + (batch.bytes_each if batch.bytes_each < FLOAT else 0)
        return each * min(how.answers * shape.vocabulary, ANSWER_LOGITS) + states
    tokens = min(batch.rows * (batch.length - 1), TILE_TOKENS)
    states = 2 * batch.bytes_each * batch.tokens * shape.hidden
    buffers = TILE_BUFFERS * FLOAT + batch.bytes_each
    return buffers * tokens * min(shape.vocabulary, TILE_VOCABULARY) + states


def _weights(shape: Shape, how: Training, *, mapped: bool) -> float:
    if how.rank is None:
        # In fp32, and for narrower arithmetic the copies that autocast keeps until the backward pass is through.
        narrow = how.batch.bytes_each if how.batch.bytes_each < FLOAT else 0
        return shape.weights(FLOAT) + narrow * shape.parameters
    # Norms of summed weights: the product of the two thin matrices, that scaled, the sum and its squares.
    norms = 4 * FLOAT * shape.hidden * shape.intermediate if how.magnitudes else 0.0
    return norms + (0.0 if mapped else shape.weights(how.batch.bytes_each))


def _largest(shape: Shape, rank: int | None) -> float:
    """Number of weights of the largest matrix that is trained."""
    if rank is None:
        return max(shape.embedding, shape.hidden * shape.intermediate)
    return rank * max(shape.intermediate, shape.hidden)
