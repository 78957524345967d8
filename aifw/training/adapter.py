"""An adapter beside the weights of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

from aifw.errors import InputInvalid
from aifw.training.kinds import LoraSettings


def lora_config(settings: LoraSettings, *, dora: bool = False) -> Any:
    """The settings as PEFT takes them.

    Args:
        settings: Of the adapter.
        dora: With a magnitude for every output of a layer beside the two matrices.
    """
    from peft import LoraConfig

    modules = settings.target_modules
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha or 2 * settings.r,
        lora_dropout=settings.dropout,
        use_dora=dora,
        target_modules="all-linear" if modules == "auto" else list(modules),
        task_type="CAUSAL_LM",
    )


def add_adapter(module: Any, settings: LoraSettings, seed: int, *, dora: bool = False) -> Any:
    """Put a LoRA adapter into a model, whose own weights are frozen.

    Args:
        module: A causal language model of transformers; it is changed.
        settings: Of the adapter.
        seed: Of its first values.
        dora: With a magnitude for every output of a layer.

    Returns:
        A `PeftModel` around the module.

    Raises:
        InputInvalid: No layer has one of the names, or the output layer has and is the input embeddings as well.
    """
    import torch
    from peft import get_peft_model

    keep_off_tied_layer(module, settings)
    torch.manual_seed(seed)
    with naming_the_setting():
        return get_peft_model(module, lora_config(settings, dora=dora))


def keep_off_tied_layer(module: Any, settings: LoraSettings) -> None:
    """Refuse an adapter beside an output layer that is the input embeddings as well: merged, it would change both.

    Raises:
        InputInvalid: `lora.target_modules` names it.
    """
    output = module.get_output_embeddings()
    names = {name.rpartition(".")[2] for name, each in module.named_modules() if each is output}
    if module.config.get_text_config().tie_word_embeddings and names & set(settings.target_modules):
        raise InputInvalid(
            f"`lora.target_modules` names the output layer `{names.pop()}`, whose weights are the input embeddings as well in this model: "
            "merged, the adapter would change both",
            hint="leave it out, or use `auto`",
        )


@contextmanager
def naming_the_setting() -> Iterator[None]:
    """Tell a user where PEFT finds no layer which setting that comes from."""
    try:
        yield
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise
        raise InputInvalid(f"`lora.target_modules` fits no layer of the model: {error}") from error


def drop_in_adapter_only(model: Any) -> None:
    """Dropout in the adapter, as its settings say, and nowhere else."""
    from torch import nn

    model.eval()
    for module in model.modules():
        drops = getattr(module, "lora_dropout", None)
        if isinstance(drops, nn.ModuleDict) and any(isinstance(each, nn.Dropout) for each in drops.values()):
            drops.train()
            # Where the layer itself is not in training mode, PEFT's magnitudes take their input without dropout.
            module.training = True


@contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    """The model as it will be used, for a look in between."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def keep_inputs_only(model: Any) -> None:
    """Have every block keep its input for the backward pass and compute the rest again.

    Transformers does that for blocks in training mode only, in which some have dropout of their own: so it is done around them here.

    Raises:
        InputInvalid: The architecture names no blocks.
    """
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer

    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise InputInvalid(
            "this architecture has no blocks that could be computed again in the backward pass",
            hint="set `recompute: false`, and a larger memory budget or shorter texts",
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def sum_in_place(model: Any) -> None:
    """Have the adapters of plain linear layers add to what the layer gives, in it.

    PEFT writes the product of the two matrices, that scaled, the sum, and in narrower formats copies of the input: as much again as the
    whole block. Layers with dropout, magnitudes or biases of their own stay as they are.

    Args:
        model: With LoRA adapters by PEFT; it is changed.
    """
    from peft.tuners.lora import Linear

    for module in model.modules():
        if type(module) is Linear and _is_plain(module):
            module.forward = MethodType(_summed, module)


def _is_plain(layer: Any) -> bool:
    from torch import nn

    adapters = layer.active_adapters
    if len(adapters) != 1 or layer.merged or layer.disable_adapters or type(layer.base_layer) is not nn.Linear:
        return False
    (name,) = adapters
    return (
        isinstance(layer.lora_dropout[name], nn.Identity)
        and name not in layer.lora_variant
        and layer.lora_B[name].bias is None
        and not layer.fan_in_fan_out
    )


def _summed(layer: Any, states: Any, *_: Any, **__: Any) -> Any:
    from torch.nn.functional import linear

    (name,) = layer.active_adapters
    rows = states.reshape(-1, states.shape[-1])
    found = layer.base_layer(rows)
    thin = linear(rows, layer.lora_A[name].weight)
    found.addmm_(thin, layer.lora_B[name].weight.to(thin.dtype).T, alpha=layer.scaling[name])
    return found.view(*states.shape[:-1], -1)
