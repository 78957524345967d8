"""The planner: a pure function from a spec and a snapshot to a plan. No clock, disk, network or randomness."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from aifw.errors import Refused, UsageError
from aifw.kind import Kind, Standing
from aifw.plan.graph import edges, order, upstream
from aifw.plan.identity import combine, differences, input_differences, own_identity
from aifw.plan.model import PENDING, Action, AliasChange, Plan, PlannedInput, Reason, Step, Totals
from aifw.plan.needs import beyond, capacity, memory_budget
from aifw.plan.snapshot import UNRECORDED, Binding, Snapshot
from aifw.plan.verdict import consequence
from aifw.spec.models import Resource, Spec

if TYPE_CHECKING:
    from aifw.plan.expect import Expectations


def compile(  # noqa: A001 - the word of the design
    spec: Spec, snapshot: Snapshot, *, targets: Collection[str] = (), replaced: Collection[str] = ()
) -> Plan:
    """Decide what has to change.

    Args:
        spec: A valid spec.
        snapshot: The world as it is.
        targets: Addresses to limit the plan to, with what they wait for; empty for all.
        replaced: Addresses to make again although nothing changed.

    Raises:
        UsageError: A target or replaced address is not in the spec.
        MemoryRefused: A job needs more memory than the budget.
        Refused: A job has nowhere to run with the devices that are here and the spec allows, or an external thing would be lost
            sight of.
    """
    for address in (*targets, *replaced):
        if address in replaced and address in spec.resources and spec.resources[address].kind.family != "artifact":
            raise UsageError(
                f"{address} lives outside the store and cannot be made again in place",
                hint="take it out of the spec, apply with --allow-delete, and put it back",
            )
        if address not in spec.resources:
            raise UsageError(f"there is no resource `{address}` in the spec", hint="`aifw graph` shows what there is")
    waits_for = edges(spec, _standing_aliases(spec, snapshot))
    wanted = upstream(waits_for, targets) if targets else frozenset(spec.resources)
    planner = _Planner(spec, snapshot, frozenset(replaced))
    for address in order(waits_for):
        if address in wanted:
            planner.add(spec.resources[address], waits_for[address])
    steps = list(planner.steps.values())
    if not targets:
        steps.extend(
            _removed(binding) for address, binding in sorted(snapshot.bindings.items()) if address not in spec.resources
        )
    steps, totals, warnings = _timed(spec, snapshot, steps)
    return Plan(
        name=spec.name,
        spec=spec.digest,
        serial=snapshot.serial,
        machine=snapshot.machine.name,
        steps=tuple(steps),
        aliases=tuple(
            AliasChange(name, reference.address)
            for name, reference in sorted(spec.aliases.items())
            if name not in snapshot.aliases and reference.address in planner.steps
        ),
        totals=totals,
        targets=tuple(sorted(targets)),
        replaced=tuple(sorted(replaced)),
        warnings=warnings,
    )


def _standing_aliases(spec: Spec, snapshot: Snapshot) -> frozenset[str]:
    """Aliases that need nobody to run first: set, and not to damaged bytes that their first resource will make again."""
    return frozenset(
        name
        for name, pointer in snapshot.aliases.items()
        if name not in spec.aliases
        or (record := snapshot.artifacts.get(pointer.artifact)) is None
        or not record.damage
        or (binding := snapshot.bindings.get(spec.aliases[name].address)) is None
        or binding.artifact != pointer.artifact
    )


class _Planner:
    """Plans one resource after another, each after what it waits for."""

    def __init__(self, spec: Spec, snapshot: Snapshot, replaced: frozenset[str]) -> None:
        self.spec = spec
        self.snapshot = snapshot
        self.replaced = replaced
        self.steps: dict[str, Step] = {}
        self.makers: dict[str, str] = {}
        self.alias_digests = {name: pointer.digest for name, pointer in snapshot.aliases.items()}

    @cached_property
    def expectations(self) -> Expectations:
        """Made for the first job: a plan without any needs no matrix, no forecast and no schedule."""
        from aifw.plan.expect import Expectations

        return Expectations(self.spec, self.snapshot)

    def add(self, resource: Resource, after: tuple[str, ...]) -> None:
        """Decide about one resource."""
        inputs, recipes = self._inputs(resource)
        own = own_identity(resource, self.snapshot.observations.get(resource.address), self.spec.seed)
        digests = {each.field: each.digest for each in inputs if each.digest is not None}
        key = combine(own, digests) if len(digests) == len(inputs) else None
        step = Step(
            address=resource.address,
            kind=resource.kind.name,
            action=Action.REUSE,
            reasons=(),
            identity=own,
            recipe=combine(own, recipes),
            key=key,
            inputs=inputs,
            after=after,
        )
        step = self._decide(step, resource, own, digests)
        if step.action is Action.REUSE and resource.kind.moves_alias is not None:
            step = self._judge(step, resource)
        if step.action in PENDING and not step.effect_only:
            twin = self._twin(step, resource)
            if twin is not None:
                step = self._after_twin(step, twin)
            if twin is None or step.address in self.replaced:
                step = self.expectations.placed(step, resource, self.steps)
        self.steps[resource.address] = step

    def _twin(self, step: Step, resource: Resource) -> str | None:
        """A resource before this one that will make the very same."""
        if resource.kind.family != "artifact":
            return None
        first = self.makers.setdefault(step.key or step.recipe, step.address)
        return None if first == step.address else first

    def _after_twin(self, step: Step, twin: str) -> Step:
        """Let a resource wait for the other: what it needs is then there, and two jobs never share checkpoints."""
        self.expectations.alike(step.address, twin)
        reasons = (*step.reasons, Reason("input", f"the same as {twin}"))
        return replace(step, after=tuple(sorted({*step.after, twin})), reasons=reasons)

    def _inputs(self, resource: Resource) -> tuple[tuple[PlannedInput, ...], dict[str, str]]:
        inputs: list[PlannedInput] = []
        recipes: dict[str, str] = {}
        for reference in resource.references:
            pointer = self.snapshot.aliases.get(reference.alias) if reference.alias is not None else None
            if pointer is not None:
                recipes[reference.field] = pointer.digest
                inputs.append(
                    PlannedInput(
                        reference.field,
                        reference.address,
                        pointer.output,
                        reference.alias,
                        pointer.digest,
                        pointer.artifact,
                        f"@{reference.alias}",
                    )
                )
                continue
            maker = self.steps[reference.address]
            recipes[reference.field] = f"{maker.recipe}.{reference.output}"
            digest = artifact = None
            if maker.action not in PENDING or maker.effect_only:
                artifact = maker.artifact
                digest = self._output_digest(maker, reference.output)
            several = len(self.spec.resources[reference.address].kind.produces) > 1
            source = f"{reference.address}.{reference.output}" if several else reference.address
            if reference.alias is not None:
                source = f"@{reference.alias}"
            inputs.append(
                PlannedInput(
                    reference.field, reference.address, reference.output, reference.alias, digest, artifact, source
                )
            )
        return tuple(inputs), recipes

    def _output_digest(self, maker: Step, output: str) -> str:
        if not maker.artifact:
            # An external resource has no content in the store: who uses it depends on what it was made from.
            return f"external:{maker.key}.{output}"
        return self.snapshot.artifacts[maker.artifact].outputs[output].digest

    def _decide(self, step: Step, resource: Resource, own: str, digests: Mapping[str, str]) -> Step:
        binding = self.snapshot.bindings.get(resource.address)
        if binding is not None and binding.kind != resource.kind.name and binding.family == "external":
            raise Refused(
                f"{resource.address} stands for a {binding.kind} that exists outside the store; as a {resource.kind.name} it would be lost sight of",
                hint="give the new one another name: the old one is then deleted when you allow it",
            )
        if binding is not None and not binding.key:
            # Its creation or deletion was begun and never recorded: it is created again, which under the same key adopts what is there.
            binding = None
        if binding is not None and binding.kind != resource.kind.name:
            binding = replace(binding, artifact="")
        if binding is not None and binding.artifact:
            # Also what will be made again keeps its former artifact: forecasts of dependants look at its facts.
            step = replace(step, artifact=binding.artifact)
        damage = self._damage(binding)
        if resource.address in self.replaced:
            return replace(step, action=Action.REPLACE, reasons=(Reason("asked", "asked for with --replace"),))
        stands = binding is not None and not damage and binding.artifact in self.snapshot.artifacts
        if binding is not None and stands and step.key is not None and self.snapshot.made.get(step.key) is None:
            standing = Standing(
                digests, self.alias_digests, {each.field: each.alias for each in step.inputs if each.alias is not None}
            )
            settled = resource.kind.settled(resource.settings, standing)
            if settled is not None:
                return replace(step, artifact=binding.artifact, key=binding.key, reasons=(Reason("alias", settled),))
        if step.key is not None:
            return self._decide_known(step, resource, own, binding, damage)
        if binding is None:
            return replace(step, action=Action.CREATE, reasons=(Reason("new", "new"),))
        if damage:
            return replace(step, action=Action.REPLACE, reasons=(Reason("damage", damage),))
        changed = self._changes(step, resource, own, binding)
        pending = [each.address for each in step.inputs if each.digest is None]
        # Other inputs alone do not make it certain where the kind may find that nothing remains to be done.
        settles = type(resource.kind).settled is not Kind.settled
        if changed and not (settles and all(each.about == "input" for each in changed)):
            return replace(step, action=Action.UPDATE, reasons=changed)
        names = " or ".join(dict.fromkeys(pending))
        return replace(step, action=Action.MAYBE, reasons=(Reason("input", f"only if {names} changes"),))

    def _decide_known(self, step: Step, resource: Resource, own: str, binding: Binding | None, damage: str) -> Step:
        assert step.key is not None
        if resource.kind.family != "artifact":
            if binding is not None and binding.key == step.key:
                return step
        else:
            known = self.snapshot.made.get(step.key)
            record = self.snapshot.artifacts.get(known) if known is not None else None
            if record is not None and not record.damage:
                again = binding is None or binding.artifact != known
                return replace(
                    step, artifact=known, reasons=(Reason("input", "the same was made before"),) if again else ()
                )
            if record is not None:
                damage = record.damage
        reasons = self._changes(step, resource, own, binding)
        if damage and not reasons:
            return replace(step, action=Action.REPLACE, reasons=(Reason("damage", damage),))
        checkpoint = self.snapshot.checkpoints.get(step.key)
        if checkpoint is not None:
            reasons = (Reason("checkpoint", f"goes on from step {checkpoint}"), *reasons)
            return replace(step, action=Action.RESUME, reasons=reasons)
        if binding is None:
            return replace(step, action=Action.CREATE, reasons=(Reason("new", "new"),))
        if not reasons:
            there = binding.artifact in self.snapshot.artifacts
            reasons = (
                (Reason("observation", "what it reads changed while it was made"),)
                if there
                else (Reason("input", "its artifact is no longer in the store"),)
            )
        return replace(step, action=Action.UPDATE, reasons=reasons)

    def _changes(self, step: Step, resource: Resource, own: str, binding: Binding | None) -> tuple[Reason, ...]:
        if binding is None:
            return ()
        found = differences(binding.identity_json, own, type(resource.settings))
        if binding.key == UNRECORDED:
            found.append(Reason("damage", "an interrupted run may have changed it"))
        if step.key != binding.key:
            found.extend(input_differences(binding.inputs_json, step.inputs))
        return tuple(found)

    def _damage(self, binding: Binding | None) -> str:
        if binding is None or not binding.artifact:
            return ""
        record = self.snapshot.artifacts.get(binding.artifact)
        return record.damage if record is not None else ""

    def _judge(self, step: Step, resource: Resource) -> Step:
        assert resource.kind.moves_alias is not None
        assert step.artifact is not None
        alias_field, candidate_field = resource.kind.moves_alias
        candidate = next(each for each in step.inputs if each.field == candidate_field)
        verdict = next(
            (
                found
                for output in self.snapshot.artifacts[step.artifact].outputs.values()
                if (found := output.facts.get("verdict"))
            ),
            None,
        )
        if verdict is None or candidate.digest is None:
            return step
        pointer = self.snapshot.aliases.get(getattr(resource.settings, alias_field))
        outcome = consequence(verdict, pointer, candidate.digest, self.snapshot.quarantined)
        if outcome.outcome == "held":
            return replace(step, action=Action.HELD, reasons=(Reason("verdict", outcome.text),))
        if outcome.outcome == "move":
            return replace(step, action=Action.UPDATE, effect_only=True, reasons=(Reason("verdict", outcome.text),))
        return step


def _removed(binding: Binding) -> Step:
    action = Action.FORGET if binding.family == "artifact" else Action.DELETE
    return Step(
        address=binding.address,
        kind=binding.kind,
        action=action,
        reasons=(Reason("removed", "no longer in the spec"),),
        recipe=binding.recipe,
        key=binding.key,
        artifact=binding.artifact or None,
    )


def _timed(spec: Spec, snapshot: Snapshot, steps: list[Step]) -> tuple[list[Step], Totals, tuple[str, ...]]:
    """The steps with their starts, what all of them take, and what the user should know before."""
    if all(step.forecast is None for step in steps):
        return steps, Totals(0, "", memory_budget(spec, snapshot), 0, 0, 0, 0, 0), ()
    from aifw.plan.timetable import cautions, timed

    limits = capacity(spec, snapshot)
    warnings = (*beyond(spec, snapshot), *cautions(steps, limits))
    return *timed(spec, steps, limits), warnings
