"""The kind that learns rewards from preferences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from aifw.data.kinds import PreferencePairs
from aifw.hardware.libraries.precision import expected_precision
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Forecast, History, InputFacts, Output
from aifw.models.memory import bytes_each, estimated, is_mapped, largest_batch
from aifw.models.memory_training import Training, merging, on_pairs, training
from aifw.models.size import Shape
from aifw.models.work import Work, blocks, micro_step, optimizer_step
from aifw.settings import Ref, execution
from aifw.training.course_settings import CourseSettings
from aifw.training.expectation import expected, facts_of, rows_of
from aifw.training.kinds import Adapter, longest_tokens, micro_batch, pair_tokens, prompt_tokens

_SECONDS_TO_START = 15.0
"""Importing, and an allowance for loading, merging and writing a model, as for DPO."""


class RewardModel(Output):
    """A language model with one output, the reward of an answer, in the format of transformers' sequence classification: `config.json`, `*.safetensors`, tokenizer files, licence.

    Facts: those of the model it was made from, `accuracy` (share of the training pairs whose chosen answer has the higher reward), and where an evaluation was given
    `heldout_accuracy` and `heldout_pairs`.
    """

    name = "reward_model"


class RewardSettings(CourseSettings):
    """Settings of `reward`."""

    data: Ref[PreferencePairs]
    """The pairs to learn from."""
    evaluation: Ref[PreferencePairs] | None = None
    """Held-out pairs on which the accuracy is measured in the end; none may have a prompt that is trained on."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """By how much the reward of the chosen answer shall exceed that of the rejected one before a pair counts as half learnt."""
    centring: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared sum of both rewards in the loss, which keeps rewards near zero (Eisenstein et al. 2023, arXiv:2312.09244)."""
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


class Reward(ArtifactKind[RewardSettings]):
    """A reward model learnt from preferences (Bradley and Terry 1952), a LoRA adapter and one output, merged."""

    name = "reward"
    section = "stages"
    settings = RewardSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"model": RewardModel, "adapter": Adapter}
    requires: ClassVar[Mapping[str, str]] = {
        "peft": "train",
        "safetensors": "train",
        "torch": "train",
        "transformers": "train",
    }
    run = "aifw.training.reward:train"
    seeded = True
    shrinks = True
    reuses_memory = True
    cores = "all"
    workload = "lora_training"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: RewardSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory of the moment that needs most: a training step on the longest pairs, or the merge."""
        data, device = facts_of(inputs, "data"), machine.devices[0]
        shape, rows = Shape.of(facts_of(inputs, "model")), rows_of(data, settings.max_pairs)
        lengths = pair_tokens(data, settings.max_prompt_tokens, settings.max_completion_tokens)
        longest = longest_tokens(data, settings.max_prompt_tokens, settings.max_completion_tokens)
        prompt = prompt_tokens(data, settings.max_prompt_tokens)
        precision = expected_precision(settings.precision, device, machine)
        micro = micro_batch(settings.micro_batch, settings.effective_batch, sum(lengths) - prompt, device, shape.hidden)
        if settings.micro_batch == "auto":
            micro = fitting(shape, settings, longest, device, precision, machine.memory.pool, micro)
        measured = rows + (0.0 if settings.evaluation is None else rows_of(facts_of(inputs, "evaluation"), None))
        mean = (prompt, sum(lengths) / 2 - prompt)
        return expected(
            reward_parts(shape, settings, micro, longest, device, precision),
            reward_work(shape, settings, rows, micro, mean, precision, measured),
            f"{rows:,.0f} pairs of about {sum(lengths):,.0f} tokens, each answer with its prompt at most {sum(longest):,.0f}",
            known="rows" in data and "chars_longest" in data,
            inputs=inputs,
            machine=machine,
            settings=settings,
            startup=_SECONDS_TO_START,
            micro=micro,
            beside=shape.hidden,
        )


def reward_training(settings: RewardSettings, pairs: int, tokens: tuple[float, float], precision: str) -> Training:
    """How the steps are computed: a row a pair, and one output for each answer.

    Args:
        settings: Of the run.
        pairs: Computed at once.
        tokens: Of a prompt and of an answer.
        precision: Format of the arithmetic.
    """
    prompt, answer = tokens
    how = on_pairs(
        pairs,
        prompt,
        answer,
        rank=settings.lora.r,
        accumulates=pairs < settings.effective_batch,
        bytes_each=bytes_each(precision),
    )
    return replace(how, answers=2.0 * pairs)


def reward_parts(
    shape: Shape, settings: RewardSettings, pairs: int, longest: tuple[float, float], device: str, precision: str
) -> dict[str, float]:
    """Parts of the memory of the moment of a run that needs most."""
    body = _one_output(shape)
    moments = (
        training(
            body,
            reward_training(settings, pairs, longest, precision),
            mapped=is_mapped(shape, device, precision),
            worker="adapting",
        ),
        merging(shape, settings.lora.r, mapped=is_mapped(shape, "cpu"), worker="adapting"),
    )
    return max(moments, key=lambda parts: sum(parts.values()))


def reward_work(
    shape: Shape,
    settings: RewardSettings,
    rows: float,
    pairs: int,
    mean: tuple[float, float],
    precision: str,
    measured: float,
) -> Work:
    """What a run has to do: the steps, and the rewards of all pairs in the end.

    Args:
        shape: Of the model.
        settings: Of the run.
        rows: Pairs to learn from.
        pairs: Computed at once.
        mean: Tokens of a prompt and of an answer.
        precision: Format of the arithmetic.
        measured: Pairs whose rewards are computed in the end.
    """
    how, body = reward_training(settings, pairs, mean, precision), _one_output(shape)
    steps = ceil(rows * settings.epochs / settings.effective_batch)
    step = micro_step(body, how).times(settings.effective_batch / pairs) + optimizer_step(shape, how)
    return step.times(steps) + blocks(shape, how.batch).times(measured / pairs)


def fitting(
    shape: Shape,
    settings: RewardSettings,
    longest: tuple[float, float],
    device: str,
    precision: str,
    limit: float,
    most: int,
) -> int:
    """The largest micro-batch up to `most` pairs whose forecast, at its upper end, is within `limit` bytes; 1 if none is."""

    def upper_end(pairs: int) -> float:
        return estimated(reward_parts(shape, settings, pairs, longest, device, precision), certain=shape.certain).high

    return largest_batch(upper_end, limit, settings.effective_batch, most)


def _one_output(shape: Shape) -> Shape:
    """The shape without its output layer: one number comes out, whatever words there are."""
    parameters = shape.parameters if shape.tied else shape.parameters - shape.embedding
    return replace(shape, parameters=parameters, vocabulary=1.0)
