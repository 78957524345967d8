"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) of a LoRA adapter, or of all weights.

The model is taught to find the chosen answer of each pair more probable, and the rejected one less, than a reference does, which
is the model as it came. The course of a run, top to bottom: tokenise the pairs, score them under the reference, lay out the order
of all steps, train, merge the adapter into the weights.

What a step costs is kept low: the prompt of a pair is computed once for both answers, the output layer where it predicts answers only, the
reference once for all runs with the same model and pairs. `trainer: trl` has TRL do the training on the same pairs in the same order.
"""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid, JobError
from aifw.hardware.libraries.backend import backend_for, measured_beside, use_threads
from aifw.job import Input, Job, Report
from aifw.models.chat import EncodedPair
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.pairs import Encoded, choose, encode, read_pairs
from aifw.models.size import Shape
from aifw.settings import execution_fields
from aifw.training import checkpoint, dpo_trl
from aifw.training.adapter import add_adapter, drop_in_adapter_only, keep_inputs_only, sum_in_place, without_dropout
from aifw.training.call import UNFINISHED, Rows, finished, job_for, model_input, pairs_input
from aifw.training.course import MOST_GRADIENT, Course, lay_out, learning_rate_factor
from aifw.training.descent import attempts, content, digest_of, keep_off_sealed, write_course
from aifw.training.early_stopping import Best, kept_apart
from aifw.training.kinds import Dpo, DpoSettings, EarlyStopping, fitting, micro_batch, pairs_at_once, tokens_computed
from aifw.training.losses import LOSSES, Ratios
from aifw.training.merge import merge_adapter, save_adapter, write_model
from aifw.training.policy import Policy
from aifw.training.ranks import Ranks, together
from aifw.training.watch import Watch

_PRIME = 1_000_003
_MOVED_NOTED = 0.1
"""Of a log-probability, from which on a user is told what rounding the merged weights did."""


def fine_tune(
    model: str | PathLike[str],
    pairs: str | PathLike[str] | Rows,
    out: str | PathLike[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
    memory: int | None = None,
    seed: int = 0,
    report: Report | None = None,
    **settings: Any,
) -> Path:
    """Train from a plain call. A call that was interrupted goes on where it was when it is made again.

        from aifw.training import dpo
        dpo.fine_tune("SmolLM2-135M-Instruct", "pairs.jsonl", "out", epochs=3, lora={"r": 8})

    Args:
        model: Folder in the format of transformers.
        pairs: A file of JSON lines, a folder with `pairs.jsonl`, or rows; each with `prompt`, `chosen` and `rejected`.
        out: Gets `model`, `adapter`, and the reference's scores in `cache`.
        device: Where to compute: `cpu`, `xpu:0`, `cuda:0`.
        threads: How many to use; default all this process may run on.
        memory: Limit in bytes that micro-batches are fitted to.
        seed: Of every random choice.
        report: Called with the name of an event (`progress`, `note`) and its data.
        settings: As in a spec; see `DpoSettings`.

    Returns:
        Folder of the trained model.

    Raises:
        InputInvalid: Model or pairs cannot be used.
        pydantic.ValidationError: A setting is wrong.
    """
    folder = Path(out).expanduser().resolve()
    wanted = DpoSettings.model_validate({"model": "model", "data": "pairs", **settings})
    inputs = {"model": model_input(model), "data": pairs_input(pairs, folder / UNFINISHED / "pairs")}
    outputs = tuple(Dpo.produces)
    job = job_for(
        wanted, inputs, folder, outputs=outputs, device=device, threads=threads, memory=memory, seed=seed, report=report
    )
    train(job)
    finished(job, folder)
    return folder / "model"


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
    keep_off_sealed(job)
    if settings.processes > 1 and job.device != "cpu":
        raise InputInvalid(
            f"`processes: {settings.processes}` share a processor, and this job computes on {job.device}",
            hint="leave out `processes`",
        )
    backend = backend_for(job.device, settings.precision, threads=job.threads, measured=measured_beside(job.cache_root))
    for note in backend.notes:
        job.note(note)
    with quiet():
        model = load(base.path, backend)
        encoded = _usable(job, model)
        policy = Policy.of(model, max(encoded.tokens, key=_sequence))
        if not policy.shares:
            job.note("prompts are computed for each answer: this model gives other numbers where both share one")
        micro, recompute = _micro_batch(job, encoded, backend.precision, shares=policy.shares)
        reference = _reference(job, policy, encoded)
        del model, policy
        apart = _apart(job, encoded)
        rows = [index for index in range(len(encoded.tokens)) if index not in apart]
        lengths = [_length(encoded.tokens[index]) for index in rows]
        order = [rows[at] for at in lay_out(lengths, settings.epochs, settings.effective_batch, job.seed)]
        run = dpo_trl.run if settings.trainer == "trl" else _run_together
        course = Course(encoded.tokens, reference, order, sorted(apart), backend, recompute)

        def attempt(progress: checkpoint.Progress, resume: Path | None) -> Any:
            course.progress, course.resume = progress, resume
            return run(job, course)

        trained, _ = attempts(job, _identity(job, encoded, backend.precision), micro, attempt)
        if settings.tuning == "full":
            write_model(trained, base.path, job.output("model"))
        else:
            save_adapter(trained, job.output("adapter"))
            del trained
            gc.collect()
            moved = merge_adapter(base.path, job.output("adapter"), job.output("model"))
            if moved > _MOVED_NOTED:
                job.note(f"rounded to the format of the model, log-probabilities move by up to {moved:.2f}")
    _state(job, course, encoded)


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
        pairs, hidden = encoded.tokens, Shape.of(job.inputs["model"].facts).hidden
        order = sorted(range(len(pairs)), key=lambda index: (_length(pairs[index]), index))
        found: dict[int, list[float]] = {}
        job.progress(0, len(pairs), "reference pair")
        while len(found) < len(order):
            left = order[len(found) :]
            # As many as a step would compute at once, whatever memory it has: so the numbers do not depend on that.
            batch = left[: micro_batch("auto", len(left), _length(pairs[left[0]]), job.device, hidden)]
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

    digest = job.inputs["model"].digest or content(job.inputs["model"].path)
    tokens = [[pair.prompt, pair.chosen, pair.rejected] for pair in encoded.tokens]
    how = [policy.precision, policy.plain, policy.shares, job.device, job.threads, torch.__version__]
    key = digest_of(["reference by rows", digest, how, tokens])
    folder = job.cache(f"reference-{key[:32]}", compute)
    rows = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return [(float(chosen), float(rejected)) for chosen, rejected in rows]


def _run_together(job: Job[DpoSettings], course: Course) -> Any:
    count = job.settings.processes
    alone = Job(
        job.settings,
        out=job.out,
        inputs={name: Input(each.address, each.path) for name, each in job.inputs.items()},
        device=job.device,
        threads=max(1, job.threads // count),
        seed=job.seed,
    )
    with together(count, _follow, (alone, course)) as ranks:
        use_threads(alone.threads if count > 1 else job.threads)
        return _run(job, course, ranks)


def _follow(ranks: Ranks, job: Job[DpoSettings], course: Course) -> None:
    use_threads(job.threads)
    with quiet():
        _run(job, course, ranks)


def _run(job: Job[DpoSettings], course: Course, ranks: Ranks) -> Any:
    """Train from the step it is at to the end.

    Returns:
        The trained model, an adapter beside its weights or not.

    Raises:
        Shrink: The engine asked for less memory; a checkpoint is written.
        JobStopped: The engine asked to stop; a checkpoint is written.
    """
    import torch

    settings, batch, progress, pairs = job.settings, job.settings.effective_batch, course.progress, course.pairs
    steps = len(course.order) // batch
    model, policy = _trainable(job, course)
    weights = list(checkpoint.trained(model).values())
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    best = Best(settings.early_stopping or EarlyStopping(), progress)
    if course.resume is not None:
        _, best.weights = checkpoint.restore(course.resume, model, optimizer)
    watch = Watch(job, progress, steps, best=best) if ranks.leads else None
    while progress.step < steps and not (course.apart and best.exhausted):
        rate = settings.learning_rate * learning_rate_factor(progress.step, steps, settings.warmup, settings.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = course.order[progress.step * batch : (progress.step + 1) * batch]
        loss = margin = accuracy = 0.0
        for first in ranks.share(range(0, batch, progress.micro_batch)):
            indices = rows[first : first + progress.micro_batch]
            # Dropout is that of the place in the course: whoever computes it, and however often the run was interrupted.
            torch.manual_seed(((job.seed * _PRIME + progress.step) * _PRIME + first) % 2**63)
            losses, margins = pair_losses(
                policy, [pairs[index] for index in indices], [course.reference[index] for index in indices], settings
            )
            (losses.sum() / batch).backward()
            loss += float(losses.detach().sum()) / batch
            margin += float(margins.sum()) / batch
            accuracy += float((margins > 0).sum()) / batch
        loss, margin, accuracy = ranks.add_up(weights, (loss, margin, accuracy))
        norm = torch.nn.utils.clip_grad_norm_(weights, MOST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        if watch is None:
            progress.step += 1
            if not ranks.agree(True):
                break
            continue
        if course.apart and best.is_due(progress.step + 1, steps):
            with without_dropout(model):
                judged = _judged(policy, course, settings)
            best.add(progress.step + 1, *judged, model)
        measures = {
            "loss": loss,
            "margin": margin,
            "accuracy": accuracy,
            "learning_rate": rate,
            "grad_norm": float(norm),
        }
        going_on = False
        try:
            watch.after_step(measures, model, optimizer)
            going_on = not (course.apart and best.exhausted)
        finally:
            ranks.agree(going_on)
    if course.apart:
        best.put_back(model)
    return model


def _trainable(job: Job[DpoSettings], course: Course) -> tuple[Any, Policy]:
    """The model as it is trained, and how to ask it."""
    settings, backend, longest = job.settings, course.backend, max(course.pairs, key=_sequence)
    # All weights that are trained are kept in fp32, in which small steps add up; arithmetic may be narrower.
    kept = replace(backend, precision="fp32") if settings.tuning == "full" else backend
    loaded = replace(load(job.inputs["model"].path, kept), precision=backend.precision)
    if settings.tuning == "full":
        model = loaded.module.requires_grad_(requires_grad=True)
    else:
        model = add_adapter(loaded.module, settings.lora, job.seed, dora=settings.tuning == "dora")
        sum_in_place(model)
    # As it stands an adapter changes nothing, so that the ways can be compared; that is also where one beside the output layer shows.
    policy = Policy.of(replace(loaded, module=loaded.module.eval()), longest)
    if settings.compile:
        policy.compile(longest)
    drop_in_adapter_only(model)
    if course.recompute:
        keep_inputs_only(model)
        # What is computed again during the backward pass would meet the other attention.
        policy = replace(policy, flexible=False)
    return model, policy


def _judged(policy: Policy, course: Course, settings: DpoSettings) -> tuple[float, float]:
    """Accuracy and mean loss on the pairs kept apart."""
    import torch

    right = loss = 0.0
    with torch.no_grad():
        for first in range(0, len(course.apart), course.progress.micro_batch):
            indices = course.apart[first : first + course.progress.micro_batch]
            losses, margins = pair_losses(
                policy,
                [course.pairs[index] for index in indices],
                [course.reference[index] for index in indices],
                settings,
            )
            right += float((margins > 0).sum())
            loss += float(losses.sum())
    return right / len(course.apart), loss / len(course.apart)


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


def _apart(job: Job[DpoSettings], encoded: Encoded) -> set[int]:
    """Indices of the pairs that tell when to stop early."""
    stopping = job.settings.early_stopping
    if stopping is None:
        return set()
    apart = kept_apart([pair.group for pair in encoded.pairs], stopping.held_out)
    if not apart:
        job.note(f"no early stopping: a share of {stopping.held_out:g} of the conversations is none of them or all")
    return apart


def _micro_batch(
    job: Job[DpoSettings], encoded: Encoded, precision: str = "fp32", *, shares: bool = True
) -> tuple[int, bool]:
    """Pairs computed at once, as set or what suits the device and fits the memory, always a divisor of the effective batch; and whether
    blocks keep their inputs only.
    """
    settings = job.settings
    if not shares:
        # Two rows a pair and more logits: what TRL needs.
        settings = settings.model_copy(update={"trainer": "trl"})
    tokens = (
        tokens_computed(settings, len(pair.prompt), len(pair.chosen) + len(pair.rejected)) for pair in encoded.tokens
    )
    mean = sum(tokens) / len(encoded.tokens)
    shape = Shape.of(job.inputs["model"].facts)
    micro = pairs_at_once(settings, mean, job.device, shape.hidden)
    if settings.micro_batch not in {"auto", micro}:
        job.note(
            f"micro-batch {micro} instead of {settings.micro_batch}, so that it divides {settings.effective_batch}"
        )
    pair = max(encoded.tokens, key=_sequence if settings.trainer == "trl" else _length)
    longest = (float(len(pair.prompt)), float(max(len(pair.chosen), len(pair.rejected))))
    micro, recompute = fitting(shape, settings, longest, job.device, precision, job.memory, micro)
    if recompute and settings.recompute == "auto":
        job.note("blocks are computed again in the backward pass, since a pair would not fit the memory otherwise")
    return micro, recompute


def _identity(job: Job[DpoSettings], encoded: Encoded, precision: str) -> str:
    model = job.inputs["model"].digest or content(job.inputs["model"].path)
    settings = job.settings.model_dump(mode="json", exclude={*execution_fields(DpoSettings), "model", "data", "sealed"})
    return digest_of(
        [settings, precision, job.seed, model, [[pair.prompt, pair.chosen, pair.rejected] for pair in encoded.tokens]]
    )


def _state(job: Job[DpoSettings], course: Course, encoded: Encoded) -> None:
    """Facts of both outputs and the course of the training beside the adapter."""
    progress = course.progress
    rows: dict[str, Any] = {
        "pairs": len(course.pairs) - len(course.apart),
        "dropped": dict(sorted(encoded.dropped.items())),
        "cut": dict(sorted(encoded.cut.items())),
    }
    if course.apart:
        look = Best(job.settings.early_stopping or EarlyStopping(), progress).look
        rows |= {"kept_apart": len(course.apart), "looks": progress.looks, "kept_step": look["step"]}
        job.fact("kept_step", look["step"], "adapter")
        job.fact("kept_accuracy", look["accuracy"], "adapter")
    write_course(job, progress, "DPO", rows, "pairs")


def _length(pair: EncodedPair) -> int:
    return len(pair.prompt) + len(pair.chosen) + len(pair.rejected)


def _sequence(pair: EncodedPair) -> int:
    """Tokens of the longer of the two sequences."""
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
