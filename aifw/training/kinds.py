"""Kinds that train a model."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from aifw.data.kinds import PreferencePairs
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Output
from aifw.models.kinds import TextModel
from aifw.models.size import INTERPRETER_BYTES, TEMPLATE_TOKENS, Shape, tokens_of
from aifw.settings import Duration, Ref, Settings, Share, execution

_SECONDS_TO_START = 25.0
_CORE_SECONDS_PER_TOKEN_PARAMETER = 1.6e-10
"""Reference pass and training in fp32; measured 1.1e-10 to 1.5e-10 on a server core of 2019 with AVX2."""
_UNKNOWN_ROWS = 1000


class Adapter(Output):
    """A LoRA adapter in the format of PEFT (`adapter_config.json`, `adapter_model.safetensors`) and `metrics.json`, the course of its training.

    Facts: `parameters`, `rank`, `pairs`, `steps`.
    """

    name = "adapter"


class LoraSettings(Settings):
    """Which weights are trained: a product of two thin matrices beside each chosen linear layer."""

    r: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """The adapter is scaled by `alpha / r`. Default: twice the rank."""
    dropout: Annotated[Share, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs dropped during training."""
    target_modules: Literal["auto"] | Annotated[list[str], Field(min_length=1)] = "auto"
    """Names of linear layers (`q_proj`), or `auto` for all of them but the output layer."""


class DpoSettings(Settings):
    """Settings of `dpo`."""

    model: Ref[TextModel]
    """The model to train; also the reference."""
    data: Ref[PreferencePairs]
    """The pairs to learn from."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often each pair is used."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Highest learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup: Annotated[Share, Field(ge=0, lt=1)] = 0.1
    """Share of the steps over which the learning rate rises."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the model is held to the reference; for `ipo` the regularisation parameter."""
    loss: Literal["sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "sppo_hard", "apo_zero", "apo_down"] = (
        "sigmoid"
    )
    """Loss, by TRL's names. `sigmoid` is DPO as published."""
    label_smoothing: Annotated[Share, Field(ge=0, lt=0.5)] = 0.0
    """Assumed share of swapped pairs; used by `robust` and `exo_pair`."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    effective_batch: Annotated[int, Field(ge=1)] = 16
    """Pairs per optimiser step."""
    micro_batch: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], execution] = "auto"
    """Pairs computed at once; the effective batch must be a multiple. `auto` fits the memory."""
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer prompts lose their beginning."""
    max_completion_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer answers lose their end."""
    max_pairs: Annotated[int, Field(ge=1)] | None = None
    """Most pairs used. Which ones is decided by the hash of their id."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the arithmetic. `auto` is bf16 where the device computes in it natively."""
    checkpoint_every: Annotated[Duration, execution] = 120.0
    """Longest time between two checkpoints."""


class Dpo(ArtifactKind[DpoSettings]):
    """Direct preference optimisation of a LoRA adapter (Rafailov et al. 2023, arXiv:2305.18290) with TRL, merged into the model."""

    name = "dpo"
    section = "stages"
    settings = DpoSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"model": TextModel, "adapter": Adapter}
    requires: ClassVar[Mapping[str, str]] = {
        "accelerate": "train",
        "datasets": "train",
        "peft": "train",
        "safetensors": "train",
        "torch": "train",
        "transformers": "train",
        "trl": "train",
    }
    run = "aifw.training.dpo:train"
    seeded = True
    shrinks = True
    cores = "all"
    workload = "dpo"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: DpoSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory: interpreter, weights, adapter with its optimiser, activations of a micro-batch, logits of its answers."""
        model: Mapping[str, Any] = inputs["model"].facts if "model" in inputs else {}
        data: Mapping[str, Any] = inputs["data"].facts if "data" in inputs else {}
        shape = Shape.of(model)
        rows = float(data.get("rows", _UNKNOWN_ROWS))
        if settings.max_pairs is not None:
            rows = min(rows, settings.max_pairs)
        lengths = pair_tokens(data, settings.max_prompt_tokens, settings.max_completion_tokens)
        automatic = settings.micro_batch == "auto"
        micro = micro_batch(settings.micro_batch, settings.effective_batch, sum(lengths), machine.devices[0])
        steps = ceil(rows * settings.epochs / settings.effective_batch)
        tokens = steps * settings.effective_batch * sum(lengths)
        work = tokens * shape.parameters
        rate = history.rate()
        first_rate = _CORE_SECONDS_PER_TOKEN_PARAMETER / machine.cpu.cores
        seconds = work * rate if rate else _SECONDS_TO_START + work * first_rate
        memory = training_bytes(shape, settings.lora.r, micro, lengths)
        known = shape.certain and "rows" in data and "chars_prompt" in data
        spread = (0.25 if rate else 0.8) + (0 if known else 1.0)
        return Forecast(
            memory=Estimate(memory * 0.8, memory, memory * (1.3 if known else 1.6)),
            seconds=Estimate.around(seconds, spread),
            basis=_basis(rows, sum(lengths), known, len(history.past)),
            work=work,
            facts={
                "model": dict(model),
                "adapter": {"parameters": shape.lora(settings.lora.r), "rank": settings.lora.r},
            },
            note=f"micro-batch {micro} (auto)" if automatic else "",
        )


def pair_tokens(data: Mapping[str, Any], max_prompt: float, max_completion: float) -> tuple[float, float]:
    """Mean tokens of the two sequences of a pair, prompt included."""
    prompt = tokens_of(data, "chars_prompt", max_prompt, 60) + TEMPLATE_TOKENS
    return (
        prompt + tokens_of(data, "chars_chosen", max_completion, 80),
        prompt + tokens_of(data, "chars_rejected", max_completion, 80),
    )


def micro_batch(wanted: Literal["auto"] | int, effective: int, tokens: float, device: str) -> int:
    """Pairs to compute at once: a divisor of the effective batch.

    A processor gains nothing from more than a few hundred tokens at a time, and each takes memory; accelerators do gain.

    Args:
        wanted: As set.
        effective: Pairs per optimiser step.
        tokens: Of a pair, both sequences.
        device: Where to compute.
    """
    if wanted != "auto":
        return next_smaller(wanted + 1, effective)
    at_once = 320 if device.partition(":")[0] == "cpu" else 8192
    return next_smaller(int(at_once // max(1.0, tokens)) + 1, effective)


def next_smaller(size: int, effective: int) -> int:
    """The largest divisor of the effective batch below `size`."""
    return max(each for each in range(1, max(2, min(size, effective + 1))) if effective % each == 0)


def training_bytes(shape: Shape, rank: int, pairs: int, lengths: tuple[float, float]) -> float:
    """Peak bytes of a training process in fp32 on the processor.

    Interpreter, weights, adapter with gradient and two moments, what the backward pass needs of a micro-batch (its longest one,
    a fifth above the mean) and one tile of logits. SmolLM2-135M with pairs of about 190 tokens, one at a time: 1.93e9
    measured; two at a time: 2.68e9.
    """
    tokens = 1.2 * pairs * sum(lengths)
    adapter = 4 * 4 * shape.lora(rank)
    logits = 2 * 4 * shape.vocabulary * min(tokens, 256)
    return INTERPRETER_BYTES + shape.weights() + adapter + shape.activations(tokens) + logits


def _basis(rows: float, tokens: float, known: bool, runs: int) -> str:
    size = f"{rows:,.0f} pairs of about {tokens:,.0f} tokens"
    rates = f"{runs} earlier runs" if runs else "a default speed of this processor"
    return f"{size}, {rates}" + ("" if known else "; model or data not known yet, so sizes are assumed")
