"""Kinds whose steps TRL computes: KTO, GRPO, RLOO."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aifw.data.kinds import PreferencePairs
from aifw.hardware.libraries.precision import expected_precision
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Forecast, History, InputFacts, Output
from aifw.models.kinds import TextModel
from aifw.models.memory import Batch, bytes_each, estimated, is_mapped, largest_batch
from aifw.models.memory_inference import generation
from aifw.models.memory_training import Training, merging, training
from aifw.models.size import Shape
from aifw.models.work import blocks, generation_work, micro_step, optimizer_step
from aifw.settings import Ref, execution
from aifw.training.course_settings import CourseSettings
from aifw.training.expectation import REQUIRES, expected, facts_of, rows_of
from aifw.training.kinds import Adapter, longest_tokens, micro_batch, pair_tokens, prompt_tokens
from aifw.training.reward_kinds import RewardModel

_SECONDS_TO_START = 20.0
"""Importing, TRL's trainers with it, and an allowance for loading, merging and writing a model."""
_KTO_BYTES, _ROLLOUT_BYTES = 36e6, 25e6
"""What these trainers load or keep besides what TRL's others do. Measured with a model of 27,000 weights."""


class KtoSettings(CourseSettings):
    """Settings of `kto`."""

    data: Ref[PreferencePairs]
    """Pairs to learn from: the chosen answer of each counts as desirable, the rejected one as undesirable."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the model is held to the one it was."""
    loss: Literal["kto", "apo_zero_unpaired"] = "kto"
    """Loss, by TRL's names."""
    desirable_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of desirable answers in the loss."""
    undesirable_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of undesirable answers in the loss."""
    effective_batch: Annotated[int, Field(ge=2)] = 16
    """Answers per optimiser step."""
    micro_batch: Annotated[int, Field(ge=2)] = 4
    """Answers computed at once, over which the divergence from the model as it was is estimated, so it is part of the method. Divides the effective batch."""
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer prompts lose their beginning."""
    max_completion_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer answers lose their end."""
    max_pairs: Annotated[int, Field(ge=1)] | None = None
    """Most pairs used. Which ones is decided by the hash of their id."""

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> KtoSettings:
        if self.effective_batch % self.micro_batch:
            raise PydanticCustomError("batch", "`effective_batch` must be a multiple of `micro_batch`")
        return self


class Kto(ArtifactKind[KtoSettings]):
    """Kahneman-Tversky optimisation of a LoRA adapter (Ethayarajh et al. 2024, arXiv:2402.01306) by TRL, merged into the model."""

    name = "kto"
    section = "stages"
    settings = KtoSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"model": TextModel, "adapter": Adapter}
    requires: ClassVar[Mapping[str, str]] = REQUIRES
    run = "aifw.training.kto:train"
    seeded = True
    reuses_memory = True
    cores = "all"
    workload = "dpo"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: KtoSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory of a training step on the longest answers, or of the merge."""
        data = facts_of(inputs, "data")
        rows = rows_of(data, settings.max_pairs)
        lengths = pair_tokens(data, settings.max_prompt_tokens, settings.max_completion_tokens)
        longest = sum(longest_tokens(data, settings.max_prompt_tokens, settings.max_completion_tokens))
        shape, device = Shape.of(facts_of(inputs, "model")), machine.devices[0]
        precision = expected_precision(settings.precision, device, machine)
        how = _steps(settings, settings.micro_batch, longest, precision)
        mean = _steps(settings, settings.micro_batch, sum(lengths) / 2, precision)
        step = micro_step(shape, mean, computes_reference=True) + blocks(shape, mean.batch).times(2)
        steps = ceil(2 * rows * settings.epochs / settings.effective_batch)
        accumulated = settings.effective_batch / settings.micro_batch
        return expected(
            {**_training_parts(shape, how, device, precision), "libraries": _KTO_BYTES},
            (step.times(accumulated) + optimizer_step(shape, mean)).times(steps),
            f"{2 * rows:,.0f} answers of about {sum(lengths) / 2:,.0f} tokens with their prompts, the longest {longest:,.0f}",
            known="rows" in data and "chars_longest" in data,
            inputs=inputs,
            machine=machine,
            settings=settings,
            startup=_SECONDS_TO_START,
            micro=settings.micro_batch,
            spread=0.6,
        )


class RolloutSettings(CourseSettings):
    """What methods share that let the model answer and learn from the rewards of its answers."""

    prompts: Ref[PreferencePairs]
    """Pairs whose prompts are answered; their own answers are not used."""
    reward: Ref[RewardModel]
    """What judges the answers."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-5
    """Highest learning rate of AdamW."""
    generations: Annotated[int, Field(ge=2)] = 8
    """Answers to each prompt, which are compared with each other."""
    effective_batch: Annotated[int, Field(ge=2)] = 16
    """Answers per optimiser step, a multiple of `generations`."""
    micro_batch: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], execution] = "auto"
    """Answers learnt from at once; the effective batch must be a multiple. `auto` fits the memory."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the distribution answers are drawn from."""
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer prompts are not used."""
    max_completion_tokens: Annotated[int, Field(ge=1)] = 128
    """Answers end here."""
    max_prompts: Annotated[int, Field(ge=1)] | None = None
    """Most prompts used. Which ones is decided by the hash of their id."""
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    """How far the probability of an answer may move in one step before its gradient is cut off."""

    @model_validator(mode="after")
    def _whole_groups(self) -> RolloutSettings:
        if self.effective_batch % self.generations:
            raise PydanticCustomError("batch", "`effective_batch` must be a multiple of `generations`")
        return self


class GrpoSettings(RolloutSettings):
    """Settings of `grpo`."""

    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the divergence from the model as it was in the loss."""
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = "dapo"
    """How the tokens of answers are weighted, by TRL's names. `grpo` is the published mean of means."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Whose standard deviation advantages are divided by."""


class RlooSettings(RolloutSettings):
    """Settings of `rloo`."""

    generations: Annotated[int, Field(ge=2)] = 4
    """Answers to each prompt; the mean reward of the others is what an answer is compared with."""
    beta: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the divergence from the model as it was, taken off the reward."""
    normalise_advantages: bool = False
    """Whether advantages are divided by their standard deviation."""


class Grpo(ArtifactKind[GrpoSettings]):
    """Group relative policy optimisation of a LoRA adapter (Shao et al. 2024, arXiv:2402.03300) against a reward model by TRL, merged into the model."""

    name = "grpo"
    section = "stages"
    settings = GrpoSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"model": TextModel, "adapter": Adapter}
    requires: ClassVar[Mapping[str, str]] = REQUIRES
    run = "aifw.training.grpo:train"
    seeded = True
    shrinks = True
    reuses_memory = True
    cores = "all"
    workload = "ppo"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: GrpoSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory of the moment that needs most: answering, learning from the answers, or the merge."""
        return _expect(settings, inputs, machine, reference=settings.beta > 0, passes=0)


class Rloo(ArtifactKind[RlooSettings]):
    """REINFORCE with a leave-one-out baseline for a LoRA adapter (Ahmadian et al. 2024, arXiv:2402.14740) against a reward model by TRL, merged into the model."""

    name = "rloo"
    section = "stages"
    settings = RlooSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"model": TextModel, "adapter": Adapter}
    requires: ClassVar[Mapping[str, str]] = REQUIRES
    run = "aifw.training.rloo:train"
    seeded = True
    shrinks = True
    reuses_memory = True
    cores = "all"
    workload = "ppo"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: RlooSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory of the moment that needs most: answering, learning from the answers, or the merge."""
        return _expect(settings, inputs, machine, reference=settings.beta > 0, passes=1)


def _expect(
    settings: RolloutSettings, inputs: Mapping[str, InputFacts], machine: Machine, *, reference: bool, passes: int
) -> Forecast:
    """What learning from rewards of own answers is expected to need.

    Args:
        settings: Of the run.
        inputs: With facts of model, prompts and reward model.
        machine: As seen from the place considered.
        reference: Log-probabilities under the model as it was are computed.
        passes: Further forward passes of the model over each answer.
    """
    data = facts_of(inputs, "prompts")
    shape, device = Shape.of(facts_of(inputs, "model")), machine.devices[0]
    judge = Shape.of(facts_of(inputs, "reward"))
    precision = expected_precision(settings.precision, device, machine)
    width, mapped = bytes_each(precision), is_mapped(shape, device, precision)
    rows = rows_of(data, settings.max_prompts, "groups")
    prompt, new = prompt_tokens(data, settings.max_prompt_tokens), float(settings.max_completion_tokens)
    longest_prompt = longest_tokens(data, settings.max_prompt_tokens, settings.max_completion_tokens)[0]
    batch = settings.effective_batch
    judged = 0.0 if is_mapped(judge, device, precision) else judge.weights(width)

    def moments(micro: int) -> list[dict[str, float]]:
        learning = _training_parts(shape, _steps(settings, micro, longest_prompt + new, precision), device, precision)
        answering = generation(shape, batch, longest_prompt, new, mapped=mapped)
        answering["adapter"] = 3 * 4.0 * shape.lora(settings.lora.r)
        beside = {"reward": judged, "libraries": _ROLLOUT_BYTES}
        return [{**learning, **beside}, {**answering, **beside}]

    micro = micro_batch(settings.micro_batch, batch, prompt + new, device, shape.hidden)
    if settings.micro_batch == "auto":
        micro = largest_batch(
            lambda size: max(estimated(each, certain=shape.certain).high for each in moments(size)),
            machine.memory.pool,
            batch,
            micro,
        )
    how = _steps(settings, micro, prompt + new, precision)
    whole = Batch(batch, prompt + new, bytes_each=width)
    step = micro_step(shape, how, computes_reference=reference).times(batch / micro) + optimizer_step(shape, how)
    step += generation_work(shape, batch, prompt, new) + blocks(shape, whole).times(passes) + blocks(judge, whole)
    steps = ceil(rows * settings.epochs * settings.generations / batch)
    return expected(
        max(moments(micro), key=lambda parts: sum(parts.values())),
        step.times(steps),
        f"{rows:,.0f} prompts of about {prompt:,.0f} tokens, {settings.generations} answers of at most {new:,.0f} to each",
        known="rows" in data,
        inputs=inputs,
        machine=machine,
        settings=settings,
        startup=_SECONDS_TO_START,
        micro=micro,
        spread=0.6,
    )


def rollout_fitting(
    shape: Shape, settings: RolloutSettings, longest: float, device: str, precision: str, limit: float, most: int
) -> int:
    """The largest micro-batch up to `most` answers whose training is forecast, at its upper end, to be within `limit` bytes; 1 if none is."""

    def upper_end(micro: int) -> float:
        parts = _training_parts(shape, _steps(settings, micro, longest, precision), device, precision)
        return estimated(parts, certain=shape.certain).high

    return largest_batch(upper_end, limit, settings.effective_batch, most)


def _steps(settings: CourseSettings, micro: int, tokens: float, precision: str) -> Training:
    batch = Batch(micro, tokens, bytes_each=bytes_each(precision))
    return Training(batch, settings.lora.r, accumulates=micro < settings.effective_batch)


def _training_parts(shape: Shape, how: Training, device: str, precision: str) -> dict[str, float]:
    assert how.rank is not None
    moments = (
        training(shape, how, mapped=is_mapped(shape, device, precision)),
        merging(shape, how.rank, mapped=is_mapped(shape, "cpu"), worker="training"),
    )
    return max(moments, key=lambda parts: sum(parts.values()))
