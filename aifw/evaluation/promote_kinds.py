"""The kind that decides whether a candidate becomes what an alias points to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from aifw.evaluation.guards import SETTINGS as GUARDS
from aifw.evaluation.kinds import Evaluation
from aifw.evaluation.measures import MEASURES, SUITES, suite_of
from aifw.evaluation.requirements import Bounds, Measures, Requirements, requirements
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Disagreement, Estimate, Forecast, History, InputFacts, Output, Standing
from aifw.models.kinds import LanguageModelOutput
from aifw.settings import Ref, Settings, Share

DEFAULT_REQUIREMENT: Requirements = {"preference_accuracy": "better"}


class Verdict(Output):
    """`verdict.json`: the finished result of a comparison of candidate and incumbent.

    Facts: `verdict`, the same content: `decision` (better, not_worse, worse or inconclusive), `promote`, `alias`, `candidate`,
    `incumbent` (digests), `metrics`, `guards`, `summary`, and what it cost: `look` (how often the held-out set was looked at for this
    alias), `alpha` (of this look), `alpha_spent`, `alpha_total`, `looks` (planned), `data` (digest of the held-out set).
    """

    name = "verdict"


class PromoteSettings(Settings):
    """Settings of `promote`."""

    candidate: Ref[LanguageModelOutput]
    """The model that may become what the alias points to."""
    alias: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]
    """Name of an alias of the spec."""
    evidence: Ref[Evaluation]
    """An evaluation of the candidate against what the alias points to."""
    require: Annotated[Requirements, Measures(MEASURES.values(), tasks=True, required=True)] = DEFAULT_REQUIREMENT
    """What the evidence must show, by measure: `better`, `{not_worse_by: 2%}` (points of a share, else a part of the incumbent's value),
    `{at_most: 80ms}` or `{at_least: 0.9}`. All of it must be met."""
    guards: Annotated[Bounds, GUARDS] = Field(default_factory=dict)
    """Bounds of what a candidate may do however good it is, where the evidence carries the measure. Default: no held-out item was
    trained on, length within 25 % of the reference, duplicates and repetition at most 10 points above the incumbent, KL divergence at
    most 0.5 nats per token, entropy at least half of the incumbent's. `off` turns one off."""
    alpha: Annotated[Share, Field(gt=0, lt=0.5)] = 0.05
    """Accepted probability that any of the looks at one held-out set claims a difference where there is none, in either direction."""
    looks: Annotated[int, Field(ge=1, le=100_000)] = 200
    """How many looks at one held-out set alpha has to last for. After them a new held-out set is needed."""


class Promote(ArtifactKind[PromoteSettings]):
    """A verdict on a candidate. The engine moves the alias if it says so."""

    name = "promote"
    section = "stages"
    version = 2
    settings = PromoteSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"verdict": Verdict}
    requires: ClassVar[Mapping[str, str]] = {"numpy": "evaluate"}
    run = "aifw.evaluation.promote:judge"
    workload = "data"
    moves_alias = ("alias", "candidate")
    looks_at = ("alias", "evidence")

    def forecast(
        self, settings: PromoteSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Reads one report and its items."""
        evidence: Mapping[str, object] = inputs["evidence"].facts if "evidence" in inputs else {}
        items = evidence.get("items")
        known = float(items) if isinstance(items, int | float) else 1000.0
        return Forecast(
            memory=Estimate.around(110 * 1024**2 + 8000 * known, 0.5),
            seconds=Estimate.around(1.5 + 2e-4 * known, 1.0),
            basis="reads a report" + ("" if items is not None else " of about 1,000 items"),
            work=known,
        )

    def settled(self, settings: PromoteSettings, standing: Standing) -> str | None:
        """Nothing remains to be done once the alias points to the candidate."""
        candidate = standing.digests.get("candidate")
        if candidate is not None and standing.aliases.get(settings.alias) == candidate:
            return f"{settings.candidate} is already {settings.alias}"
        return None

    def disagreements(self, settings: PromoteSettings, inputs: Mapping[str, BaseModel]) -> Iterable[Disagreement]:
        """A measure is required that the evaluation will not have, or the evaluation compares with nothing."""
        evidence = inputs.get("evidence")
        if evidence is None:
            return
        if "baseline" in type(evidence).model_fields and getattr(evidence, "baseline") is None:  # noqa: B009
            advice = f'set `baseline: "@{settings.alias}"` there'
            yield Disagreement(("evidence",), f"`{settings.evidence}` compares with nothing", advice)
        suites = getattr(evidence, "suites", None)
        if suites is None:
            return
        measured = {*suites, *(("lm_eval",) if getattr(evidence, "harness", None) is not None else ())}
        # A requirement that is there by default stands nowhere, so what is said about it points to the evidence.
        written = "require" in settings.model_fields_set
        for name, _ in requirements(settings.require):
            suite = suite_of(name)
            if suite not in measured:
                place = ("require", *(("tasks",) if name not in MEASURES else ()), name) if written else ("evidence",)
                message = f"`{settings.evidence}` does not measure `{name}`, which is " + (
                    "required" if written else "required where nothing else is"
                )
                offered = [each for each in suites if SUITES.get(each)]
                advice = (
                    f"add `{suite}` to its `suites`, or require a measure of {', '.join(offered) or 'those it has'}"
                )
                yield Disagreement(place, message, advice)
