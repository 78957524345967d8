"""What a step's inputs are when its turn comes: what the plan could not know is known by then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aifw.kind import Facts, Standing
from aifw.plan.model import Step
from aifw.plan.snapshot import Snapshot
from aifw.run.outcome import Result
from aifw.spec.models import Resource
from aifw.state.store import Store


@dataclass(frozen=True, slots=True)
class Resolved:
    """An input that is there.

    Attributes:
        address: Of its maker, or `@alias`.
        artifact: That holds it; empty for what an external thing stands for.
        path: Folder of the output.
        digest: Of the output.
    """

    address: str
    artifact: str
    path: str
    facts: Facts
    digest: str


class Inputs:
    """Resolves inputs against the state and the results of the run so far."""

    def __init__(self, store: Store, snapshot: Snapshot, results: Mapping[str, Result]) -> None:
        self._store = store
        self._snapshot = snapshot
        self._results = results
        self._verified: set[str] = set()

    def of(self, step: Step) -> dict[str, Resolved]:
        """Where each input of a step lies now, by field."""
        found: dict[str, Resolved] = {}
        for planned in step.inputs:
            fixed = planned.artifact if planned.alias is not None else None
            artifact = fixed or self._results[planned.address].artifact
            if not artifact:
                digest = f"external:{self._results[planned.address].key}.{planned.output}"
                found[planned.field] = Resolved(planned.address, "", "", self.external_facts(planned.address), digest)
                continue
            ((digest, facts),) = self._store.rows(
                "select digest, facts from output where artifact = ? and name = ?", artifact, planned.output
            )
            found[planned.field] = Resolved(
                address=f"@{planned.alias}" if planned.alias else planned.address,
                artifact=artifact,
                path=str(self._store.artifacts.path(artifact) / planned.output),
                facts=json.loads(facts),
                digest=digest,
            )
        return found

    def external_facts(self, address: str) -> dict[str, Any]:
        """What is recorded about an external thing."""
        rows = self._store.rows("select facts from binding where address = ?", address)
        found: dict[str, Any] = json.loads(rows[0][0]) if rows else {}
        return found

    def known(self, resource: Resource, key: str) -> str | None:
        """An artifact made before under this key: an input changed, but not what matters of it. Empty for an external thing that stands."""
        if resource.kind.family != "artifact":
            binding = self._snapshot.bindings.get(resource.address)
            return "" if binding is not None and binding.key == key else None
        rows = self._store.rows(
            "select m.artifact from made m join artifact a on a.digest = m.artifact where m.key = ? and a.damage = ''",
            key,
        )
        return rows[0][0] if rows and self._store.artifacts.path(rows[0][0]).is_dir() else None

    def settled(self, step: Step, resource: Resource, inputs: Mapping[str, Resolved]) -> str | None:
        """The artifact a resource keeps because its kind says that nothing remains to be decided."""
        binding = self._snapshot.bindings.get(step.address)
        if binding is None or not binding.artifact:
            return None
        standing = Standing(
            digests={field: each.digest for field, each in inputs.items()},
            aliases={name: pointer.digest for name, pointer in self._snapshot.aliases.items()},
            through_alias={each.field: each.alias for each in step.inputs if each.alias is not None},
        )
        return binding.artifact if resource.kind.settled(resource.settings, standing) is not None else None

    def damage(self, artifact: str) -> str:
        """Verify an input's bytes before they are used, once per run; says what is wrong, or nothing."""
        if not artifact or artifact in self._verified:
            return ""
        damage = self._store.artifacts.damage(artifact)
        if damage:
            self._store.mark_damaged(artifact, damage)
        else:
            self._verified.add(artifact)
        return damage

    def can_be_remade(self, artifact: str) -> bool:
        """Whether some resource of the spec stands for this artifact."""
        return bool(self._store.rows("select 1 from binding where artifact = ? limit 1", artifact))
