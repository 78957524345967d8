"""What verbs that only look read from a state."""

from __future__ import annotations

from typing import Any

from aifw.state import jobs
from aifw.state.jobs import JobEntry
from aifw.state.reading import measured_jobs
from aifw.state.store import Store

FORECAST = {"memory": {"low": 1, "mid": 2, "high": 3}, "seconds": {"low": 1, "mid": 2, "high": 3}}


def job(
    store: Store,
    number: int,
    state: str,
    *,
    kind: str = "toy",
    verb: str = "run",
    forecast: Any = FORECAST,
    **actual: Any,
) -> None:
    one = JobEntry(f"1-{number}", 1, f"stages.job{number}", kind, verb, "key", "r", "{}", "{}", None, None)
    jobs.intended(store, one, "{}", forecast, "local")
    jobs.ended(store, one.id, state, actual or None)


def test_jobs_that_were_forecast_and_measured(store: Store) -> None:
    job(store, 1, "done", memory=5, seconds=1.0)
    job(store, 2, "failed", memory=5, seconds=1.0)
    job(store, 3, "failed", memory=5, seconds=1.0, exceeded=True)
    job(store, 4, "done", verb="delete", memory=5, seconds=1.0)
    job(store, 5, "done", forecast=None, memory=5, seconds=1.0)
    job(store, 6, "lost")
    job(store, 7, "done", kind="toy_pair", memory=5, seconds=1.0)
    assert {found.id for found in measured_jobs(store)} == {"1-1", "1-3", "1-7"}
    (only,) = measured_jobs(store, "toy_pair")
    assert (only.forecast, only.actual) == (FORECAST, {"memory": 5, "seconds": 1.0})
