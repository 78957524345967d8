"""Limits of single jobs, and the first look at the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import MemoryRefused
from aifw.kind import Estimate, Forecast
from aifw.run.events import Events
from aifw.run.launch import Limits
from aifw.run.ledger import Ledger
from aifw.run.pool import Pool

GIB = 1024**3
MIB = 1024**2


def pool(budget: int, *, conservative: bool, entries: dict[str, int], events: Any = None) -> Pool:
    made = Pool(
        Limits({"memory": budget, "threads": 8}, GIB, conservative=conservative), events, lambda: (8 * GIB, None)
    )
    for job, reserved in entries.items():
        made.ledger = made.ledger.reserved(job, {"memory": reserved})
    return made


def forecast(mid: float, spread: float = 0.2) -> Forecast:
    return Forecast(Estimate.around(mid, spread), Estimate.exact(1))


def test_a_conservative_pool_lets_a_job_have_a_tenth_more_than_its_high() -> None:
    limit = pool(48 * GIB, conservative=True, entries={}).limit(forecast(10 * GIB), 12 * GIB)
    assert limit == round(10 * GIB * 1.2 * 1.1)
    assert pool(12 * GIB, conservative=True, entries={}).limit(forecast(10 * GIB), 12 * GIB) == 12 * GIB
    assert pool(GIB, conservative=True, entries={}).limit(forecast(10 * MIB), 12 * MIB) == 256 * MIB


def test_an_aggressive_pool_lets_a_job_have_what_the_others_leave() -> None:
    beside = pool(48 * GIB, conservative=False, entries={"a": 10 * GIB, "b": 20 * GIB})
    assert beside.limit(forecast(10 * GIB), 10 * GIB) == 28 * GIB
    assert beside.limit(forecast(20 * GIB), 20 * GIB) == 38 * GIB


def test_an_effect_under_way_has_no_limit_but_the_budget() -> None:
    for conservative in (True, False):
        assert pool(GIB, conservative=conservative, entries={"a": GIB // 2}).limit(None, 0) == GIB


JOBS = st.lists(st.tuples(st.floats(1e6, 2e10), st.floats(0.01, 1)), min_size=1, max_size=5)


@given(JOBS, st.integers(256 * MIB, 2**37), st.booleans())
def test_a_limit_is_never_below_what_was_reserved_nor_above_the_budget(
    jobs: list[tuple[float, float]], budget: int, conservative: bool
) -> None:
    forecasts, entries, left = {}, {}, budget
    for number, (mid, spread) in enumerate(jobs):
        expected = forecast(mid, spread)
        reserved = min(budget, round(expected.memory.high if conservative else expected.memory.mid))
        if reserved <= left:
            forecasts[str(number)], entries[str(number)] = expected, reserved
            left -= reserved
    made = pool(budget, conservative=conservative, entries=entries)
    for job, expected in forecasts.items():
        assert entries[job] <= made.limit(expected, entries[job]) <= budget


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Events]:
    with closing(Events(tmp_path, 1, lambda event: None)) as found:
        yield found


def test_what_is_promised_and_reserved_for_others_is_not_free(events: Events) -> None:
    made = pool(48 * GIB, conservative=True, entries={"a": 3 * GIB}, events=events)
    assert made.free() == (8 - 3 - 1) * GIB
    assert made.admits("stages.b", {"memory": 4 * GIB}, 4 * GIB)
    assert not made.admits("stages.b", {"memory": 5 * GIB}, 5 * GIB)


def test_the_budget_counts_however_much_there_is(events: Events) -> None:
    made = pool(4 * GIB, conservative=True, entries={"a": 3 * GIB}, events=events)
    assert not made.admits("stages.b", {"memory": 2 * GIB, "threads": 1}, 1)
    assert not made.admits("stages.b", {"memory": MIB, "threads": 9}, 1)
    made.ledger = Ledger()
    assert made.admits("stages.b", {"memory": 2 * GIB, "threads": 1}, 1)


def test_who_cannot_wait_is_refused_at_once(events: Events) -> None:
    made = Pool(Limits({"memory": 48 * GIB, "threads": 8}, GIB, patience=0.0), events, lambda: (GIB // 2, None))
    with pytest.raises(MemoryRefused, match="less than the reserve of"):
        made.admits("stages.b", {"memory": MIB}, MIB)


def test_memory_that_is_there_but_not_for_long_is_no_reason_to_start(events: Events) -> None:
    made = Pool(Limits({"memory": 48 * GIB, "threads": 8}, GIB, patience=0.0), events, lambda: (GIB - 1, None))
    made.look([])
    made._source = lambda: (64 * GIB, None)
    made._reading = None
    made.look([])
    with pytest.raises(MemoryRefused, match="memory was short"):
        made.admits("stages.b", {"memory": MIB}, MIB)
    assert made.gauge.level.word == "shrink"


def test_what_a_job_holds_beyond_its_reservation_is_not_given_to_another(events: Events) -> None:
    made = Pool(Limits({"memory": 10 * GIB, "threads": 8}, GIB, conservative=False), events, lambda: (64 * GIB, None))
    made.ledger = made.ledger.reserved("a", {"memory": 4 * GIB})
    running: Any = SimpleNamespace(
        entry=SimpleNamespace(id="a"), meter=SimpleNamespace(held=7 * GIB), forecast=forecast(4 * GIB)
    )
    made.look([running])
    assert running.meter.held <= made.limit_of(running)
    assert not made.admits("stages.b", {"memory": 5 * GIB}, 5 * GIB), "a would be ended for what it was allowed"
    assert made.admits("stages.b", {"memory": 3 * GIB}, 3 * GIB)
