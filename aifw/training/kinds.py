"""Kinds that train a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aifw.data.kinds import PreferencePairs
from aifw.hardware.libraries.precision import expected_precision
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Output
from aifw.models.kinds import TextModel
from aifw.models.memory import FLOAT, Batch, bytes_each, estimated, is_mapped, largest_batch
from aifw.models.memory_training import Training, merging, on_pairs, training
from aifw.models.size import TEMPLATE_TOKENS, Shape, tokens_of
from aifw.models.speed import seconds_for
from aifw.models.work import Work, answers_work, micro_step, optimizer_step
from aifw.settings import Duration, Ref, Settings, Share, execution

_SECONDS_TO_START = 15.0
"""Importing, measured to take 6 s of a core, and an allowance for loading, merging and writing a model."""
_UNKNOWN_ROWS = 1000
_COMPILER_BYTES = 6e8
_SECONDS_TO_COMPILE = 60.0
"""What `torch.compile` and the C++ compiler take. Measured with a small model."""
_LEAST_AT_ONCE, _NUMBERS_AT_ONCE = 320, 185_000
"""Tokens, and numbers of their hidden states, that a processor computes at once. Measured with models 224 and 576 wide."""


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


Sealed = Annotated[list[Ref[PreferencePairs]], Field(default_factory=list)]
"""Pairs that nothing may be learnt from."""


def refuse_heldout(name: str, reference: str) -> None:
    """Refuse to train on what is held out.

    Args:
        name: Of the setting.
        reference: Its value.

    Raises:
        PydanticCustomError: It is the output `heldout` of something.
    """
    if reference.endswith(".heldout"):
        raise PydanticCustomError(
            "heldout",
            "`{name}` is `{reference}`, which is held out to be measured on; train on `{train}`",
            {"name": name, "reference": str(reference), "train": reference.removesuffix("heldout") + "train"},
        )


class EarlyStopping(Settings):
    """Ends training when pairs that are not trained on are judged no better any more, and keeps the best weights.

    The pairs come from the training data: what is held out for evaluation stays unseen.
    """

    held_out: Annotated[Share, Field(gt=0, le=0.5)] = 0.1
    """Share of the conversations that is not trained on, by their hash."""
    every: Annotated[int, Field(ge=1)] = 10
    """Steps between two looks at them."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Looks without a better accuracy, or the same at a lower loss, after which training ends."""


SMOOTHED = {
    "aifw": ("sigmoid", "sigmoid_norm", "robust", "exo_pair"),
    "trl": ("robust", "exo_pair", "aot", "aot_unpaired"),
}
"""Losses that know a share of swapped pairs, by trainer."""
OF_BATCHES = ("aot", "aot_unpaired", "sft")
"""Losses that are no sum over pairs, which TRL alone computes."""


class DpoSettings(Settings):
    """Settings of `dpo`."""

    model: Ref[TextModel]
    """The model to train; also the reference."""
    data: Ref[PreferencePairs]
    """The pairs to learn from."""
    sealed: Sealed
    """Held-out pairs, of this or other data, that must share no prompt or answer with what is trained on; checked before the first step."""
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
    loss: Literal[
        "sigmoid",
        "sigmoid_norm",
        "robust",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "bco_pair",
        "discopop",
        "sppo_hard",
        "apo_zero",
        "apo_down",
        "aot",
        "aot_unpaired",
        "sft",
    ] = "sigmoid"
    """Loss, by TRL's names. `sigmoid` is DPO as published, `sigmoid_norm` the same per token. The last three only with `trainer: trl`."""
    trainer: Literal["aifw", "trl"] = "aifw"
    """Who computes the steps. TRL's trainer takes several times as long and is there to compare with."""
    label_smoothing: Annotated[Share, Field(ge=0, lt=0.5)] = 0.0
    """Assumed share of swapped pairs; known to `sigmoid`, `sigmoid_norm`, `robust` and `exo_pair`, of TRL to the last two and to `aot`."""
    tuning: Literal["lora", "dora", "full"] = "lora"
    """What is trained: a LoRA adapter, one with a magnitude for every output (Liu et al. 2024, arXiv:2402.09353), or every weight."""
    lora: LoraSettings = LoraSettings()
    """The adapter; of no use to `tuning: full`."""
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
    processes: Annotated[int, Field(ge=1, le=64), execution] = 1
    """Processes that share the micro-batches of every step, each with a copy of the model and its part of the threads."""
    recompute: Annotated[Literal["auto"] | bool, execution] = "auto"
    """Keep only the inputs of blocks for the backward pass and compute the rest again. `auto` does so where a single pair would not fit the memory."""
    compile: bool = False
    """Compile the model with `torch.compile`, which needs a C++ compiler and takes a minute before the first step."""
    early_stopping: EarlyStopping | None = None
    """When to end before all epochs are done."""
    checkpoint_every: Annotated[Duration, execution] = 120.0
    """Longest time between two checkpoints."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.label_smoothing and self.loss not in SMOOTHED[self.trainer]:
            raise PydanticCustomError(
                "unused",
                "`label_smoothing` has no effect on `loss: {loss}` with `trainer: {trainer}`, only on {known}",
                {"loss": self.loss, "trainer": self.trainer, "known": ", ".join(SMOOTHED[self.trainer])},
            )
        if self.trainer == "aifw" and self.loss in OF_BATCHES:
            raise PydanticCustomError("unused", "`loss: {loss}` needs `trainer: trl`", {"loss": self.loss})
        if self.tuning == "full" and "lora" in self.model_fields_set:
            raise PydanticCustomError("unused", "`lora` has no effect with `tuning: full`, which trains every weight")
        if self.processes > self.effective_batch:
            raise PydanticCustomError(
                "unused",
                "`processes: {processes}` share the {pairs} pairs of `effective_batch`, so some would have nothing to do",
                {"processes": self.processes, "pairs": self.effective_batch},
            )
        refuse_heldout("data", self.data)
        if self.trainer == "trl":
            for name in ("early_stopping", "compile", "processes"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise PydanticCustomError("unused", "`{name}` needs `trainer: aifw`", {"name": name})
        return self


class Dpo(ArtifactKind[DpoSettings]):
    """Direct preference optimisation of a LoRA adapter (Rafailov et al. 2023, arXiv:2305.18290), merged into the model."""

    name = "dpo"
    version = 3
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
    reuses_memory = True
    cores = "all"
    workload = "dpo"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: DpoSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory of the moment that needs most: a training step on the longest pairs, or the merge."""
        model: Mapping[str, Any] = inputs["model"].facts if "model" in inputs else {}
        data: Mapping[str, Any] = inputs["data"].facts if "data" in inputs else {}
        shape, device = Shape.of(model), machine.devices[0]
        rows = float(data.get("rows", _UNKNOWN_ROWS))
        if settings.max_pairs is not None:
            rows = min(rows, settings.max_pairs)
        lengths = pair_tokens(data, settings.max_prompt_tokens, settings.max_completion_tokens)
        longest = longest_tokens(data, settings.max_prompt_tokens, settings.max_completion_tokens)
        prompt = prompt_tokens(data, settings.max_prompt_tokens)
        precision = expected_precision(settings.precision, device, machine)
        known = shape.certain and "rows" in data and "chars_longest" in data
        tokens = tokens_computed(settings, prompt, sum(lengths) - 2 * prompt)
        micro = pairs_at_once(settings, tokens, device, shape.hidden)
        micro, again = fitting(shape, settings, longest, device, precision, machine.memory.pool, micro)
        parts = dpo_parts(shape, settings, micro, longest, device, precision, recompute=again)
        mean = (prompt, sum(lengths) / 2 - prompt)
        work = dpo_work(shape, settings, rows, micro, mean, precision, recompute=again)
        stated = [f"micro-batch {micro} (auto)"] if settings.micro_batch == "auto" else []
        if again:
            stated.append("blocks computed again in the backward pass")
        seconds, measured = seconds_for(work, machine, precision, reuses_memory=True)
        starting = _SECONDS_TO_START + (_SECONDS_TO_COMPILE if settings.compile else 0.0)
        spread = (0.5 if measured else 0.8) + (0 if known else 1.0)
        return Forecast(
            memory=estimated(parts, certain=known),
            seconds=Estimate.around(starting + seconds, spread),
            basis=_basis(rows, sum(lengths), sum(longest), known, measured),
            work=work.operations,
            facts={
                "model": dict(model),
                "adapter": {}
                if settings.tuning == "full"
                else {"parameters": shape.lora(settings.lora.r), "rank": settings.lora.r},
            },
            note=", ".join(stated),
            parts=parts,
            startup=starting,
        )


def prompt_tokens(data: Mapping[str, Any], max_prompt: float) -> float:
    """Mean tokens of a prompt."""
    return tokens_of(data, "chars_prompt", max_prompt, 60) + TEMPLATE_TOKENS


def tokens_computed(settings: DpoSettings, prompt: float, answers: float) -> float:
    """Of a pair: its prompt once and both answers, or twice by TRL."""
    return answers + prompt * (2 if settings.trainer == "trl" else 1)


def pair_tokens(data: Mapping[str, Any], max_prompt: float, max_completion: float) -> tuple[float, float]:
    """Mean tokens of the two sequences of a pair, prompt included."""
    prompt = prompt_tokens(data, max_prompt)
    return (
        prompt + tokens_of(data, "chars_chosen", max_completion, 80),
        prompt + tokens_of(data, "chars_rejected", max_completion, 80),
    )


def micro_batch(wanted: Literal["auto"] | int, effective: int, tokens: float, device: str, hidden: float) -> int:
    """Pairs to compute at once: a divisor of the effective batch.

    A processor gains nothing once the work of an operator outweighs calling it, and each token takes memory; accelerators do gain.

    Args:
        wanted: As set.
        effective: Pairs per optimiser step.
        tokens: Computed of a pair.
        device: Where to compute.
        hidden: Width of the model.
    """
    if wanted != "auto":
        return next_smaller(wanted + 1, effective)
    at_once = 8192.0
    if device.partition(":")[0] == "cpu":
        at_once = min(at_once, max(_LEAST_AT_ONCE, _NUMBERS_AT_ONCE / hidden))
    return next_smaller(int(at_once // max(1.0, tokens)) + 1, effective)


def pairs_at_once(settings: DpoSettings, tokens: float, device: str, hidden: float) -> int:
    """The same of `dpo`, where each process has something to do.

    Args:
        settings: Of the run.
        tokens: Computed of a pair.
        device: Where to compute.
        hidden: Width of the model.
    """
    micro = micro_batch(settings.micro_batch, settings.effective_batch, tokens, device, hidden)
    if settings.micro_batch != "auto":
        return micro
    return min(micro, next_smaller(settings.effective_batch // settings.processes + 1, settings.effective_batch))


def next_smaller(size: int, effective: int) -> int:
    """The largest divisor of the effective batch below `size`."""
    return max(each for each in range(1, max(2, min(size, effective + 1))) if effective % each == 0)


def longest_tokens(data: Mapping[str, Any], max_prompt: float, max_completion: float) -> tuple[float, float]:
    """Tokens of the prompt and of the longer answer of the longest pair; where nobody measured it, twice the mean."""
    mean = max(pair_tokens(data, max_prompt, max_completion))
    whole = 2.0 * mean
    if "chars_longest" in data:
        whole = tokens_of(data, "chars_longest", max_prompt + max_completion, 0) + TEMPLATE_TOKENS
    prompt = prompt_tokens(data, max_prompt)
    answer = min(max_completion, max(1.0, whole * (1 - prompt / mean)))
    return min(max_prompt, max(1.0, whole - answer)), answer


def dpo_parts(
    shape: Shape,
    settings: DpoSettings,
    pairs: int,
    longest: tuple[float, float],
    device: str,
    precision: str,
    *,
    recompute: bool = False,
) -> dict[str, float]:
    """Parts of the memory of the moment of a run that needs most.

    Args:
        shape: Of the model.
        settings: Of the run.
        pairs: Computed at once.
        longest: Tokens of the prompt and of the longer answer of the longest pair.
        device: Where to compute.
        precision: Format of the arithmetic.
        recompute: Blocks keep their inputs only.
    """
    mapped = is_mapped(shape, device, precision)
    worker: Literal["training", "adapting"] = "training" if settings.trainer == "trl" else "adapting"
    how = dpo_training(settings, pairs, longest, precision, recompute=recompute)
    moments = [training(shape, how, mapped=mapped, worker=worker)]
    if settings.tuning != "full":
        moments.append(merging(shape, settings.lora.r, mapped=is_mapped(shape, "cpu"), worker=worker))
    trained = FLOAT * (shape.parameters if settings.tuning == "full" else shape.lora(settings.lora.r))
    if settings.early_stopping is not None:
        # The best weights so far, and those that take their place.
        moments[0]["best"] = 2 * trained
    if settings.compile:
        moments[0]["compiler"] = _COMPILER_BYTES
    if settings.processes > 1:
        moments[0]["sum"] = trained
        moments[0]["processes"] = (settings.processes - 1) * sum(moments[0].values())
    return max(moments, key=lambda parts: sum(parts.values()))


def dpo_training(
    settings: DpoSettings, pairs: int, tokens: tuple[float, float], precision: str, *, recompute: bool = False
) -> Training:
    """How the steps are computed: by a row a pair, or by TRL with a row for each of its answers.

    Args:
        settings: Of the run.
        pairs: Computed at once.
        tokens: Of a prompt and of an answer.
        precision: Format of the arithmetic.
        recompute: Blocks keep their inputs only.
    """
    (prompt, answer), width = tokens, bytes_each(precision)
    rank = None if settings.tuning == "full" else settings.lora.r
    accumulates = pairs < settings.effective_batch
    if settings.trainer == "trl":
        return Training(Batch(2 * pairs, prompt + answer, bytes_each=width), rank, accumulates, recompute)
    how = on_pairs(pairs, prompt, answer, rank=rank, accumulates=accumulates, bytes_each=width)
    return replace(how, checkpointing=recompute, magnitudes=settings.tuning == "dora")


def dpo_work(
    shape: Shape,
    settings: DpoSettings,
    rows: float,
    pairs: int,
    mean: tuple[float, float],
    precision: str,
    *,
    recompute: bool = False,
) -> Work:
    """What a run has to do: the reference's scores, and the steps.

    Args:
        shape: Of the model.
        settings: Of the run.
        rows: Pairs to learn from.
        pairs: Computed at once.
        mean: Tokens of a prompt and of an answer.
        precision: Format of the arithmetic.
        recompute: Blocks keep their inputs only.
    """
    how = dpo_training(settings, pairs, mean, precision, recompute=recompute)
    scored = (
        how
        if settings.trainer == "aifw"
        else dpo_training(settings.model_copy(update={"trainer": "aifw"}), pairs, mean, precision)
    )
    looks = Work()
    if settings.early_stopping is not None:
        apart = settings.early_stopping.held_out * rows
        rows_left = rows - apart
        steps = ceil(rows_left * settings.epochs / settings.effective_batch)
        looks = answers_work(shape, scored).times(apart / pairs * ceil(steps / settings.early_stopping.every))
    else:
        steps = ceil(rows * settings.epochs / settings.effective_batch)
    step = micro_step(shape, how).times(settings.effective_batch / pairs) + optimizer_step(shape, how)
    return step.times(steps) + answers_work(shape, scored).times(rows / pairs) + looks


def fitting(
    shape: Shape,
    settings: DpoSettings,
    longest: tuple[float, float],
    device: str,
    precision: str,
    limit: float | None,
    micro: int,
) -> tuple[int, bool]:
    """How to stay within a limit: first by smaller micro-batches, then by computing blocks again in the backward pass.

    Args:
        shape: Of the model.
        settings: Of the run; a micro-batch that is set stays as it is.
        longest: Tokens of the prompt and of the longer answer of the longest pair.
        device: Where to compute.
        precision: Format of the arithmetic.
        limit: Bytes that the upper end of the forecast may take, or None.
        micro: Pairs that suit the device.

    Returns:
        Pairs to compute at once, 1 if none fits, and whether blocks keep their inputs only.
    """

    def upper_end(pairs: int, recompute: bool) -> float:
        parts = dpo_parts(shape, settings, pairs, longest, device, precision, recompute=recompute)
        return estimated(parts, certain=shape.certain).high

    again = settings.recompute is True
    if limit is None:
        return micro, again
    if settings.micro_batch == "auto":
        size = largest_batch(lambda pairs: upper_end(pairs, again), limit, settings.effective_batch, micro)
    else:
        size = micro
    if settings.recompute == "auto" and upper_end(size, False) > limit:
        again = upper_end(size, True) < upper_end(size, False)
        if settings.micro_batch == "auto":
            size = largest_batch(lambda pairs: upper_end(pairs, again), limit, settings.effective_batch, micro)
    return size, again


def _basis(rows: float, tokens: float, longest: float, known: bool, measured: bool) -> str:
    size = f"{rows:,.0f} pairs of about {tokens:,.0f} tokens, each answer with its prompt at most {longest:,.0f}"
    speed = "measured speed of this device" if measured else "a default speed of this device"
    return f"{size}, {speed}" + ("" if known else "; model or data not known yet, so sizes are assumed")
