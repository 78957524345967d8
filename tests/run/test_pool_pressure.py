"""What readings of memory amount to, and who is asked to make room."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.hardware.machine import Pressure
from aifw.run.pressure import Candidate, Gauge, Level, Reading, Request, decide, followed, slope

GIB = 1024**3
RESERVE = GIB


def follow(amounts: list[float], every: float = 0.25, *, promised: int = 0, psi: Pressure | None = None) -> list[Gauge]:
    """Gauges after readings of so many GiB, one after another."""
    found, gauge = [], Gauge()
    for index, amount in enumerate(amounts):
        gauge = followed(gauge, Reading(100 + index * every, round(amount * GIB), 0, promised, pressure=psi), RESERVE)
        found.append(gauge)
    return found


@pytest.mark.parametrize(
    ("available", "level"),
    [(8, Level.OK), (1.1, Level.OK), (0.99, Level.SHRINK), (0.51, Level.SHRINK), (0.49, Level.PAUSE), (0, Level.PAUSE)],
)
def test_levels_by_what_is_left_of_the_reserve(available: float, level: Level) -> None:
    assert follow([available])[0].level == level


def test_a_large_reserve_is_no_excuse_to_eat_much_of_it() -> None:
    gauges = [followed(Gauge(), Reading(1, round(left * GIB)), 20 * GIB) for left in (20.1, 19.6, 19.4, 1)]
    assert [gauge.level for gauge in gauges] == [Level.OK, Level.SHRINK, Level.PAUSE, Level.PAUSE]
    assert not any(gauge.ending for gauge in gauges), "memory is there, only not for jobs"
    gauge = followed(Gauge(Level.SHRINK), Reading(1, round(20.3 * GIB)), 20 * GIB)
    assert followed(gauge, Reading(5, round(20.3 * GIB)), 20 * GIB).level == Level.OK


def test_what_was_promised_is_not_there_for_others() -> None:
    assert follow([8], promised=round(7.1 * GIB))[0].level == Level.OK
    assert follow([8], promised=round(7.5 * GIB))[0].level == Level.HOLD


def test_jobs_over_their_budget_are_asked_for_memory_however_much_the_machine_has() -> None:
    reading = Reading(1, 50 * GIB)
    assert followed(Gauge(), reading, RESERVE).level == Level.OK
    assert followed(Gauge(), replace(reading, beyond=GIB // 10), RESERVE).level == Level.SHRINK
    assert followed(Gauge(), replace(reading, beyond=GIB), RESERVE).level == Level.PAUSE
    assert not followed(Gauge(), replace(reading, beyond=GIB), RESERVE).ending


def test_a_job_that_takes_what_it_reserved_is_no_trend() -> None:
    gauge = Gauge()
    for step in range(20):
        taken = step * GIB // 4
        gauge = followed(gauge, Reading(step * 0.25, 7 * GIB - taken, taken, 5 * GIB - taken), RESERVE)
        assert gauge.level == Level.OK


def test_that_a_job_is_admitted_or_ends_is_no_trend() -> None:
    there, gauge = 7 * GIB, Gauge()
    for step, (held, promised) in enumerate([(0, 0), (0, 0), (0, 5 * GIB), (4 * GIB, GIB), (4 * GIB, GIB), (0, 0)]):
        gauge = followed(gauge, Reading(step * 0.25, there - held, held, promised), RESERVE)
        assert gauge.level == Level.OK


def test_memory_that_falls_is_held_before_it_is_short() -> None:
    found = follow([6 - 0.25 * step for step in range(15)])
    first = next(index for index, gauge in enumerate(found) if gauge.level == Level.HOLD)
    assert found[first].recent[-1].available > 2 * GIB
    assert not any(gauge.level > Level.HOLD for gauge in found)
    assert all(gauge.level == Level.OK for gauge in follow([30 - 0.25 * step for step in range(15)]))


def test_one_jump_is_no_trend() -> None:
    assert [gauge.level for gauge in follow([20, 3])] == [Level.OK, Level.OK]


def test_stalls_count_where_memory_is_scarce_and_nowhere_else() -> None:
    some, full = Pressure(15, 5, 0), Pressure(30, 10, 8)
    assert follow([20], psi=full)[0].level == Level.OK
    assert follow([1.5], psi=some)[0].level == Level.HOLD
    assert follow([1.5], psi=full)[0].level == Level.SHRINK
    assert follow([1.5], psi=Pressure(2, 1, 0))[0].level == Level.OK
    assert follow([1.5])[0].level == Level.OK, "a kernel without PSI"


def test_memory_ends_when_hardly_any_is_left_or_it_falls_fast() -> None:
    assert follow([0.1])[0].ending
    assert not follow([0.4])[0].ending
    assert follow([2.0, 1.5, 1.0, 0.45])[-1].ending
    assert not follow([0.48, 0.47, 0.46, 0.45])[-1].ending


def test_a_level_is_left_only_after_calm_and_with_room_to_spare() -> None:
    found = follow([8, 0.9, *[1.1] * 40])
    assert all(gauge.level == Level.SHRINK for gauge in found[1:]), "just above the limit is not calm"
    found = follow([8, 0.9, *[8] * 20])
    left = next(index for index, gauge in enumerate(found) if index > 1 and gauge.level == Level.OK)
    assert (left - 2) * 0.25 >= 3
    found = follow([8, 0.9, *[8, 8, 8, 0.9] * 10])
    assert all(gauge.level == Level.SHRINK for gauge in found[1:]), "calm starts anew each time"


def test_who_stays_a_little_above_the_reserve_for_long_is_not_held_for_ever() -> None:
    # As after a browser was opened: nothing falls any more, and a small job fits.
    steady = follow([0.9, *[1.1] * 160])
    assert steady[100].level == Level.SHRINK, "25 seconds may be a pause of what takes memory"
    assert steady[-1].level == Level.OK
    dips = follow([0.9, *([1.1] * 80 + [0.95]) * 4])
    assert all(gauge.level == Level.SHRINK for gauge in dips), "it begins anew with each dip"


AMOUNTS = st.lists(st.floats(0, 6), min_size=1, max_size=80)


@given(AMOUNTS)
def test_it_does_not_flap(amounts: list[float]) -> None:
    found = follow(amounts)
    changes = [
        (gauge.recent[-1].at, before.level, gauge.level)
        for before, gauge in pairwise(found)
        if before.level != gauge.level
    ]
    for (earlier, _, _), (at, old, new) in pairwise(changes):
        if new < old:
            assert at - earlier >= 3, "a level that was reached is kept for a while"


@given(AMOUNTS, st.integers(0, 2 * GIB))
def test_less_memory_is_never_a_lower_level(amounts: list[float], less: int) -> None:
    for amount in amounts:
        more = followed(Gauge(), Reading(1, round(amount * GIB)), RESERVE)
        fewer = followed(Gauge(), Reading(1, max(0, round(amount * GIB) - less)), RESERVE)
        assert fewer.level >= more.level
        assert fewer.ending >= more.ending


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.lists(st.floats(0, 100), min_size=3, max_size=9, unique=True))
def test_slope_of_a_line(start: float, rise: float, times: list[float]) -> None:
    found = slope([(at, start + rise * at) for at in times])
    width = max(times) - min(times)
    assert found == pytest.approx(rise, rel=1e-3, abs=1e-3 + 1e-4 * abs(start) / max(width, 1e-3)) or width < 1e-3


def test_no_slope_without_time() -> None:
    assert slope([(1, 5), (1, 7), (1, 9)]) == 0
    assert slope([]) == 0


# Who is asked

SHORT = Gauge(Level.SHRINK, recent=(Reading(1000, GIB),))
VERY_SHORT = replace(SHORT, level=Level.PAUSE)
ENDING = replace(VERY_SHORT, ending=True)
OLD = Candidate("old", begun=1, held=5 * GIB, can_shrink=True, can_pause=True)
YOUNG = Candidate("young", begun=9, held=GIB, can_shrink=True, can_pause=True)
STIFF = Candidate("stiff", begun=10, held=9 * GIB, can_shrink=False, can_pause=False)


def test_first_who_holds_most_and_can_shrinks() -> None:
    assert decide(SHORT, [OLD, YOUNG, STIFF], None) == Request("shrink", "old")
    asked = replace(OLD, can_shrink=False)
    assert decide(SHORT, [asked, YOUNG, STIFF], 998) is None, "what was asked has to show first"
    assert decide(SHORT, [asked, YOUNG, STIFF], 990) == Request("shrink", "young")


def test_then_the_youngest_pauses() -> None:
    stiff = [replace(each, can_shrink=False) for each in (OLD, YOUNG)]
    assert decide(SHORT, stiff, 998) is None
    assert decide(SHORT, stiff, 990) == Request("pause", "young")


def test_where_there_is_no_time_the_youngest_pauses_at_once() -> None:
    assert decide(VERY_SHORT, [OLD, YOUNG, STIFF], 999.9) == Request("pause", "young")


def test_one_pauses_at_a_time_but_one_that_does_not_listen_is_not_waited_for_for_ever() -> None:
    deaf = replace(YOUNG, can_pause=False, can_shrink=False, asked_to_pause=995)
    assert decide(VERY_SHORT, [OLD, deaf], 995) is None
    assert decide(VERY_SHORT, [OLD, replace(deaf, asked_to_pause=900)], 900) == Request("pause", "old")


def test_who_runs_alone_shrinks_and_pauses_only_at_the_end() -> None:
    assert decide(SHORT, [OLD], None) == Request("shrink", "old")
    alone = replace(OLD, can_shrink=False)
    assert decide(SHORT, [alone], None) is None
    assert decide(VERY_SHORT, [alone], None) is None
    assert decide(ENDING, [alone], None) == Request("pause", "old")


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        job=st.uuids().map(str),
        begun=st.floats(0, 900),
        held=st.integers(0, 2**40),
        can_shrink=st.booleans(),
        can_pause=st.booleans(),
        asked_to_pause=st.none() | st.floats(0, 1000),
    ),
    max_size=5,
    unique_by=lambda each: each.job,
)


@given(st.sampled_from(Level), st.booleans(), CANDIDATES, st.none() | st.floats(0, 1000))
def test_nobody_is_asked_what_he_cannot_do(
    level: Level, ending: bool, running: list[Candidate], last: float | None
) -> None:
    request = decide(Gauge(level, ending, None, (Reading(1000, 0),)), running, last)
    if request is None:
        return
    assert level >= Level.SHRINK
    chosen = next(each for each in running if each.job == request.job)
    assert chosen.can_shrink if request.ask == "shrink" else chosen.can_pause
    assert not (request.ask == "pause" and len(running) == 1 and not ending)
