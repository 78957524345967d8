"""Kinds that turn a model into one for OpenVINO, and try it on the device it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aifw.data.kinds import PreferencePairs
from aifw.export.forecast import deployment_forecast, export_forecast
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Forecast, History, InputFacts, Observation, Output, Workspace
from aifw.models.kinds import OpenvinoModel, TextModel
from aifw.settings import Duration, Ref, Settings, Share

_NEEDS = {
    "openvino": "openvino",
    "safetensors": "train",
    "torch": "train",
    "transformers": "train",
}


class CalibrationSettings(Settings):
    """Texts that ranges of activations are found on."""

    data: Ref[PreferencePairs]
    """Pairs whose prompts and chosen answers are used; not those that are validated on."""
    texts: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Most of them. Which ones is decided by the hash of their id."""
    max_tokens: Annotated[int, Field(ge=2)] = 256
    """Longer texts lose their end."""


class ValidateSettings(Settings):
    """Held-out texts, and how far the exported model may be from the one it was made from; without a limit a measure is only reported."""

    data: Ref[PreferencePairs]
    """Pairs whose chosen answers are predicted, token by token, by both models."""
    max_items: Annotated[int, Field(ge=1)] = 64
    """Most pairs used. Which ones is decided by the hash of their id."""
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer prompts lose their beginning."""
    max_completion_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer answers lose their end."""
    max_perplexity_increase: Annotated[Share, Field(ge=0)] | None = None
    """By what share the perplexity of the answers may grow."""
    min_top1_agreement: Annotated[Share, Field(ge=0, le=1)] | None = None
    """Share of positions at which both must find the same token most probable."""
    max_kl: Annotated[float, Field(ge=0)] | None = None
    """Largest mean KL divergence from the model as it was, in nats a token."""
    min_greedy_agreement: Annotated[Share, Field(ge=0, le=1)] | None = None
    """Mean share of a greedy continuation that must be the same up to the first difference."""
    greedy_texts: Annotated[int, Field(ge=1)] = 8
    """Prompts that are continued, at most."""
    greedy_tokens: Annotated[int, Field(ge=1)] = 32
    """Tokens each of them is continued by."""


class ExportSettings(Settings):
    """Settings of `export`."""

    model: Ref[TextModel]
    """The model to export."""
    target: Literal["openvino"] = "openvino"
    """The runtime it is for."""
    precision: Literal["int8", "int4", "int8_full", "fp16", "fp32"] = "int8"
    """`int8` and `int4` compress the weights and leave the arithmetic as it is; `int8_full` computes in INT8 as well, with ranges found by calibration."""
    group_size: Annotated[int, Field(ge=16, le=1024, multiple_of=16)] | Literal["channel"] | None = None
    """With `int8` and `int4`: weights that share a scale, 32 and 64 where nothing is said. Smaller is closer to the model and larger on disk. `channel`, with `int8` only: all weights of an output share one, for devices whose compiler takes nothing else."""
    group_fallback: Literal["adjust", "error"] = "adjust"
    """With `int4`, where a layer's inputs are no multiple of the group size: `adjust` takes the largest power of two that divides them, or INT8, and says so."""
    kv_cache: Literal["f16", "u8", "f32"] = "u8"
    """How keys and values of earlier tokens are kept on the processor. `u8` takes a quarter of the memory of `f32`."""
    calibration: CalibrationSettings | None = None
    """With `int8_full`: what ranges are found on."""
    validation: Annotated[ValidateSettings | None, Field(alias="validate")] = None
    """What the exported model is compared on with the one it was made from, and how far it may be from it."""

    @model_validator(mode="after")
    def _goes_together(self) -> ExportSettings:
        if self.precision == "int8_full" and self.calibration is None:
            raise PydanticCustomError(
                "calibration", "`precision: int8_full` needs `calibration: {data: ...}`, pairs to find ranges on"
            )
        if self.group_size is not None and (
            self.precision not in {"int8", "int4"} or (self.group_size == "channel" and self.precision != "int8")
        ):
            raise PydanticCustomError(
                "group_size",
                "`group_size` is for `int8` and `int4`, `channel` for `int8` only; remove it or change `precision`",
            )
        if self.precision != "int8_full" and self.calibration is not None:
            raise PydanticCustomError(
                "calibration", "`calibration` is used by `precision: int8_full` only; remove one or change the other"
            )
        if (
            self.calibration is not None
            and self.validation is not None
            and self.calibration.data == self.validation.data
        ):
            raise PydanticCustomError(
                "calibration",
                "`calibration` and `validate` name the same pairs; calibrate on others, such as training pairs, or what is measured says too little",
            )
        return self

    @property
    def group(self) -> int | None:
        """Weights that share a scale; None where all of an output do, or weights are not compressed by themselves."""
        if isinstance(self.group_size, int):
            return self.group_size
        return None if self.group_size == "channel" else {"int8": 32, "int4": 64}.get(self.precision)


class Export(ArtifactKind[ExportSettings]):
    """A text model as a graph of OpenVINO with keys and values inside, its weights compressed, compared with what it was made from."""

    name = "export"
    section = "stages"
    version = 2
    settings = ExportSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"model": OpenvinoModel}
    requires: ClassVar[Mapping[str, str]] = {**_NEEDS, "nncf": "openvino", "openvino_tokenizers": "openvino"}
    run = "aifw.export.artifact:make"
    cores = "all"
    workload = "inference"
    runs_on = ("cpu",)

    def forecast(
        self, settings: ExportSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Memory of the moment that needs most: tracing, compressing, or comparing both models."""
        model: Mapping[str, Any] = inputs["model"].facts if "model" in inputs else {}
        texts = 0.0
        if settings.validation is not None:
            data = inputs["validate.data"].facts if "validate.data" in inputs else {}
            texts = min(float(data.get("rows", settings.validation.max_items)), settings.validation.max_items)
        return export_forecast(
            model,
            machine,
            settings.precision,
            texts=texts,
            continued=min(texts, settings.validation.greedy_texts) if settings.validation is not None else 0.0,
            calibrated=float(settings.calibration.texts) if settings.calibration is not None else 0.0,
            longest=_longest(settings),
        )


def _longest(settings: ExportSettings) -> float:
    """Tokens of the longest text that is computed at once."""
    validation, calibration = settings.validation, settings.calibration
    return max(
        0.0 if validation is None else validation.max_prompt_tokens + validation.max_completion_tokens,
        0.0 if calibration is None else calibration.max_tokens,
    )


class Deployment(Output):
    """A model tried on the device it is for. `smoke.json`: device, what was tried before it and why that failed, latency percentiles.

    Facts: `model` (digest), `device`, `target`, `precision`, `shapes` (dynamic or static), `passed_over` (why, by device); of
    `first_token` and `token` each `_p50`, `_p95`, `_p99` (seconds; the last `too few` below a thousand samples) and `_samples`.
    """

    name = "deployment"


class StaticShapes(Settings):
    """Sizes a model is compiled for where the device takes only shapes that are all known."""

    prompts: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 512)
    """Lengths that prompts are filled up to; the smallest that is long enough is used."""
    positions: Annotated[int, Field(ge=2)] = 1024
    """Keys and values that are kept: prompt and answer together must not be longer."""

    @model_validator(mode="after")
    def _fits(self) -> StaticShapes:
        if max(self.prompts) > self.positions:
            raise PydanticCustomError("static", "every length in `prompts` must be at most `positions`")
        return self


class DeploymentSettings(Settings):
    """Settings of `deployment`."""

    model: Ref[OpenvinoModel]
    """The model to deploy."""
    devices: Annotated[tuple[Literal["npu", "xpu", "cpu"], ...], Field(min_length=1)] = ("npu", "xpu", "cpu")
    """Where it may run, best first. It starts where the plan puts it; one that cannot compile it is passed over, and the next is tried."""
    shapes: Literal["auto", "dynamic", "static"] = "auto"
    """`auto` is `static` on devices that take nothing else. Both give the same tokens."""
    static: StaticShapes = StaticShapes()
    """Sizes of static shapes."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the arithmetic. `auto` is what the device is good at."""
    requests: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Prompts that are answered, one after the other, after one that does not count."""
    prompt_tokens: Annotated[int, Field(ge=1)] = 64
    """Tokens of each prompt."""
    tokens: Annotated[int, Field(ge=2)] = 32
    """Tokens of each answer."""
    max_first_token_p95: Duration | None = None
    """The 95th percentile of the time to the first token must not be longer."""
    max_token_p95: Duration | None = None
    """The same of every further token."""

    @model_validator(mode="after")
    def _fits(self) -> DeploymentSettings:
        if self.shapes != "dynamic" and (
            self.prompt_tokens > max(self.static.prompts) or self.prompt_tokens + self.tokens > self.static.positions
        ):
            raise PydanticCustomError(
                "static",
                "`prompt_tokens` must fit into `static.prompts`, and with `tokens` into `static.positions`",
            )
        return self


class Deploy(ArtifactKind[DeploymentSettings]):
    """An exported model compiled for the best device there is, its compiled form kept, and its latency measured there."""

    name = "deployment"
    section = "stages"
    settings = DeploymentSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"deployment": Deployment}
    requires: ClassVar[Mapping[str, str]] = _NEEDS
    run = "aifw.export.deploy:deploy"
    cores = "all"
    workload = "int8_inference"
    runs_on = ("npu", "xpu", "cpu")

    def observe(self, settings: DeploymentSettings, workspace: Workspace) -> Observation:
        """The devices it may run on that are here, with their drivers, and the version of OpenVINO: what was found of one machine says
        nothing of another, and nothing of this one once it has a new driver.
        """
        import hashlib
        import json

        from aifw.hardware.libraries.versions import OPENVINO, installed_versions
        from aifw.hardware.probe import probe

        machine = probe()
        here = [("cpu", machine.cpu.model, "")] if "cpu" in settings.devices else []
        here += sorted(
            (each.name, each.what, each.driver)
            for each in machine.detected
            if each.name.partition(":")[0] in settings.devices
        )
        version = installed_versions().get(OPENVINO)
        names = [f"{name} by {driver}" if driver else name for name, _, driver in here] or ["no device"]
        return Observation(
            fingerprint=hashlib.sha256(json.dumps([here, version]).encode()).hexdigest(),
            summary=", ".join([*names, f"OpenVINO {version}" if version else "no OpenVINO"]),
            rememberable=False,
        )

    def forecast(
        self, settings: DeploymentSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Weights are held twice while a model is loaded; time is that of the answers."""
        model: Mapping[str, Any] = inputs["model"].facts if "model" in inputs else {}
        return deployment_forecast(
            model,
            machine,
            requests=settings.requests + 1,
            prompt=settings.prompt_tokens,
            tokens=settings.tokens,
            static=settings.shapes == "static" or machine.devices[0].startswith("npu"),
            sizes=(settings.static.prompts, settings.static.positions),
        )
