"""Direct preference optimisation by TRL's trainer, on the same pairs in the same order, for whoever wants its arithmetic.

The order, the learning rate as a function of the step, and the checkpoints are ours, because a run that was interrupted must end with the same
bytes as one that was not, and because nothing pickled is ever loaded.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from aifw.job import Job
from aifw.models.load import load
from aifw.training import checkpoint
from aifw.training.adapter import keep_off_tied_layer, lora_config, naming_the_setting
from aifw.training.course import MOST_GRADIENT, Course, learning_rate_factor
from aifw.training.kinds import DpoSettings
from aifw.training.losses import LEAST_SMOOTHING
from aifw.training.watch import Watch


def run(job: Job[DpoSettings], course: Course) -> Any:
    """Train from the step it is at to the end.

    Returns:
        The trained model, an adapter beside its weights or not.

    Raises:
        Shrink: The engine asked for less memory; a checkpoint is written.
        JobStopped: The engine asked to stop; a checkpoint is written.
    """
    import torch
    from datasets import Dataset
    from torch.optim.lr_scheduler import LambdaLR
    from transformers.trainer_callback import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    settings, progress, backend = job.settings, course.progress, course.backend
    steps = len(course.order) // settings.effective_batch
    full = settings.tuning == "full"
    loaded = load(job.inputs["model"].path, replace(backend, precision="fp32") if full else backend)
    rows = [
        {
            "prompt_ids": list(course.pairs[index].prompt),
            "chosen_ids": list(course.pairs[index].chosen),
            "rejected_ids": list(course.pairs[index].rejected),
            "ref_chosen_logps": course.reference[index][0],
            "ref_rejected_logps": course.reference[index][1],
        }
        for index in course.order[progress.step * settings.effective_batch :]
    ]
    if not full:
        keep_off_tied_layer(loaded.module, settings.lora)
    done = progress.step

    class Trainer(DPOTrainer):  # type: ignore[misc]
        """TRL's trainer, given tokens instead of text and a learning rate that knows the step it resumes at."""

        def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

        def _precompute_ref_logps(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            def factor(step: int) -> float:
                return learning_rate_factor(done + step, steps, settings.warmup, settings.schedule)

            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
            return self.lr_scheduler

    torch.manual_seed(job.seed)
    with tempfile.TemporaryDirectory(prefix="trainer-") as scratch:
        arguments = DPOConfig(
            output_dir=scratch,
            max_steps=steps - done,
            per_device_train_batch_size=progress.micro_batch,
            gradient_accumulation_steps=settings.effective_batch // progress.micro_batch,
            learning_rate=settings.learning_rate,
            beta=settings.beta,
            loss_type=[settings.loss],
            # TRL takes no zero for a loss that has the logarithm of it.
            label_smoothing=max(settings.label_smoothing, LEAST_SMOOTHING if settings.loss == "exo_pair" else 0.0),
            max_length=None,
            precompute_ref_log_probs=True,
            max_grad_norm=MOST_GRADIENT,
            weight_decay=0.0,
            optim="adamw_torch",
            seed=job.seed % 2**32,
            bf16=backend.precision == "bf16",
            use_cpu=job.device == "cpu",
            activation_checkpointing=course.recompute,
            disable_dropout=settings.lora.dropout == 0,
            train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        with naming_the_setting():
            trainer = Trainer(
                model=loaded.module,
                args=arguments,
                train_dataset=Dataset.from_list(rows),
                processing_class=loaded.tokenizer,
                peft_config=None if full else lora_config(settings.lora, dora=settings.tuning == "dora"),
            )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_callback(Watch(job, progress, steps), course.resume))
        trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model)


def _callback(watch: Watch, resume: Path | None) -> Any:
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
            measures = {
                "loss": float(logs["loss"]),
                "margin": float(logs["rewards/margins"]),
                "accuracy": float(logs["rewards/accuracies"]),
                "learning_rate": float(logs["learning_rate"]),
                "grad_norm": float(logs.get("grad_norm", 0.0)),
            }
            watch.after_step(measures, model, optimizer)

    return Callback()
