"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) of a LoRA adapter.

The model is taught to find the chosen answer of each pair more probable, and the rejected one less, than a reference does, which
is the model as it came. The course of a run, top to bottom: tokenise the pairs, score them under the reference, lay out the order
of all steps, train, merge the adapter into the weights.

What a step costs is kept low: the prompt of a pair is computed once for both answers, the output layer where it predicts answers only, the
reference once for all runs with the same model and pairs. `trainer: trl` has TRL do the training on the same pairs in the same order.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid, JobError
from aifw.hardware.libraries.backend import Backend, backend_for, measured_beside, use_threads
from aifw.job import Job, latest_checkpoint
from aifw.models.chat import EncodedPair
from aifw.models.kinds import model_files
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.pairs import Encoded, choose, encode, read_pairs
from aifw.models.size import Shape
from aifw.training import checkpoint, dpo_trl
from aifw.training.adapter import add_adapter, drop_in_adapter_only
from aifw.training.course import MOST_GRADIENT, lay_out, learning_rate_factor
from aifw.training.kinds import DpoSettings, fitting, micro_batch, tokens_computed
from aifw.training.losses import LOSSES, Ratios
from aifw.training.merge import merge_adapter, save_adapter
from aifw.training.policy import Policy
from aifw.training.watch import Shrink, Watch


def train(job: Job[DpoSettings]) -> None:
    """Train and write the outputs `model` and `adapter`.

    Raises:
        InputInvalid: No pair can be used, or a LoRA target matches no layer.
        CheckpointInvalid: `job.resume` belongs to another run.
        JobStopped: Stopped on request, after a checkpoint.
        JobError: The loss is not a number.
    """
    use_threads(job.threads)
    settings, base = job.settings, job.inputs["model"]
    backend = backend_for(job.device, settings.precision, threads=job.threads, measured=measured_beside(job.cache_root))
    for note in backend.notes:
        job.note(note)
    with quiet():
        model = load(base.path, backend)
        encoded = _usable(job, model)
        policy = Policy.of(model, max(encoded.tokens, key=_sequence))
        if not policy.shares:
            job.note("prompts are computed for each answer: this model gives other numbers where both share one")
        micro = _micro_batch(job, encoded, backend.precision, shares=policy.shares)
        reference = _reference(job, policy, encoded)
        del model, policy
        order = lay_out([_length(pair) for pair in encoded.tokens], settings.epochs, settings.effective_batch, job.seed)
        progress = checkpoint.Progress(run=_identity(job, encoded, backend.precision), micro_batch=micro)
        resume = job.resume
        if resume is not None:
            progress = checkpoint.read_progress(resume, progress.run)
        run = dpo_trl.run if settings.trainer == "trl" else _run
        while True:
            gc.collect()  # What refers to each other refers to a model that is not wanted any more.
            try:
                trained = run(job, encoded, reference, order, progress, resume, backend)
                break
            except Shrink:
                job.note(f"micro-batch halved to {progress.micro_batch} at step {progress.step}")
                resume = latest_checkpoint(_checkpoints(job))
        save_adapter(trained, job.output("adapter"))
        del trained
        gc.collect()
        merge_adapter(base.path, job.output("adapter"), job.output("model"))
    _state(job, encoded, progress)


def _usable(job: Job[DpoSettings], reference: LanguageModel) -> Encoded:
    settings = job.settings
    pairs = read_pairs(job.inputs["data"].path)
    encoded = encode(
        choose(pairs, settings.max_pairs),
        reference.tokenizer,
        max_prompt=settings.max_prompt_tokens,
        max_answer=settings.max_completion_tokens,
        context=reference.context,
        keep_equal=False,
    )
    for note in encoded.notes():
        job.note(note)
    if not encoded.pairs:
        raise InputInvalid(
            f"none of the {len(pairs)} pairs of {job.inputs['data'].address} can be used for training",
            hint="; ".join(encoded.notes()) or "the data set is empty; is `min_confidence` too high?",
        )
    return encoded


def _reference(job: Job[DpoSettings], policy: Policy, encoded: Encoded) -> list[tuple[float, float]]:
    """Log-probabilities of both answers under the model as it came, kept for later runs with the same model and pairs."""
    import torch

    def compute(folder: Path) -> None:
        pairs = encoded.tokens
        order = sorted(range(len(pairs)), key=lambda index: (_length(pairs[index]), index))
        found: dict[int, list[float]] = {}
        while len(found) < len(order):
            left = order[len(found) :]
            # As many as a step would compute at once, whatever memory it has: so the numbers do not depend on that.
            batch = left[: micro_batch("auto", len(left), _length(pairs[left[0]]), job.device)]
            with torch.inference_mode():
                scores = policy.log_probabilities([pairs[index] for index in batch]).tolist()
            if not all(math.isfinite(score) for row in scores for score in row):
                raise JobError(
                    "the model gives answers a probability that is not a number", hint="use `precision: fp32`"
                )
            found.update(zip(batch, scores, strict=True))
            job.obey()
            job.progress(len(found), len(pairs), "reference pair")
        rows = [found[index] for index in range(len(pairs))]
        (folder / "scores.json").write_text(json.dumps(rows), encoding="utf-8")

    digest = job.inputs["model"].digest or _content(job.inputs["model"].path)
    tokens = [[pair.prompt, pair.chosen, pair.rejected] for pair in encoded.tokens]
    how = [policy.precision, policy.plain, policy.shares, job.device, job.threads, torch.__version__]
    key = _hash(["reference by rows", digest, how, tokens])
    folder = job.cache(f"reference-{key[:32]}", compute)
    rows = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return [(float(chosen), float(rejected)) for chosen, rejected in rows]


def _run(
    job: Job[DpoSettings],
    encoded: Encoded,
    reference: Sequence[tuple[float, float]],
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
    import torch

    settings, batch = job.settings, job.settings.effective_batch
    steps = len(order) // batch
    loaded = load(job.inputs["model"].path, backend)
    model = add_adapter(loaded.module, settings.lora, job.seed)
    # As it stands the adapter changes nothing, so that the ways can be compared; that is also where one beside the output layer shows.
    policy = Policy.of(replace(loaded, module=loaded.module.eval()), max(encoded.tokens, key=_sequence))
    drop_in_adapter_only(model)
    weights = list(checkpoint.trained(model).values())
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    if resume is not None:
        torch.set_rng_state(checkpoint.restore(resume, model, optimizer))
    watch = Watch(job, progress, steps)
    while progress.step < steps:
        rate = settings.learning_rate * learning_rate_factor(progress.step, steps, settings.warmup, settings.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = order[progress.step * batch : (progress.step + 1) * batch]
        loss = margin = accuracy = 0.0
        for first in range(0, batch, progress.micro_batch):
            indices = rows[first : first + progress.micro_batch]
            losses, margins = pair_losses(
                policy, [encoded.tokens[index] for index in indices], [reference[index] for index in indices], settings
            )
            (losses.sum() / batch).backward()
            loss += float(losses.detach().sum()) / batch
            margin += float(margins.sum()) / batch
            accuracy += float((margins > 0).sum()) / batch
        norm = torch.nn.utils.clip_grad_norm_(weights, MOST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        measures = {
            "loss": loss,
            "margin": margin,
            "accuracy": accuracy,
            "learning_rate": rate,
            "grad_norm": float(norm),
        }
        watch.after_step(measures, model, optimizer)
    return model


def pair_losses(
    policy: Policy, pairs: Sequence[EncodedPair], reference: Sequence[tuple[float, float]], settings: DpoSettings
) -> tuple[Any, Any]:
    """The method itself.

    Args:
        policy: Computes their log-probabilities.
        pairs: To learn from.
        reference: Log-probabilities of their answers under the reference.
        settings: Loss, beta and smoothing.

    Returns:
        Loss of each pair, with gradient, and differences of the implicit rewards, without; [pairs] both.
    """
    import torch

    now = policy.log_probabilities(pairs)
    ratios = now - torch.tensor(reference, dtype=now.dtype, device=now.device)
    lengths = torch.tensor(
        [(len(pair.chosen), len(pair.rejected)) for pair in pairs], dtype=now.dtype, device=now.device
    )
    (chosen, rejected), (of_chosen, of_rejected) = ratios.unbind(1), lengths.unbind(1)
    loss = LOSSES[settings.loss](
        Ratios(chosen, rejected, of_chosen, of_rejected, settings.beta, settings.label_smoothing)
    )
    change = ratios.detach()
    return loss, settings.beta * (change[:, 0] - change[:, 1])


def _micro_batch(job: Job[DpoSettings], encoded: Encoded, precision: str = "fp32", *, shares: bool = True) -> int:
    """As set, or what suits the device and fits the memory; always a divisor of the effective batch."""
    settings = job.settings
    if not shares:
        # Two rows a pair and more logits: what TRL needs.
        settings = settings.model_copy(update={"trainer": "trl"})
    tokens = (
        tokens_computed(settings, len(pair.prompt), len(pair.chosen) + len(pair.rejected)) for pair in encoded.tokens
    )
    mean = sum(tokens) / len(encoded.tokens)
    micro = micro_batch(settings.micro_batch, settings.effective_batch, mean, job.device)
    if settings.micro_batch == "auto" and job.memory is not None:
        pair = max(encoded.tokens, key=_sequence if settings.trainer == "trl" else _length)
        longest = (float(len(pair.prompt)), float(max(len(pair.chosen), len(pair.rejected))))
        shape = Shape.of(job.inputs["model"].facts)
        micro = fitting(shape, settings, longest, job.device, precision, job.memory, micro)
    elif settings.micro_batch not in {"auto", micro}:
        job.note(
            f"micro-batch {micro} instead of {settings.micro_batch}, so that it divides {settings.effective_batch}"
        )
    return micro


def _identity(job: Job[DpoSettings], encoded: Encoded, precision: str) -> str:
    model = job.inputs["model"].digest or _content(job.inputs["model"].path)
    settings = job.settings.model_dump(mode="json", exclude={"micro_batch", "checkpoint_every", "model", "data"})
    return _hash(
        [settings, precision, job.seed, model, [[pair.prompt, pair.chosen, pair.rejected] for pair in encoded.tokens]]
    )


def _state(job: Job[DpoSettings], encoded: Encoded, progress: checkpoint.Progress) -> None:
    """Facts of both outputs and the course of the training beside the adapter."""
    base, count = job.inputs["model"].facts, len(encoded.pairs)
    course: dict[str, Any] = {
        "pairs": count,
        "dropped": dict(sorted(encoded.dropped.items())),
        "cut": dict(sorted(encoded.cut.items())),
        "steps": progress.step,
        "curve": progress.history,
    }
    if progress.changes:
        course["micro_batch_changes"] = progress.changes
    path = job.output("adapter") / "metrics.json"
    path.write_text(json.dumps(course, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for key, value in base.items():
        job.fact(key, value, "model")
    job.fact("provenance", f"{base.get('provenance', job.inputs['model'].address)}, DPO on {count} pairs", "model")
    weights = json.loads((job.output("adapter") / "adapter_config.json").read_text(encoding="utf-8"))
    job.fact("rank", weights["r"], "adapter")
    job.fact("pairs", count, "adapter")
    job.fact("steps", progress.step, "adapter")
    job.fact("loss", progress.history[-1]["loss"], "adapter")
    if progress.changes:
        job.fact("micro_batch_changes", progress.changes, "adapter")


def _length(pair: EncodedPair) -> int:
    return len(pair.prompt) + len(pair.chosen) + len(pair.rejected)


def _sequence(pair: EncodedPair) -> int:
    """Tokens of the longer of the two sequences."""
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _checkpoints(job: Job[DpoSettings]) -> Path:
    return job.checkpoints if job.checkpoints is not None else job.out.parent / "checkpoints"


def _content(folder: Path) -> str:
    """Identity of a model outside the store."""
    files = model_files(folder)
    return _hash([[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
