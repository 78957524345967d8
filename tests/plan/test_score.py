"""Forecasts held against what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from aifw.plan.forecast import WORKER_BYTES
from aifw.plan.score import Score, by_kind, overall, score

WORKER = float(WORKER_BYTES)


def estimate(low: float, mid: float, high: float) -> dict[str, float]:
    return {"low": low, "mid": mid, "high": high}


def job(
    memory: float | None = 5.0, seconds: float | None = 10.0, kind: str = "toy", forecast: Any = None, **actual: Any
) -> Score:
    """A job forecast with 4 to 6 idle workers and 5 to 20 seconds; memory is measured in idle workers."""
    said = {"memory": estimate(4 * WORKER, 5 * WORKER, 6 * WORKER), "seconds": estimate(5, 10, 20), **(forecast or {})}
    took = {"memory": None if memory is None else memory * WORKER, "seconds": seconds, **actual}
    return score("stack", "1-1", "stages.one", kind, "2026-01-01T00:00:00.000Z", said, took)


def test_an_error_is_of_all_and_of_the_part_above_an_idle_worker() -> None:
    memory = job(3.0).memory
    assert memory is not None
    assert memory.error == pytest.approx(5 / 3 - 1)
    assert memory.error_above_worker == pytest.approx((5 - 3) / (3 - 1))
    assert (memory.in_range, memory.over_high) == (False, 0.0)


def test_the_part_above_a_worker_that_the_kind_names() -> None:
    memory = job(4.0, forecast={"parts": {"worker": 2 * WORKER}}).memory
    assert memory is not None
    assert memory.error_above_worker == pytest.approx((5 - 4) / (4 - 2))


def test_a_job_without_a_part_of_its_own_has_no_error_of_it() -> None:
    memory = job(1.1).memory
    assert memory is not None
    assert memory.error_above_worker is None
    assert memory.error == pytest.approx(5 / 1.1 - 1)
    (summary, _) = overall([job(1.1)])
    assert summary.median_error == pytest.approx(5 / 1.1 - 1), "what is left to count is all of it"


def test_the_range_holds_or_by_how_much_it_does_not() -> None:
    inside, above = job(6.0, 5.0), job(6.6, 30.0)
    assert inside.memory is not None
    assert inside.memory.in_range
    assert above.memory is not None
    assert above.seconds is not None
    assert not above.memory.in_range
    assert above.memory.over_high == pytest.approx(0.1)
    assert above.seconds.over_high == pytest.approx(0.5)


def test_a_job_that_exceeded_its_memory_has_a_lower_bound_and_no_time() -> None:
    ended, early = job(6.6, exceeded=True), job(5.0, exceeded=True)
    assert ended.seconds is None
    assert ended.memory is not None
    assert early.memory is not None
    assert ended.memory.error is None
    assert (ended.memory.in_range, early.memory.in_range) == (False, None)
    (summary, _) = overall([ended, early, job()])
    assert (summary.jobs, summary.in_range, summary.over_high) == (3, 0.5, pytest.approx(1 / 3))


def test_what_was_done_in_parts_or_not_measured_has_no_time_or_no_memory() -> None:
    assert job(resumed=True).seconds is None
    assert job(resumed=True).memory is not None
    assert job(None).memory is None
    assert job(seconds=None).seconds is None


def test_what_the_kind_stated_is_scored_beside_what_became_of_it() -> None:
    memory = job(5.0, forecast={"uncorrected": [2.5 * WORKER, 40.0]}).memory
    assert memory is not None
    assert (memory.error, memory.error_stated) == (0.0, -0.5)
    other = job(5.0).seconds
    assert other is not None
    assert other.error == other.error_stated


def test_summaries_count_what_is_known() -> None:
    jobs = [job(5.0), job(4.8), job(5.3, 12.0), job(8.0, 25.0), job(5.0, 40.0, kind="other")]
    memory, seconds = overall(jobs)
    assert (memory.jobs, memory.tolerance, seconds.tolerance) == (5, 0.1, 0.3)
    assert memory.within == pytest.approx(4 / 5)
    assert memory.in_range == pytest.approx(4 / 5)
    assert memory.median_error == pytest.approx(0.2 / 3.8)
    assert memory.median_error_total == pytest.approx(0.2 / 4.8)
    assert memory.most_over_high == pytest.approx(8 / 6 - 1)
    assert seconds.over_high == pytest.approx(2 / 5)
    assert {kind: pair[0].jobs for kind, pair in by_kind(jobs).items()} == {"other": 1, "toy": 4}
    empty, _ = overall([])
    assert (empty.jobs, empty.median_error, empty.within, empty.in_range, empty.over_high) == (
        0,
        None,
        None,
        None,
        None,
    )


def test_the_worst_is_what_left_its_range_or_missed_by_most() -> None:
    good, slow, over = job(5.0, 10.0), job(5.0, 30.0), job(9.0, 10.0)
    ended = job(6.1, exceeded=True)
    assert good.badness < slow.badness < over.badness < ended.badness
