"""Whatever is planned is as the published schema says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from world import World, spec_of, stages

from aifw.kind import Estimate, Forecast
from aifw.plan import model, schema
from aifw.plan.planfile import document
from aifw.spec.models import Spec

pytestmark = pytest.mark.usefixtures("toy_kinds")
VALIDATOR = jsonschema.Draft7Validator(schema.schema())


def example(text: str = "a", **extra: Any) -> Spec:
    return spec_of(
        stages(one={"text": text}, two={"text": "-", "sources": ["one", "@best"]}, **extra),
        aliases={"best": {"initial": "one"}},
    )


def saved(world: World, spec: Spec, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document(world.plan(spec, **options))))
    return found


def test_it_is_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(schema.schema())
    assert "$defs" not in json.dumps(schema.schema())


def test_plans_of_every_sort_fit() -> None:
    world = World()
    applied = world.apply(example(three={"text": "x"}))
    plans = [
        saved(world, example()),
        saved(applied, example(three={"text": "x"})),
        saved(applied, example("other")),
        saved(applied, example(), targets=["stages.one"], replaced=["stages.one"]),
    ]
    for plan in plans:
        assert [each.message for each in VALIDATOR.iter_errors(plan)] == []
    actions = {step["action"] for plan in plans for step in plan["steps"]}
    assert {"create", "reuse", "forget", "update", "maybe", "replace"} <= actions
    assert {name for plan in plans for step in plan["steps"] for name in step} == set(
        schema.schema()["definitions"]["Step"]["properties"]
    ) - {"effect_only"}


def test_the_source_fits() -> None:
    plan = World().plan(example())
    for source in ({"files": ["spec.yaml"], "sets": []}, {"files": ["a", "b"], "sets": ["seed=1"], "state": "../x"}):
        assert VALIDATOR.is_valid(json.loads(json.dumps(document(plan, source))))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: plan.pop("digest"),
        lambda plan: plan.update(format="aifw.plan/v2"),
        lambda plan: plan.update(spec="abc"),
        lambda plan: plan.update(more=1),
        lambda plan: plan["steps"][0].update(action="destroy"),
        lambda plan: plan["steps"][0].update(more=1),
        lambda plan: plan["steps"][0].pop("address"),
        lambda plan: plan["steps"][0]["forecast"]["memory"].pop("mid"),
        lambda plan: plan["steps"][0]["reasons"][0].update(about="whim"),
        lambda plan: plan["totals"].update(cost_low="$3"),
        lambda plan: plan["source"].pop("files"),
    ],
)
def test_anything_else_does_not(spoil: Callable[[Any], object]) -> None:
    plan = document(World().plan(example()), {"files": ["spec.yaml"], "sets": []})
    spoilt = copy.deepcopy(json.loads(json.dumps(plan)))
    assert VALIDATOR.is_valid(spoilt)
    spoil(spoilt)
    assert not VALIDATOR.is_valid(spoilt)


@pytest.mark.parametrize(
    "documented",
    [Estimate, Forecast, model.AliasChange, model.PlannedInput, model.Reason, model.Step, model.Totals],
    ids=lambda documented: documented.__name__,
)
def test_every_field_is_there(documented: Any) -> None:
    written = schema.schema()["definitions"][documented.__name__]
    assert list(written["properties"]) == [each.name for each in fields(documented)]
    assert written["description"]


def test_what_docstrings_say_of_fields_is_said() -> None:
    written = schema.schema()
    assert written["properties"]["targets"]["description"] == "Resources it was limited to, or empty."
    assert written["definitions"]["Forecast"]["properties"]["work"]["description"].endswith("later forecasts.")


def test_it_is_published() -> None:
    path = Path(__file__).parents[2] / "schemas" / schema.NAME
    assert json.loads(path.read_text(encoding="utf-8")) == schema.schema()
