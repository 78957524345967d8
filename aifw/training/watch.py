"""What happens around every optimiser step, whoever computes it: count, report, save, obey."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from aifw.errors import JobError, JobStopped
from aifw.job import Job
from aifw.training import checkpoint
from aifw.training.early_stopping import Best
from aifw.training.kinds import next_smaller


class Shrink(Exception):
    """The engine asked for less memory; the checkpoint is written. Ends an attempt, not the job."""


class Watch:
    """Follows a run from the step it begins at.

    Args:
        job: Is told about every step. Its settings have `effective_batch` and `checkpoint_every`.
        progress: Is counted on; what a checkpoint holds.
        steps: Of the whole run.
        rows: What the effective batch is counted in.
        best: The best weights so far, which a checkpoint holds as well.
    """

    def __init__(
        self, job: Job[Any], progress: checkpoint.Progress, steps: int, rows: str = "pairs", best: Best | None = None
    ) -> None:
        self.job, self.progress, self.steps, self.rows, self.best = job, progress, steps, rows, best
        self.first = progress.step
        self.begin()

    def begin(self) -> None:
        """The first step begins now."""
        self.started = self.saved = time.monotonic()

    def after_step(self, measures: Mapping[str, float], model: Any, optimizer: Any) -> None:
        """A step is done.

        Args:
            measures: Of it: loss, learning_rate, grad_norm, and what the method adds (margin, accuracy, reward).
            model: Its trainable parameters are saved.
            optimizer: Its moments are.

        Raises:
            JobError: The loss is not a number.
            JobStopped: The engine asked to stop; a checkpoint is written.
            Shrink: The engine asked for less memory; a checkpoint is written.
        """
        progress = self.progress
        progress.step += 1
        if not (math.isfinite(measures["loss"]) and math.isfinite(measures["grad_norm"])):
            raise JobError(
                f"the loss is {measures['loss']} at step {progress.step} of {self.steps}",
                hint="lower `learning_rate`, or use `precision: fp32`",
            )
        progress.history.append({"step": float(progress.step), **measures})
        rows = (progress.step - self.first) * self.job.settings.effective_batch
        shown = {name: measures[name] for name in ("loss", "margin", "reward") if name in measures}
        shown[f"{self.rows}_per_second"] = rows / (time.monotonic() - self.started)
        self.job.progress(progress.step, self.steps, "step", **shown)
        self._obey(model, optimizer)

    def _obey(self, model: Any, optimizer: Any) -> None:
        job, progress = self.job, self.progress
        asked, last = job.control(), progress.step == self.steps
        shrink = asked.shrink and progress.micro_batch > 1 and not last
        asked.shrink = False
        if shrink:
            progress.micro_batch = next_smaller(progress.micro_batch, job.settings.effective_batch)
            progress.changes.append((progress.step, progress.micro_batch))
        due = time.monotonic() - self.saved >= job.settings.checkpoint_every and not last
        if asked.stop or asked.checkpoint or shrink or due:
            with job.checkpoint(progress.step) as folder:
                checkpoint.save(folder, progress, model, optimizer, self.best.weights if self.best else {})
            self.saved = time.monotonic()
        if asked.stop:
            raise JobStopped(f"stopped on request; step {progress.step} of {self.steps} is saved")
        if shrink:
            raise Shrink
