"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306) of a LoRA adapter, by TRL's trainer.

Each pair is unrolled: its chosen answer is desirable, its rejected one undesirable. The value of an answer is judged against the divergence from
the model as it was, which is estimated on answers to other prompts of the micro-batch: each prompt is given the answer of the row before it.

A stopped run goes on from its last step with the same bytes as one that was not stopped: order, learning rate and checkpoints are ours
(`aifw.training.trl_trainer`). The micro-batch is never shrunk, because the estimate depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid
from aifw.hardware.libraries.backend import Backend
from aifw.job import Job
from aifw.models.chat import has_template
from aifw.models.describe import context_of
from aifw.models.load import load_tokenizer, quiet
from aifw.models.pairs import Encoded, choose, encode, read_pairs
from aifw.training import checkpoint
from aifw.training.course import lay_out
from aifw.training.descent import attempts, backend_of, identity, keep_off_sealed, write_course
from aifw.training.merge import merge_adapter, save_adapter
from aifw.training.trl_kinds import KtoSettings
from aifw.training.trl_trainer import train_with

Answer = tuple[tuple[int, ...], tuple[int, ...], bool]
"""Prompt, answer, and whether it is desirable."""


def train(job: Job[KtoSettings]) -> None:
    """Train and write the outputs `model` and `adapter`.

    Raises:
        InputInvalid: No pair can be used, or a LoRA target matches no layer.
        CheckpointInvalid: `job.resume` belongs to another run.
        JobStopped: Stopped on request, after a checkpoint.
        JobError: The loss is not a number.
    """
    settings, base, backend = job.settings, job.inputs["model"], backend_of(job)
    keep_off_sealed(job)
    with quiet():
        encoded = _usable(job)
        answers: list[Answer] = []
        for pair in encoded.tokens:
            answers += [(pair.prompt, pair.chosen, True), (pair.prompt, pair.rejected, False)]
        lengths = [len(prompt) + len(answer) for prompt, answer, _ in answers]
        order = lay_out(lengths, settings.epochs, settings.effective_batch, job.seed)
        without = ("checkpoint_every", "model", "data")
        run = identity(job, without=without, data=answers, precision=backend.precision)

        def attempt(progress: checkpoint.Progress, resume: Path | None) -> Any:
            return _run(job, answers, order, progress, resume, backend)

        trained, progress = attempts(job, run, settings.micro_batch, attempt)
        save_adapter(trained, job.output("adapter"))
        del trained
        merge_adapter(base.path, job.output("adapter"), job.output("model"))
    rows = {"pairs": len(encoded.pairs), "dropped": dict(sorted(encoded.dropped.items()))}
    write_course(job, progress, "KTO", rows, "pairs")


def _usable(job: Job[KtoSettings]) -> Encoded:
    settings, source = job.settings, job.inputs["data"]
    tokenizer, context = load_tokenizer(job.inputs["model"].path), context_of(job.inputs["model"].path)
    if not has_template(tokenizer):
        job.note("the model has no chat template: messages are joined by blank lines")
    pairs = read_pairs(source.path)
    encoded = encode(
        choose(pairs, settings.max_pairs),
        tokenizer,
        max_prompt=settings.max_prompt_tokens,
        max_answer=settings.max_completion_tokens,
        context=context,
        keep_equal=False,
    )
    for note in encoded.notes():
        job.note(note)
    if not encoded.pairs:
        raise InputInvalid(
            f"none of the {len(pairs)} pairs of {source.address} can be used for training",
            hint="; ".join(encoded.notes()) or "the data set is empty; is `min_confidence` too high?",
        )
    return encoded


def _run(
    job: Job[KtoSettings],
    answers: Sequence[Answer],
    order: Sequence[int],
    progress: checkpoint.Progress,
    resume: Path | None,
    backend: Backend,
) -> Any:
    """Train from `progress.step` to the end and return the model, the adapter beside its weights."""
    from trl import KTOConfig, KTOTrainer

    settings, batch = job.settings, job.settings.effective_batch
    rows: list[dict[str, Any]] = []
    left = order[progress.step * batch :]
    for first in range(0, len(left), settings.micro_batch):
        group = [answers[index] for index in left[first : first + settings.micro_batch]]
        for place, (prompt, answer, desirable) in enumerate(group):
            rows.append(
                {
                    "prompt_ids": list(prompt),
                    "completion_ids": list(answer),
                    "KL_completion_ids": list(group[place - 1][1]),
                    "label": desirable,
                }
            )
    return train_with(
        KTOTrainer,
        KTOConfig,
        job,
        rows,
        progress,
        resume,
        backend,
        steps=len(order) // batch,
        counted="answers",
        measures=lambda logs: {
            "margin": float(logs.get("rewards/margins", 0.0)),
            "divergence": float(logs.get("kl", 0.0)),
        },
        options={
            "beta": settings.beta,
            "loss_type": settings.loss,
            "desirable_weight": settings.desirable_weight,
            "undesirable_weight": settings.undesirable_weight,
            "max_length": None,
            "disable_dropout": settings.lora.dropout == 0,
        },
    )
