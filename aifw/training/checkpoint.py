"""What a training run needs to go on exactly where it was: trained weights, optimiser moments and random state, without a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aifw.errors import CheckpointInvalid

_STATE = "state.json"
_TENSORS = "tensors.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        run: Identity of the run: settings, data, model and order. A checkpoint of another run is refused.
        step: Optimiser steps done.
        micro_batch: Pairs computed at once since the last change.
        changes: Steps at which the micro-batch was halved, and what it became.
        history: Measures of every step, for people.
        looks: At pairs that are kept apart: step, accuracy, loss.
    """

    run: str
    step: int = 0
    micro_batch: int = 1
    changes: list[tuple[int, int]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    looks: list[dict[str, float]] = field(default_factory=list)


def trained(model: Any) -> dict[str, Any]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save(
    folder: Path, progress: Progress, model: Any, optimizer: Any, best: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write a checkpoint into an existing folder.

    Args:
        folder: As `job.checkpoint` yields it.
        progress: How far the run is.
        model: Its trainable parameters are saved.
        optimizer: An AdamW, plain or wrapped by accelerate.
        best: Weights that are to be kept, by name.
    """
    import torch
    from safetensors.torch import save_file

    state = getattr(optimizer, "optimizer", optimizer).state
    tensors = {"random": torch.get_rng_state()}
    for name, parameter in trained(model).items():
        tensors[f"weight/{name}"] = parameter.detach().cpu().contiguous()
        # What text never reaches, the eyes of a model that sees, has no gradient and so no moments.
        for moment in _MOMENTS if parameter in state else ():
            tensors[f"{moment}/{name}"] = torch.as_tensor(state[parameter][moment]).detach().cpu().contiguous()
    tensors |= {f"best/{name}": weight.contiguous() for name, weight in best.items()}
    save_file(tensors, folder / _TENSORS)
    (folder / _STATE).write_text(json.dumps(asdict(progress), sort_keys=True) + "\n", encoding="utf-8")


def read_progress(folder: Path, run: str) -> Progress:
    """Read how far a checkpoint is.

    Raises:
        CheckpointInvalid: It belongs to another run or cannot be read.
    """
    try:
        content = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        content["changes"] = [(int(step), int(size)) for step, size in content["changes"]]
        progress = Progress(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointInvalid(f"the checkpoint {folder} cannot be read: {error}") from error
    if progress.run != run:
        raise CheckpointInvalid(
            f"the checkpoint {folder} belongs to another run", hint="remove it to start from the beginning"
        )
    return progress


def restore(folder: Path, model: Any, optimizer: Any) -> tuple[Any, dict[str, Any]]:
    """Put weights and moments of a checkpoint back.

    Returns:
        The random state, to be set right before the next step, and the weights that were to be kept.

    Raises:
        CheckpointInvalid: It does not fit the model or cannot be read.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / _TENSORS)
        state = getattr(optimizer, "optimizer", optimizer).state
        with torch.no_grad():
            for name, parameter in trained(model).items():
                parameter.copy_(tensors[f"weight/{name}"])
                if f"step/{name}" in tensors:
                    state[parameter] = {
                        moment: tensors[f"{moment}/{name}"].to("cpu" if moment == "step" else parameter.device)
                        for moment in _MOMENTS
                    }
        best = {name.removeprefix("best/"): tensor for name, tensor in tensors.items() if name.startswith("best/")}
        return tensors["random"], best
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointInvalid(f"the checkpoint {folder} does not fit this model: {error}") from error
