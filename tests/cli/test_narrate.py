"""Events as lines, and the numbers in them as words."""

from __future__ import annotations

from typing import Any

import pytest

from aifw.cli.measures import decimal, points, probability, summary, verdict_lines
from aifw.cli.narrate import Narrator, moment

FORECAST = {
    "memory": {"low": 1.0, "mid": 2.0, "high": 3.0},
    "seconds": {"low": 50.0, "mid": 60.0, "high": 80.0},
    "cost": {"low": 0, "mid": 0, "high": 0},
}
MEASURE = {
    "metric": "preference_accuracy",
    "before": 0.614,
    "after": 0.683,
    "difference": 0.069,
    "low": 0.031,
    "high": 0.106,
    "n": 1311,
    "p": 0.0004,
    "met": True,
    "detectable": 0.036,
}


def _at(second: float) -> str:
    return f"2026-01-01T00:{int(second) // 60:02d}:{int(second) % 60:02d}.{round(second * 1000) % 1000:03d}Z"


def _hear(narrator: Narrator, name: str, address: str | None = None, second: float = 0, /, **data: Any) -> list[str]:
    event = {"time": _at(second), "run": 1, "event": name, **({"address": address} if address else {}), **data}
    return narrator.hear(event)


@pytest.fixture
def narrator() -> Narrator:
    found = Narrator()
    steps = {"stages.dpo": "create", "stages.g": "maybe", "models.base": "reuse"}
    assert _hear(found, "run.started", name="x", pool=100, steps=steps, seconds=[1, 2, 3]) == []
    assert list(found.waiting) == ["stages.dpo", "stages.g"]
    return found


def _start(narrator: Narrator, address: str = "stages.dpo", **data: Any) -> list[str]:
    return _hear(narrator, "job.started", address, verb="run", device="cpu", forecast=FORECAST, **data)


def test_time_of_an_event() -> None:
    assert moment({"time": "1970-01-02T00:00:01.250Z"}) == 86401.25


def test_a_job_on_its_way_tells_step_metrics_speed_and_time_left(narrator: Narrator) -> None:
    _start(narrator)
    job = narrator.running["stages.dpo"]
    began = moment({"time": _at(0)})
    assert job.text(began + 10) == "50 s left"
    _hear(narrator, "job.progress", "stages.dpo", 10, done=10, total=120, unit="step", metrics={"loss": 0.7})
    assert job.speed is None
    _hear(narrator, "job.progress", "stages.dpo", 20, done=30, total=120, unit="step", metrics={"loss": 0.588})
    assert job.text(began + 20) == "step 30/120 · loss 0.588 · 2 step/s · 45 s left"
    _hear(narrator, "job.metric", "stages.dpo", 20, name="margin", value=0.21, step=30)
    assert "margin 0.210" in job.text(began + 20)


def test_speed_starts_afresh_when_a_job_counts_something_else(narrator: Narrator) -> None:
    _start(narrator)
    for second, done, unit in ((0, 1, "reference pair"), (1, 100, "reference pair"), (10, 1, "step"), (20, 2, "step")):
        _hear(narrator, "job.progress", "stages.dpo", second, done=done, total=10, unit=unit)
    assert narrator.running["stages.dpo"].speed == pytest.approx(0.1)


def test_output_that_is_not_redrawn_tells_now_and_then() -> None:
    narrator = Narrator(tells_progress=True)
    _hear(narrator, "run.started", pool=1, steps={"a.b": "create"})
    assert _start(narrator, "a.b") == ["· a.b   starts · cpu · 50\N{EN DASH}80 s expected"]
    lines = [_hear(narrator, "job.progress", "a.b", second, done=second, total=100) for second in range(0, 100, 10)]
    assert [index for index, told in enumerate(lines) if told] == [3, 6, 9]
    assert _start(narrator, "a.b", resumed_from=7)[0].startswith("· a.b   goes on from step 7")


def test_what_was_made_is_told_with_time_and_memory(narrator: Narrator) -> None:
    _start(narrator)
    facts = {"train": {"rows": 1204}, "heldout": {"rows": 311}}
    (line,) = _hear(narrator, "job.finished", "stages.dpo", seconds=5.8, memory=2**29, facts={}, outputs=facts)
    assert line == "✓ stages.dpo   1,204 train, 311 heldout · 5.8 s · 512 MiB"
    assert not narrator.running


def test_a_verdict_is_told_once_with_what_follows_from_it(narrator: Narrator) -> None:
    _start(narrator, "stages.g")
    outputs = {"verdict": {"verdict": {"summary": "better"}}}
    assert _hear(narrator, "job.finished", "stages.g", seconds=1, memory=1, outputs=outputs) == []
    verdict = {
        "summary": "champion: a@1 → b@2   better (...)",
        "decision": "better",
        "alpha": 0.05,
        "metrics": [MEASURE],
    }
    moved = _hear(narrator, "alias.moved", "stages.g", alias="champion", before="a@1", after="b@2", verdict=verdict)
    assert moved[0] == "✓ stages.g     champion: a@1 → b@2   better"
    assert moved[1].strip() == "preference accuracy 0.614 → 0.683 (+6.9 points, 95 % +3.1 … +10.6, p 0.0004, n 1,311)"
    assert len(moved) == 2


def test_a_verdict_from_which_nothing_follows_is_told_alone(narrator: Narrator) -> None:
    _start(narrator, "stages.g")
    outputs = {"verdict": {"verdict": {}}}
    _hear(narrator, "job.finished", "stages.g", seconds=1, memory=1, outputs=outputs)
    (line,) = _hear(narrator, "run.finished")
    assert line.startswith("✓ stages.g")


def test_a_held_candidate_names_the_reason_and_what_stays(narrator: Narrator) -> None:
    measure = {**MEASURE, "met": False, "difference": -0.008, "needed": 1876.2}
    summary = "held: inconclusive (...)"
    verdict = {"summary": summary, "decision": "inconclusive", "metrics": [measure], "alpha": 0.1}
    about: dict[str, Any] = {"alias": "champion", "current": "a@1", "verdict": verdict}
    lines = _hear(narrator, "alias.held", "stages.g", reason=summary, **about)
    assert lines[0] == "✗ stages.g     held: inconclusive"
    assert "\N{MINUS SIGN}0.8 points, 90 %" in lines[1]
    assert "could have shown 3.6, about 1,900 items would show this difference" in lines[1]
    assert lines[2].strip() == "champion stays a@1"
    lines = _hear(narrator, "alias.held", "stages.g", reason="rolled back from champion", **about)
    assert lines[0].endswith("held: rolled back from champion")
    assert len(lines) == 2


def test_stopping_names_who_saves(narrator: Narrator) -> None:
    (line,) = _hear(narrator, "run.stopping", waiting_for=["stages.dpo"])
    assert line == "stopping: stages.dpo saves its state … (Ctrl-C again ends it at once)"
    (line,) = _hear(narrator, "run.stopping", waiting_for=["a.b", "c.d"])
    assert "a.b, c.d save their state" in line
    (line,) = _hear(narrator, "job.stopped", "stages.dpo", checkpoint=None)
    assert "nothing saved" in line


def test_events_it_does_not_know_are_passed_over(narrator: Narrator) -> None:
    assert _hear(narrator, "job.something_new", "stages.dpo", value=1) == []


@pytest.mark.parametrize(
    ("facts", "outputs", "said"),
    [
        ({"summary": "as the job says"}, {"o": {"rows": 1}}, "as the job says"),
        ({}, {"events": {"rows": 512}}, "512 events"),
        (
            {},
            {"adapter": {"pairs": 240}, "model": {"provenance": "SmolLM2, DPO on 240 pairs"}},
            "SmolLM2, DPO on 240 pairs",
        ),
        (
            {},
            {"e": {"preference_accuracy": 0.683, "baseline_preference_accuracy": 0.614, "items": 311}},
            "preference accuracy 0.614 → 0.683 on 311 items",
        ),
        ({"loss": 0.5}, {"o": {"length": 12, "name": "text"}}, "loss 0.500 · length 12"),
        ({}, {}, ""),
    ],
)
def test_what_a_job_made_in_words(facts: dict[str, Any], outputs: dict[str, Any], said: str) -> None:
    assert summary(facts, outputs) == said


def test_numbers_as_short_as_they_can_be_read() -> None:
    assert [decimal(value) for value in (3, 1234.0, 0.5883, 71.25, 1e-5, 0.0)] == [
        "3",
        "1,234",
        "0.588",
        "71.2",
        "1.00e-05",
        "0.000",
    ]
    assert points(-0.008) == "\N{MINUS SIGN}0.8"
    assert probability(0.00001) == "< 0.0001"


def test_a_verdict_without_numbers_has_no_lines() -> None:
    assert list(verdict_lines({"decision": "better", "metrics": []})) == []
    assert list(verdict_lines({"metrics": [{"metric": "latency"}]})) == ["latency"]


def test_what_the_pool_decides_is_told_in_a_line_each(narrator: Narrator) -> None:
    gib = 1024**3
    (line,) = _hear(narrator, "pool.waits", "stages.dpo", needs=3 * gib, available=gib)
    assert line == "· stages.dpo   waits for memory that others hold: needs 3.0 GiB, 1.0 GiB can be had"
    _start(narrator)
    pressure = {"available": gib // 2, "reserve": gib, "psi": None}
    lines = [_hear(narrator, "pool.pressure", level=level, **pressure) for level in ("hold", "shrink", "pause", "ok")]
    assert [len(each) for each in lines] == [1] * 4
    assert lines[0] == [
        "· memory: short, nothing more is started, 512 MiB can be had, 1.0 GiB reserved for everything else"
    ]
    (line,) = _hear(narrator, "job.shrink_asked", "stages.dpo", held=2 * gib)
    assert line == "· stages.dpo   asked to take less memory; it holds 2.0 GiB"
    assert "stages.dpo" in narrator.running


def test_a_job_that_paused_waits_again_and_says_where_it_is(narrator: Narrator) -> None:
    _start(narrator)
    (line,) = _hear(narrator, "job.paused", "stages.dpo", because="memory is short", checkpoint=41)
    assert line == "‖ stages.dpo   paused, saved at step 41: memory is short"
    assert not narrator.running
    assert "stages.dpo" in narrator.waiting
    _start(narrator)
    assert "stages.dpo" not in narrator.waiting
    (line,) = _hear(narrator, "job.paused", "stages.dpo", because="memory is short", checkpoint=None)
    assert "nothing saved: it starts again later" in line
    assert narrator.counts.stopped == []


def test_a_job_over_its_limit_is_told_once(narrator: Narrator) -> None:
    _start(narrator)
    assert _hear(narrator, "job.over_limit", "stages.dpo", used=3, limit=2) == []
