"""The contract every kind of resource fulfils, and the registry that finds kinds.

A kind is one small class in the `kinds.py` of its package, or in a `*_kinds.py` where there are many: what its settings are, what it
produces, what it will need, and the *name* of the function that does the work, which only the worker imports. Nothing in this module
or in those may import a heavy library: planning loads the kinds a spec names and nothing else.

Built-in kinds are found by scanning the package; other packages announce theirs under the entry point group `aifw.kinds`, each
entry naming a subclass of one of the three families below.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from aifw.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from aifw.hardware.machine import Machine

Facts = Mapping[str, Any]
"""What is known about an artifact or output without opening it: rows, token lengths, model configuration, licence, provenance."""

Family = Literal["artifact", "external", "service"]


class Output:
    """What a named output is. Subclass it; the docstring describes the directory's layout, `name` is the word used in messages.

    Attributes:
        measures: Facts that measure something, and which direction is better. Targets are checked against them; an output that lists
            none may be asked for any fact.
    """

    name: ClassVar[str]
    measures: ClassVar[Mapping[str, Literal["higher", "lower", "neither"]]] = {}


@dataclass(frozen=True, slots=True)
class Observation:
    """A cheap look at something that lives outside the store.

    Attributes:
        fingerprint: Changes when the thing may have changed. Part of the resource's identity.
        summary: The same for people: `512 events`.
        facts: Numbers the forecast may use.
        rememberable: False if anything else than files reached through the `Workspace` was looked at: a server, a device, a clock.
            A plan with such an observation is made anew each time.
    """

    fingerprint: str
    summary: str
    facts: Facts = field(default_factory=dict)
    rememberable: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """A range with a middle; the unit is that of the field it stands in."""

    low: float
    mid: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """A range of no width."""
        return cls(value, value, value)

    @classmethod
    def around(cls, mid: float, spread: float) -> Estimate:
        """`mid` divided and multiplied by `1 + spread`."""
        return cls(mid / (1 + spread), mid, mid * (1 + spread))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a job is expected to need.

    Attributes:
        memory: Peak bytes.
        seconds: Wall time.
        cost: Micro-dollars.
        basis: What the numbers rest on, for people.
        work: Size of the job in units of the kind's own choice; with the measured time of earlier runs it corrects later forecasts.
        facts: What the outputs are expected to look like, by output name, for the forecasts of dependants.
        note: A decision worth a word in the plan: `batch 32 (auto)`.
        parts: What the middle of the memory is made of, in bytes by name, for people: `{"weights": ..., "activations": ...}`.
        uncorrected: The middles of memory and seconds as the kind stated them, where measured runs of this machine corrected them.
        startup: Seconds of the middle that do not grow with the work: importing, loading. Earlier runs correct what is above it.
    """

    memory: Estimate
    seconds: Estimate
    cost: Estimate = Estimate(0, 0, 0)
    basis: str = "declared by the kind"
    work: float = 0.0
    facts: Mapping[str, Facts] = field(default_factory=dict)
    note: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    uncorrected: tuple[float, float] | None = None
    startup: float = 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """One finished job of a kind on this machine. Bytes, seconds, and the forecast's `work`.

    Attributes:
        device: Where it computed.
        expected_memory: The middle of its kind's own forecast, before any correction; None if it is not known.
        expected_seconds: The same of the time.
        exceeded: It was ended because it exceeded its memory, so it would have needed more than `memory`, and its time says nothing.
        age: Runs of the engine that began since the one it was part of.
    """

    memory: float
    seconds: float
    work: float
    settings: Facts = field(default_factory=dict)
    device: str = "cpu"
    expected_memory: float | None = None
    expected_seconds: float | None = None
    exceeded: bool = False
    age: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """Finished jobs of one kind on this machine, newest first."""

    past: tuple[Past, ...] = ()

    def rate(self) -> float | None:
        """Median seconds per unit of work, or None before the first run."""
        rates = sorted(past.seconds / past.work for past in self.past if past.work > 0 and not past.exceeded)
        return rates[len(rates) // 2] if rates else None


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What a forecast may know of an input.

    Attributes:
        address: The resource it comes from.
        facts: Of the output referred to; empty if nothing is known yet.
        certain: False if the input will be remade, so that the facts are those of its predecessor or a forecast.
    """

    address: str
    facts: Facts
    certain: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How the references of a resource stand when it is planned, for `Kind.settled`.

    Attributes:
        digests: Digest of the output each reference field resolves to, where known.
        aliases: Digest each alias points to, where it is set.
        through_alias: Reference fields written as `@alias`, and the alias.
    """

    digests: Mapping[str, str]
    aliases: Mapping[str, str]
    through_alias: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A setting that does not go together with what another resource says.

    Attributes:
        field: Where the setting stands: `("require", "perplexity")`.
        message: What is wrong.
        advice: What to do, in a few words.
    """

    field: tuple[str, ...]
    message: str
    advice: str = ""


@dataclass(frozen=True)
class Workspace:
    """The folder a spec stands in, as a kind's `observe` sees it.

    Which paths are asked for here is noted: a plan without changes is remembered by looking at those paths.

    Attributes:
        root: Relative paths in a spec start here.
        digest_of: sha256 of a file, cached by size, mtime and inode.
    """

    root: Path
    digest_of: Callable[[Path], str]

    def path(self, text: str) -> Path:
        """Resolve a path as a spec writes it."""
        return self.root / Path(text).expanduser()


S = TypeVar("S", bound="BaseModel")


class Kind(Generic[S]):
    """What all families share. Every method here is pure or does light I/O, and runs before anything else does.

    Attributes:
        name: As written after `kind:`.
        section: The section of the spec it stands in.
        version: Raise it when the same settings would now make a different artifact.
        settings: A pydantic model; attribute docstrings are the documentation, `Ref[...]` fields the edges of the graph.
        produces: Named outputs and what they are. Each is a folder of that name in the artifact.
        requires: Import names of packages the work needs, and the extra that brings them: `{"torch": "train"}`.
        seeded: True if the result depends on `job.seed`, which then is part of the identity.
        cores: What a job keeps busy: one core, or all it may have. Jobs run side by side while cores and memory last.
        shrinks: Whether a job goes on with less memory when it is asked to (`job.control().shrink`).
        reuses_memory: True if its worker may allocate by another library, jemalloc, which pays where the same tensors are made over and over.
            Not for what loads OpenVINO: its libraries free what another allocator gave.
        workload: Row of the placement matrix (`aifw/hardware/placement.yaml`): what sort of work it is, and so where it is best done.
        runs_on: Families of devices its code can compute on: `cpu`, `xpu`, `cuda`, `npu`, `ncs2`.
        moves_alias: For a kind whose result decides about an alias: the settings that name the alias and the candidate.
            The output carries the fact `verdict`; see `aifw.plan.verdict`.
        looks_at: For a kind that decides about an alias by a held-out set: the settings that name the alias and the evidence. The
            evidence carries the facts `data`, the digest of the set, and `sketch`, see `aifw.statistics.sketch`. Every job is a look at
            the set, counted in the state before it starts, by alias and set: `job.look`.
    """

    family: ClassVar[Family]
    name: ClassVar[str]
    section: ClassVar[str]
    version: ClassVar[int] = 1
    settings: ClassVar[type[BaseModel]]
    produces: ClassVar[Mapping[str, type[Output]]] = {}
    requires: ClassVar[Mapping[str, str]] = {}
    seeded: ClassVar[bool] = False
    cores: ClassVar[Literal["one", "all"]] = "one"
    shrinks: ClassVar[bool] = False
    reuses_memory: ClassVar[bool] = False
    workload: ClassVar[str] = "data"
    runs_on: ClassVar[tuple[str, ...]] = ("cpu",)
    moves_alias: ClassVar[tuple[str, str] | None] = None
    looks_at: ClassVar[tuple[str, str] | None] = None

    def observe(self, settings: S, workspace: Workspace) -> Observation | None:
        """Look at what lives outside the store; None if there is nothing to look at.

        Reach every file and folder through `workspace.path` or `workspace.digest_of`, also one that turns out not to be there: a plan
        without changes is remembered, and whether it still holds is found out by looking at just those paths (with everything
        below a folder). An observation of anything else says `rememberable=False`, and is then made for every plan.

        Raises:
            InputInvalid: It is not there, or cannot be read.
        """
        return None

    def forecast(self, settings: S, inputs: Mapping[str, InputFacts], machine: Machine, history: History) -> Forecast:
        """Say what a job will need at the place `machine` describes.

        Args:
            settings: Of the resource.
            inputs: By reference field; `observation` holds the facts of what `observe` saw, if it saw anything.
            machine: As seen from the place considered: `devices[0]` is where the job would compute and `cpu.cores` how many
                processors it would have. The planner asks once for each place and chooses.
            history: Finished jobs of this kind. The planner corrects what is returned here by it, so most kinds need not look. One
                that corrects its time itself sets `uncorrected`, so that it is not corrected twice.
        """
        raise NotImplementedError

    def settled(self, settings: S, standing: Standing) -> str | None:
        """Say why nothing remains to be done although the inputs are new, or None.

        A comparison of a candidate with an alias that already points to it is settled.
        """
        return None

    def disagreements(self, settings: S, inputs: Mapping[str, BaseModel]) -> Iterable[Disagreement]:
        """Say what of the settings does not go together with those of the resources they refer to.

        Args:
            settings: Of the resource.
            inputs: Settings of the resource behind each reference field. References through an alias are left out.
        """
        return ()

    def fetch(self, settings: S, workspace: Workspace, *, offline: bool) -> str | None:
        """Name the function (`"package.module:function"`) that brings what the job needs from the network, or None."""
        return None


class ArtifactKind(Kind[S]):
    """Made by a job, immutable, content-addressed.

    Attributes:
        run: The function that does the work, `"package.module:function"`, called with a `aifw.job.Job` in a worker.
    """

    family = "artifact"
    run: ClassVar[str]


class ExternalKind(Kind[S]):
    """Observed, created, updated and deleted somewhere else. Each function is called with a `Job` in a worker, and is idempotent by `job.key`.

    Attributes:
        create: Make it, or adopt what an interrupted call with the same key made; facts describe it.
        update: Change it in place.
        delete: Remove it; not an error if it is gone.
    """

    family = "external"
    create: ClassVar[str]
    update: ClassVar[str]
    delete: ClassVar[str]


class ServiceKind(Kind[S]):
    """Wanted running or stopped, with health.

    Attributes:
        start: Start it in a worker of its own.
        stop: Stop it.
        health: Name of a function that returns a sentence if it is not healthy.
    """

    family = "service"
    start: ClassVar[str]
    stop: ClassVar[str]
    health: ClassVar[str]


AnyKind = Kind[Any]

_DECLARATION = re.compile(
    r"^class \w+\((?:Artifact|External|Service)Kind\b.*?^    name\b[^=\n]*= \"(\w+)\"", re.MULTILINE | re.DOTALL
)


@cache
def _builtin() -> dict[str, str]:
    """Name of every built-in kind and the module that declares it, read from the text of each `*kinds.py` without importing it."""
    package = Path(__file__).parent
    return {
        name: f"aifw.{path.parent.name}.{path.stem}"
        for path in sorted(package.glob("*/*kinds.py"))
        for name in _DECLARATION.findall(path.read_text(encoding="utf-8"))
    }


@cache
def _plugins() -> dict[str, AnyKind]:
    """Kinds of other packages. Reading entry points takes longer than planning, so it happens only for a name that is not built in."""
    from importlib.metadata import entry_points

    return {entry.name: entry.load()() for entry in entry_points(group="aifw.kinds")}


@cache
def _load(module: str) -> dict[str, AnyKind]:
    found = vars(importlib.import_module(module)).values()
    kinds = [
        each() for each in found if isinstance(each, type) and issubclass(each, Kind) and each.__module__ == module
    ]
    return {kind.name: kind for kind in kinds if "name" in vars(type(kind))}


def find(name: str) -> AnyKind | None:
    """The kind of that name, or None. Imports the one module that declares it."""
    module = _builtin().get(name)
    if module is not None:
        return _load(module)[name]
    return _plugins().get(name)


def builtin_kinds() -> list[AnyKind]:
    """Every kind that comes with aifw, by section and name."""
    return _ordered(kind for module in sorted(set(_builtin().values())) for kind in _load(module).values())


def all_kinds() -> list[AnyKind]:
    """Every kind there is, by section and name."""
    return _ordered([*builtin_kinds(), *_plugins().values()])


def _ordered(kinds: Iterable[AnyKind]) -> list[AnyKind]:
    return sorted(kinds, key=lambda kind: (kind.section, kind.name))


def function(name: str) -> Callable[..., Any]:
    """Import `"package.module:function"`.

    Raises:
        UsageError: There is no such module or function.
    """
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot load {name}: {error}") from error
    assert callable(found)
    return found  # type: ignore[no-any-return]
