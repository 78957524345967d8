"""What verbs that only look want to know of a state. Nothing here writes or waits."""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifw.plan.snapshot import Pointer
from aifw.state.layout import Layout
from aifw.state.store import Store


@dataclass(frozen=True, slots=True)
class Bound:
    """What an address stands for.

    Attributes:
        artifact: Digest; empty for an external thing.
        identity: Kind, version, settings that matter, observation.
        facts: Of the whole artifact, or of the external thing.
        size: Bytes.
        made_at: UTC.
        job: That made it.
        damage: What is wrong with its bytes, or empty.
        run: That last touched the binding.
    """

    address: str
    kind: str
    family: str
    artifact: str
    key: str
    recipe: str
    identity: Mapping[str, Any]
    facts: Mapping[str, Any]
    run: int
    size: int
    made_at: str
    job: str
    damage: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of the engine. `summary` has seconds, peak_memory, exit and results, or is empty."""

    id: int
    state: str
    spec: str
    plan: str | None
    pid: int
    serial: int
    started: str
    ended: str | None
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobRow:
    """An attempt at a job."""

    id: str
    run: int
    address: str
    kind: str
    verb: str
    key: str
    state: str
    settings: Mapping[str, Any]
    forecast: Mapping[str, Any] | None
    actual: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    started: str
    ended: str | None


@dataclass(frozen=True, slots=True)
class Move:
    """A move of an alias: `initial`, `promotion` or `rollback`."""

    label: str
    digest: str
    artifact: str
    cause: str
    run: int | None
    verdict: Mapping[str, Any] | None
    at: str


def bindings(store: Store) -> dict[str, Bound]:
    """Everything addresses stand for, by address."""
    rows = store.rows(
        "select b.address, b.kind, b.family, b.artifact, b.key, b.recipe, b.identity, b.facts, b.run,"
        " coalesce(a.size, 0), coalesce(a.made_at, ''), coalesce(a.job, ''), coalesce(a.damage, '')"
        " from binding b left join artifact a on a.digest = b.artifact order by b.address"
    )
    return {row[0]: Bound(*_decoded(row, 6, 7)) for row in rows}


def outputs(store: Store, artifact: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Digest and facts of each output of an artifact."""
    rows = store.rows("select name, digest, facts from output where artifact = ? order by name", artifact)
    return {name: (digest, json.loads(facts)) for name, digest, facts in rows}


def runs(store: Store, limit: int | None = None) -> list[RunRow]:
    """Runs, newest first."""
    rows = store.rows(
        "select id, state, spec, plan, pid, serial, started, ended, summary from run order by id desc limit ?",
        -1 if limit is None else limit,
    )
    return [RunRow(*_decoded((*row[:8], row[8] or "{}"), 8)) for row in rows]


def jobs(store: Store, address: str | None = None, run: int | None = None, limit: int | None = None) -> list[JobRow]:
    """Attempts at jobs, newest first."""
    rows = store.rows(
        "select id, run, address, kind, verb, key, state, settings, forecast, actual, error, started, ended from job"
        " where (?1 is null or address = ?1) and (?2 is null or run = ?2) order by started desc, id desc limit ?3",
        address,
        run,
        -1 if limit is None else limit,
    )
    return [JobRow(*_decoded(row, 7, 8, 9, 10)) for row in rows]


def measured_jobs(store: Store, kind: str | None = None) -> list[JobRow]:
    """Jobs that were forecast and measured, newest first: those that were done, and those that exceeded their memory."""
    rows = store.rows(
        "select id, run, address, kind, verb, key, state, settings, forecast, actual, error, started, ended from job"
        " where (?1 is null or kind = ?1) and verb != 'delete' and forecast is not null and actual is not null"
        " and (state = 'done' or state = 'failed' and coalesce(json_extract(actual, '$.exceeded'), 0))"
        " order by started desc, id desc",
        kind,
    )
    return [JobRow(*_decoded(row, 7, 8, 9, 10)) for row in rows]


def _decoded(row: tuple[Any, ...], *json_columns: int) -> tuple[Any, ...]:
    """A row with some of its columns taken out of JSON; what is null stays so."""
    return tuple(
        json.loads(value) if index in json_columns and value is not None else value for index, value in enumerate(row)
    )


def known_addresses(store: Store) -> list[str]:
    """Every address that is bound or for which a job was ever started."""
    return [row[0] for row in store.rows("select address from binding union select address from job order by address")]


def moves(store: Store, alias: str) -> list[Move]:
    """Where an alias pointed, newest first."""
    rows = store.rows(
        "select label, digest, artifact, cause, run, verdict, at from alias_move where name = ? order by id desc", alias
    )
    return [Move(*_decoded(row, 5)) for row in rows]


def goes_back(found: Sequence[Move]) -> bool:
    """Whether there is something before what an alias points to now. `found` is newest first; a rollback takes off what it left."""
    stack: list[str] = []
    for move in reversed(found):
        if move.cause == "rollback":
            while stack and stack[-1] != move.digest:
                stack.pop()
        else:
            stack.append(move.digest)
    return len(set(stack)) > 1


def quarantined(store: Store) -> dict[str, tuple[str, str]]:
    """Why each digest in quarantine is there, and the label it had, if any."""
    labels = dict(store.rows("select digest, label from alias_move"))
    rows = store.rows("select digest, reason from quarantine order by at")
    return {digest: (reason, labels.get(digest, digest[:12])) for digest, reason in rows}


def pointers(store: Store) -> dict[str, tuple[Pointer, str, str]]:
    """Where each alias points, since when and why."""
    found: dict[str, tuple[Pointer, str, str]] = {}
    for name, pointer in sorted(store.aliases().items()):
        rows = store.rows("select at, cause from alias_move where name = ? order by id desc limit 1", name)
        found[name] = (pointer, *rows[0]) if rows else (pointer, "", "")
    return found


def engine(store: Store, layout: Layout) -> RunRow | None:
    """The run an engine is at work on, or None. The lock is looked at and never taken: an apply that starts now must get it."""
    last = runs(store, 1)
    if not last or last[0].state != "running" or not _locked(layout.lock, last[0].pid):
        return None
    return last[0]


def _locked(path: Path, pid: int) -> bool:
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return Path(f"/proc/{pid}").exists()
    words = (line.split() for line in lines if "FLOCK" in line)
    return any(word.rpartition(":")[2] == str(inode) for line in words for word in line if word.count(":") == 2)


def seconds_since(text: str) -> float:
    """Seconds since a time as the state keeps it."""
    return max(0.0, time.time() - calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")))


def seconds_between(start: str, end: str) -> float:
    """Seconds between two times as the state keeps them."""
    return seconds_since(start) - seconds_since(end)


def job_folder(layout: Layout, job: str) -> Path | None:
    """Folder of an attempt, unless it was collected."""
    folder = layout.job(job)
    return folder if folder.is_dir() else None


@dataclass(frozen=True, slots=True)
class Made:
    """An output that some job made and that is still kept.

    Attributes:
        address: The resource whose job made it, or empty if that job is not known any more.
        run: Of that job.
        at: UTC.
        artifact: Digest of the artifact it is part of.
        digest: Of the output.
    """

    address: str
    run: int | None
    at: str
    artifact: str
    digest: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict as it was reached. `at` is UTC."""

    address: str
    candidate: str
    incumbent: str
    run: int
    verdict: Mapping[str, Any]
    at: str


def made(store: Store, output: str) -> list[Made]:
    """Every kept output of that name, the oldest first."""
    rows = store.rows(
        "select coalesce(j.address, ''), j.run, a.made_at, a.digest, o.digest, o.facts from output o"
        " join artifact a on a.digest = o.artifact left join job j on j.id = a.job where o.name = ? order by a.made_at, a.digest",
        output,
    )
    return [Made(*_decoded(row, 5)) for row in rows]


def verdicts(store: Store) -> list[Judged]:
    """Every verdict, the newest first."""
    rows = store.rows("select address, candidate, incumbent, run, verdict, at from verdict order by id desc")
    return [Judged(*_decoded(row, 4)) for row in rows]


def labels(store: Store) -> dict[str, str]:
    """What outputs are called, by digest: `int8@90c2`."""
    rows = store.rows(
        "select o.digest, j.address from output o join artifact a on a.digest = o.artifact join job j on j.id = a.job"
    )
    found = {digest: f"{address.rpartition('.')[2]}@{digest[:4]}" for digest, address in rows}
    return found | dict(store.rows("select digest, label from alias_move"))
