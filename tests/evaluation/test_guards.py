from __future__ import annotations

from typing import Any

import pytest

from aifw.evaluation.guards import DEFAULTS, GUARDED, guards_of, look_at
from aifw.evaluation.promote_kinds import PromoteSettings


def _guards(**written: Any) -> dict[str, Any]:
    settings = {"candidate": "a", "alias": "b", "evidence": "c", "guards": written}
    return guards_of(PromoteSettings.model_validate(settings).guards)


def _look(guards: dict[str, Any], ours: dict[str, float], theirs: dict[str, float] | None = None) -> dict[str, bool]:
    sides = {"subject": ours, "baseline": theirs or {}}
    entry = lambda side, name: {"value": sides[side][name]} if name in sides[side] else None  # noqa: E731
    return {alarm.measure: alarm.met for alarm in look_at(guards, entry)}


def test_defaults_guard_what_the_evidence_carries_and_nothing_else() -> None:
    assert _look(_guards(), {}) == {}
    ours = {
        "contamination": 0.0,
        "length_drift": 0.2,
        "kl_to_reference": 0.1,
        "token_entropy": 2.0,
        "duplicate_rate": 0.6,
    }
    theirs = {"token_entropy": 2.5, "duplicate_rate": 0.58}
    assert all(_look(_guards(), ours, theirs).values())
    assert len(_look(_guards(), ours, theirs)) == 5


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("contamination", 0.001, None),
        ("length_drift", 0.26, None),
        ("kl_to_reference", 0.51, None),
        ("duplicate_rate", 0.21, 0.1),
        ("repetition", 0.21, 0.1),
        ("token_entropy", 0.9, 2.0),
    ],
)
def test_each_gives_the_alarm_by_default(name: str, ours: float, theirs: float | None) -> None:
    assert _look(_guards(), {name: ours}, {} if theirs is None else {name: theirs}) == {name: False}
    assert _look(_guards(**{name: "off"}), {name: ours}, {} if theirs is None else {name: theirs}) == {}


def test_what_is_compared_needs_both() -> None:
    assert _look(_guards(), {"duplicate_rate": 0.9, "token_entropy": 0.1}) == {}


def test_a_bound_of_ones_own_takes_the_place_of_the_default() -> None:
    assert _look(_guards(length_drift={"at_most": "50%"}), {"length_drift": 0.4}) == {"length_drift": True}
    bounds = _guards(token_entropy={"at_least": 1.0, "at_most": 3.0})
    met = [
        alarm.met for alarm in look_at(bounds, lambda side, name: {"value": 0.5} if name == "token_entropy" else None)
    ]
    assert met == [True, False]
    relative = _guards(kl_to_reference={"not_worse_by": "50%"})
    assert _look(relative, {"kl_to_reference": 0.9}, {"kl_to_reference": 0.7}) == {"kl_to_reference": True}
    assert _look(relative, {"kl_to_reference": 0.9}, {"kl_to_reference": 0.5}) == {"kl_to_reference": False}


def test_what_has_no_value_gives_no_alarm() -> None:
    assert look_at(_guards(), lambda side, name: {"value": None, "note": "too few"}) == []


def test_every_default_is_of_a_measure_that_is_guarded() -> None:
    assert {*DEFAULTS, "token_entropy"} <= {measure.name for measure in GUARDED}
