"""The typed form of a spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from aifw.kind import AnyKind, Output
from aifw.settings import VARIABLE_PATTERN, Quantity, Ref, Settings
from aifw.spec.hardware import NUMBERED_DEVICE_PATTERN, HardwareSettings

API_VERSION = "aifw/v1"
NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]*$"
"""Names of resources and aliases."""
STACK_NAME_PATTERN = r"^[a-z][a-z0-9-]*$"
RESERVED_STACK_NAMES = ("artifacts", "cache")
"""Folders that the stacks of a folder share; they lie beside those that are named after a stack."""
PUBLISHED_STACK_NAME_PATTERN = rf"^(?!({'|'.join(RESERVED_STACK_NAMES)})$)[a-z][a-z0-9-]*$"
"""Both in one, as an editor reads it; pydantic's patterns cannot say what a text is not."""
PATTERN_WORDS = {
    NAME_PATTERN: "a name: letters, digits, `_` and `-`, starting with a letter or `_`",
    STACK_NAME_PATTERN: "small letters, digits and hyphens, starting with a letter",
    PUBLISHED_STACK_NAME_PATTERN: "small letters, digits and hyphens, starting with a letter; not "
    + " or ".join(RESERVED_STACK_NAMES),
    VARIABLE_PATTERN: "the name of an environment variable",
    NUMBERED_DEVICE_PATTERN: "a numbered device such as `xpu:0`",
}
"""What to say to people instead of a pattern."""
SECTIONS: dict[str, str] = {
    "models": "Language models, embedders and other networks.",
    "datasets": "Feedback, preference pairs, documents and other data.",
    "stages": "Training, conversion, measurement and promotion.",
    "retrieval": "Vectors, indexes and what answers from them.",
    "experts": "Experts and the gates between them.",
    "storage": "File systems, snapshots and buckets.",
    "clusters": "Machines that work together.",
    "cloud": "Machines to rent.",
}
"""Sections of named resources, and what they hold. A kind of another package may bring a section of its own."""


class PolicySettings(Settings):
    """What an apply may do without being asked."""

    allow_delete: bool = False
    """Delete external things whose resource was removed from the spec."""


def _not_reserved(name: str) -> str:
    if name in RESERVED_STACK_NAMES:
        raise PydanticCustomError(
            "reserved", f"`{name}` is taken by a folder of .aifw that all stacks share; choose another name"
        )
    return name


class Metadata(Settings):
    """What the spec is called."""

    name: Annotated[
        str,
        Field(pattern=STACK_NAME_PATTERN, max_length=63, json_schema_extra={"pattern": PUBLISHED_STACK_NAME_PATTERN}),
        AfterValidator(_not_reserved),
    ]
    """Names the state; small letters, digits and hyphens."""
    description: str | None = None
    """For people."""


class AliasSettings(Settings):
    """A named pointer to an artifact; `@name` refers to what it points to when a run begins."""

    initial: Ref[Output]
    """What it points to before anything was promoted."""


class TargetSettings(Settings):
    """What something should reach. It is tracked and shown, and decides nothing."""

    value: Quantity
    """What to reach: `15%`, `80ms`, `6GiB`, `$200`, `5x` or a number."""
    measure: str | None = None
    """What is measured: a measure of an evaluation, or another fact of what `of` names."""
    formula: str | None = None
    """Instead of `measure`: numbers, `+ - * /`, brackets and measures. Of an evaluation with a baseline also `baseline_NAME`, and
    `difference_NAME`, whose interval is that of the paired comparison: `difference_accuracy / baseline_accuracy`."""
    of: Ref[Output] | None = None
    """What measures it: an evaluation, or another resource that states facts. Without it the target counts as not measured."""
    better: Literal["higher", "lower"] | None = None
    """Which direction is better. Default: what the measure says, else `higher`."""
    description: str | None = None
    """For people."""

    @model_validator(mode="after")
    def _one_of_both(self) -> TargetSettings:
        if (self.measure is None) == (self.formula is None):
            raise PydanticCustomError("target", "expected either `measure` or `formula`")
        if self.formula is not None:
            # Parsing Python's grammar is loaded only where there is a formula.
            from aifw.formula import parse

            try:
                parse(self.formula)
            except ValueError as error:
                raise PydanticCustomError("formula", "{reason}", {"reason": str(error)}) from None
        return self


class Header(Settings):
    """What a spec holds beside its sections of resources."""

    api_version: Annotated[Literal["aifw/v1"], Field(alias="apiVersion")]
    """The form of this file: `aifw/v1`."""
    kind: Literal["Stack"]
    """What this file describes: `Stack`."""
    metadata: Metadata
    """Name and description."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Every random choice follows from it."""
    hardware: HardwareSettings = Field(default_factory=HardwareSettings)
    """What of this machine may be used."""
    policy: PolicySettings = Field(default_factory=PolicySettings)
    """What an apply may do without being asked."""
    aliases: dict[Annotated[str, Field(pattern=NAME_PATTERN)], AliasSettings] = Field(default_factory=dict)
    """Named pointers to artifacts, moved by promotions."""
    targets: dict[Annotated[str, Field(pattern=NAME_PATTERN)], TargetSettings] = Field(default_factory=dict)
    """What should be reached, shown beside what was measured."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """Values of your own for `${defaults.name}`; nothing else reads them."""


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
    """One named entry of a spec.

    Attributes:
        locate: Finds where it was written. That takes reading the file again, so it is done only when asked for.
    """

    address: str
    kind: AnyKind
    settings: BaseModel
    references: tuple[Reference, ...] = ()
    locate: Callable[[str], Place] | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> Place | None:
        """Where its name stands, or None if it was not read from a file."""
        return self.locate(self.address) if self.locate is not None else None


@dataclass(frozen=True, slots=True)
class Target:
    """A target as the spec states it.

    Attributes:
        reference: What measures it, or None if nothing does.
        better: The direction that is better.
    """

    name: str
    settings: TargetSettings
    reference: Reference | None
    better: Literal["higher", "lower"]


@dataclass(frozen=True)
class Spec:
    """A valid spec.

    Attributes:
        name: `metadata.name`; names the state.
        root: Folder of the first file; relative paths start here.
        files: The files it was read from.
        resources: By address, in the order written.
        aliases: Name of each alias and the reference it starts with.
        targets: What should be reached, in the order written.
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
    targets: tuple[Target, ...] = ()
