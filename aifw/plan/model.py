"""A plan, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from aifw.kind import Forecast


class Action(StrEnum):
    """What will happen to a resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    RESUME = "resume"
    MAYBE = "maybe"
    REUSE = "reuse"
    HELD = "held"
    FORGET = "forget"
    DELETE = "delete"


CERTAIN = frozenset({Action.CREATE, Action.UPDATE, Action.REPLACE, Action.RESUME})
"""Actions that will be carried out."""
PENDING = CERTAIN | {Action.MAYBE}
"""Actions whose result is not known while planning."""
CHANGES = PENDING | {Action.FORGET, Action.DELETE}
"""Actions that keep a plan from being empty."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an action was chosen.

    Attributes:
        about: What it is about.
        text: For people.
    """

    about: Literal[
        "new",
        "setting",
        "kind",
        "observation",
        "input",
        "version",
        "seed",
        "damage",
        "asked",
        "checkpoint",
        "alias",
        "verdict",
        "removed",
    ]
    text: str


@dataclass(frozen=True, slots=True)
class PlannedInput:
    """An input of a step.

    Attributes:
        field: Path of the reference in the settings.
        address: The resource it comes from.
        output: Of that resource.
        alias: The alias it was read from; its value is then fixed for the run.
        digest: Of the output, or None while its maker is pending.
        artifact: Artifact that holds it, or None.
        source: What the reference means, for people: `models.base`, `datasets.preferences.train`, `@champion`.
    """

    field: str
    address: str
    output: str
    alias: str | None
    digest: str | None
    artifact: str | None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job will compute, and why.

    Attributes:
        column: Of the placement matrix: `performance_cores`.
        label: For people, short: `P-cores`, `iGPU`, `NPU`, `cpu`.
        device: As a job names it: `cpu`, `xpu:0`.
        cpus: Processors the worker is kept on; empty does not restrict it.
        threads: How many it computes with, never more than processors.
        because: Why it is there: `best for vector search`.
        next_best: What came second and why it did not come first; or why there is no second.
    """

    column: str
    label: str
    device: str
    cpus: tuple[int, ...]
    threads: int
    because: str = ""
    next_best: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One resource in a plan.

    Attributes:
        identity: The part of the identity that does not come from inputs, as canonical JSON.
        recipe: Identity with the recipes of the inputs.
        key: Identity with the digests of the inputs, or None while one is pending.
        artifact: What it is bound to or will reuse, or None.
        effect_only: Nothing is computed; a verdict that stands is carried out.
        start: Seconds after the start of the run by the schedule's middle estimate, or None if nothing runs.
    """

    address: str
    kind: str
    action: Action
    reasons: tuple[Reason, ...]
    identity: str = ""
    recipe: str = ""
    key: str | None = None
    artifact: str | None = None
    inputs: tuple[PlannedInput, ...] = ()
    after: tuple[str, ...] = ()
    device: str = ""
    placement: Placement | None = None
    forecast: Forecast | None = None
    effect_only: bool = False
    start: float | None = None


@dataclass(frozen=True, slots=True)
class AliasChange:
    """An alias that will be set for the first time."""

    name: str
    initial: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What the whole plan takes: bytes, seconds, micro-dollars. `low` counts no `maybe`, `high` all of them."""

    memory: int
    memory_at: str
    budget: int
    seconds_low: float
    seconds_mid: float
    seconds_high: float
    cost_low: int
    cost_high: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to change, in an order in which it can be done.

    Attributes:
        name: Of the spec.
        spec: Digest of the spec.
        serial: Of the state it was made from.
        machine: Name.
        targets: Resources it was limited to, or empty.
        warnings: What the user should know before applying.
    """

    name: str
    spec: str
    serial: int
    machine: str
    steps: tuple[Step, ...]
    aliases: tuple[AliasChange, ...]
    totals: Totals
    targets: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Step, ...]:
        """Steps that keep the plan from being empty."""
        return tuple(step for step in self.steps if step.action in CHANGES)

    @property
    def empty(self) -> bool:
        """True if there is nothing to do."""
        return not self.changes and not self.aliases
