"""Direct preference optimisation by TRL's trainer, on the same pairs in the same order, for whoever wants its arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aifw.job import Job
from aifw.training.course import Course
from aifw.training.kinds import DpoSettings
from aifw.training.losses import LEAST_SMOOTHING
from aifw.training.trl_trainer import train_with


def run(job: Job[DpoSettings], course: Course) -> Any:
    """Train from the step it is at to the end.

    Returns:
        The trained model, an adapter beside its weights or not.

    Raises:
        InputInvalid: A LoRA target matches no layer, or is the output layer.
        Shrink: The engine asked for less memory; a checkpoint is written.
        JobStopped: The engine asked to stop; a checkpoint is written.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Trainer(DPOTrainer):  # type: ignore[misc]
        """TRL's trainer, given log-probabilities under the reference with the pairs."""

        def _precompute_ref_logps(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

    settings, progress = job.settings, course.progress
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
    options = {
        "beta": settings.beta,
        "loss_type": [settings.loss],
        # TRL takes no zero for a loss that has the logarithm of it.
        "label_smoothing": max(settings.label_smoothing, LEAST_SMOOTHING if settings.loss == "exo_pair" else 0.0),
        "max_length": None,
        "precompute_ref_log_probs": True,
        "activation_checkpointing": course.recompute,
        "disable_dropout": settings.lora.dropout == 0,
    }
    return train_with(
        Trainer,
        DPOConfig,
        job,
        rows,
        progress,
        course.resume,
        course.backend,
        steps=len(course.order) // settings.effective_batch,
        counted="pairs",
        measures=_measures,
        options=options,
        tuning=settings.tuning,
    )


def _measures(logs: Mapping[str, float]) -> dict[str, float]:
    return {"margin": float(logs["rewards/margins"]), "accuracy": float(logs["rewards/accuracies"])}
