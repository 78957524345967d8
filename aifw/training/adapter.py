"""An adapter beside the weights of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
        InputInvalid: No layer has one of the names.
    """
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed)
    with naming_the_setting():
        return get_peft_model(module, lora_config(settings, dora=dora))


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
    model.eval()
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "lora_dropout":
            module.train()


def keep_inputs_only(model: Any) -> None:
    """Have every block keep its input for the backward pass and compute the rest again.

    Blocks do so while they are in training mode; what is inside them stays as it is.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


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
