"""Supervised fine-tuning by TRL's trainer, on the same conversations in the same order, for whoever wants its arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aifw.hardware.libraries.backend import Backend
from aifw.job import Job
from aifw.models.conversations import EncodedConversation
from aifw.training import checkpoint
from aifw.training.sft_kinds import SftSettings
from aifw.training.trl_trainer import train_with

_IGNORED = -100
"""Label of a token that is not learnt."""


def run(
    job: Job[SftSettings],
    sequences: Sequence[EncodedConversation],
    order: Sequence[int],
    progress: checkpoint.Progress,
    resume: Path | None,
    backend: Backend,
) -> Any:
    """Train from `progress.step` to the end.

    Returns:
        The trained model, the adapter beside its weights.

    Raises:
        Shrink: The engine asked for less memory; a checkpoint is written.
        JobStopped: The engine asked to stop; a checkpoint is written.
    """
    from trl import SFTConfig, SFTTrainer

    batch = job.settings.effective_batch
    return train_with(
        SFTTrainer,
        SFTConfig,
        job,
        [_row(sequences[index]) for index in order[progress.step * batch :]],
        progress,
        resume,
        backend,
        steps=len(order) // batch,
        counted="conversations",
        measures=lambda _logs: {},
        options={"max_length": None, "packing": False},
    )


def _row(sequence: EncodedConversation) -> dict[str, list[int]]:
    labels = [_IGNORED] * len(sequence.ids)
    for place in sequence.places():
        labels[place] = sequence.ids[place]
    return {"input_ids": list(sequence.ids), "labels": labels}
