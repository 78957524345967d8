"""The journal of jobs: intended before anything starts, launched once there is a process, ended with what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aifw.boundary import boundary
from aifw.plan.snapshot import Binding
from aifw.state.store import Made, Store, changed, now, put_artifact, put_binding


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A job that the journal says may still be running."""

    id: str
    run: int
    address: str
    kind: str
    verb: str
    key: str
    recipe: str
    identity: str
    inputs: str
    pid: int | None
    pid_start: int | None


def intended(store: Store, entry: JobEntry, settings: str, forecast: Mapping[str, Any] | None, executor: str) -> None:
    """Write down that a job is about to start."""
    with store.transaction() as connection:
        connection.execute(
            "insert into job (id, run, address, kind, verb, key, recipe, identity, inputs, state, executor, forecast, settings, started)"
            " values (?, ?, ?, ?, ?, ?, ?, ?, ?, 'intended', ?, ?, ?, ?)",
            (
                entry.id,
                entry.run,
                entry.address,
                entry.kind,
                entry.verb,
                entry.key,
                entry.recipe,
                entry.identity,
                entry.inputs,
                executor,
                json.dumps(forecast) if forecast is not None else None,
                settings,
                now(),
            ),
        )
    boundary("job.intended")


def launched(store: Store, job: str, pid: int, pid_start: int) -> None:
    """Write down the process of a job."""
    boundary("job.spawned")
    with store.transaction() as connection:
        connection.execute(
            "update job set state = 'launched', pid = ?, pid_start = ? where id = ?", (pid, pid_start, job)
        )
    boundary("job.launched")


def committed(
    store: Store,
    entry: JobEntry,
    made: Made,
    actual: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    reusable: bool = True,
) -> None:
    """A job is done: register its artifact, its key and what the address now stands for, in one step.

    What is not `reusable` is not registered under its key.
    """
    boundary("job.before_commit")
    with store.transaction() as connection:
        put_artifact(connection, made, entry.key if reusable else None, entry.id)
        put_binding(
            connection,
            Binding(
                entry.address,
                entry.kind,
                "artifact",
                made.digest,
                entry.key,
                entry.recipe,
                entry.identity,
                entry.inputs,
            ),
            facts,
            entry.run,
        )
        _ended(connection, entry.id, "done", actual, None)
        changed(connection, entry.run)
    boundary("job.committed")


def ended(
    store: Store, job: str, state: str, actual: Mapping[str, Any] | None = None, error: Mapping[str, Any] | None = None
) -> None:
    """A job is over without a result: `failed`, `stopped` or `lost`."""
    boundary("job.before_end")
    with store.transaction() as connection:
        _ended(connection, job, state, actual, error)
    boundary("job.ended")


def _ended(
    connection: Any, job: str, state: str, actual: Mapping[str, Any] | None, error: Mapping[str, Any] | None
) -> None:
    connection.execute(
        "update job set state = ?, actual = ?, error = ?, ended = ? where id = ?",
        (
            state,
            json.dumps(actual) if actual is not None else None,
            json.dumps(error) if error is not None else None,
            now(),
            job,
        ),
    )


def unfinished(store: Store) -> list[JobEntry]:
    """Jobs without an end, oldest first."""
    return [
        JobEntry(*row)
        for row in store.rows(
            "select id, run, address, kind, verb, key, recipe, identity, inputs, pid, pid_start from job"
            " where state in ('intended', 'launched') order by started, id"
        )
    ]
