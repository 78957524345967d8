"""Kinds that measure models and decide what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aifw.data.kinds import PreferencePairs
from aifw.hardware.libraries.precision import expected_precision
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Output, Standing
from aifw.models.kinds import LanguageModelOutput
from aifw.models.memory import bytes_each, estimated, is_mapped
from aifw.models.memory_inference import openvino_scoring, scoring
from aifw.models.size import TEMPLATE_TOKENS, Shape, tokens_of
from aifw.models.speed import seconds_for
from aifw.models.work import scoring_work
from aifw.settings import Ref, Settings, Share

_SECONDS_TO_START = 10.0
"""Importing, measured to take 5 s of a core, and an allowance for loading both models."""
_UNKNOWN_ROWS = 500


class Evaluation(Output):
    """`report.json`: what was compared on what, and the measures of both; `items.jsonl`: one row per item with the scores of both.

    Facts: `items`, `groups`, `subject`, `baseline` (digests), `preference_accuracy`, `baseline_preference_accuracy`.
    """

    name = "evaluation"


class Verdict(Output):
    """`verdict.json`: the finished result of a comparison of candidate and incumbent.

    Facts: `verdict`, the same content: `decision` (better, not_worse, worse or inconclusive), `promote`, `alias`, `candidate`,
    `incumbent` (digests), `metrics`, `summary`.
    """

    name = "verdict"


class EvaluateSettings(Settings):
    """Settings of `evaluate`."""

    subject: Ref[LanguageModelOutput]
    """The model to measure."""
    baseline: Ref[LanguageModelOutput]
    """The model to compare it with, on the same items and by the same function."""
    data: Ref[PreferencePairs]
    """Held-out pairs."""
    suites: tuple[Literal["preference"], ...] = Field(default=("preference",), min_length=1)
    """What to measure. `preference`: how often the chosen answer has the higher probability under the model alone."""
    max_items: Annotated[int, Field(ge=1)] | None = None
    """Most items measured. Which ones is decided by the hash of their id."""
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 1024
    """Longer prompts lose their beginning."""
    max_completion_tokens: Annotated[int, Field(ge=1)] = 1024
    """Longer answers lose their end."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Number format of the arithmetic, for both models. `auto` is bf16 where the device computes in it natively."""


class Evaluate(ArtifactKind[EvaluateSettings]):
    """A model and a baseline measured on the same items."""

    name = "evaluate"
    section = "stages"
    settings = EvaluateSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"evaluation": Evaluation}
    requires: ClassVar[Mapping[str, str]] = {"safetensors": "train", "torch": "train", "transformers": "train"}
    run = "aifw.evaluation.evaluate:evaluate"
    cores = "all"
    workload = "inference"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: EvaluateSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """One model is in memory at a time; a baseline that was scored before on the same data costs nothing."""
        model: Mapping[str, Any] = inputs["subject"].facts if "subject" in inputs else {}
        data: Mapping[str, Any] = inputs["data"].facts if "data" in inputs else {}
        shape, device = Shape.of(model), machine.devices[0]
        rows = float(data.get("rows", _UNKNOWN_ROWS))
        if settings.max_items is not None:
            rows = min(rows, settings.max_items)
        prompt = tokens_of(data, "chars_prompt", settings.max_prompt_tokens, 60) + TEMPLATE_TOKENS
        answers = sum(
            tokens_of(data, name, settings.max_completion_tokens, 80) for name in ("chars_chosen", "chars_rejected")
        )
        whole = 2 * (prompt + answers / 2)
        if "chars_longest" in data:
            most = settings.max_prompt_tokens + settings.max_completion_tokens
            whole = tokens_of(data, "chars_longest", most, 0) + TEMPLATE_TOKENS
        longest_prompt = min(settings.max_prompt_tokens, whole * prompt / (prompt + answers / 2))
        precision = expected_precision(settings.precision, device, machine)
        longest_answer = min(settings.max_completion_tokens, max(1.0, whole - longest_prompt))
        parts = scoring(
            shape,
            longest_prompt,
            longest_answer,
            mapped=is_mapped(shape, device, precision),
            bytes_each=bytes_each(precision),
        )
        if "share_of_fp32" in model:
            weight_bytes = 1 if str(model.get("precision")).startswith("int") else 4
            exported = openvino_scoring(shape, longest_prompt, longest_answer, weight_bytes=weight_bytes)
            parts = max(parts, exported, key=lambda each: sum(each.values()))
        work = scoring_work(shape, rows, prompt, answers / 2, bytes_each=bytes_each(precision)).times(2)
        seconds, measured = seconds_for(work, machine, precision)
        known = shape.certain and "rows" in data and "chars_longest" in data
        speed = "measured speed of this device" if measured else "a default speed of this device"
        middle = _SECONDS_TO_START + seconds
        return Forecast(
            memory=estimated(parts, certain=known),
            seconds=Estimate(middle / (2.5 if measured else 4), middle, middle * (1.5 if measured else 2)),
            basis=f"{rows:,.0f} pairs under two models, {speed}"
            + ("" if known else "; model or data not known yet, so sizes are assumed"),
            work=work.operations,
            facts={"evaluation": {"items": round(rows)}},
            parts=parts,
            startup=_SECONDS_TO_START,
        )

    def settled(self, settings: EvaluateSettings, standing: Standing) -> str | None:
        """A model that is what the alias points to need not be compared with it."""
        alias = standing.through_alias.get("baseline")
        subject = standing.digests.get("subject")
        if alias is not None and subject is not None and standing.aliases.get(alias) == subject:
            return f"{settings.subject} is {alias}"
        return None


class NotWorse(Settings):
    """Accept a candidate that is not worse by more than a margin."""

    not_worse_by: Annotated[Share, Field(gt=0, lt=1)]
    """The margin: the whole interval of the difference must lie above minus this."""


class Requirements(Settings):
    """What each measure must show; all of them must."""

    preference_accuracy: Literal["better"] | NotWorse | None = None
    """Share of items whose chosen answer has the higher probability per token."""

    @model_validator(mode="after")
    def _something(self) -> Requirements:
        if self.preference_accuracy is None:
            raise PydanticCustomError(
                "require", "expected at least one requirement, such as `preference_accuracy: better`"
            )
        return self


class PromoteSettings(Settings):
    """Settings of `promote`."""

    candidate: Ref[LanguageModelOutput]
    """The model that may become what the alias points to."""
    alias: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]
    """Name of an alias of the spec."""
    evidence: Ref[Evaluation]
    """An evaluation of the candidate against what the alias points to."""
    require: Requirements = Requirements(preference_accuracy="better")
    """What the evidence must show."""
    alpha: Annotated[Share, Field(gt=0, lt=0.5)] = 0.05
    """Accepted probability of seeing a difference where there is none; intervals cover one minus this."""


class Promote(ArtifactKind[PromoteSettings]):
    """A verdict on a candidate. The engine moves the alias if it says so."""

    name = "promote"
    section = "stages"
    settings = PromoteSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"verdict": Verdict}
    run = "aifw.evaluation.promote:judge"
    workload = "data"
    moves_alias = ("alias", "candidate")

    def forecast(
        self, settings: PromoteSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Reads one report."""
        return Forecast(
            memory=Estimate.around(80 * 1024**2, 0.4),
            seconds=Estimate.around(1.0, 1.0),
            basis="reads a report",
        )

    def settled(self, settings: PromoteSettings, standing: Standing) -> str | None:
        """Nothing remains to be done once the alias points to the candidate."""
        candidate = standing.digests.get("candidate")
        if candidate is not None and standing.aliases.get(settings.alias) == candidate:
            return f"{settings.candidate} is already {settings.alias}"
        return None
