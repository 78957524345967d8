"""Optimiser steps over rows in a given order, from wherever a run was, until its end; what methods share that compute their own gradients."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aifw.data.sealed import check_sealed
from aifw.hardware.libraries.backend import Backend, backend_for, measured_beside, use_threads
from aifw.job import Job, latest_checkpoint
from aifw.models.kinds import model_files
from aifw.training import checkpoint
from aifw.training.course import MOST_GRADIENT, learning_rate_factor
from aifw.training.watch import Shrink, Watch

Attempt = Callable[[checkpoint.Progress, Path | None], Any]
"""Trains from a checkpoint, or from the beginning, to the end and returns the model, or raises `Shrink`."""


def backend_of(job: Job[Any]) -> Backend:
    """How a job computes; what is notable about that is said, and torch is given its threads."""
    use_threads(job.threads)
    measured = measured_beside(job.cache_root)
    backend = backend_for(job.device, job.settings.precision, threads=job.threads, measured=measured)
    for note in backend.notes:
        job.note(note)
    return backend


def tell_division(job: Job[Any], micro: int) -> int:
    """A micro-batch, said where it is not the one that was set."""
    wanted, effective = job.settings.micro_batch, job.settings.effective_batch
    if wanted not in {"auto", micro}:
        job.note(f"micro-batch {micro} instead of {wanted}, so that it divides {effective}")
    return micro


def keep_off_sealed(job: Job[Any], data: str = "data") -> None:
    """Refuse pairs that share a prompt or an answer with a sealed set, before anything is learnt.

    Args:
        job: Its settings have `sealed`.
        data: Name of the input that is trained on.

    Raises:
        SealedDataLeaked: Some do; the sets are named.
    """
    sets = {str(name): job.inputs[f"sealed.{number}"].path for number, name in enumerate(job.settings.sealed)}
    pairs = job.inputs[data].path
    if sets and (pairs / "pairs.jsonl").is_file():
        job.out.mkdir(parents=True, exist_ok=True)
        check_sealed(pairs, sets, scratch=job.out, note=job.note)


def attempts(job: Job[Any], run: str, micro_batch: int, attempt: Attempt) -> tuple[Any, checkpoint.Progress]:
    """Train, and go on with a smaller micro-batch whenever the engine asks for less memory.

    Args:
        job: With `resume` where the run goes on.
        run: Identity of the run.
        micro_batch: To begin with.
        attempt: Trains.

    Returns:
        The trained model, and how far it came.

    Raises:
        CheckpointInvalid: `job.resume` belongs to another run.
        JobStopped: Stopped on request, after a checkpoint.
    """
    progress = checkpoint.Progress(run=run, micro_batch=micro_batch)
    resume = job.resume
    if resume is not None:
        progress = checkpoint.read_progress(resume, run)
        if micro_batch < progress.micro_batch:
            job.note(f"micro-batch {micro_batch} from step {progress.step} on, {progress.micro_batch} before")
            progress.micro_batch = micro_batch
            progress.changes.append((progress.step, micro_batch))
    while True:
        gc.collect()  # What refers to each other refers to a model that is not wanted any more.
        try:
            return attempt(progress, resume), progress
        except Shrink:
            job.note(f"micro-batch halved to {progress.micro_batch} at step {progress.step}")
            resume = latest_checkpoint(
                job.checkpoints if job.checkpoints is not None else job.out.parent / "checkpoints"
            )


def descend(
    job: Job[Any],
    model: Any,
    order: Sequence[int],
    progress: checkpoint.Progress,
    resume: Path | None,
    gradients: Callable[[Sequence[int], int], Mapping[str, float]],
    *,
    rows: str,
) -> None:
    """AdamW from `progress.step` to the end.

    Args:
        job: Its settings are a `CourseSettings`.
        model: Its trainable parameters are trained.
        order: Rows of all steps.
        progress: Is counted on.
        resume: Checkpoint to restore, or None.
        gradients: Adds up the gradients of a step, given its rows and how many to compute at once, and returns its measures (`loss`, ...).
        rows: What the rows are, for people.

    Raises:
        JobError: The loss is not a number.
        JobStopped: The engine asked to stop; a checkpoint is written.
        Shrink: The engine asked for less memory; a checkpoint is written.
    """
    import torch

    settings, batch = job.settings, job.settings.effective_batch
    steps = len(order) // batch
    weights = list(checkpoint.trained(model).values())
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    if resume is not None:
        torch.set_rng_state(checkpoint.restore(resume, model, optimizer)[0])
    watch = Watch(job, progress, steps, rows)
    while progress.step < steps:
        rate = settings.learning_rate * learning_rate_factor(progress.step, steps, settings.warmup, settings.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        measures = gradients(order[progress.step * batch : (progress.step + 1) * batch], progress.micro_batch)
        norm = torch.nn.utils.clip_grad_norm_(weights, MOST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        watch.after_step({**measures, "learning_rate": rate, "grad_norm": float(norm)}, model, optimizer)


def identity(job: Job[Any], *, without: Sequence[str], data: object, **more: object) -> str:
    """Identity of a run: a checkpoint of another one is refused.

    Args:
        job: Its settings, seed and model count.
        without: Settings that do not change the result, and references.
        data: What is learnt, as tokens.
        more: Whatever else counts.
    """
    settings = job.settings.model_dump(mode="json", exclude=set(without))
    model = job.inputs["model"].digest or content(job.inputs["model"].path)
    return digest_of([settings, job.seed, model, more, data])


def content(folder: Path) -> str:
    """Identity of a model outside the store."""
    return digest_of([[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in model_files(folder)])


def digest_of(value: object) -> str:
    """sha256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_course(job: Job[Any], progress: checkpoint.Progress, what: str, rows: Mapping[str, Any], title: str) -> None:
    """Facts of the outputs `model` and `adapter`, and the course of the training beside the adapter (`metrics.json`).

    Args:
        job: Whose outputs are there.
        progress: Of the run.
        what: What the method is called in a provenance.
        rows: What it learnt from, by the name of the measure.
        title: Which of them counts: `pairs`.
    """
    course: dict[str, Any] = {**rows, "steps": progress.step, "curve": progress.history}
    if progress.changes:
        course["micro_batch_changes"] = progress.changes
    adapter = job.output("adapter")
    (adapter / "metrics.json").write_text(json.dumps(course, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    base = job.inputs["model"].facts
    for key, value in base.items():
        job.fact(key, value, "model")
    origin = base.get("provenance", job.inputs["model"].address)
    job.fact("provenance", f"{origin}, {what} on {rows[title]} {title}", "model")
    described = adapter / "adapter_config.json"
    if described.is_file():
        job.fact("rank", json.loads(described.read_text(encoding="utf-8"))["r"], "adapter")
    job.fact(title, rows[title], "adapter")
    job.fact("steps", progress.step, "adapter")
    job.fact("loss", progress.history[-1]["loss"], "adapter")
    if progress.changes:
        job.fact("micro_batch_changes", progress.changes, "adapter")
