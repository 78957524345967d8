"""A world in which applying a plan is a pure function, for tests of the planner.

Artifacts have contents here as they would on disk: the texts that the toy kinds would write. Digests follow from contents alone.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.kind import Observation, Standing
from aifw.plan.compile import compile  # noqa: A004 - the word of the design
from aifw.plan.identity import canonical, combine, described_inputs
from aifw.plan.model import PENDING, Action, Plan, Step
from aifw.plan.snapshot import ArtifactRecord, Binding, OutputRecord, Pointer, Snapshot
from aifw.plan.verdict import consequence
from aifw.spec.load import load
from aifw.spec.models import Reference, Resource, Spec

GIB = 1024**3
MIB = 1024**2


def machine(memory: int = 64 * GIB, cores: int = 4) -> Machine:
    return Machine("tested", Cpu("unknown", cores), Memory(memory, memory))


def spec_of(sections: Mapping[str, Any], **header: Any) -> Spec:
    """Load a spec from data; JSON is YAML."""
    data = {"apiVersion": "aifw/v1", "kind": "Stack", "metadata": {"name": "tested"}, **header, **sections}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.yaml"
        path.write_text(json.dumps(data))
        return load([path], environment={})


def stages(**resources: Any) -> dict[str, Any]:
    return {"stages": {name: {"kind": "toy", **settings} for name, settings in resources.items()}}


def with_kind(spec: Spec, address: str, kind: Any) -> Spec:
    """The same spec with another implementation of a kind."""
    resources = {
        each.address: replace(each, kind=kind) if each.address == address else each for each in spec.resources.values()
    }
    return replace(spec, resources=resources)


@dataclass(frozen=True)
class World:
    """State, artifacts with their contents, and aliases."""

    machine: Machine = field(default_factory=machine)
    serial: int = 0
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, ArtifactRecord] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, Pointer] = field(default_factory=dict)
    quarantined: Mapping[str, str] = field(default_factory=dict)
    observations: Mapping[str, Observation] = field(default_factory=dict)
    checkpoints: Mapping[str, int] = field(default_factory=dict)
    ran: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    def snapshot(self) -> Snapshot:
        return Snapshot(
            machine=self.machine,
            serial=self.serial,
            observations=self.observations,
            bindings=self.bindings,
            made=self.made,
            artifacts=self.artifacts,
            aliases=self.aliases,
            quarantined=self.quarantined,
            checkpoints=self.checkpoints,
        )

    def plan(self, spec: Spec, **options: Any) -> Plan:
        return compile(spec, self.snapshot(), **options)

    def apply(self, spec: Spec, plan: Plan | None = None) -> World:
        """What the world is after a plan was carried out; `ran` says which jobs had to run, `moved` which aliases moved."""
        return _Application(self, spec, plan or self.plan(spec)).result()

    def damage(self, address: str, what: str = "text/text.txt is corrupted") -> World:
        digest = self.bindings[address].artifact
        return replace(self, artifacts={**self.artifacts, digest: replace(self.artifacts[digest], damage=what)})

    def rollback(self, alias: str, to: str) -> World:
        """Point an alias to what an address stands for, and quarantine what it leaves."""
        artifact = self.bindings[to].artifact
        ((output, record),) = self.artifacts[artifact].outputs.items()
        left = self.aliases[alias].digest
        return replace(
            self,
            serial=self.serial + 1,
            aliases={**self.aliases, alias: Pointer(artifact, output, record.digest, "former")},
            quarantined={**self.quarantined, left: f"rolled back from {alias}"},
        )


class _Application:
    def __init__(self, world: World, spec: Spec, plan: Plan) -> None:
        self.world = world
        self.spec = spec
        self.plan = plan
        self.bindings = dict(world.bindings)
        self.made = dict(world.made)
        self.artifacts = dict(world.artifacts)
        self.contents = dict(world.contents)
        self.aliases = dict(world.aliases)
        self.ran: list[str] = []
        self.moved: list[str] = []

    def result(self) -> World:
        for step in self.plan.steps:
            self._carry_out(step)
        return replace(
            self.world,
            serial=self.world.serial + 1,
            bindings=self.bindings,
            made=self.made,
            artifacts=self.artifacts,
            contents=self.contents,
            aliases=self.aliases,
            checkpoints={},
            ran=tuple(self.ran),
            moved=tuple(self.moved),
        )

    def _carry_out(self, step: Step) -> None:
        if step.action in {Action.FORGET, Action.DELETE}:
            del self.bindings[step.address]
            return
        resource = self.spec.resources[step.address]
        if step.action not in PENDING or step.effect_only:
            assert step.key is not None
            digests = {each.field: each.digest or "" for each in step.inputs}
            self._bind(step, resource, step.artifact or "", step.key, digests)
            if step.effect_only:
                self._judge(step, resource)
            return
        inputs = {each.field: self._input(each.field, step) for each in step.inputs}
        digests = {field: digest for field, (digest, _) in inputs.items()}
        key = combine(step.identity, digests)
        if resource.kind.family != "artifact":
            if self._bound_key(step.address) != key:
                self.ran.append(step.address)
            self._bind(step, resource, "", key, digests)
            return
        artifact = self._known(step, resource, key, digests)
        if artifact is None:
            self.ran.append(step.address)
            artifact = self._make(resource, inputs)
            self.made[key] = artifact
        self._bind(step, resource, artifact, key, digests)
        self._judge(step, resource)

    def _bound_key(self, address: str) -> str | None:
        return self.bindings[address].key if address in self.bindings else None

    def _known(self, step: Step, resource: Resource, key: str, digests: Mapping[str, str]) -> str | None:
        if step.address in self.plan.replaced:
            return None
        known = self.made.get(key)
        if known is not None and not self.artifacts[known].damage:
            return known
        binding = self.world.bindings.get(step.address)
        if binding is None or binding.kind != resource.kind.name or self.artifacts[binding.artifact].damage:
            return None
        standing = Standing(
            digests,
            {name: pointer.digest for name, pointer in self.world.aliases.items()},
            {each.field: each.alias for each in step.inputs if each.alias is not None},
        )
        return binding.artifact if resource.kind.settled(resource.settings, standing) is not None else None

    def _input(self, field_name: str, step: Step) -> tuple[str, str]:
        """Digest and content of an input."""
        planned = next(each for each in step.inputs if each.field == field_name)
        artifact = planned.artifact
        if artifact is None:
            artifact = self.bindings[planned.address].artifact
        if not artifact:
            return f"external:{self.bindings[planned.address].key}.{planned.output}", planned.address
        digest = self.artifacts[artifact].outputs[planned.output].digest
        return digest, self.contents[digest]

    def _make(self, resource: Resource, inputs: Mapping[str, tuple[str, str]]) -> str:
        outputs = {name: self._put(*made) for name, made in _toy(resource, inputs).items()}
        content = canonical([resource.kind.name, {name: record.digest for name, record in outputs.items()}])
        digest = sha256(content.encode()).hexdigest()
        self.artifacts[digest] = ArtifactRecord(digest, resource.kind.name, outputs)
        return digest

    def _put(self, text: str, facts: Mapping[str, Any]) -> OutputRecord:
        digest = sha256(canonical([text, facts]).encode()).hexdigest()
        self.contents[digest] = text
        return OutputRecord(digest, json.dumps(facts))

    def _bind(self, step: Step, resource: Resource, artifact: str, key: str, digests: Mapping[str, str]) -> None:
        kind = resource.kind
        inputs = described_inputs({each.field: (each.source, digests[each.field]) for each in step.inputs})
        self.bindings[step.address] = Binding(
            step.address, kind.name, kind.family, artifact, key, step.recipe, step.identity, inputs
        )
        for name, reference in self.spec.aliases.items():
            if reference.address == step.address and name not in self.aliases:
                self.aliases[name] = self._pointer(artifact, reference)

    def _pointer(self, artifact: str, reference: Reference) -> Pointer:
        return Pointer(artifact, reference.output, self.artifacts[artifact].outputs[reference.output].digest)

    def _judge(self, step: Step, resource: Resource) -> None:
        if resource.kind.moves_alias is None:
            return
        name = getattr(resource.settings, resource.kind.moves_alias[0])
        candidate = next(each for each in resource.references if each.field == resource.kind.moves_alias[1])
        planned = next(each for each in step.inputs if each.field == candidate.field)
        artifact = planned.artifact or self.bindings[candidate.address].artifact
        record = self.artifacts[self.bindings[step.address].artifact]
        verdict = record.outputs["decision"].facts["verdict"]
        pointer = self._pointer(artifact, replace(candidate, output=planned.output))
        outcome = consequence(verdict, self.aliases.get(name), pointer.digest, self.world.quarantined)
        if outcome.outcome == "move":
            self.aliases[name] = pointer
            self.moved.append(name)


def _toy(resource: Resource, inputs: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Text and facts of every output, as `toy.work` would leave them."""
    settings: Any = resource.settings
    if resource.kind.name == "toy_pair":
        return {"left": (settings.left, {}), "right": (settings.right, {})}
    if resource.kind.name == "toy_gate":
        candidate, baseline = inputs["candidate"], inputs["baseline"]
        longer = len(candidate[1]) > len(baseline[1])
        verdict = {
            "promote": longer,
            "alias": settings.alias,
            "candidate": candidate[0],
            "incumbent": baseline[0],
            "summary": "longer" if longer else "not longer",
        }
        return {"decision": ("", {"verdict": verdict})}
    text = settings.text + "".join(content for _, content in inputs.values())
    if settings.only_length:
        return {"text": (str(len(text)), {})}
    return {"text": (text, {"length": len(text)})}
