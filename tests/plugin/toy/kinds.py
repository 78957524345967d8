"""Kinds that cost nothing, for tests of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, ClassVar

from pydantic import Field

from aifw.errors import InputInvalid
from aifw.hardware.machine import Machine
from aifw.kind import (
    ArtifactKind,
    Estimate,
    ExternalKind,
    Forecast,
    History,
    InputFacts,
    Observation,
    Output,
    Standing,
    Workspace,
)
from aifw.settings import Ref, Secret, Settings, Size, execution


class Text(Output):
    """A folder with `text.txt`."""

    name = "text"


class ToySettings(Settings):
    """Settings of `toy`."""

    text: str = ""
    """What to write."""
    sources: tuple[Ref[Text], ...] = ()
    """Texts to append."""
    file: str | None = None
    """A file to read."""
    holdout: str | None = None
    """Say that the text was measured on the held-out set of this name."""
    unobserved: Annotated[str | None, execution] = None
    """A file to read that is no part of the identity, so that the same settings can make different texts."""
    only_length: bool = False
    """Write the length of the text instead, so that many inputs make the same output."""
    steps: int = 0
    """How many steps to take."""
    pause: Annotated[float, execution] = 0.0
    """Seconds a step takes."""
    fail: Annotated[str, execution] = ""
    """How to fail: `error`, `crash`, `exit`, `memory` or `no_output`. `hungry` only takes memory for a while."""
    memory: Annotated[Size, execution] = 1024**2
    """Memory the forecast states."""
    witness: Annotated[str | None, execution] = None
    """A file to which each finished job appends its key."""
    token: Annotated[Secret | None, execution] = None
    """A secret the work needs."""
    cores: Annotated[int, Field(ge=1), execution] = 1
    """Ignored; here to have a number with a bound."""


class Toy(ArtifactKind[ToySettings]):
    """Writes a text."""

    name = "toy"
    section = "stages"
    settings = ToySettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"text": Text}
    run = "toy.work:write"

    def observe(self, settings: ToySettings, workspace: Workspace) -> Observation | None:
        """Digest of the file."""
        if settings.file is None:
            return None
        path = workspace.path(settings.file)
        if not path.exists():
            raise InputInvalid(f"there is no file {settings.file}")
        return Observation(workspace.digest_of(path), f"{path.stat().st_size} bytes")

    def forecast(
        self, settings: ToySettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """What the settings say."""
        seconds = 0.1 + settings.steps * settings.pause
        return Forecast(Estimate.around(settings.memory, 0.1), Estimate.around(seconds, 0.5), work=1.0)


class HeavySettings(Settings):
    """Settings of `toy_heavy`."""

    text: str = ""
    """What to write."""
    hold: Annotated[Size, execution]
    """Memory to really take for the whole time."""
    steps: int = 10
    """How many steps to take."""
    pause: Annotated[float, execution] = 0.1
    """Seconds a step takes."""
    until: Annotated[str | None, execution] = None
    """A file; it does not end before this is there."""
    grow: Annotated[Size, execution] = 0
    """Memory to take in addition at every step."""
    maps: Annotated[str | None, execution] = None
    """A file to map and read before anything else."""
    deaf: Annotated[bool, execution] = False
    """Never look at what is asked."""
    forgetful: Annotated[bool, execution] = False
    """Stop without saving anything."""


class Heavy(ArtifactKind[HeavySettings]):
    """Takes memory, and gives half of it back when it is asked to shrink. Where it was interrupted it goes on, with as much."""

    name = "toy_heavy"
    section = "stages"
    settings = HeavySettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"text": Text}
    run = "toy.work:hold"
    shrinks = True

    def forecast(
        self, settings: HeavySettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """What the settings say, beside a worker."""
        memory = Estimate.around(settings.hold + 40 * 1024**2, 0.1)
        return Forecast(memory, Estimate.around(0.5 + settings.steps * settings.pause, 0.5), work=1.0)


class WhereSettings(Settings):
    """Settings of `toy_where`."""

    text: str = ""
    """To have something that makes one job differ from another."""


class Where(ArtifactKind[WhereSettings]):
    """Writes on which processors its threads may run, and how many threads it was told to use."""

    name = "toy_where"
    section = "stages"
    settings = WhereSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"text": Text}
    run = "toy.work:where"
    cores = "all"

    def forecast(
        self, settings: WhereSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Next to nothing."""
        return Forecast(Estimate.exact(64 * 1024**2), Estimate.exact(0.1))


class PairSettings(Settings):
    """Settings of `toy_pair`."""

    left: str
    """Written to the output `left`."""
    right: str
    """Written to the output `right`."""


class Pair(ArtifactKind[PairSettings]):
    """Two texts."""

    name = "toy_pair"
    section = "stages"
    settings = PairSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"left": Text, "right": Text}
    run = "toy.work:pair"

    def forecast(
        self, settings: PairSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Next to nothing."""
        return Forecast(Estimate.exact(1024**2), Estimate.exact(0.1))


class Decision(Output):
    """A folder with nothing but a verdict."""

    name = "decision"


class GateSettings(Settings):
    """Settings of `toy_gate`."""

    candidate: Ref[Text]
    """What may be promoted."""
    baseline: Ref[Text]
    """What it is compared with."""
    alias: str
    """The alias to move."""
    evidence: Ref[Text] | None = None
    """What was measured on a held-out set."""


class Gate(ArtifactKind[GateSettings]):
    """Promotes the candidate if its text is longer."""

    name = "toy_gate"
    section = "stages"
    settings = GateSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"decision": Decision}
    moves_alias = ("alias", "candidate")
    looks_at = ("alias", "evidence")
    run = "toy.work:gate"

    def forecast(
        self, settings: GateSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Next to nothing."""
        return Forecast(Estimate.exact(1024**2), Estimate.exact(0.1))

    def settled(self, settings: GateSettings, standing: Standing) -> str | None:
        """The candidate is what the alias points to."""
        if standing.digests.get("candidate") == standing.aliases.get(settings.alias):
            return f"already {settings.alias}"
        return None


class CloudSettings(Settings):
    """Settings of `toy_cloud`."""

    path: str
    """A file that plays the outside world."""
    size: int = 1
    """Can be changed in place."""
    source: Ref[Text] | None = None
    """A text it is made from."""
    witness: Annotated[str | None, execution] = None
    """A file to which each effect is appended."""


class Cloud(ExternalKind[CloudSettings]):
    """A thing outside the store."""

    name = "toy_cloud"
    section = "storage"
    settings = CloudSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"text": Text}
    create = "toy.work:create"
    update = "toy.work:update"
    delete = "toy.work:delete"

    def forecast(
        self, settings: CloudSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Next to nothing."""
        return Forecast(Estimate.exact(1024**2), Estimate.exact(0.1))


def digest(text: str) -> str:
    """Short name of a text."""
    return sha256(text.encode()).hexdigest()[:12]
