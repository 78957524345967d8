"""Supervised fine-tuning of a LoRA adapter: the answers of conversations are learnt, what was asked is only read.

The loss of a step is the mean of -log p(token | what stands before it) over all learnt tokens of its conversations, however they are shared
out over micro-batches (a mean of means would weigh tokens of short micro-batches more). The course of a run, top to bottom: tokenise, lay out
the order of all steps, train, merge the adapter into the weights.

What a step costs is kept low: conversations lie end to end in few rows, each seeing itself only, and the output layer is computed at the
positions that predict learnt tokens. `trainer: trl` has TRL do the training on the same conversations in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid
from aifw.hardware.libraries.backend import Backend
from aifw.job import Job
from aifw.models.conversations import (
    EncodedConversation,
    EncodedConversations,
    encode_conversations,
    read_conversations,
)
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.pairs import choose
from aifw.models.size import Shape
from aifw.training import checkpoint, sft_trl
from aifw.training.adapter import add_adapter, drop_in_adapter_only, sum_in_place
from aifw.training.course import lay_out
from aifw.training.descent import attempts, backend_of, descend, identity, keep_off_sealed, tell_division, write_course
from aifw.training.kinds import micro_batch
from aifw.training.likelihood import Likelihood
from aifw.training.merge import merge_adapter, save_adapter
from aifw.training.packed_rows import evenly
from aifw.training.sft_kinds import SftSettings, Sizes, fitting


def train(job: Job[SftSettings]) -> None:
    """Train and write the outputs `model` and `adapter`.

    Raises:
        InputInvalid: No conversation can be used, or a LoRA target matches no layer.
        CheckpointInvalid: `job.resume` belongs to another run.
        JobStopped: Stopped on request, after a checkpoint.
        JobError: The loss is not a number.
    """
    settings, base, backend = job.settings, job.inputs["model"], backend_of(job)
    keep_off_sealed(job)
    with quiet():
        model = load(base.path, backend)
        encoded = _usable(job, model)
        way = Likelihood.of(model, encoded.sequences, packing=settings.packing)
        if settings.packing and settings.trainer == "aifw" and not way.packs:
            job.note("each conversation has a row of its own: this model gives other numbers where several share one")
        del model, way
        micro = _micro_batch(job, encoded.sequences, backend.precision)
        lengths = [len(sequence.ids) for sequence in encoded.sequences]
        order = lay_out(lengths, settings.epochs, settings.effective_batch, job.seed)

        def attempt(progress: checkpoint.Progress, resume: Path | None) -> Any:
            run = sft_trl.run if settings.trainer == "trl" else _run
            return run(job, encoded.sequences, order, progress, resume, backend)

        trained, progress = attempts(job, _identity(job, encoded.sequences, backend), micro, attempt)
        save_adapter(trained, job.output("adapter"))
        del trained
        merge_adapter(base.path, job.output("adapter"), job.output("model"))
    rows = {
        "conversations": encoded.conversations,
        "dropped": dict(sorted(encoded.dropped.items())),
        "cut": encoded.cut,
        "learnt_tokens": sum(sequence.learnt for sequence in encoded.sequences),
    }
    write_course(job, progress, "SFT", rows, "conversations")


def _usable(job: Job[SftSettings], model: LanguageModel) -> EncodedConversations:
    settings = job.settings
    conversations = read_conversations(job.inputs["data"].path)
    encoded = encode_conversations(
        choose(conversations, settings.max_conversations),
        model.tokenizer,
        window=min(settings.max_tokens, model.context),
    )
    for note in encoded.notes():
        job.note(note)
    if not encoded.sequences:
        raise InputInvalid(
            f"none of the {len(conversations)} conversations of {job.inputs['data'].address} can be used for training",
            hint="; ".join(encoded.notes()) or "the data set is empty",
        )
    return encoded


def _run(
    job: Job[SftSettings],
    sequences: Sequence[EncodedConversation],
    order: Sequence[int],
    progress: checkpoint.Progress,
    resume: Path | None,
    backend: Backend,
) -> Any:
    """Train from `progress.step` to the end and return the model, the adapter beside its weights."""
    loaded = load(job.inputs["model"].path, backend)
    model = add_adapter(loaded.module, job.settings.lora, job.seed)
    sum_in_place(model)
    # As it stands the adapter changes nothing, so that the ways can be compared; that is also where one beside the output layer shows.
    adapted = replace(loaded, module=loaded.module.eval())
    way = Likelihood.of(adapted, sequences, packing=job.settings.packing)
    drop_in_adapter_only(model)

    def gradients(rows: Sequence[int], at_once: int) -> dict[str, float]:
        return {"loss": step_gradients(way, [sequences[row] for row in rows], at_once)}

    descend(job, model, order, progress, resume, gradients, rows="conversations")
    return model


def step_gradients(way: Likelihood, sequences: Sequence[EncodedConversation], at_once: int) -> float:
    """The method itself: add the gradients of the loss of one step to those of the parameters.

    Args:
        way: Computes log-probabilities.
        sequences: Of the step.
        at_once: How many to compute at once, on average.

    Returns:
        The loss: the mean over all learnt tokens of the step.
    """
    learnt = sum(sequence.learnt for sequence in sequences)
    loss = 0.0
    for share in _shares(sequences, at_once, packed=way.packs):
        losses = -way.log_probabilities([sequences[index] for index in share])
        (losses.sum() / learnt).backward()  # type: ignore[no-untyped-call]
        loss += float(losses.detach().sum()) / learnt
    return loss


def _shares(sequences: Sequence[EncodedConversation], at_once: int, *, packed: bool) -> list[list[int]]:
    """Micro-batches: of about as many tokens each where rows are shared, else of about equal lengths."""
    lengths = [len(sequence.ids) for sequence in sequences]
    if packed:
        return evenly(lengths, max(1, len(sequences) // at_once))
    order = sorted(range(len(sequences)), key=lambda index: (lengths[index], index))
    return [order[first : first + at_once] for first in range(0, len(order), at_once)]


def _micro_batch(job: Job[SftSettings], sequences: Sequence[EncodedConversation], precision: str) -> int:
    """As set, or what suits the device and fits the memory; always a divisor of the effective batch."""
    settings = job.settings
    count, learnt = len(sequences), sum(sequence.learnt for sequence in sequences)
    lengths = [len(sequence.ids) for sequence in sequences]
    sizes = Sizes((sum(lengths) - learnt) / count, learnt / count, max(lengths))
    shape = Shape.of(job.inputs["model"].facts)
    micro = micro_batch(settings.micro_batch, settings.effective_batch, sizes.mean, job.device, shape.hidden)
    if settings.micro_batch == "auto" and job.memory is not None:
        micro = fitting(shape, settings, sizes, job.device, precision, job.memory, micro)
    return tell_division(job, micro)


def _identity(job: Job[SftSettings], sequences: Sequence[EncodedConversation], backend: Backend) -> str:
    without = ("micro_batch", "checkpoint_every", "packing", "model", "data")
    data = [[sequence.ids, sequence.answers] for sequence in sequences]
    return identity(job, without=without, data=data, precision=backend.precision)
