from __future__ import annotations

from typing import Any

import pytest

from aifw.evaluation.targets import Goal, Measurement, Status, entries_of, entries_of_facts, track


def _goal(value: float = 0.8, **more: Any) -> Goal:
    return Goal(
        **{"name": "quality", "value": value, "better": "higher", "measure": "accuracy", "of": "stages.check"} | more
    )


def _measured(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> Measurement:
    return Measurement("2026-01-02T03:04:05Z", 1, {"accuracy": {"value": value, "low": low, "high": high, **more}})


@pytest.mark.parametrize(
    ("interval", "better", "status"),
    [
        ((0.85, 0.81, 0.9), "higher", "met"),
        ((0.85, 0.79, 0.9), "higher", "inconclusive"),
        ((0.75, 0.7, 0.82), "higher", "inconclusive"),
        ((0.75, 0.7, 0.79), "higher", "not met"),
        ((0.75, 0.7, 0.79), "lower", "met"),
        ((0.75, 0.7, 0.82), "lower", "inconclusive"),
        ((0.85, 0.81, 0.9), "lower", "not met"),
        ((0.8, None, None), "higher", "met"),
        ((0.79, None, None), "higher", "not met"),
    ],
)
def test_the_whole_interval_has_to_be_on_the_wanted_side(interval: Any, better: Any, status: Status) -> None:
    assert track(_goal(better=better), [_measured(*interval)]).status == status


def test_what_nothing_measures_is_said_to_be_not_measured() -> None:
    nothing = track(_goal(of=""), [])
    assert (nothing.status, nothing.note, nothing.measured) == (
        "not measured",
        "nothing in this spec measures it",
        None,
    )
    later = track(_goal(), [])
    assert (later.status, later.note) == ("not measured", "stages.check has not run yet")
    few = track(_goal(), [_measured(None, note="too few: 3 of 20")])
    assert (few.status, few.note) == ("not measured", "accuracy: too few: 3 of 20")
    other = track(_goal(measure="mrr"), [_measured(0.9)])
    assert (other.status, other.note) == ("not measured", "stages.check does not measure mrr")


def test_what_was_measured_under_contention_shows_nothing() -> None:
    found = track(_goal(), [_measured(0.9, 0.85, 0.95, contended=True)])
    assert (found.status, found.measured) == ("inconclusive", 0.9)


def test_the_trend_has_every_run_and_the_latest_decides() -> None:
    history = [_measured(0.6, 0.5, 0.7), _measured(None), _measured(0.85, 0.81, 0.9)]
    found = track(_goal(), history)
    assert [point.value for point in found.trend] == [0.6, 0.85]
    assert (found.status, found.measured, found.low, found.high) == ("met", 0.85, 0.81, 0.9)
    gone = track(_goal(), history[:2])
    assert (gone.status, [point.value for point in gone.trend]) == ("not measured", [0.6])


def test_a_formula_over_a_report() -> None:
    report = {
        "suites": {
            "classification": {
                "subject": {"accuracy": {"value": 0.66, "low": 0.6, "high": 0.7}},
                "baseline": {"accuracy": {"value": 0.55, "low": 0.5, "high": 0.6}},
                "compared": {"accuracy": {"before": 0.55, "after": 0.66, "difference": 0.11, "low": 0.1, "high": 0.12}},
            }
        }
    }
    goal = _goal(0.15, measure=None, formula="difference_accuracy / baseline_accuracy")
    found = track(goal, [Measurement("2026", 3, entries_of(report))])
    assert found.measured == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.1 / 0.6), pytest.approx(0.12 / 0.5))
    assert found.status == "met"
    assert track(goal, [Measurement("2026", 3, {})]).status == "not measured"


def test_facts_are_numbers_without_intervals() -> None:
    found = entries_of_facts({"speedup": 6.5, "ready": True, "name": "x", "rows": 3})
    assert found == {"speedup": {"value": 6.5}, "rows": {"value": 3}}
    assert track(_goal(5.0, measure="speedup"), [Measurement("2026", 1, found)]).status == "met"
