"""What plans say in the situations a user meets, one by one."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from world import GIB, MIB, World, machine, spec_of, stages, with_kind

from aifw.errors import ExitStatus, MemoryRefused, Refused, UsageError
from aifw.kind import Estimate, Forecast, Observation, find
from aifw.plan.model import Action, AliasChange, Plan, Step
from aifw.plan.snapshot import UNRECORDED, Binding
from aifw.spec.models import Spec

pytestmark = pytest.mark.usefixtures("toy_kinds")


def step(plan: Plan, name: str) -> Step:
    (found,) = [each for each in plan.steps if each.address.rpartition(".")[2] == name]
    return found


def said(plan: Plan, name: str) -> tuple[Action, list[str]]:
    """Action and reasons of a resource."""
    found = step(plan, name)
    return found.action, [reason.text for reason in found.reasons]


def chain(**first: Any) -> Spec:
    return spec_of(
        stages(first={"text": "a", **first}, second={"text": "-", "sources": ["first"]}, other={"text": "o"})
    )


def aliased(base: str = "b", candidate: str = "longer", **gate: Any) -> Spec:
    sections = stages(base={"text": base}, new={"text": candidate}, user={"text": "u", "sources": ["@champion"]})
    settings = {"kind": "toy_gate", "candidate": "new", "baseline": "@champion", "alias": "champion", **gate}
    sections["stages"]["gate"] = settings
    return spec_of(sections, aliases={"champion": {"initial": "base"}})


def test_everything_is_new_at_first_and_nothing_is_left_to_do_afterwards() -> None:
    spec = chain()
    plan = World().plan(spec)
    assert {each.action for each in plan.steps} == {Action.CREATE}
    assert said(plan, "first") == (Action.CREATE, ["new"])
    assert step(plan, "second").key is None
    assert [each.address for each in plan.steps] == ["stages.first", "stages.other", "stages.second"]
    world = World().apply(spec, plan)
    assert world.ran == ("stages.first", "stages.other", "stages.second")
    assert world.plan(spec).empty
    assert said(world.plan(spec), "first") == (Action.REUSE, [])


def test_a_setting_that_changed_is_named_and_its_dependants_are_maybe() -> None:
    plan = World().apply(chain()).plan(chain(text="b"))
    assert said(plan, "first") == (Action.UPDATE, ["text a → b"])
    assert said(plan, "second") == (Action.MAYBE, ["only if stages.first changes"])
    assert said(plan, "other") == (Action.REUSE, [])


def test_own_changes_of_a_dependant_make_it_certain() -> None:
    spec = spec_of(stages(first={"text": "b"}, second={"text": "+", "sources": ["first"]}, other={"text": "o"}))
    assert said(World().apply(chain()).plan(spec), "second") == (Action.UPDATE, ["text - → +"])


def test_an_equal_result_ends_the_work_there() -> None:
    """Early cut-off: the recipe is new, the key is known."""
    before, after = chain(only_length=True), chain(text="z", only_length=True)
    world = World().apply(before).apply(after)
    assert world.ran == ("stages.first",)
    plan = world.plan(after)
    assert plan.empty
    assert step(plan, "second").recipe != step(World().apply(before).plan(before), "second").recipe
    assert step(plan, "second").key == step(World().apply(before).plan(before), "second").key


def test_going_back_to_an_earlier_setting_runs_nothing() -> None:
    world = World().apply(chain()).apply(chain(text="b"))
    plan = world.plan(chain())
    assert said(plan, "first") == (Action.REUSE, ["the same was made before"])
    assert plan.empty
    back = world.apply(chain(), plan)
    assert back.ran == ()
    assert said(back.plan(chain()), "first") == (Action.REUSE, [])


def test_only_who_uses_an_output_that_changed_runs_again() -> None:
    def pair(left: str) -> Spec:
        sections = stages(l={"sources": ["pair.left"]}, r={"sources": ["pair.right"]})
        sections["stages"]["pair"] = {"kind": "toy_pair", "left": left, "right": "same"}
        return spec_of(sections)

    world = World().apply(pair("one"))
    assert said(world.plan(pair("two")), "r") == (Action.MAYBE, ["only if stages.pair changes"])
    assert world.apply(pair("two")).ran == ("stages.pair", "stages.l")


def test_what_makes_the_very_same_waits_and_is_not_counted_twice() -> None:
    spec = spec_of(stages(one={"text": "t"}, two={"text": "t"}))
    plan = World().plan(spec)
    assert said(plan, "two") == (Action.CREATE, ["new", "the same as stages.one"])
    assert step(plan, "two").after == ("stages.one",)
    assert step(plan, "two").forecast is None
    assert World().apply(spec, plan).ran == ("stages.one",)


def test_both_of_the_same_are_made_again_when_asked_for() -> None:
    spec = spec_of(stages(one={"text": "t"}, two={"text": "t"}))
    plan = World().apply(spec).plan(spec, replaced=["stages.one", "stages.two"])
    assert step(plan, "two").after == ("stages.one",)
    assert step(plan, "two").forecast is not None


def test_replace_makes_it_again_and_dependants_only_if_it_differs() -> None:
    world = World().apply(chain())
    plan = world.plan(chain(), replaced=["stages.first"])
    assert said(plan, "first") == (Action.REPLACE, ["asked for with --replace"])
    assert said(plan, "second") == (Action.MAYBE, ["only if stages.first changes"])
    assert plan.replaced == ("stages.first",)
    assert world.apply(chain(), plan).ran == ("stages.first",)


def test_a_name_that_is_not_there_is_a_usage_error() -> None:
    for options in ({"targets": ["stages.nothing"]}, {"replaced": ["stages.nothing"]}):
        with pytest.raises(UsageError, match=r"stages\.nothing") as caught:
            World().plan(chain(), **options)
        assert caught.value.hint


def test_targets_leave_everything_else_alone() -> None:
    world = World().apply(chain())
    plan = world.plan(chain(text="b"), targets=["stages.other"])
    assert [each.address for each in plan.steps] == ["stages.other"]
    assert plan.empty
    plan = world.plan(spec_of(stages(other={"text": "o"})), targets=["stages.other"])
    assert plan.empty, "what was removed is no target"


def test_what_left_the_spec_is_forgotten_or_deleted() -> None:
    cloud = {"storage": {"disk": {"kind": "toy_cloud", "path": "p"}}}
    world = World().apply(spec_of({**stages(a={}), **cloud}))
    plan = world.plan(spec_of(stages(b={"text": "b"})))
    assert said(plan, "a") == (Action.FORGET, ["no longer in the spec"])
    assert said(plan, "disk") == (Action.DELETE, ["no longer in the spec"])
    after = world.apply(spec_of(stages(b={"text": "b"})))
    assert set(after.bindings) == {"stages.b"}
    assert after.plan(spec_of(stages(b={"text": "b"}))).empty


def test_damage_is_made_good_and_dependants_are_maybe() -> None:
    world = World().apply(chain()).damage("stages.first")
    plan = world.plan(chain())
    assert said(plan, "first") == (Action.REPLACE, ["text/text.txt is corrupted"])
    assert said(plan, "second") == (Action.MAYBE, ["only if stages.first changes"])
    after = world.apply(chain(), plan)
    assert after.ran == ("stages.first",)
    assert after.plan(chain()).empty


def test_damage_of_an_older_result_is_seen_when_the_spec_goes_back_to_it() -> None:
    world = World().apply(chain())
    old = world.bindings["stages.first"].artifact
    world = world.apply(chain(text="b"))
    world = replace(world, artifacts={**world.artifacts, old: replace(world.artifacts[old], damage="gone bad")})
    assert said(world.plan(chain()), "first") == (Action.UPDATE, ["text b → a"])


def test_an_artifact_that_was_collected_is_made_again() -> None:
    world = World().apply(chain())
    gone = world.bindings["stages.first"].artifact
    world = replace(world, artifacts={key: value for key, value in world.artifacts.items() if key != gone})
    assert said(world.plan(chain()), "first") == (Action.UPDATE, ["its artifact is no longer in the store"])


def test_a_new_input_is_told_from_a_changed_one() -> None:
    world = World().apply(chain())
    both = spec_of(
        stages(first={"text": "a"}, second={"text": "-", "sources": ["first", "other"]}, other={"text": "o"})
    )
    assert said(world.plan(both), "second") == (
        Action.UPDATE,
        ["sources: 1 → 2 inputs", "sources.1 unset → stages.other"],
    )
    swapped = spec_of(stages(first={"text": "a"}, second={"text": "-", "sources": ["other"]}, other={"text": "o"}))
    assert said(world.plan(swapped), "second") == (Action.UPDATE, ["sources.0 stages.first → stages.other"])


def test_an_observation_that_changed_is_a_reason() -> None:
    spec = spec_of(stages(reader={"file": "data"}))
    world = replace(World(), observations={"stages.reader": Observation("f1", "10 bytes")}).apply(spec)
    assert world.plan(spec).empty
    world = replace(world, observations={"stages.reader": Observation("f2", "12 bytes")})
    assert said(world.plan(spec), "reader") == (Action.UPDATE, ["10 bytes → 12 bytes"])


def test_the_seed_is_a_reason_for_kinds_that_use_it() -> None:
    seeded = type("Seeded", (type(find("toy")),), {"seeded": True})()
    one, two = (with_kind(spec_of(stages(a={}, b={"text": "b"}), seed=seed), "stages.a", seeded) for seed in (1, 2))
    plan = World().apply(one).plan(two)
    assert said(plan, "a") == (Action.UPDATE, ["seed 1 → 2"])
    assert said(plan, "b") == (Action.REUSE, [])


def test_another_kind_under_the_same_name_is_a_reason() -> None:
    pair = spec_of({"stages": {"first": {"kind": "toy_pair", "left": "l", "right": "r"}}})
    assert said(World().apply(chain()).plan(pair), "first") == (Action.UPDATE, ["kind toy → toy_pair"])


def test_a_checkpoint_is_gone_on_from() -> None:
    key = step(World().plan(chain()), "first").key
    assert key is not None
    plan = replace(World(), checkpoints={key: 41}).plan(chain())
    assert said(plan, "first") == (Action.RESUME, ["goes on from step 41"])
    world = World().apply(chain())
    key = step(world.plan(chain(text="b")), "first").key
    assert key is not None
    plan = replace(world, checkpoints={key: 7}).plan(chain(text="b"))
    assert said(plan, "first") == (Action.RESUME, ["goes on from step 7", "text a → b"])


def test_a_checkpoint_of_something_finished_is_nothing() -> None:
    world = World().apply(chain())
    key = world.bindings["stages.first"].key
    assert replace(world, checkpoints={key: 3}).plan(chain()).empty


def test_an_external_thing_follows_its_settings() -> None:
    def disk(size: int) -> Spec:
        return spec_of(
            {"storage": {"disk": {"kind": "toy_cloud", "path": "p", "size": size}}, **stages(a={"sources": ["disk"]})}
        )

    world = World().apply(disk(1))
    assert world.plan(disk(1)).empty
    plan = world.plan(disk(2))
    assert said(plan, "disk") == (Action.UPDATE, ["size 1 → 2"])
    assert said(plan, "a") == (Action.MAYBE, ["only if storage.disk changes"])
    assert world.apply(disk(2), plan).ran == ("storage.disk", "stages.a")


def test_an_external_thing_that_an_interrupted_run_may_have_changed_is_brought_in_order() -> None:
    spec = spec_of({"storage": {"disk": {"kind": "toy_cloud", "path": "p"}}})
    world = World().apply(spec)
    world = replace(world, bindings={"storage.disk": replace(world.bindings["storage.disk"], key=UNRECORDED)})
    assert said(world.plan(spec), "disk") == (Action.UPDATE, ["an interrupted run may have changed it"])


def test_an_external_thing_that_may_have_been_made_is_created_not_updated() -> None:
    spec = spec_of({"storage": {"disk": {"kind": "toy_cloud", "path": "p"}}})
    intended = Binding("storage.disk", "toy_cloud", "external", "", "", "")
    world = replace(World(), bindings={"storage.disk": intended})
    assert said(world.plan(spec), "disk") == (Action.CREATE, ["new"])
    assert said(world.plan(spec_of(stages(a={}))), "disk") == (Action.DELETE, ["no longer in the spec"])


def test_an_external_thing_that_may_have_been_made_is_not_lost_sight_of_as_another_kind() -> None:
    spec = spec_of({"storage": {"disk": {"kind": "toy_cloud", "path": "p"}}})
    intended = Binding("storage.disk", "another_cloud", "external", "", "", "")
    with pytest.raises(Refused, match="another_cloud"):
        replace(World(), bindings={"storage.disk": intended}).plan(spec)


# Aliases and verdicts


def test_an_alias_that_is_not_set_means_the_resource_it_starts_with() -> None:
    plan = World().plan(aliased())
    assert step(plan, "user").after == ("stages.base",)
    assert plan.aliases == (AliasChange("champion", "stages.base"),)
    assert not plan.empty


def test_setting_an_alias_alone_is_a_change() -> None:
    spec = spec_of(stages(base={}))
    later = spec_of(stages(base={}), aliases={"champion": {"initial": "base"}})
    world = World().apply(spec)
    assert world.plan(spec).empty
    assert not world.plan(later).empty
    assert world.apply(later).plan(later).empty


def test_a_promotion_is_carried_out_and_then_rests() -> None:
    spec = aliased()
    world = World().apply(spec)
    assert world.moved == ("champion",)
    plan = world.plan(spec)
    assert step(plan, "user").after == (), "a set alias is no edge"
    assert said(plan, "gate") == (Action.REUSE, ["already champion"])
    assert said(plan, "user") == (Action.UPDATE, ["@champion changed"])
    assert {each.address for each in plan.changes} == {"stages.user"}
    world = world.apply(spec, plan)
    assert world.plan(spec).empty


def test_a_gate_whose_candidate_may_turn_out_the_champion_is_not_certain() -> None:
    """That the champion is another than last time says nothing: it is last time's candidate."""
    world = World().apply(aliased())
    assert said(world.plan(aliased(candidate="longest")), "gate") == (Action.MAYBE, ["only if stages.new changes"])


def test_a_rejected_candidate_is_held_and_nothing_is_left_to_do() -> None:
    spec = aliased(candidate="")
    world = World().apply(spec)
    plan = world.plan(spec)
    assert said(plan, "gate") == (Action.HELD, ["not longer"])
    assert plan.empty
    assert world.moved == ()


def test_after_a_rollback_the_candidate_is_held_until_released_then_moves_without_work() -> None:
    spec = aliased()
    world = World().apply(spec).rollback("champion", to="stages.base")
    action, reasons = said(world.plan(spec), "gate")
    assert action is Action.HELD
    assert "rolled back from champion" in reasons[0]
    released = replace(world, quarantined={})
    plan = released.plan(spec)
    assert said(plan, "gate") == (Action.UPDATE, ["champion moves: longer"])
    assert step(plan, "gate").effect_only
    assert step(plan, "gate").forecast is None
    after = released.apply(spec, plan)
    assert (after.ran, after.moved) == ((), ("champion",))


def test_a_verdict_against_another_incumbent_is_void() -> None:
    spec = aliased(baseline="base")
    world = World().apply(spec)
    assert world.moved == ("champion",)
    third = replace(world.aliases["champion"], digest="third", artifact=world.bindings["stages.user"].artifact)
    world = replace(world, aliases={"champion": third})
    assert said(world.plan(spec), "gate") == (
        Action.HELD,
        ["champion has moved since the candidate was compared with it"],
    )


def test_what_an_alias_has_always_meant_is_waited_for_while_it_is_made_again() -> None:
    spec = aliased(candidate="")
    world = World().apply(spec).damage("stages.base")
    plan = world.plan(spec)
    assert said(plan, "base")[0] is Action.REPLACE
    assert step(plan, "user").after == ("stages.base",)
    assert step(plan, "user").action is Action.REUSE


# Memory


def test_a_job_that_cannot_fit_is_refused() -> None:
    spec = spec_of(stages(big={"memory": "3GiB"}), hardware={"memory": {"budget": "2GiB"}})
    with pytest.raises(MemoryRefused, match=r"stages\.big .*budget is 2\.0 GiB") as caught:
        World().plan(spec)
    assert caught.value.exit_status is ExitStatus.REFUSED
    assert caught.value.hint


def test_a_job_that_may_not_fit_is_warned_about() -> None:
    spec = spec_of(stages(big={"memory": 2 * GIB - MIB}), hardware={"memory": {"budget": "2GiB"}})
    (warning,) = World().plan(spec).warnings
    assert "stages.big" in warning
    assert "more than the budget" in warning


def test_a_pending_input_makes_memory_uncertain_so_only_the_low_end_refuses() -> None:
    def spec(memory: int) -> Spec:
        resources = stages(first={"text": "a"}, big={"memory": memory, "sources": ["first"]})
        return spec_of(resources, hardware={"memory": {"budget": "2GiB"}})

    just_over = round(2.1 * GIB)
    assert World().plan(spec(just_over)).warnings
    with pytest.raises(MemoryRefused):
        World().plan(spec(3 * GIB))
    world = World().apply(spec_of(stages(first={"text": "a"})))
    with pytest.raises(MemoryRefused):
        world.plan(spec(just_over))


def test_what_does_not_run_is_never_refused() -> None:
    spec = spec_of(stages(big={"memory": "3GiB"}))
    world = World().apply(spec)
    small = spec_of(stages(big={"memory": "3GiB"}), hardware={"memory": {"budget": "1GiB"}})
    assert world.plan(small).empty


def test_the_budget_is_never_more_than_the_machine_has() -> None:
    spec = spec_of(stages(a={}), hardware={"memory": {"budget": "48GiB", "reserve": "4GiB"}})
    assert World(machine=machine(16 * GIB)).plan(spec).totals.budget == 12 * GIB
    assert World(machine=machine(2 * GIB)).plan(spec_of(stages(b={}))).totals.budget == GIB


def test_what_the_spec_allows_beyond_what_exists_is_said_where_something_runs() -> None:
    hardware = {"memory": {"budget": "48GiB", "reserve": "4GiB"}, "threads": 64}
    spec = spec_of(stages(a={}), hardware=hardware)
    world = World(machine=machine(16 * GIB))
    memory, threads = world.plan(spec).warnings
    assert "hardware.memory.budget is 48.0 GiB, but there are only 12.0 GiB here" in memory
    assert "hardware.threads is 64" in threads
    assert world.apply(spec).plan(spec).warnings == ()


def test_each_job_has_a_place_and_what_does_not_run_has_none() -> None:
    spec = spec_of(stages(a={}, b={"sources": ["a"]}))
    world = World()
    for step in world.plan(spec).steps:
        assert step.placement is not None
        assert step.device == step.placement.device == "cpu"
        assert step.placement.threads == 1
    assert all(step.placement is None for step in world.apply(spec).plan(spec).steps)


def test_the_three_estimates_of_a_duration_are_in_order_whatever_the_schedule_does() -> None:
    """Jobs that take their lowest time can, badly packed, take longer together than with their middle times."""
    spec = spec_of(
        stages(t0={}, t1={"text": "1"}, t2={"sources": ["t1"]}, t3={"text": "3", "sources": ["t1"]}, t4={"text": "4"}),
        hardware={"threads": 2},
    )
    chance = random.Random(5)
    for _ in range(30):
        planned = spec
        for index in range(5):
            low, mid, high = sorted(chance.choices(range(1, 6), k=3))

            def forecast(*_: Any, low: int = low, mid: int = mid, high: int = high) -> Forecast:
                return Forecast(Estimate.exact(0), Estimate(low, mid, high))

            timed = type("Timed", (type(find("toy")),), {"forecast": forecast})()
            planned = with_kind(planned, f"stages.t{index}", timed)
        totals = World().plan(planned).totals
        assert 0 < totals.seconds_low <= totals.seconds_mid <= totals.seconds_high


# Forecasts


def test_forecasts_of_dependants_see_what_was_made_and_what_is_expected() -> None:
    seen: dict[str, Any] = {}

    def forecast(self: Any, settings: Any, inputs: Any, machine: Any, history: Any) -> Forecast:
        seen.update(inputs)
        return Forecast(Estimate.exact(1), Estimate.exact(1), facts={"text": {"length": 99}})

    watching = type("Watching", (type(find("toy")),), {"forecast": forecast})()
    spec = with_kind(with_kind(chain(), "stages.first", watching), "stages.second", watching)
    World().plan(spec)
    (field,) = seen
    assert (seen[field].facts, seen[field].certain) == ({"length": 99}, False)

    world = World().apply(chain())
    changed = spec_of(stages(first={"text": "a"}, second={"text": "+", "sources": ["first"]}, other={"text": "o"}))
    world.plan(with_kind(changed, "stages.second", watching))
    assert (seen["sources.0"].facts, seen["sources.0"].certain) == ({"length": 1}, True)

    for again, replaced in ((world, ["stages.first"]), (world.damage("stages.first"), [])):
        seen.clear()
        again.plan(with_kind(chain(), "stages.second", watching), replaced=replaced)
        assert (seen["sources.0"].facts, seen["sources.0"].certain) == ({"length": 1}, False)
