"""Settings that every method shares which trains an adapter step by step."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aifw.models.kinds import TextModel
from aifw.settings import Duration, Ref, Settings, Share, execution
from aifw.training.kinds import LoraSettings, Sealed, refuse_heldout


class CourseSettings(Settings):
    """The model, the adapter, and the course of the training."""

    model: Ref[TextModel]
    """The model to train."""
    sealed: Sealed
    """Held-out pairs that must share no prompt or answer with pairs that are trained on; checked before the first step."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often each row of the data is used."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Highest learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup: Annotated[Share, Field(ge=0, lt=1)] = 0.1
    """Share of the steps over which the learning rate rises."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    effective_batch: Annotated[int, Field(ge=1)] = 16
    """Rows per optimiser step."""
    micro_batch: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], execution] = "auto"
    """Rows computed at once; the effective batch must be a multiple. `auto` fits the memory."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the arithmetic. `auto` is bf16 where the device computes in it natively."""
    checkpoint_every: Annotated[Duration, execution] = 120.0
    """Longest time between two checkpoints."""

    @model_validator(mode="after")
    def _trains_on_nothing_held_out(self) -> Self:
        for name in ("data", "prompts"):
            reference = getattr(self, name, None)
            if isinstance(reference, str):
                refuse_heldout(name, reference)
        return self
