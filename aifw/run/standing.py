"""What follows once a resource stands: it is bound to its address, aliases that start with it are set, a verdict is carried out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aifw.plan.identity import described_inputs
from aifw.plan.model import PENDING, Step
from aifw.plan.snapshot import Binding, Pointer, Snapshot
from aifw.plan.verdict import consequence
from aifw.run.events import Events
from aifw.run.outcome import Result
from aifw.spec.models import Resource, Spec
from aifw.state import aliases
from aifw.state.store import Store


class Standings:
    """Writes results into the state of a run."""

    def __init__(
        self, spec: Spec, snapshot: Snapshot, store: Store, run: int, events: Events, results: dict[str, Result]
    ) -> None:
        self._spec = spec
        self._snapshot = snapshot
        self._store = store
        self._run = run
        self._events = events
        self._results = results

    def keep(self, step: Step, resource: Resource, artifact: str, key: str, digests: Mapping[str, str]) -> None:
        """A resource stands for something that was there before; `digests` are those of its inputs, by field."""
        before = self._snapshot.bindings.get(step.address)
        if before is None or (before.artifact, before.key, before.identity_json) != (artifact, key, step.identity):
            kind = resource.kind
            inputs = described_inputs({each.field: (each.source, digests[each.field]) for each in step.inputs})
            binding = Binding(step.address, kind.name, kind.family, artifact, key, step.recipe, step.identity, inputs)
            rows = self._store.rows("select facts from artifact where digest = ?", artifact)
            self._store.bind(binding, json.loads(rows[0][0]) if rows else {}, self._run)
        if step.action in PENDING and not step.effect_only:
            self._events.emit("resource.reused", step.address, artifact=artifact)
        self._stand(
            step, resource, Result("unchanged", artifact, key), judged=step.effect_only or step.action in PENDING
        )

    def made(self, step: Step, resource: Resource, artifact: str, key: str) -> None:
        """A job made it in this run; it is bound already."""
        self._stand(step, resource, Result("done", artifact, key), judged=True)

    def _stand(self, step: Step, resource: Resource, result: Result, *, judged: bool) -> None:
        self._results[step.address] = result
        for name, reference in self._spec.aliases.items():
            if reference.address == step.address and name not in self._snapshot.aliases:
                pointer = self._pointer(step.address, result.artifact, reference.output)
                if aliases.initialise(self._store, name, pointer, self._run):
                    self._events.emit("alias.moved", step.address, alias=name, before=None, after=pointer.label)
        if judged and resource.kind.moves_alias is not None:
            self._judge(step, resource, result)

    def _judge(self, step: Step, resource: Resource, result: Result) -> None:
        assert resource.kind.moves_alias is not None
        alias_field, candidate_field = resource.kind.moves_alias
        name = str(getattr(resource.settings, alias_field))
        verdict = self._verdict(result.artifact)
        if verdict is None:
            return
        planned = next(each for each in step.inputs if each.field == candidate_field)
        candidate = self._pointer(
            planned.address, planned.artifact or self._results[planned.address].artifact, planned.output
        )
        current = self._store.aliases().get(name)
        label = current.label if current is not None else None
        quarantined = dict(self._store.rows("select digest, reason from quarantine"))
        outcome = consequence(verdict, current, candidate.digest, quarantined)
        reason = outcome.text
        if outcome.outcome == "move":
            incumbent = current.digest if current is not None else None
            reason = aliases.promote(self._store, name, incumbent, candidate, self._run, verdict)
            if not reason:
                self._results[step.address] = replace(result, status="moved")
                self._events.emit(
                    "alias.moved", step.address, alias=name, before=label, after=candidate.label, verdict=verdict
                )
                return
        if outcome.outcome != "done":
            self._results[step.address] = replace(result, status="held", fresh_verdict=result.status == "done")
            self._events.emit("alias.held", step.address, alias=name, current=label, reason=reason, verdict=verdict)

    def _verdict(self, artifact: str) -> dict[str, Any] | None:
        for (facts,) in self._store.rows("select facts from output where artifact = ?", artifact):
            verdict: dict[str, Any] | None = json.loads(facts).get("verdict")
            if verdict is not None:
                return verdict
        return None

    def _pointer(self, address: str, artifact: str, output: str) -> Pointer:
        ((digest,),) = self._store.rows("select digest from output where artifact = ? and name = ?", artifact, output)
        return Pointer(artifact, output, digest, aliases.label(address, digest))
