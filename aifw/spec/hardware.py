"""The section `hardware` of a spec: what of this machine may be used, and for what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from aifw.hardware.workloads import COLUMN_WORDS, WORKLOAD_WORDS, Column, Rating, Workload
from aifw.settings import Duration, Settings, Size

NUMBERED_DEVICE_PATTERN = r"^(xpu|cuda|npu|ncs2):(0|[1-9][0-9]{0,2})$"
"""One device of several."""
_FAMILY_WORDS = {
    "cpu": "The processor, all its cores.",
    "xpu": "Every Intel GPU.",
    "cuda": "Every NVIDIA or AMD GPU.",
}
"""Devices that are no column of the placement matrix by themselves; `npu` and `ncs2` are both."""


def _columns(schema: dict[str, Any]) -> None:
    # Every key is named, so that editors offer them with what they mean.
    value = schema["additionalProperties"]
    _named(schema, {name: {"description": f"How well {text} does it.", **value} for name, text in COLUMN_WORDS.items()})


def _workloads(schema: dict[str, Any]) -> None:
    value = schema["additionalProperties"]
    _named(schema, {name: {"description": f"Best for {text}.", **value} for name, text in WORKLOAD_WORDS.items()})


def _devices(schema: dict[str, Any]) -> None:
    value = schema["additionalProperties"]
    words: dict[str, str] = {**_FAMILY_WORDS}
    words.update((name, f"{text[0].upper()}{text[1:]}.") for name, text in COLUMN_WORDS.items())
    _named(schema, {name: {"description": text, **value} for name, text in words.items()})
    schema["patternProperties"] = {NUMBERED_DEVICE_PATTERN: value}


def _named(schema: dict[str, Any], properties: dict[str, Any]) -> None:
    schema.pop("propertyNames", None)
    schema.update(additionalProperties=False, properties=properties)


# Named types: the published schema then says once what stands in many places.
DeviceName = TypeAliasType(
    "DeviceName",
    Literal[
        "cpu",
        "xpu",
        "cuda",
        "npu",
        "ncs2",
        "integrated_gpu",
        "discrete_gpu",
        "performance_cores",
        "efficient_cores",
        "cloud",
    ]
    | Annotated[str, Field(pattern=NUMBERED_DEVICE_PATTERN)],
)
"""A device, all of a family of devices, or a column of the placement matrix."""
Uses = TypeAliasType("Uses", Literal["all"] | list[Workload])
"""What a device may be used for."""
Ratings = TypeAliasType("Ratings", Annotated[dict[Column, Rating], Field(json_schema_extra=_columns)])
"""How well each sort of device does a workload."""


class MemorySettings(Settings):
    """How much of the unified pool jobs may use."""

    budget: Size | None = None
    """Most memory that running jobs may use together. Default: what the machine has, less the reserve."""
    reserve: Size = 1024**3
    """Memory left to everything else on the machine."""
    profile: Literal["conservative", "aggressive"] = "conservative"
    """How jobs are admitted: `conservative` when the high of their forecast fits beside what runs, `aggressive` when its middle does."""
    patience: Duration = 600.0
    """How long a job waits for memory that other programs hold, while nothing else of the run is at work, before it is refused."""


class HardwareSettings(Settings):
    """What of this machine may be used."""

    memory: MemorySettings = Field(default_factory=MemorySettings)
    """Memory budget and reserve."""
    devices: (
        Literal["auto"] | list[DeviceName] | Annotated[dict[DeviceName, Uses], Field(json_schema_extra=_devices)]
    ) = "auto"
    """Devices jobs may use: `auto` for all, a list of them, or what each may do: `{npu: [embeddings, reranking], cpu: all}`."""
    placement: dict[Workload, Ratings] = Field(default_factory=dict, json_schema_extra=_workloads)
    """Which sort of device is best for which sort of work, where that differs from what comes with aifw: `{dpo: {npu: never}}`."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"
    """Processor threads for all running jobs together, or `auto` for every core this process may use."""
