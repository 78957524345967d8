"""The typed form of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aifw.kind import AnyKind
from aifw.settings import Settings, Size


class MemorySettings(Settings):
    """How much of the unified pool jobs may use."""

    budget: Size | None = None
    """Most memory that running jobs may use together. Default: what the machine has, less the reserve."""
    reserve: Size = 1024**3
    """Memory left to everything else on the machine."""


class HardwareSettings(Settings):
    """What of this machine may be used."""

    memory: MemorySettings = MemorySettings()
    """Memory budget and reserve."""
    devices: Literal["auto"] | list[Annotated[str, Field(pattern=r"^[a-z]+(:\d+)?$")]] = "auto"
    """Devices jobs may use, best first, or `auto`."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"
    """Processor threads for all running jobs together, or `auto` for every core this process may use."""


class PolicySettings(Settings):
    """What an apply may do without being asked."""

    allow_delete: bool = False
    """Delete external things whose resource was removed from the spec."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file. Lines and columns count from 1; columns are characters."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Reference:
    """A resolved reference.

    Attributes:
        field: Path of the field in the settings: `model`, `validate.data`, `sources.0`.
        text: As written.
        address: The resource referred to; for an alias, the resource it starts with.
        output: The output referred to.
        alias: Set if written `@alias`.
    """

    field: str
    text: str
    address: str
    output: str
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """One named entry of a spec."""

    address: str
    kind: AnyKind
    settings: BaseModel
    references: tuple[Reference, ...] = ()
    place: Place | None = None


@dataclass(frozen=True)
class Spec:
    """A valid spec.

    Attributes:
        name: `metadata.name`; names the state.
        root: Folder of the first file; relative paths start here.
        files: The files it was read from.
        resources: By address, in the order written.
        aliases: Name of each alias and the reference it starts with.
        digest: sha256 of the resolved content: comments, white space, key order and where a value came from do not matter.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    resources: Mapping[str, Resource]
    aliases: Mapping[str, Reference]
    digest: str
    seed: int = 0
    hardware: HardwareSettings = field(default_factory=HardwareSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
