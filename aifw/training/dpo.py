"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) of a LoRA adapter with TRL.

The model is taught to find the chosen answer of each pair more probable, and the rejected one less, than a reference does, which
is the model as it came. The course of a run, top to bottom: tokenise the pairs, score them under the reference, lay out the order
of all steps, train, merge the adapter into the weights.

TRL gives the loss and the loop. The order, the learning rate as a function of the step, and the checkpoints are ours, because a
run that was interrupted must end with the same bytes as one that was not, and because nothing pickled is ever loaded.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid, JobError, JobStopped
from aifw.hardware.libraries.backend import Backend, backend_for, measured_beside, use_threads
from aifw.job import Job, latest_checkpoint
from aifw.models.kinds import model_files
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.pairs import Encoded, choose, encode, read_pairs
from aifw.models.score import PairScore, score_pairs
from aifw.models.size import Shape
from aifw.training import checkpoint
from aifw.training.kinds import DpoSettings, fitting, micro_batch, next_smaller
from aifw.training.merge import merge_adapter, save_adapter


class _Shrink(Exception):
    """The engine asked for less memory; the checkpoint is written."""


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
        reference = load(base.path, backend)
        encoded = _usable(job, reference)
        scores = _reference_scores(job, reference, encoded)
        del reference
        order = lay_out(encoded, settings.epochs, settings.effective_batch, job.seed)
        micro = _micro_batch(job, encoded, backend.precision)
        progress = checkpoint.Progress(run=_identity(job, encoded), micro_batch=micro)
        resume = job.resume
        if resume is not None:
            progress = checkpoint.read_progress(resume, progress.run)
        while True:
            gc.collect()  # A trainer and its callbacks refer to each other, and with them to a model that is not wanted any more.
            try:
                model = _run(job, encoded, scores, order, progress, resume, backend)
                break
            except _Shrink:
                job.note(f"micro-batch halved to {progress.micro_batch} at step {progress.step}")
                resume = latest_checkpoint(_checkpoints(job))
        save_adapter(model, job.output("adapter"))
        del model
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


def _reference_scores(job: Job[DpoSettings], reference: LanguageModel, encoded: Encoded) -> list[PairScore]:
    """Log-probabilities under the model as it came, kept for later runs with the same model and pairs."""

    def compute(folder: Path) -> None:
        def tell(done: int) -> None:
            job.obey()
            job.progress(done, len(encoded.tokens), "reference pair")

        found = score_pairs(reference, encoded.tokens, tell)
        rows = [[score.chosen, score.rejected] for score in found]
        (folder / "scores.json").write_text(json.dumps(rows), encoding="utf-8")

    digest = job.inputs["model"].digest or _content(job.inputs["model"].path)
    tokens = [[pair.prompt, pair.chosen, pair.rejected] for pair in encoded.tokens]
    key = _hash(["reference", digest, reference.precision, job.device, tokens])
    folder = job.cache(f"reference-{key[:32]}", compute)
    rows = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return [
        PairScore(chosen, rejected, len(pair.chosen), len(pair.rejected))
        for (chosen, rejected), pair in zip(rows, encoded.tokens, strict=True)
    ]


def lay_out(encoded: Encoded, epochs: int, batch: int, seed: int) -> list[int]:
    """Which pair is used when: shuffled anew for every epoch, whole batches only, long and short apart within a batch.

    The last batch is filled up from the beginning of one more shuffle, so that every step weighs the same.
    """
    shuffler = random.Random(seed)  # noqa: S311
    count = len(encoded.tokens)
    steps = math.ceil(count * epochs / batch)
    order: list[int] = []
    while len(order) < steps * batch:
        order += shuffler.sample(range(count), count)
    lengths = [len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in encoded.tokens]
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


def _micro_batch(job: Job[DpoSettings], encoded: Encoded, precision: str = "fp32") -> int:
    """As set, or what suits the device and fits the memory; always a divisor of the effective batch."""
    settings = job.settings
    lengths = [(len(pair.prompt) + len(pair.chosen), len(pair.prompt) + len(pair.rejected)) for pair in encoded.tokens]
    mean = sum(map(sum, lengths)) / len(lengths)
    micro = micro_batch(settings.micro_batch, settings.effective_batch, mean, job.device)
    if settings.micro_batch == "auto" and job.memory is not None:
        pair = max(encoded.tokens, key=lambda each: len(each.prompt) + max(len(each.chosen), len(each.rejected)))
        longest = (float(len(pair.prompt)), float(max(len(pair.chosen), len(pair.rejected))))
        shape = Shape.of(job.inputs["model"].facts)
        micro = fitting(shape, settings, longest, job.device, precision, job.memory, micro)
    elif settings.micro_batch not in {"auto", micro}:
        job.note(
            f"micro-batch {micro} instead of {settings.micro_batch}, so that it divides {settings.effective_batch}"
        )
    return micro


def _identity(job: Job[DpoSettings], encoded: Encoded) -> str:
    model = job.inputs["model"].digest or _content(job.inputs["model"].path)
    settings = job.settings.model_dump(mode="json", exclude={"micro_batch", "checkpoint_every", "model", "data"})
    return _hash([settings, job.seed, model, [[pair.prompt, pair.chosen, pair.rejected] for pair in encoded.tokens]])


def _run(
    job: Job[DpoSettings],
    encoded: Encoded,
    scores: Sequence[PairScore],
    order: Sequence[int],
    progress: checkpoint.Progress,
    resume: Path | None,
    backend: Backend,
) -> Any:
    """Train from `progress.step` to the end.

    Returns:
        The trained model, the adapter beside its weights.

    Raises:
        _Shrink: The engine asked for less memory; a checkpoint is written.
        JobStopped: The engine asked to stop; a checkpoint is written.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from torch.optim.lr_scheduler import LambdaLR
    from transformers.trainer_callback import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    settings = job.settings
    steps = len(order) // settings.effective_batch
    loaded = load(job.inputs["model"].path, backend)
    rows = [
        {
            "prompt_ids": list(encoded.tokens[index].prompt),
            "chosen_ids": list(encoded.tokens[index].chosen),
            "rejected_ids": list(encoded.tokens[index].rejected),
            "ref_chosen_logps": scores[index].chosen,
            "ref_rejected_logps": scores[index].rejected,
        }
        for index in order[progress.step * settings.effective_batch :]
    ]
    done = progress.step

    class Trainer(DPOTrainer):  # type: ignore[misc]
        """TRL's trainer, given tokens instead of text and a learning rate that knows the step it resumes at."""

        def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            def factor(step: int) -> float:
                return learning_rate_factor(done + step, steps, settings.warmup, settings.schedule)

            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
            return self.lr_scheduler

    modules = settings.lora.target_modules
    adapter = LoraConfig(
        r=settings.lora.r,
        lora_alpha=settings.lora.alpha or 2 * settings.lora.r,
        lora_dropout=settings.lora.dropout,
        target_modules="all-linear" if modules == "auto" else list(modules),
        task_type="CAUSAL_LM",
    )
    with tempfile.TemporaryDirectory(prefix="trainer-") as scratch:
        arguments = DPOConfig(
            output_dir=scratch,
            max_steps=steps - done,
            per_device_train_batch_size=progress.micro_batch,
            gradient_accumulation_steps=settings.effective_batch // progress.micro_batch,
            learning_rate=settings.learning_rate,
            beta=settings.beta,
            loss_type=[settings.loss],
            label_smoothing=settings.label_smoothing,
            max_length=None,
            max_grad_norm=1.0,
            weight_decay=0.0,
            optim="adamw_torch",
            seed=job.seed % 2**32,
            bf16=backend.precision == "bf16",
            use_cpu=job.device == "cpu",
            activation_checkpointing=False,
            disable_dropout=settings.lora.dropout == 0,
            train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        try:
            trainer = Trainer(
                model=loaded.module,
                args=arguments,
                train_dataset=Dataset.from_list(rows),
                processing_class=loaded.tokenizer,
                peft_config=adapter,
            )
        except ValueError as error:
            if "target modules" in str(error).lower():
                raise InputInvalid(f"`lora.target_modules` fits no layer of the model: {error}") from error
            raise
        trainer.precompute_ref_logps = True
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_watch(job, progress, steps, resume))
        trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model)


def _watch(job: Job[DpoSettings], progress: checkpoint.Progress, steps: int, resume: Path | None) -> Any:
    """What happens around every optimiser step: restore, count, report, save, obey."""
    from transformers import TrainerCallback

    batch = job.settings.effective_batch

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Sees the model and optimiser of the running trainer."""

        random_state: Any = None
        started = saved = time.monotonic()
        first = progress.step

        def on_train_begin(self, *_: object, model: Any, optimizer: Any, **__: object) -> None:
            if resume is not None:
                self.random_state = checkpoint.restore(resume, model, optimizer)
            self.started = self.saved = time.monotonic()

        def on_step_begin(self, *_: object, **__: object) -> None:
            if self.random_state is not None:
                import torch

                torch.set_rng_state(self.random_state)
                self.random_state = None

        def on_log(self, *_: object, logs: dict[str, float], model: Any, optimizer: Any, **__: object) -> None:
            if "loss" not in logs:
                return
            progress.step += 1
            if not (math.isfinite(logs["loss"]) and math.isfinite(logs.get("grad_norm", 0.0))):
                raise JobError(
                    f"the loss is {logs['loss']} at step {progress.step} of {steps}",
                    hint="lower `learning_rate`, or use `precision: fp32`",
                )
            measures = {
                "loss": float(logs["loss"]),
                "margin": float(logs["rewards/margins"]),
                "accuracy": float(logs["rewards/accuracies"]),
                "learning_rate": float(logs["learning_rate"]),
                "grad_norm": float(logs["grad_norm"]),
            }
            progress.history.append({"step": float(progress.step), **measures})
            elapsed = time.monotonic() - self.started
            speed = (progress.step - self.first) * batch / elapsed
            job.progress(
                progress.step, steps, "step", loss=measures["loss"], margin=measures["margin"], pairs_per_second=speed
            )
            self._obey(model, optimizer)

        def _obey(self, model: Any, optimizer: Any) -> None:
            asked, last = job.control(), progress.step == steps
            shrink = asked.shrink and progress.micro_batch > 1 and not last
            asked.shrink = False
            if shrink:
                progress.micro_batch = next_smaller(progress.micro_batch, batch)
                progress.changes.append((progress.step, progress.micro_batch))
            due = time.monotonic() - self.saved >= job.settings.checkpoint_every and not last
            if asked.stop or asked.checkpoint or shrink or due:
                with job.checkpoint(progress.step) as folder:
                    checkpoint.save(folder, progress, model, optimizer)
                self.saved = time.monotonic()
            if asked.stop:
                raise JobStopped(f"stopped on request; step {progress.step} of {steps} is saved")
            if shrink:
                raise _Shrink

    return Watch()


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


def _checkpoints(job: Job[DpoSettings]) -> Path:
    return job.checkpoints if job.checkpoints is not None else job.out.parent / "checkpoints"


def _content(folder: Path) -> str:
    """Identity of a model outside the store."""
    files = model_files(folder)
    return _hash([[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
