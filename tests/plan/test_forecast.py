"""Forecasts that learn: what holds for every history, and what a few runs teach."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from math import exp, isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import machine

from aifw.hardware.machine import Machine
from aifw.hardware.placement import Place
from aifw.kind import Estimate, Forecast, History, Past, find
from aifw.plan.forecast import WORKER_BYTES, corrected, forecast_at

MIB = float(1024**2)
GIB = 1024 * MIB
SETTINGS = {"rows": 3, "rate": 0.1, "name": "one"}
CPU = Place("performance_cores", "cpu", "cpu", (), 4)

sizes = st.floats(30 * MIB, 64 * GIB)
durations = st.floats(0.5, 1e6)
works = st.sampled_from([0.0, 1.0, 20.0, 3e12])
settings_of_others = st.sampled_from([SETTINGS, {**SETTINGS, "rows": 4}, {}, {"name": "two", "list": [1, {"a": None}]}])


@st.composite
def estimates(draw: st.DrawFn, mids: st.SearchStrategy[float]) -> Estimate:
    mid = draw(mids)
    return Estimate(mid * draw(st.floats(0.1, 1.0)), mid, mid * draw(st.floats(1.0, 10.0)))


forecasts = st.builds(
    Forecast,
    memory=estimates(sizes),
    seconds=estimates(durations),
    work=works,
    startup=st.sampled_from([0.0, 0.1, 5.0]),
)
pasts = st.builds(
    Past,
    memory=sizes,
    seconds=durations,
    work=works,
    settings=settings_of_others,
    device=st.sampled_from(["cpu", "cpu", "cpu", "xpu:0"]),
    expected_memory=st.none() | sizes,
    expected_seconds=st.none() | durations,
    exceeded=st.sampled_from([False, False, False, True]),
    age=st.integers(0, 30),
)
histories = st.lists(pasts, max_size=8)


def stated(memory: float = GIB, seconds: float = 100.0, work: float = 50.0, spread: float = 0.5) -> Forecast:
    return Forecast(
        Estimate.around(memory, spread), Estimate.around(seconds, spread), work=work, basis="the kind's", note="batch 4"
    )


def run(memory: float = 1.0, seconds: float = 1.0, *, of: Forecast | None = None, **changes: Any) -> Past:
    """A run of the job that `of` is the forecast of, which took so many times of what was stated."""
    job = of or stated()
    past = Past(
        memory * job.memory.mid,
        seconds * job.seconds.mid,
        job.work,
        SETTINGS,
        expected_memory=job.memory.mid,
        expected_seconds=job.seconds.mid,
    )
    return replace(past, **changes)


def after(*past: Past, forecast: Forecast | None = None) -> Forecast:
    return corrected(forecast or stated(), History(past), "cpu", SETTINGS)


def width(estimate: Estimate) -> float:
    return estimate.high / estimate.low


# Whatever the history


@given(forecasts, histories)
def test_what_says_nothing_changes_nothing(forecast: Forecast, past: list[Past]) -> None:
    assert corrected(forecast, History(), "cpu", SETTINGS) is forecast
    assert corrected(forecast, History(tuple(past)), "npu", SETTINGS) is forecast
    unknown = [replace(each, memory=0.0, seconds=float("nan")) for each in past]
    assert corrected(forecast, History(tuple(unknown)), "cpu", SETTINGS) is forecast


@given(forecasts, histories)
def test_low_mid_and_high_are_in_order(forecast: Forecast, past: list[Past]) -> None:
    found = corrected(forecast, History(tuple(past)), "cpu", SETTINGS)
    for estimate in (found.memory, found.seconds):
        assert 0 < estimate.low <= estimate.mid <= estimate.high
        assert isfinite(estimate.high)
    if found is not forecast:
        assert found.uncorrected == (forecast.memory.mid, forecast.seconds.mid)
        assert found.basis.startswith("declared by the kind; corrected by ")


@given(forecasts, histories, st.randoms(use_true_random=False))
def test_the_order_of_runs_does_not_matter(forecast: Forecast, past: list[Past], chance: random.Random) -> None:
    shuffled = list(past)
    chance.shuffle(shuffled)
    found, again = (corrected(forecast, History(tuple(each)), "cpu", SETTINGS) for each in (past, shuffled))
    assert found == again


@given(forecasts, histories, st.floats(1 / 64, 64))
def test_memory_in_other_units_is_the_same_memory(forecast: Forecast, past: list[Past], factor: float) -> None:
    def scaled(estimate: Estimate) -> Estimate:
        return Estimate(estimate.low * factor, estimate.mid * factor, estimate.high * factor)

    forecast = replace(forecast, parts={"worker": 100 * MIB})
    larger = replace(forecast, memory=scaled(forecast.memory), parts={"worker": 100 * MIB * factor})
    of_larger = [
        replace(
            each,
            memory=each.memory * factor,
            expected_memory=None if each.expected_memory is None else each.expected_memory * factor,
        )
        for each in past
    ]
    found = corrected(forecast, History(tuple(past)), "cpu", SETTINGS).memory
    other = corrected(larger, History(tuple(of_larger)), "cpu", SETTINGS).memory
    assert [other.low, other.mid, other.high] == pytest.approx(
        [each * factor for each in (found.low, found.mid, found.high)]
    )


@given(forecasts, st.lists(pasts, min_size=1, max_size=8), st.data(), st.floats(1, 50))
def test_a_run_that_took_more_never_makes_a_forecast_smaller(
    forecast: Forecast, past: list[Past], data: st.DataObject, factor: float
) -> None:
    index = data.draw(st.integers(0, len(past) - 1))
    more = list(past)
    more[index] = replace(past[index], memory=past[index].memory * factor, seconds=past[index].seconds * factor)
    before, now = (corrected(forecast, History(tuple(each)), "cpu", SETTINGS) for each in (past, more))
    assert now.memory.mid >= before.memory.mid * (1 - 1e-9)
    assert now.seconds.mid >= before.seconds.mid * (1 - 1e-9)


@given(forecasts, st.lists(pasts, max_size=6), st.floats(1, 20), st.integers(0, 5))
def test_a_job_that_exceeded_its_memory_is_given_more_than_it_held(
    forecast: Forecast, past: list[Past], factor: float, age: int
) -> None:
    ended = run(factor, of=forecast, exceeded=True, age=age)
    earlier = [replace(each, age=each.age + age) for each in past]
    memory = corrected(forecast, History((ended, *earlier)), "cpu", SETTINGS).memory
    assert memory.mid >= ended.memory * (1 - 1e-9)
    assert memory.high >= ended.memory + 0.19 * (ended.memory - WORKER_BYTES)


@given(st.lists(st.floats(0.95, 1.05), min_size=7, max_size=19), st.floats(0.01, 100), st.data())
def test_one_odd_run_among_many_moves_little(ratios: list[float], odd: float, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(ratios)))
    usual = [run(ratio, ratio) for ratio in ratios]
    without, with_it = after(*usual), after(*usual[:index], run(odd, odd), *usual[index:])
    for before, now in ((without.memory, with_it.memory), (without.seconds, with_it.seconds)):
        assert now.mid == pytest.approx(before.mid, rel=0.06)
        assert now.high < 1.25 * before.high


# What runs teach


@pytest.mark.parametrize("ratio", [0.3, 0.8, 1.3, 4.0])
def test_runs_that_agree_are_believed_more_the_more_they_are(ratio: float) -> None:
    found = [after(*[run(ratio, ratio)] * count) for count in range(1, 21)]
    for before, now in pairwise(found):
        assert width(now.memory) <= width(before.memory)
        assert width(now.seconds) <= width(before.seconds)
        assert abs(now.memory.mid / GIB - ratio) <= abs(before.memory.mid / GIB - ratio) + 1e-9
    assert found[-1].memory.mid == pytest.approx(ratio * GIB, rel=0.02)
    assert found[-1].seconds.mid == pytest.approx(ratio * 100, rel=0.01)
    assert width(stated().memory) > width(found[0].memory) > 1.3, "a single run narrows the range only somewhat"


def test_no_number_of_runs_makes_the_range_vanish() -> None:
    found = after(*[run()] * 500)
    assert width(found.memory) > 1.09
    assert width(found.seconds) > 1.2


def test_runs_that_differ_widen_the_range() -> None:
    agreeing, differing = [1.2] * 10, [0.6, 0.9, 1.2, 1.5, 1.8] * 2
    same, other = (after(*[run(ratio) for ratio in ratios]) for ratios in (agreeing, differing))
    assert width(other.memory) > 1.5 * width(same.memory)
    assert other.memory.low < 0.7 * GIB
    assert other.memory.high > 1.8 * GIB


def test_the_range_holds_the_next_run_as_often_as_it_says() -> None:
    chance = random.Random(4)
    inside = above = 0
    for _ in range(400):
        bias, runs = chance.gauss(0, 0.2), chance.randint(2, 12)
        *past, following = (exp(chance.gauss(bias, 0.1)) for _ in range(runs + 1))
        memory = after(*[run(each) for each in past]).memory
        inside += memory.low <= following * GIB <= memory.high
        above += following * GIB > memory.high
    assert inside >= 360
    assert above <= 24


@pytest.mark.parametrize("runs", [1, 4, 16])
@pytest.mark.parametrize(("bias", "at_most"), [(0.0, 0.12), (0.15, 0.4), (0.4, 0.45)])
def test_runs_of_other_jobs_help_more_than_they_harm(bias: float, runs: int, at_most: float) -> None:
    """A kind that errs by the same in all jobs, and by 5 % from job to job: how often is the middle more than 10 % off?"""
    chance = random.Random(runs)
    off = stated_off = 0
    for _ in range(200):
        jobs = [(chance.uniform(0.3, 3.0) * GIB, exp(chance.gauss(bias, 0.05)), number) for number in range(runs + 1)]
        *past, (size, factor, number) = [
            (size, factor, {"job": number, "precision": "auto", "rank": number % 3}) for size, factor, number in jobs
        ]
        history = [replace(run(factor, of=stated(size)), settings=settings) for size, factor, settings in past]
        found = corrected(stated(size, spread=0.2), History(tuple(history)), "cpu", number)
        off += abs(found.memory.mid / (size * factor) - 1) > 0.1
        stated_off += abs(1 / factor - 1) > 0.1
    assert off <= at_most * 200
    assert off <= stated_off + 0.07 * 200


def test_a_range_the_kind_was_right_about_is_not_widened_by_its_first_run() -> None:
    sure = stated(spread=0.08)
    assert width(after(run(of=sure), forecast=sure).memory) < 1.001 * width(sure.memory)


def test_a_kind_that_was_sure_and_wrong_is_not_taken_at_its_word() -> None:
    exact = Forecast(Estimate.exact(GIB), Estimate.exact(10.0))
    found = after(run(3.0, 3.0, of=exact), forecast=exact)
    assert found.memory.mid == pytest.approx(3 * GIB, rel=0.06)
    assert width(found.memory) > 1.2
    assert width(found.seconds) > 1.5


def test_an_idle_worker_is_not_scaled() -> None:
    small, large = stated(WORKER_BYTES * 2), stated(WORKER_BYTES * 8)
    found = after(*[run(2.0, of=small)] * 5, forecast=large)
    assert found.memory.mid > 2.2 * large.memory.mid, "the part above a worker took more than twice as much"
    heavy = replace(stated(300 * MIB), parts={"worker": 200 * MIB, "weights": 100 * MIB})
    past = replace(run(of=heavy), memory=400 * MIB)
    assert after(*[past] * 9, forecast=replace(heavy, memory=Estimate.exact(400 * MIB))).memory.mid == pytest.approx(
        200 * MIB + 2 * 200 * MIB, rel=0.06
    )


@pytest.mark.parametrize("slower", [1 / 8, 1 / 2, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("larger", [1 / 20, 1.0, 20.0, 200.0])
def test_time_is_right_after_one_calibration_run(slower: float, larger: float) -> None:
    startup, rate, work = 6.0, 0.02, 400.0

    def kind(work: float) -> Forecast:
        return replace(stated(seconds=startup + rate * work, work=work, spread=1.0), startup=startup)

    calibration = replace(run(of=kind(work)), seconds=startup + slower * rate * work)
    found = after(calibration, forecast=kind(work * larger))
    assert found.seconds.mid == pytest.approx(startup + slower * rate * work * larger, rel=0.3)


def test_runs_of_jobs_like_this_one_count_more() -> None:
    alike = [run(1.5, 1.5)] * 2
    other = stated(32 * GIB, 6400.0, 3200.0)
    unlike = [run(1.0, 1.0, of=other, settings={"rows": 96, "rate": 0.2, "name": "two"})] * 4
    assert after(*alike, *unlike).memory.mid == pytest.approx(1.5 * GIB, rel=0.05)
    assert after(*alike, *unlike).seconds.mid == pytest.approx(150, rel=0.05)
    assert after(*alike, *unlike, forecast=other).memory.mid == pytest.approx(32 * GIB, rel=0.05)


def test_newer_runs_count_more() -> None:
    old, new = [run(1.0, 1.0, age=40)] * 10, [run(2.0, 2.0, age=age) for age in (0, 1)]
    assert after(*old, *new).memory.mid == pytest.approx(2 * GIB, rel=0.05)


def test_what_only_tells_its_work_corrects_by_the_rate() -> None:
    past = Past(GIB, 400.0, 100.0, SETTINGS)
    found = after(past)
    assert found.memory == stated().memory
    assert found.seconds.mid == pytest.approx(200, rel=0.02)
    assert found.basis == "the kind's; corrected by 1 earlier run (time x1.99)"
    assert after(replace(past, work=0.0)) == stated(), "without work nothing can be said"


def test_a_kind_that_corrects_its_time_itself_is_not_corrected_twice() -> None:
    own = replace(stated(seconds=300.0), uncorrected=(GIB, 100.0))
    found = after(run(1.5, 3.0), forecast=own)
    assert found.seconds == own.seconds
    assert found.memory.mid == pytest.approx(1.5 * GIB, rel=0.02)
    assert found.uncorrected == (GIB, 100.0)


def test_a_later_run_that_was_measured_to_its_end_supersedes_the_one_that_exceeded() -> None:
    ended, measured = run(2.0, exceeded=True, age=3), run(1.1, age=1)
    assert after(ended).memory.mid == pytest.approx(2 * GIB)
    assert after(ended, measured).memory.mid == pytest.approx(1.1 * GIB, rel=0.02)
    assert after(ended, replace(measured, age=4)).memory.mid == pytest.approx(2 * GIB)
    unlike = replace(measured, settings={"name": "other"})
    assert after(ended, unlike).memory.mid == pytest.approx(2 * GIB), (
        "it says little of a job like the one that exceeded"
    )


def test_an_ended_job_says_nothing_of_time() -> None:
    assert after(run(2.0, 0.01, exceeded=True)).seconds == stated().seconds


@pytest.mark.parametrize(
    ("past", "words"),
    [
        ([run(1.08, 0.71)] * 5, "corrected by 5 earlier runs (memory x1.08, time x0.71)"),
        ([run(1.5, exceeded=True)], "corrected by 1 earlier run, which exceeded its memory (memory x1.50)"),
        ([run(1.5, exceeded=True)] * 2, "corrected by 2 earlier runs, which exceeded their memory (memory x1.50)"),
        (
            [run(1.5, exceeded=True), run(1.0, 1.0, age=9)],
            "corrected by 2 earlier runs, 1 of which exceeded its memory (memory x1.50, time x1.00)",
        ),
    ],
)
def test_the_basis_says_what_was_corrected(past: list[Past], words: str) -> None:
    found = after(*past)
    assert found.basis == f"the kind's; {words}"
    assert (found.note, found.work, found.uncorrected) == ("batch 4", 50.0, (GIB, 100.0))


# At a place


class Sized:
    """A kind that makes its job as large as memory allows, by a formula that states half of what it takes."""

    def __init__(self) -> None:
        self.seen: list[Machine] = []

    def forecast(self, settings: Any, inputs: Any, machine: Machine, history: History) -> Forecast:
        self.seen.append(machine)
        rows = max(1, machine.memory.pool // int(2.2 * GIB))
        return Forecast(Estimate.exact(rows * 2 * GIB), Estimate.exact(10.0), note=f"batch {rows}")


class Model:
    def model_dump(self, **how: Any) -> dict[str, Any]:
        assert how == {"mode": "json", "by_alias": True, "exclude_unset": True}
        return SETTINGS


@pytest.mark.usefixtures("toy_kinds")
def test_a_kind_is_asked_for_the_place_and_corrected_by_runs_there() -> None:
    toy = find("toy")
    assert toy is not None
    settings = toy.settings.model_validate({"memory": "1GiB"})
    found = forecast_at(toy, settings, {}, machine(), History(), CPU)
    assert found == toy.forecast(settings, {}, machine(), History())
    words = settings.model_dump(mode="json", by_alias=True, exclude_unset=True)
    past = Past(1.3 * GIB, 0.1, 1.0, words, expected_memory=GIB, expected_seconds=0.1)
    assert forecast_at(toy, settings, {}, machine(), History((past,)), CPU).memory.mid == pytest.approx(
        1.29 * GIB, rel=0.01
    )
    elsewhere = replace(CPU, device="xpu:0")
    assert forecast_at(toy, settings, {}, machine(), History((past,)), elsewhere).uncorrected is None


def test_a_kind_that_sizes_its_job_by_memory_learns_that_it_exceeded() -> None:
    kind: Any = Sized()
    here = machine(int(24 * GIB))
    first = forecast_at(kind, Model(), {}, here, History(), CPU)
    assert first.note == "batch 10"
    assert kind.seen[-1].cpu.cores == 4
    ended = replace(run(of=first), memory=24 * GIB, exceeded=True)
    second = forecast_at(kind, Model(), {}, here, History((ended,)), CPU)
    assert second.note != first.note
    assert second.memory.high <= here.memory.pool
