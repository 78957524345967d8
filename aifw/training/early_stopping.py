"""When training ends before its last step: pairs kept apart are looked at now and then, and the weights they liked best are kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aifw.training.checkpoint import Progress, trained
from aifw.training.kinds import EarlyStopping

if TYPE_CHECKING:
    from torch import Tensor


def kept_apart(groups: Sequence[str], share: float) -> set[int]:
    """Which rows are not trained on: those of whole groups, by the hash of the group, so that a group never changes sides as data grows.

    Args:
        groups: Of every row.
        share: Of the groups, about.

    Returns:
        Indices of rows; empty where one of both sides would be.
    """
    limit = share * 2.0**64
    apart = {
        index
        for index, group in enumerate(groups)
        if int.from_bytes(hashlib.sha256(f"early stopping {group}".encode()).digest()[:8]) < limit
    }
    return apart if len(apart) < len(groups) else set()


@dataclass
class Best:
    """The best weights so far, going by the looks in the progress of a run.

    Attributes:
        settings: When to look and when to give up.
        progress: Of the run; its looks are added to.
        weights: Those after the best look, on the processor.
    """

    settings: EarlyStopping
    progress: Progress
    weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        """Whether nothing better was seen for as long as patience lasts."""
        return len(self.progress.looks) - 1 - self._index >= self.settings.patience

    @property
    def look(self) -> Mapping[str, float]:
        """The best one: step, accuracy, loss."""
        return self.progress.looks[self._index]

    @property
    def _index(self) -> int:
        looks = self.progress.looks
        return max(range(len(looks)), key=lambda at: (looks[at]["accuracy"], -looks[at]["loss"], -at), default=-1)

    def is_due(self, step: int, last: int) -> bool:
        """Whether to look after a step."""
        return step % self.settings.every == 0 or step == last

    def add(self, step: int, accuracy: float, loss: float, model: Any) -> None:
        """Remember a look, and the weights if it is the best."""
        if not math.isfinite(loss):
            return
        self.progress.looks.append({"step": float(step), "accuracy": accuracy, "loss": loss})
        if self._index == len(self.progress.looks) - 1:
            self.weights = {name: weight.detach().cpu().clone() for name, weight in trained(model).items()}

    def put_back(self, model: Any) -> None:
        """Give a model the best weights."""
        import torch

        with torch.no_grad():
            for name, weight in trained(model).items():
                if name in self.weights:
                    weight.copy_(self.weights[name])
