from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from world import World, spec_of, stages

from aifw.errors import ExitStatus, PlanStale, UsageError
from aifw.plan import planfile
from aifw.plan.model import Action
from aifw.spec.models import Spec

pytestmark = pytest.mark.usefixtures("toy_kinds")


def example(text: str = "a", **extra: Any) -> Spec:
    return spec_of(stages(one={"text": text}, two={"text": "-", "sources": ["one"]}, **extra))


def written(tmp_path: Path, world: World, spec: Spec, **options: Any) -> dict[str, Any]:
    path = tmp_path / "saved.aifwplan"
    path.write_text(planfile.save(world.plan(spec, **options)), encoding="utf-8")
    return planfile.load(path)


def stale(saved: dict[str, Any], world: World, spec: Spec, *, progressed: bool = False) -> str:
    with pytest.raises(PlanStale) as caught:
        planfile.check(saved, world.plan(spec), progressed)
    assert caught.value.exit_status is ExitStatus.STALE_OR_LOCKED
    assert caught.value.hint
    return caught.value.message


def test_a_plan_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    plan = World().plan(example())
    assert written(tmp_path, World(), example()) == json.loads(json.dumps(planfile.document(plan)))
    assert planfile.save(plan) == planfile.save(World().plan(example()))


def test_a_plan_says_what_it_was_made_from() -> None:
    plan = World().plan(example())
    saved = planfile.document(plan, {"files": ["spec.yaml"], "sets": []})
    assert saved["source"] == {"files": ["spec.yaml"], "sets": []}
    assert planfile.digest(saved) == saved["digest"] != planfile.document(plan)["digest"]


def test_a_start_at_once_is_not_taken_for_no_start() -> None:
    saved = planfile.document(World().plan(example()))
    assert saved["steps"][0]["start"] == 0
    assert "key" not in saved["steps"][1], "what is not known is left out"


def test_a_plan_that_still_holds_is_accepted(tmp_path: Path) -> None:
    saved = written(tmp_path, World(), example())
    planfile.check(saved, World().plan(example()), progressed=False)


def test_its_own_interrupted_progress_is_accepted(tmp_path: Path) -> None:
    saved = written(tmp_path, World(), example())
    part_way = World().apply(example(), World().plan(example(), targets=["stages.one"]))
    fresh = part_way.plan(example())
    assert [step.action for step in fresh.steps] == [Action.REUSE, Action.CREATE]
    planfile.check(saved, fresh, progressed=True)
    assert "#0 to #1" in stale(saved, part_way, example())


def test_a_maybe_that_became_certain_is_accepted(tmp_path: Path) -> None:
    world = World().apply(example())
    saved = written(tmp_path, world, example("b"))
    part_way = world.apply(example("b"), world.plan(example("b"), targets=["stages.one"]))
    assert part_way.plan(example("b")).steps[1].action is Action.UPDATE
    planfile.check(saved, part_way.plan(example("b")), progressed=True)


def test_a_changed_spec_is_refused(tmp_path: Path) -> None:
    saved = written(tmp_path, World(), example())
    assert "spec has changed" in stale(saved, World(), example("b"))


def test_a_moved_state_is_refused(tmp_path: Path) -> None:
    saved = written(tmp_path, World(), example())
    assert "#0 to #3" in stale(saved, replace(World(), serial=3), example())


def test_a_resource_that_would_now_change_is_refused(tmp_path: Path) -> None:
    world = World().apply(example())
    saved = written(tmp_path, world, example())
    assert saved["steps"][0]["action"] == "reuse"
    assert "stages.one has changed" in stale(saved, world.damage("stages.one"), example())


def test_a_changed_observation_is_refused(tmp_path: Path) -> None:
    from aifw.kind import Observation

    spec = example(reader={"file": "data"})
    world = replace(World(), observations={"stages.reader": Observation("f1", "1 byte")})
    saved = written(tmp_path, world, spec)
    later = replace(world, observations={"stages.reader": Observation("f2", "2 bytes")})
    assert "stages.reader has changed" in stale(saved, later, spec)


def test_resources_that_come_or_go_are_refused(tmp_path: Path) -> None:
    spec = example()
    whole, part = World().plan(spec), World().plan(spec, targets=["stages.one"])
    with pytest.raises(PlanStale, match=r"stages\.two was not in the saved plan"):
        planfile.check(planfile.document(part), whole, progressed=False)
    with pytest.raises(PlanStale, match=r"stages\.two is in the saved plan but no longer"):
        planfile.check(planfile.document(whole), part, progressed=False)


def test_something_forgotten_meanwhile_is_accepted(tmp_path: Path) -> None:
    world = World().apply(example(extra={"text": "x"}))
    saved = written(tmp_path, world, example())
    assert saved["steps"][-1]["action"] == "forget"
    after = world.apply(example())
    planfile.check(saved, after.plan(example()), progressed=True)


def test_a_higher_price_is_refused() -> None:
    plan = World().plan(example())
    dearer = replace(plan, totals=replace(plan.totals, cost_high=plan.totals.cost_high + 1))
    with pytest.raises(PlanStale, match="cost more"):
        planfile.check(planfile.document(plan), dearer, progressed=False)
    planfile.check(planfile.document(dearer), plan, progressed=False)


@pytest.mark.parametrize("length", [0, 1, 0.3, 0.5, 0.9, -2])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, length: float) -> None:
    text = planfile.save(World().plan(example()))
    path = tmp_path / "saved.aifwplan"
    path.write_text(text[: round(len(text) * length) if isinstance(length, float) else length], encoding="utf-8")
    with pytest.raises(UsageError, match="is not a plan file") as caught:
        planfile.load(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "path", [("spec",), ("serial",), ("totals", "cost_high"), ("steps", 0, "action"), ("steps", 0)]
)
def test_a_file_that_was_edited_is_refused(tmp_path: Path, path: tuple[Any, ...]) -> None:
    for remove in (False, True):
        saved = json.loads(planfile.save(World().plan(example())))
        inner = saved
        for each in path[:-1]:
            inner = inner[each]
        if remove:
            del inner[path[-1]]
        else:
            inner[path[-1]] = "edited"
        file = tmp_path / "saved.aifwplan"
        file.write_text(json.dumps(saved), encoding="utf-8")
        with pytest.raises(UsageError, match="was changed after it was written"):
            planfile.load(file)


def test_another_layout_of_the_same_content_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "saved.aifwplan"
    file.write_text(json.dumps(json.loads(planfile.save(World().plan(example()))), indent=8), encoding="utf-8")
    planfile.check(planfile.load(file), World().plan(example()), progressed=False)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"format": "aifw.plan/v9"}', b"\xff\xfe", b"null"])
def test_what_is_no_plan_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "saved.aifwplan"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="is not a plan file") as caught:
        planfile.load(file)
    assert caught.value.exit_status is ExitStatus.USAGE
    with pytest.raises(UsageError, match="is not a plan file"):
        planfile.load(tmp_path / "nowhere")
