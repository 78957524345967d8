"""The course of a training run, fixed before its first step: which rows are used when, and the learning rate of every step."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aifw.hardware.libraries.backend import Backend
from aifw.models.chat import EncodedPair
from aifw.training.checkpoint import Progress

MOST_GRADIENT = 1.0
"""Norm that the gradient of a step is scaled down to where it is larger."""


@dataclass
class Course:
    """All that a training on pairs is given besides its settings.

    Attributes:
        pairs: Those that are trained on and those that are kept apart, tokenised.
        reference: Log-probabilities of both answers of each under the model as it came.
        order: Indices of pairs, `effective_batch` of them a step.
        apart: Indices of pairs that tell when to stop early.
        backend: How to compute.
        recompute: Blocks keep their inputs only.
        progress: How far it is; counted on.
        resume: Checkpoint to restore, or None.
    """

    pairs: Sequence[EncodedPair]
    reference: Sequence[tuple[float, float]]
    order: Sequence[int]
    apart: Sequence[int]
    backend: Backend
    recompute: bool
    progress: Progress = field(default_factory=lambda: Progress(run=""))
    resume: Path | None = None


def lay_out(lengths: Sequence[int], epochs: int, batch: int, seed: int) -> list[int]:
    """Which row is used when: shuffled anew for every epoch, whole batches only, long and short apart within a batch.

    The last batch is filled up from the beginning of one more shuffle, so that every step weighs the same.

    Args:
        lengths: Of the rows, in tokens.
        epochs: How often each is used.
        batch: Rows per optimiser step.
        seed: Of the shuffles.
    """
    shuffler = random.Random(seed)  # noqa: S311
    count = len(lengths)
    steps = math.ceil(count * epochs / batch)
    order: list[int] = []
    while len(order) < steps * batch:
        order += shuffler.sample(range(count), count)
    return [
        index
        for step in range(steps)
        for index in sorted(order[step * batch : (step + 1) * batch], key=lambda each: (lengths[each], each))
    ]


def learning_rate_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Share of the highest learning rate at a step, counted from 0."""
    rising = math.ceil(steps * warmup)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    left = (steps - step) / max(1, steps - rising)
    return left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))
