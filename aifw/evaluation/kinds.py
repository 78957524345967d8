"""Kinds that measure models and decide what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aifw.data.kinds import PreferencePairs
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Output, Standing
from aifw.models.kinds import TextModel
from aifw.models.size import INTERPRETER_BYTES, TEMPLATE_TOKENS, Shape, tokens_of
from aifw.settings import Ref, Settings, Share

SCORED_TOKENS = 2048
_SECONDS_TO_START = 15.0
_CORE_SECONDS_PER_TOKEN_PARAMETER = 3e-11
"""Forward passes in fp32; measured 2.2e-11 on a server core of 2019 with AVX2."""
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

    subject: Ref[TextModel]
    """The model to measure."""
    baseline: Ref[TextModel]
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
        shape = Shape.of(model)
        rows = float(data.get("rows", _UNKNOWN_ROWS))
        if settings.max_items is not None:
            rows = min(rows, settings.max_items)
        prompt = tokens_of(data, "chars_prompt", settings.max_prompt_tokens, 60) + TEMPLATE_TOKENS
        answers = sum(
            tokens_of(data, name, settings.max_completion_tokens, 80) for name in ("chars_chosen", "chars_rejected")
        )
        work = 2 * rows * (2 * prompt + answers) * shape.parameters
        rate = history.rate()
        first_rate = _CORE_SECONDS_PER_TOKEN_PARAMETER / machine.cpu.cores
        seconds = work * rate if rate else _SECONDS_TO_START + work * first_rate
        known = shape.certain and "rows" in data and "chars_prompt" in data
        batch = SCORED_TOKENS * (12 * shape.hidden + 4 * shape.intermediate) * 4 + 3 * 4 * 256 * shape.vocabulary
        memory = INTERPRETER_BYTES + shape.weights() + batch
        runs = f"{len(history.past)} earlier runs" if rate else "a default speed of this processor"
        return Forecast(
            memory=Estimate(memory * 0.75, memory, memory * (1.25 if known else 2.0)),
            seconds=Estimate(seconds / (2.5 if rate else 4), seconds, seconds * (1.3 if rate else 2)),
            basis=f"{rows:,.0f} pairs under two models, {runs}"
            + ("" if known else "; model or data not known yet, so sizes are assumed"),
            work=work,
            facts={"evaluation": {"items": round(rows)}},
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

    candidate: Ref[TextModel]
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
