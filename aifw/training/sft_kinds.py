"""The kind of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from aifw.data.kinds import Conversations, PreferencePairs
from aifw.hardware.libraries.precision import expected_precision
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Forecast, History, InputFacts, Output
from aifw.models.kinds import TextModel
from aifw.models.memory import FLOAT, Batch, bytes_each, estimated, is_mapped, largest_batch
from aifw.models.memory_training import HALF_MULTIPLE, Training, merging, training
from aifw.models.size import TEMPLATE_TOKENS, Shape, tokens_of
from aifw.models.work import Work, micro_step, optimizer_step
from aifw.settings import Ref, execution
from aifw.training.course_settings import CourseSettings
from aifw.training.expectation import REQUIRES, expected, facts_of, rows_of
from aifw.training.kinds import Adapter, micro_batch

_SECONDS_TO_START = 15.0
"""Importing, and an allowance for loading, merging and writing a model, as for DPO."""
ROW_TOKENS = 1024
"""Of a row that conversations share: its mask has the square of that. A conversation may be longer."""


class SftSettings(CourseSettings):
    """Settings of `sft`."""

    data: Ref[PreferencePairs | Conversations]
    """Conversations, of which every answer is learnt, or pairs, of which the chosen answer is."""
    use: Literal["chosen"] = "chosen"
    """Which answer of a pair is learnt."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    """Highest learning rate of AdamW."""
    trainer: Literal["aifw", "trl"] = "aifw"
    """Who computes the steps. TRL's trainer takes longer and is there to compare with."""
    packing: Annotated[bool, execution] = True
    """Several conversations in one row, each seeing itself only, where the model allows that; `trainer: trl` pads instead."""
    effective_batch: Annotated[int, Field(ge=1)] = 16
    """Conversations per optimiser step. The loss is the mean over all their learnt tokens."""
    micro_batch: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], execution] = "auto"
    """Conversations computed at once, on average; the effective batch must be a multiple. `auto` fits the memory."""
    max_tokens: Annotated[int, Field(ge=2)] = 1024
    """Longer conversations lose their end; those with no answer left are not used."""
    max_conversations: Annotated[int, Field(ge=1)] | None = None
    """Most conversations used. Which ones is decided by the hash of their id."""


class Sft(ArtifactKind[SftSettings]):
    """Supervised fine-tuning of a LoRA adapter on answers, prompts not learnt, merged into the model."""

    name = "sft"
    section = "stages"
    settings = SftSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"model": TextModel, "adapter": Adapter}
    requires: ClassVar[Mapping[str, str]] = REQUIRES
    run = "aifw.training.sft:train"
    seeded = True
    shrinks = True
    reuses_memory = True
    cores = "all"
    workload = "sft"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: SftSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory of the moment that needs most: a step on the longest conversations, or the merge."""
        data, device = facts_of(inputs, "data"), machine.devices[0]
        shape, rows = Shape.of(facts_of(inputs, "model")), rows_of(data, settings.max_conversations)
        sizes = Sizes.of(data, settings.max_tokens)
        precision = expected_precision(settings.precision, device, machine)
        micro = micro_batch(settings.micro_batch, settings.effective_batch, sizes.mean, device, shape.hidden)
        if settings.micro_batch == "auto":
            micro = fitting(shape, settings, sizes, device, precision, machine.memory.pool, micro)
        return expected(
            sft_parts(shape, settings, micro, sizes, device, precision),
            sft_work(shape, settings, rows, micro, sizes, precision),
            f"{rows:,.0f} conversations of about {sizes.mean:,.0f} tokens, the longest {sizes.longest:,.0f}",
            known="rows" in data and "chars_longest" in data,
            inputs=inputs,
            machine=machine,
            settings=settings,
            startup=_SECONDS_TO_START,
            micro=micro,
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens of conversations.

    Attributes:
        prompt: Mean of those that are not learnt.
        answer: Mean of those that are.
        longest: Of the longest conversation.
    """

    prompt: float
    answer: float
    longest: float

    @property
    def mean(self) -> float:
        """Of a conversation."""
        return self.prompt + self.answer

    @classmethod
    def of(cls, data: Mapping[str, Any], most: float) -> Sizes:
        """From the facts of conversations or pairs, cut at a limit; where nobody measured the longest, twice the mean."""
        prompt = min(most - 1, tokens_of(data, "chars_prompt", most, 60) + TEMPLATE_TOKENS)
        name = "chars_answer" if "chars_answer" in data else "chars_chosen"
        answer = min(most - prompt, tokens_of(data, name, most, 80))
        longest = 2 * (prompt + answer)
        if "chars_longest" in data:
            longest = tokens_of(data, "chars_longest", most, 0) + TEMPLATE_TOKENS
        return cls(prompt, answer, min(most, max(longest, prompt + answer)))


def sft_training(settings: SftSettings, micro: int, longest: float, mean: Sizes, precision: str) -> Training:
    """How a micro-batch is computed: end to end in rows, or padded by TRL.

    Args:
        settings: Of the run.
        micro: Conversations at once.
        longest: Tokens of the longest conversation in it.
        mean: What conversations are like.
        precision: Format of the arithmetic.
    """
    width = bytes_each(precision)
    accumulates = micro < settings.effective_batch
    if settings.trainer == "trl":
        return Training(Batch(micro, longest, bytes_each=width), settings.lora.r, accumulates)
    multiple = HALF_MULTIPLE if width < FLOAT else 1
    # Sharing out the longest first, no part exceeds the mean of all by more than one conversation.
    tokens = min(micro * longest, micro * mean.mean + longest)
    length = min(tokens, max(longest, ROW_TOKENS)) if settings.packing else longest
    length = multiple * ceil(length / multiple)
    answers = multiple * ceil(tokens * mean.answer / mean.mean / multiple)
    batch = Batch(ceil(tokens / length), length, bytes_each=width, masks_once=True)
    return Training(batch, settings.lora.r, accumulates, head="answers", answers=answers)


def sft_parts(
    shape: Shape, settings: SftSettings, micro: int, sizes: Sizes, device: str, precision: str
) -> dict[str, float]:
    """Parts of the memory of the moment of a run that needs most."""
    worker: Literal["training", "adapting"] = "training" if settings.trainer == "trl" else "adapting"
    how = sft_training(settings, micro, sizes.longest, sizes, precision)
    moments = (
        training(shape, how, mapped=is_mapped(shape, device, precision), worker=worker),
        merging(shape, settings.lora.r, mapped=is_mapped(shape, "cpu"), worker=worker),
    )
    return max(moments, key=lambda parts: sum(parts.values()))


def sft_work(shape: Shape, settings: SftSettings, rows: float, micro: int, sizes: Sizes, precision: str) -> Work:
    """What the steps have to do.

    Args:
        shape: Of the model.
        settings: Of the run.
        rows: Conversations to learn from.
        micro: Computed at once.
        sizes: What they are like.
        precision: Format of the arithmetic.
    """
    how = sft_training(settings, micro, sizes.mean, Sizes(sizes.prompt, sizes.answer, sizes.mean), precision)
    steps = ceil(rows * settings.epochs / settings.effective_batch)
    step = micro_step(shape, how).times(settings.effective_batch / micro) + optimizer_step(shape, how)
    return step.times(steps)


def fitting(
    shape: Shape, settings: SftSettings, sizes: Sizes, device: str, precision: str, limit: float, most: int
) -> int:
    """The largest micro-batch up to `most` conversations whose forecast, at its upper end, is within `limit` bytes; 1 if none is."""

    def upper_end(micro: int) -> float:
        return estimated(sft_parts(shape, settings, micro, sizes, device, precision), certain=shape.certain).high

    return largest_batch(upper_end, limit, settings.effective_batch, most)
