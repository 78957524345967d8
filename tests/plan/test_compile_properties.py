"""Properties of plans over random specs, worlds and histories of edits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from world import MIB, World, machine, spec_of, with_kind

from aifw.plan import planfile
from aifw.plan.compile import _standing_aliases
from aifw.plan.graph import edges, upstream
from aifw.plan.model import CERTAIN, Action, Plan, Step
from aifw.plan.needs import capacity
from aifw.spec.models import Spec

pytestmark = pytest.mark.usefixtures("toy_kinds")
thorough = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

BUDGET = 100 * MIB
TEXTS = st.sampled_from(["", "a", "b", "cc", "dddd"])
EXECUTION: dict[str, st.SearchStrategy[Any]] = {
    "memory": st.integers(0, BUDGET),
    "pause": st.sampled_from([0.0, 0.5, 3.0, 20.0]),
    "cores": st.integers(1, 3),
}


@st.composite
def toys(draw: st.DrawFn, sources: list[str]) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(sources), max_size=3)) if sources else []
    return {
        "kind": "toy",
        "text": draw(TEXTS),
        "sources": chosen,
        "only_length": draw(st.booleans()),
        "steps": draw(st.integers(0, 3)),
        **{name: draw(values) for name, values in EXECUTION.items()},
    }


@dataclass(frozen=True)
class Written:
    """A spec as data: resources in an order in which each refers to earlier ones only."""

    resources: dict[str, dict[str, Any]]
    aliased: bool
    threads: int

    def spec(self, order: list[str] | None = None, **header: Any) -> Spec:
        names = order or list(self.resources)
        sections: dict[str, dict[str, Any]] = {}
        for name in names:
            entry = dict(self.resources[name])
            section = "storage" if entry["kind"] == "toy_cloud" else "stages"
            sections.setdefault(section, {})[name] = entry
        hardware = {"memory": {"budget": BUDGET, "reserve": 0}, "threads": self.threads}
        aliases = {"champion": {"initial": "r0"}} if self.aliased else {}
        return spec_of(sections, **{"hardware": hardware, "aliases": aliases, **header})

    def change(self, name: str, **changes: Any) -> Written:
        return replace(self, resources={**self.resources, name: {**self.resources[name], **changes}})

    def texts(self) -> list[str]:
        """Names of resources that have a text to change."""
        return [name for name, entry in self.resources.items() if entry["kind"] == "toy"]


@st.composite
def written(draw: st.DrawFn, gates: bool = False) -> Written:
    """Mostly texts made of earlier texts; some pairs, things outside the store, and gates."""
    resources: dict[str, dict[str, Any]] = {"r0": draw(toys([]))}
    sources = ["r0"]
    aliased = gates or draw(st.booleans())
    for index in range(1, draw(st.integers(2, 8))):
        name = f"r{index}"
        kind = draw(st.sampled_from(["toy", "toy", "toy", "toy_pair", "toy_cloud", *(["toy_gate"] if gates else [])]))
        if kind == "toy":
            resources[name] = draw(toys([*sources, "@champion"] if aliased else sources))
            sources.append(name)
        elif kind == "toy_pair":
            resources[name] = {"kind": kind, "left": draw(TEXTS), "right": draw(TEXTS)}
            sources += [f"{name}.left", f"{name}.right"]
        elif kind == "toy_cloud":
            resources[name] = {"kind": kind, "path": name, "size": draw(st.integers(1, 2))}
            sources.append(name)
        else:
            candidates = [
                each
                for each in sources
                if not each.startswith("r") or resources[each.partition(".")[0]]["kind"] != "toy_cloud"
            ]
            resources[name] = {
                "kind": kind,
                "candidate": draw(st.sampled_from(candidates)),
                "baseline": "@champion",
                "alias": "champion",
            }
    return Written(resources, aliased, draw(st.integers(1, 4)))


@st.composite
def edited(draw: st.DrawFn, one: Written) -> Written:
    """One change such as a person makes between two runs."""
    name = draw(st.sampled_from(one.texts()))
    how = draw(st.sampled_from(["text", "only_length", "sources", "execution", "remove", "threads"]))
    if how == "text":
        return one.change(name, text=draw(TEXTS))
    if how == "only_length":
        return one.change(name, only_length=draw(st.booleans()))
    if how == "sources":
        return one.change(name, sources=one.resources[name]["sources"][1:])
    if how == "execution":
        return one.change(name, **{field: draw(values) for field, values in EXECUTION.items()})
    if how == "threads":
        return replace(one, threads=draw(st.integers(1, 4)))
    last = list(one.resources)[-1]
    if last == "r0":
        return one
    return replace(one, resources={each: entry for each, entry in one.resources.items() if each != last})


@st.composite
def histories(draw: st.DrawFn, gates: bool = False) -> tuple[World, Written]:
    """A world some runs old, and the spec as it is now."""
    one = draw(written(gates))
    world = World(machine=machine(cores=4))
    for _ in range(draw(st.integers(0, 3))):
        world = world.apply(one.spec())
        one = draw(edited(one))
        if draw(st.integers(0, 3)) == 0 and world.bindings:
            bound = sorted(address for address, binding in world.bindings.items() if binding.artifact)
            world = world.damage(draw(st.sampled_from(bound)))
    return world, one


def actions(plan: Plan) -> dict[str, Action]:
    return {step.address: step.action for step in plan.steps}


@thorough
@given(histories())
def test_steps_come_after_what_they_wait_for(history: tuple[World, Written]) -> None:
    world, one = history
    plan = world.plan(one.spec())
    position = {step.address: index for index, step in enumerate(plan.steps)}
    assert len(position) == len(plan.steps)
    for step in plan.steps:
        for each in step.after:
            assert position[each] < position[step.address]
        for planned in step.inputs:
            assert planned.address in step.after or planned.alias is not None


@thorough
@given(histories())
def test_no_instant_of_the_schedule_needs_more_than_the_budget(history: tuple[World, Written]) -> None:
    world, one = history
    spec = one.spec()
    plan = world.plan(spec)
    limits = capacity(spec, world.snapshot())
    budget = limits["memory"]
    jobs = [step for step in plan.steps if step.forecast is not None]
    assert all((step.start is not None) == (step in jobs) for step in plan.steps)
    ends = {step.address: _end(step) for step in jobs}
    peak = 0
    for instant in {step.start for step in jobs}:
        assert instant is not None
        running = [step for step in jobs if step.start is not None and step.start <= instant < _end(step)]
        memory = sum(min(budget, round(step.forecast.memory.high)) for step in running if step.forecast is not None)
        peak = max(peak, memory)
        assert len(running) == 1 or memory <= budget
        assert len(running) <= limits["threads"]
    assert plan.totals.memory == peak
    assert plan.totals.seconds_mid == pytest.approx(max(ends.values(), default=0))
    for step in jobs:
        reached = upstream({each.address: each.after for each in plan.steps}, step.after)
        assert step.start is not None
        assert all(ends[each] <= step.start + 1e-9 for each in reached if each in ends)


def _end(step: Step) -> float:
    assert step.start is not None
    assert step.forecast is not None
    return step.start + step.forecast.seconds.mid


@thorough
@given(histories())
def test_totals_add_up_and_their_bounds_are_in_order(history: tuple[World, Written]) -> None:
    world, one = history
    plan = world.plan(one.spec())
    totals = plan.totals
    jobs = [step for step in plan.steps if step.forecast is not None]
    assert totals.seconds_low <= totals.seconds_mid <= totals.seconds_high
    assert totals.cost_low <= totals.cost_high
    sequential = sum(step.forecast.seconds.high for step in jobs if step.forecast is not None)
    assert totals.seconds_high <= sequential + 1e-9
    longest = [step.forecast.seconds.low for step in jobs if step.action in CERTAIN and step.forecast is not None]
    assert totals.seconds_low >= max(longest, default=0)
    assert (totals.memory_at == "") == (totals.memory == 0)


@thorough
@given(histories())
def test_a_plan_after_an_apply_is_empty(history: tuple[World, Written]) -> None:
    world, one = history
    spec = one.spec()
    after = world.apply(spec)
    plan = after.plan(spec)
    assert plan.empty, [(step.address, step.action, step.reasons) for step in plan.changes]
    assert not after.apply(spec, plan).ran


@thorough
@given(histories(gates=True))
def test_applies_come_to_rest_once_aliases_stay(history: tuple[World, Written]) -> None:
    world, one = history
    spec = one.spec()
    for _ in range(12):
        world = world.apply(spec)
        if not world.moved:
            break
    # A candidate made from the champion can always grow by another round: then there is no rest, by what the spec says.
    waits_for = {each: [reference.address for reference in spec.resources[each].references] for each in spec.resources}
    grows = {each for each, resource in spec.resources.items() if any(r.alias for r in resource.references)}
    candidates = [each for each, resource in spec.resources.items() if resource.kind.name == "toy_gate"]
    fed_back = any(
        upstream({key: tuple(value) for key, value in waits_for.items()}, [reference.address]) & grows
        for each in candidates
        for reference in spec.resources[each].references
        if reference.field == "candidate"
    )
    assume(not fed_back)
    plan = world.plan(spec)
    assert plan.empty, [(step.address, step.action, step.reasons) for step in plan.changes]


@thorough
@given(histories(gates=True), st.data())
def test_the_order_of_keys_changes_nothing(history: tuple[World, Written], data: st.DataObject) -> None:
    world, one = history
    spec = one.spec()
    names = data.draw(st.permutations(list(one.resources)))
    shuffled = replace(
        one, resources={name: dict(data.draw(st.permutations(list(one.resources[name].items())))) for name in names}
    )
    assert planfile.save(world.plan(shuffled.spec())) == planfile.save(world.plan(spec))


@thorough
@given(histories(), st.data())
def test_a_change_touches_only_what_depends_on_it(history: tuple[World, Written], data: st.DataObject) -> None:
    world, one = history
    world = world.apply(one.spec())
    name = data.draw(st.sampled_from(one.texts()))
    changed = one.change(name, text=data.draw(TEXTS)).spec()
    waits_for = edges(changed, world.aliases)
    dependants = {address for address in changed.resources if f"stages.{name}" in upstream(waits_for, [address])}
    plan = world.plan(changed)
    assert {step.address for step in plan.changes} <= dependants
    assert set(world.apply(changed, plan).ran) <= dependants


@thorough
@given(histories(), st.data())
def test_what_is_certain_runs_and_what_is_reused_does_not(history: tuple[World, Written], data: st.DataObject) -> None:
    world, one = history
    spec = one.spec()
    plan = world.plan(spec)
    ran = set(world.apply(spec, plan).ran)
    for step in plan.steps:
        if step.action in {Action.REUSE, Action.HELD, Action.FORGET, Action.DELETE}:
            assert step.address not in ran
        if step.action is Action.MAYBE:
            assert any(planned.digest is None for planned in step.inputs)
    # Only a digest that turns out as it was, or another that makes the same, can keep a step from running.
    sure = [step for step in plan.steps if step.action in CERTAIN and step.key is not None]
    assert {step.address for step in sure if not _made_by_another(plan, step)} <= ran


def _made_by_another(plan: Plan, step: Step) -> bool:
    """Whether a step waits for another that makes the very same, or shares a damaged artifact with one."""
    if any(reason.text.startswith("the same as ") for reason in step.reasons):
        return True
    shared = [each for each in plan.steps if each.artifact == step.artifact]
    return len(shared) > 1 and any(reason.about == "damage" for reason in step.reasons)


@thorough
@given(histories(), st.data())
def test_how_a_job_runs_changes_no_action(history: tuple[World, Written], data: st.DataObject) -> None:
    world, one = history
    before = world.plan(one.spec())
    name = data.draw(st.sampled_from(one.texts()))
    other = one.change(name, **{field: data.draw(values) for field, values in EXECUTION.items()})
    other = replace(other, threads=data.draw(st.integers(1, 8)))
    hardware = {"memory": {"budget": data.draw(st.integers(2 * BUDGET, 4 * BUDGET)), "reserve": 0}, "threads": "auto"}
    for spec in (other.spec(), one.spec(hardware=hardware)):
        after = world.plan(spec)
        assert actions(after) == actions(before)
        assert [(step.recipe, step.key) for step in after.steps] == [(step.recipe, step.key) for step in before.steps]


@thorough
@given(histories(), st.data())
def test_targets_limit_a_plan_to_what_they_wait_for(history: tuple[World, Written], data: st.DataObject) -> None:
    world, one = history
    spec = one.spec()
    targets = data.draw(st.lists(st.sampled_from(sorted(spec.resources)), min_size=1, max_size=2, unique=True))
    whole = {step.address: step for step in world.plan(spec).steps}
    limited = world.plan(spec, targets=targets)
    # An alias that points to damaged bytes does not stand: its first resource makes them again.
    waits_for = edges(spec, _standing_aliases(spec, world.snapshot()))
    assert {step.address for step in limited.steps} == upstream(waits_for, targets)
    for step in limited.steps:
        same = whole[step.address]
        assert (step.action, step.key, step.recipe, step.inputs) == (same.action, same.key, same.recipe, same.inputs)
    assert set(world.apply(spec, limited).ran) <= upstream(waits_for, targets)


@thorough
@given(histories(), st.data())
def test_a_new_version_of_a_kind_is_a_reason_to_update(history: tuple[World, Written], data: st.DataObject) -> None:
    world, one = history
    spec = one.spec()
    world = world.apply(spec)
    address = f"stages.{data.draw(st.sampled_from(one.texts()))}"
    kind = spec.resources[address].kind
    newer = type(type(kind).__name__, (type(kind),), {"version": 2})()
    plan = world.plan(with_kind(spec, address, newer))
    (step,) = [step for step in plan.steps if step.address == address]
    assert step.action is Action.UPDATE
    assert [(reason.about, reason.text) for reason in step.reasons] == [("version", "toy version 1 → 2")]
    direct = [
        each
        for each in plan.steps
        if any(planned.address == address and planned.alias is None for planned in each.inputs)
    ]
    assert {each.action for each in direct} <= {Action.MAYBE}
    assert all(each.reasons[0].text.startswith("only if ") for each in direct)
