"""Kinds that measure models and predictions, and compare what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from aifw.data.kinds import Conversations, PreferencePairs
from aifw.errors import InputInvalid
from aifw.evaluation.forecast import evaluation_forecast, reading_forecast
from aifw.evaluation.measures import MEASURES, Better
from aifw.hardware.machine import Machine
from aifw.kind import (
    ArtifactKind,
    Disagreement,
    Forecast,
    History,
    InputFacts,
    Observation,
    Output,
    Standing,
    Workspace,
)
from aifw.models.kinds import LanguageModelOutput
from aifw.settings import Money, Ref, Settings, Share

ModelSuite = Literal[
    "preference",
    "language_model",
    "generation",
    "latency",
    "throughput",
    "resources",
    "cost",
    "contamination",
    "lm_eval",
]
"""Suites whose rows come from running a model, or from looking at its data."""
RecordSuite = Literal["classification", "retrieval", "reflection", "rag", "routing", "adaptation", "search"]
"""Suites whose rows are always brought."""
_NEED_DATA = frozenset(get_args(ModelSuite)) - {"lm_eval"}


class Evaluation(Output):
    """`report.json`: what was compared on what, every measure with its interval, and what it was measured on (`aifw.report.v1.schema.json`);
    `items.jsonl`: one row for each item and suite with what both sides gave.

    Facts: `items`, `groups`, `subject`, `baseline` (digests), `data`, `sketch` (hashes of some items, by which data sets are told apart),
    every measure by its name, that of the baseline as `baseline_NAME`, `summary`.
    """

    name = "evaluation"
    measures: ClassVar[Mapping[str, Better]] = {name: measure.better for name, measure in MEASURES.items()}


class Predictions(Output):
    """What something answered, item by item: `predictions.jsonl`, rows of one suite, sorted by id.

    Facts: `rows`, `suite`, `provenance` (what to call it in a result).
    """

    name = "predictions"


class LanguageModelOptions(Settings):
    """How suite `language_model` measures. Without `generate` it is perplexity alone."""

    generate: bool = False
    """Let the model answer every prompt by its most probable tokens, and compare with the held-out answer: exact match, token F1, BLEU, ROUGE."""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    """Most tokens of an answer."""
    max_items: Annotated[int, Field(ge=1)] | None = None
    """Most prompts that are answered. Which ones is decided by the hash of their id."""


class GenerationOptions(Settings):
    """How suite `generation` samples answers."""

    prompts: Annotated[int, Field(ge=2)] = 64
    """Most prompts that are answered. Which ones is decided by the hash of their id."""
    max_tokens: Annotated[int, Field(ge=4)] = 64
    """Most tokens of an answer."""


class TimingOptions(Settings):
    """How suites `latency`, `throughput`, `resources` and `cost` are measured: prompts are answered one after the other, greedily."""

    requests: Annotated[int, Field(ge=1)] | None = None
    """How many are timed. Default: every item once; of more than there are, items come again. p99 needs a thousand."""
    warm_up: Annotated[int, Field(ge=0)] = 3
    """Requests before those, which do not count."""
    max_tokens: Annotated[int, Field(ge=1)] = 32
    """Most tokens of an answer."""


class Prices(Settings):
    """Terms of suite `cost`. What lacks a term is not known, not free: a price of $0 must be said."""

    kilowatt_hour: Money | None = None
    """Price of a kilowatt hour."""
    watts: Annotated[float, Field(gt=0)] | None = None
    """What the machine is taken to draw where it does not count energy itself."""
    machine: Money | None = None
    """What the machine cost."""
    machine_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours of work over which it is written off."""
    instance_hour: Money | None = None
    """Price of an hour of a rented machine."""
    instance_tokens_per_second: Annotated[float, Field(gt=0)] | None = None
    """What that machine does. Default: what was measured here."""


class HarnessOptions(Settings):
    """Tasks of lm-evaluation-harness (`pip install 'aifw[lm-eval]'`)."""

    tasks: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """Names of tasks that the harness knows, or paths of YAML files of your own, relative to the spec."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Most items of each task, the first ones."""
    few_shot: Annotated[int, Field(ge=0)] | None = None
    """Examples before each question. Default: what the task says."""
    chat_template: bool = False
    """Whether questions are put as a user's turn."""


class EvaluateSettings(Settings):
    """Settings of `evaluate`."""

    subject: Ref[LanguageModelOutput | Predictions]
    """The model to measure, or the predictions of whatever answered."""
    baseline: Ref[LanguageModelOutput | Predictions] | None = None
    """What to compare it with, on the same items and by the same function."""
    data: Ref[PreferencePairs | Conversations] | None = None
    """Held-out pairs or conversations for a model. Predictions bring their own items."""
    suites: Annotated[tuple[ModelSuite | RecordSuite, ...], Field(min_length=1)] | None = None
    """What to measure. Default: `preference` of a model, and of predictions the suite they are rows of. `preference`: how often the chosen
    answer has the higher probability. `language_model`: perplexity of the answers, and more with `generate`. `generation`: what sampled
    answers look like. `latency`, `throughput`, `resources`, `cost`: what answering takes. `contamination`: which items training saw.
    The others measure predictions."""
    max_items: Annotated[int, Field(ge=1)] | None = None
    """Most items measured. Which ones is decided by the hash of their id."""
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 1024
    """Longer prompts lose their beginning."""
    max_completion_tokens: Annotated[int, Field(ge=1)] = 1024
    """Longer answers lose their end."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Number format of the arithmetic, for both models. `auto` is bf16 where the device computes in it natively."""
    language_model: LanguageModelOptions = LanguageModelOptions()
    """Of suite `language_model`."""
    generation: GenerationOptions = GenerationOptions()
    """Of suite `generation`."""
    timing: TimingOptions = TimingOptions()
    """Of suites `latency`, `throughput`, `resources` and `cost`."""
    prices: Prices | None = None
    """Of suite `cost`."""
    trained_on: tuple[Ref[PreferencePairs], ...] = ()
    """Of suite `contamination`: pairs the subject was trained on."""
    near_duplicates: Annotated[Share, Field(gt=0, le=1)] = 0.8
    """Of suite `contamination`: overlap of 5-character runs from which texts count as the same."""
    harness: HarnessOptions | None = None
    """Tasks of lm-evaluation-harness, measured as suite `lm_eval`."""

    @model_validator(mode="after")
    def _goes_together(self) -> EvaluateSettings:
        suites = self.suites or ()
        for wrong, message in (
            (len(set(suites)) != len(suites), "a suite is named twice"),
            ("lm_eval" in suites and self.harness is None, "suite `lm_eval` needs `harness: {tasks: [...]}`"),
            ("cost" in suites and self.prices is None, "suite `cost` needs `prices`, such as `{instance_hour: $0.50}`"),
            ("contamination" in suites and not self.trained_on, "suite `contamination` needs `trained_on: [...]`"),
        ):
            if wrong:
                raise PydanticCustomError("suites", message)
        return self

    def of_a_model(self) -> tuple[str, ...]:
        """The suites that are measured if the subject is a model."""
        default: tuple[str, ...] = ("preference",) if self.data is not None or self.harness is None else ()
        suites: tuple[str, ...] = self.suites if self.suites is not None else default
        return suites if self.harness is None or "lm_eval" in suites else (*suites, "lm_eval")


class Evaluate(ArtifactKind[EvaluateSettings]):
    """A model or predictions measured, with a baseline on the same items where one is named."""

    name = "evaluate"
    section = "stages"
    version = 2
    settings = EvaluateSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"evaluation": Evaluation}
    requires: ClassVar[Mapping[str, str]] = {
        "numpy": "evaluate",
        "safetensors": "train",
        "torch": "train",
        "transformers": "train",
    }
    run = "aifw.evaluation.evaluate:evaluate"
    seeded = True
    cores = "all"
    workload = "inference"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: EvaluateSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """One model is in memory at a time; a baseline that was scored before on the same data costs nothing."""
        return evaluation_forecast(settings, inputs, machine)

    def settled(self, settings: EvaluateSettings, standing: Standing) -> str | None:
        """A model that is what the alias points to need not be compared with it."""
        alias = standing.through_alias.get("baseline")
        subject = standing.digests.get("subject")
        if alias is not None and subject is not None and standing.aliases.get(alias) == subject:
            return f"{settings.subject} is {alias}"
        return None

    def fetch(self, settings: EvaluateSettings, workspace: Workspace, *, offline: bool) -> str | None:
        """Data of the tasks of lm-evaluation-harness."""
        return None if settings.harness is None else "aifw.evaluation.language_model_harness:fetch"

    def disagreements(self, settings: EvaluateSettings, inputs: Mapping[str, BaseModel]) -> Iterable[Disagreement]:
        """Predictions measured as a model or beside one, or a model measured on nothing."""
        subject, baseline = inputs.get("subject"), inputs.get("baseline")
        if subject is None:
            return
        brought = isinstance(subject, PredictionsSettings)
        if baseline is not None and isinstance(baseline, PredictionsSettings) != brought:
            message = f"`{settings.subject}` and `{settings.baseline}` are a model and predictions"
            yield Disagreement(("baseline",), message, "compare two models, or the predictions of both")
        if isinstance(subject, PredictionsSettings):
            if settings.suites not in {None, (subject.suite,)}:
                message = f"`{settings.subject}` has rows of suite `{subject.suite}`"
                yield Disagreement(("suites",), message, "leave `suites` out")
            if settings.data is not None:
                yield Disagreement(("data",), f"`{settings.subject}` brings its own items", "leave `data` out")
        elif settings.data is None and _is_model(subject) and set(settings.of_a_model()) & _NEED_DATA:
            message = f"`{settings.subject}` is a model, and there are no items to measure it on"
            yield Disagreement(("subject",), message, "`data` names held-out pairs or conversations")


def _is_model(subject: BaseModel) -> bool:
    """Whether what a subject's settings make is a model for sure: what a kind of another package makes is not known here."""
    return type(subject).__module__.startswith("aifw.") and not isinstance(subject, PredictionsSettings)


class CompareSettings(Settings):
    """Settings of `compare`."""

    subject: Ref[Evaluation]
    """An evaluation of what may be better."""
    baseline: Ref[Evaluation]
    """An evaluation of what it is compared with, of the same items."""


class Compare(ArtifactKind[CompareSettings]):
    """Two evaluations that were made separately, paired item by item into one. Where the items differ, it is refused."""

    name = "compare"
    section = "stages"
    settings = CompareSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"evaluation": Evaluation}
    requires: ClassVar[Mapping[str, str]] = {"numpy": "evaluate"}
    run = "aifw.evaluation.compare:compare"
    workload = "data"

    def forecast(
        self, settings: CompareSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Reads two reports and compares them."""
        known = [each.facts["items"] for each in inputs.values() if "items" in each.facts]
        return reading_forecast(float(max(known)) if known else None, "evaluation", "items")


class PredictionsSettings(Settings):
    """Settings of `predictions`."""

    path: Annotated[str, Field(pattern=r"\.jsonl$")]
    """A file of JSON lines, a row for each item: `id`, optionally `group`, and the fields of the suite."""
    suite: ModelSuite | RecordSuite
    """What the rows are of."""


class PredictionRows(ArtifactKind[PredictionsSettings]):
    """A frozen copy of per-item rows in a file, every one of which was checked."""

    name = "predictions"
    section = "datasets"
    settings = PredictionsSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"predictions": Predictions}
    requires: ClassVar[Mapping[str, str]] = {"numpy": "evaluate"}
    run = "aifw.evaluation.predictions:freeze"
    workload = "data"

    def observe(self, settings: PredictionsSettings, workspace: Workspace) -> Observation:
        """Fingerprint of the file: its sha256.

        Raises:
            InputInvalid: It is not there or cannot be read.
        """
        from dataclasses import replace

        from aifw.data.observation import look_at_lines

        path = workspace.path(settings.path)
        if not path.is_file():
            raise InputInvalid(
                f"there are no predictions at {path}", hint="`path` is relative to the folder of the spec"
            )
        seen = look_at_lines(path, workspace.digest_of)
        rows = seen.facts["rows"]
        return replace(seen, summary=f"{rows:,} prediction{'' if rows == 1 else 's'}")

    def forecast(
        self, settings: PredictionsSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Rows are held in memory; time grows with them."""
        observed = inputs["observation"].facts if "observation" in inputs else {}
        rows = float(observed["rows"]) if "rows" in observed else None
        return reading_forecast(rows, "predictions", "rows", facts={"suite": settings.suite})
