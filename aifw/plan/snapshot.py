"""Everything a plan depends on beside the spec, as one value. The state fills it; the planner only reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aifw.hardware.machine import Machine
from aifw.kind import Facts, History, Observation


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """A named output of an artifact: digest of its content, and its facts as JSON text."""

    digest: str
    facts_json: str = "{}"

    @property
    def facts(self) -> Facts:
        """Parsed on demand: a plan of thousands of unchanged resources needs none."""
        found: dict[str, Any] = json.loads(self.facts_json)
        return found


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """An artifact of the store.

    Attributes:
        damage: What is wrong with its bytes, or empty.
    """

    digest: str
    kind: str
    outputs: Mapping[str, OutputRecord]
    damage: str = ""


UNRECORDED = "unrecorded"
"""Key of a binding to an external thing that an interrupted run may have changed."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What an address stood for after the last run that touched it.

    Attributes:
        family: Of its kind.
        artifact: Digest; empty for an external resource.
        key: Of what it was made from; empty for an external thing that an interrupted run may have created or deleted.
        identity_json: The identity it was made under, for telling what changed.
        inputs_json: By field, what each reference meant and the digest of that output, for the same purpose.
    """

    address: str
    kind: str
    family: str
    artifact: str
    key: str
    recipe: str
    identity_json: str = "{}"
    inputs_json: str = "{}"


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where an alias points: an output of an artifact."""

    artifact: str
    output: str
    digest: str
    label: str = ""


@dataclass(frozen=True)
class Snapshot:
    """The world at planning time.

    Attributes:
        serial: Counts changes of the state.
        machine: What the probe found.
        observations: Of resources whose kind observes something, by address.
        bindings: By address.
        made: Artifact digest by key.
        artifacts: By digest.
        aliases: By name.
        quarantined: Output digests that may not be promoted, and why.
        checkpoints: Last checkpointed step by key of an unfinished job.
        history: Finished jobs by kind.
    """

    machine: Machine
    serial: int = 0
    observations: Mapping[str, Observation] = field(default_factory=dict)
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, ArtifactRecord] = field(default_factory=dict)
    aliases: Mapping[str, Pointer] = field(default_factory=dict)
    quarantined: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, int] = field(default_factory=dict)
    history: Mapping[str, History] = field(default_factory=dict)
