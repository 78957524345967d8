"""What the methods share that TRL's trainers compute: rows in our order, a learning rate that knows the step it resumes at, our checkpoints.

A run that was interrupted must end with the same bytes as one that was not, and nothing pickled is ever loaded; TRL's own checkpoints are
pickles. So order, learning rate and checkpoints are ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from aifw.errors import InputInvalid
from aifw.hardware.libraries.backend import Backend
from aifw.job import Job
from aifw.models.load import load
from aifw.training import checkpoint
from aifw.training.adapter import keep_off_tied_layer, lora_config, naming_the_setting
from aifw.training.course import MOST_GRADIENT, learning_rate_factor
from aifw.training.watch import Watch

Measures = Callable[[Mapping[str, float]], dict[str, float]]
"""Picks what a method wants to keep out of what its trainer logs for a step."""


def train_with(
    trainer_class: type[Any],
    config_class: type[Any],
    job: Job[Any],
    rows: Sequence[Mapping[str, Any]],
    progress: checkpoint.Progress,
    resume: Path | None,
    backend: Backend,
    *,
    steps: int,
    counted: str,
    measures: Measures,
    options: Mapping[str, Any],
    parts: Mapping[str, Any] | None = None,
    tuning: Literal["lora", "dora", "full"] = "lora",
) -> Any:
    """Train from `progress.step` to the end.

    Args:
        trainer_class: One of TRL's trainers.
        config_class: Its configuration.
        job: Its settings are a `CourseSettings`.
        rows: Of the steps that are left, in order, as the trainer takes them once they are prepared.
        progress: Is counted on.
        resume: Checkpoint to restore, or None.
        backend: How to compute.
        steps: Of the whole run.
        counted: What the effective batch is counted in.
        measures: What to keep of what is logged.
        options: Of the configuration, beyond what all share.
        parts: Further arguments of the trainer: reward functions.
        tuning: What is trained: an adapter, one with magnitudes, or every weight.

    Returns:
        The trained model, an adapter beside its weights or not.

    Raises:
        InputInvalid: A LoRA target matches no layer.
        Shrink: The engine asked for less memory; a checkpoint is written.
        JobStopped: The engine asked to stop; a checkpoint is written.
    """
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    settings, done, full = job.settings, progress.step, tuning == "full"
    loaded = load(job.inputs["model"].path, replace(backend, precision="fp32") if full else backend)
    if not full:
        keep_off_tied_layer(loaded.module, settings.lora)
    torch.manual_seed(job.seed)
    with tempfile.TemporaryDirectory(prefix="trainer-") as scratch:
        arguments = config_class(
            output_dir=scratch,
            max_steps=steps - done,
            per_device_train_batch_size=progress.micro_batch,
            gradient_accumulation_steps=settings.effective_batch // progress.micro_batch,
            learning_rate=settings.learning_rate,
            max_grad_norm=MOST_GRADIENT,
            weight_decay=0.0,
            optim="adamw_torch",
            seed=job.seed % 2**32,
            bf16=backend.precision == "bf16",
            use_cpu=job.device == "cpu",
            train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **{"activation_checkpointing": False, **options},
        )

        def factor(step: int) -> float:
            return learning_rate_factor(done + step, steps, settings.warmup, settings.schedule)

        with naming_the_setting(), _naming_the_head():
            trainer = _prepared(trainer_class, factor)(
                model=loaded.module,
                args=arguments,
                train_dataset=Dataset.from_list(list(rows)),
                processing_class=loaded.tokenizer,
                peft_config=None if full else lora_config(settings.lora, dora=tuning == "dora"),
                **(parts or {}),
            )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_callback(Watch(job, progress, steps, counted), resume, measures))
        trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model)


@contextmanager
def _naming_the_head() -> Iterator[None]:
    """Tell a user that TRL takes no adapter beside the output layer."""
    try:
        yield
    except ValueError as error:
        if "lm_head" not in str(error):
            raise
        raise InputInvalid(
            f"`lora.target_modules` names the output layer, which TRL does not train: {error}"
        ) from error


def _prepared(trainer_class: type[Any], factor: Callable[[int], float]) -> type[Any]:
    from torch.optim.lr_scheduler import LambdaLR

    class Prepared(trainer_class):  # type: ignore[misc]
        """TRL's trainer, given tokens instead of text, and the learning rate as a function of the step."""

        def _prepare_dataset(self, dataset: Any, *_: object) -> Any:
            return dataset

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
            return self.lr_scheduler

    return Prepared


def _callback(watch: Watch, resume: Path | None, measures: Measures) -> Any:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):  # type: ignore[misc]
        """Sees the model and optimiser of the running trainer."""

        random_state: Any = None

        def on_train_begin(self, *_: object, model: Any, optimizer: Any, **__: object) -> None:
            watch.begin()
            if resume is not None:
                self.random_state = checkpoint.restore(resume, model, optimizer)[0]

        def on_step_begin(self, *_: object, **__: object) -> None:
            if self.random_state is not None:
                import torch

                torch.set_rng_state(self.random_state)
                self.random_state = None

        def on_log(self, *_: object, logs: dict[str, float], model: Any, optimizer: Any, **__: object) -> None:
            if "loss" not in logs:
                return
            every = {name: float(logs.get(name, 0.0)) for name in ("loss", "learning_rate", "grad_norm")}
            watch.after_step({**measures(logs), **every}, model, optimizer)

    return Callback()
