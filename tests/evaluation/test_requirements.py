from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from aifw.evaluation.measures import MEASURES
from aifw.evaluation.promote_kinds import PromoteSettings
from aifw.evaluation.requirements import Requirement, requirements


def _required(**require: Any) -> dict[str, Requirement]:
    settings = {"candidate": "a", "alias": "b", "evidence": "c", "require": require}
    return dict(requirements(PromoteSettings.model_validate_json(json.dumps(settings), strict=True).require))


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("preference_accuracy", "better", Requirement(better=True)),
        ("accuracy", {"not_worse_by": "2%"}, Requirement(not_worse_by=0.02)),
        ("accuracy", {"at_least": "90%"}, Requirement(at_least=0.9)),
        ("perplexity", {"not_worse_by": 0.02, "at_most": 12}, Requirement(not_worse_by=0.02, at_most=12)),
        ("latency_p95", {"at_most": "80ms"}, Requirement(at_most=0.08)),
        ("latency_p95", {"at_most": 0.08}, Requirement(at_most=0.08)),
        ("peak_memory", {"at_most": "6GiB"}, Requirement(at_most=6 * 1024**3)),
        ("cloud_cost", {"at_most": "$0.35"}, Requirement(at_most=0.35)),
        ("tokens_per_second", {"at_least": 40}, Requirement(at_least=40)),
        ("token_entropy", {"at_least": 0.5, "at_most": 4}, Requirement(at_least=0.5, at_most=4)),
        ("margin_per_token", {"at_least": -0.1}, Requirement(at_least=-0.1)),
    ],
)
def test_units_are_those_of_the_measure(name: str, written: Any, meant: Requirement) -> None:
    assert _required(**{name: written}) == {name: meant}


def test_tasks_of_the_harness_have_a_place_of_their_own() -> None:
    found = _required(tasks={"arc_easy/acc": "better", "gsm8k/exact_match/strict": {"at_least": "40%"}})
    assert found == {"arc_easy/acc": Requirement(better=True), "gsm8k/exact_match/strict": Requirement(at_least=0.4)}


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_can_be_required(name: str) -> None:
    assert _required(**{name: {"at_most": 1}})[name] == Requirement(at_most=1)


@pytest.mark.parametrize(
    "require",
    [
        {},
        {"accuracy": None},
        {"tasks": {}},
        {"acuracy": "better"},
        {"accuracy": "best"},
        {"accuracy": {}},
        {"accuracy": {"not_worse_by": 0}},
        {"accuracy": {"not_worse_by": "120%"}},
        {"accuracy": {"at_most": "80ms"}},
        {"accuracy": {"at_least": 0.9, "at_most": 0.1}},
        {"latency_p95": {"at_most": "80 MB"}},
        {"latency_p95": {"at_most": "-80ms"}},
        {"peak_memory": "better"},
        {"token_entropy": "better"},
        {"token_entropy": {"not_worse_by": "2%"}},
        {"abstention_rate": {"not_worse_by": "2%"}},
        {"cloud_cost": {"at_most": "80 EUR"}},
        {"tasks": {"arc_easy": "better"}},
    ],
)
def test_what_cannot_be_required(require: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _required(**require)


def test_settings_come_back_from_what_a_job_is_given() -> None:
    settings = {"candidate": "a", "alias": "b", "evidence": "c"}
    for more in ({}, {"require": {"latency_p95": {"at_most": "80ms"}}, "guards": {"length_drift": "off"}}):
        first = PromoteSettings.model_validate_json(json.dumps(settings | more), strict=True)
        written = first.model_dump(mode="json", by_alias=True, exclude_unset=True)
        again = PromoteSettings.model_validate(json.loads(json.dumps(written)))
        assert dict(requirements(again.require)) == dict(requirements(first.require))
        assert again.guards == first.guards
