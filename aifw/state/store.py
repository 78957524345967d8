"""What is remembered between runs. Every method that writes is one durable transaction; readers never wait for it."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aifw.hardware.machine import Machine
from aifw.kind import History, Observation, Past
from aifw.plan.snapshot import UNRECORDED, ArtifactRecord, Binding, OutputRecord, Pointer, Snapshot
from aifw.state.artifacts import ArtifactStore, digest_of
from aifw.state.database import connect, transaction, translated
from aifw.state.layout import Layout

_HISTORY_LENGTH = 20
_SETTLED_SECONDS = 1.0


def now() -> str:
    """UTC time as ISO 8601 with milliseconds."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact as the store registers it: digest, bytes, fingerprint of its files, and the manifest it came with."""

    digest: str
    size: int
    fingerprint: str
    manifest: Mapping[str, Any]


class Store:
    """The state of one spec."""

    def __init__(self, connection: sqlite3.Connection, layout: Layout) -> None:
        self.connection = connection
        self.layout = layout
        self.artifacts = ArtifactStore(layout.artifacts)
        self._looks: dict[str, tuple[int, int, int]] = {}

    @classmethod
    def open(cls, layout: Layout) -> Store:
        """Open the state, making it if it is not there."""
        connection = connect(layout.database, create=True)
        assert connection is not None
        return cls(connection, layout)

    @classmethod
    def existing(cls, layout: Layout) -> Store | None:
        """Open the state if there is one."""
        connection = connect(layout.database, create=False)
        return None if connection is None else cls(connection, layout)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """One durable step."""
        return transaction(self.connection, self.layout.database)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            StateError: The file cannot be read.
        """
        try:
            return self.connection.execute(query, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            raise translated(error, self.layout.database) from error

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Let several queries see one and the same state, whatever is written meanwhile."""
        self.rows("begin")
        try:
            yield
        finally:
            if self.connection.in_transaction:
                self.connection.execute("rollback")

    @property
    def serial(self) -> int:
        """How often the state has changed."""
        return int(self.rows("select value from meta where name = 'serial'")[0][0])

    # Reading for the planner

    def snapshot(self, machine: Machine, observations: Mapping[str, Observation], kinds: Iterable[str]) -> Snapshot:
        """The state as the planner sees it, as it was at one instant."""
        with self.unchanging():
            return self._snapshot(machine, observations, kinds)

    def _snapshot(self, machine: Machine, observations: Mapping[str, Observation], kinds: Iterable[str]) -> Snapshot:
        bindings = {
            row[0]: Binding(*row)
            for row in self.rows("select address, kind, family, artifact, key, recipe, identity, inputs from binding")
        }
        self._add_unrecorded(bindings)
        outputs: dict[str, dict[str, OutputRecord]] = {}
        for artifact, name, digest, facts in self.rows("select artifact, name, digest, facts from output"):
            outputs.setdefault(artifact, {})[name] = OutputRecord(digest, facts)
        aliases = self.aliases()
        used = {binding.artifact for binding in bindings.values()} | {pointer.artifact for pointer in aliases.values()}
        records = {
            digest: ArtifactRecord(
                digest,
                kind,
                outputs.get(digest, {}),
                damage or (self._damage(digest, fingerprint) if digest in used else ""),
            )
            for digest, kind, fingerprint, damage in self.rows("select digest, kind, fingerprint, damage from artifact")
        }
        return Snapshot(
            machine=machine,
            serial=self.serial,
            observations=observations,
            bindings=bindings,
            made=self._texts("select key, artifact from made"),
            artifacts=records,
            aliases=aliases,
            quarantined=self._texts("select digest, reason from quarantine"),
            checkpoints=self._checkpoints(),
            history={kind: self.history(kind) for kind in kinds},
        )

    def _texts(self, query: str) -> dict[str, str]:
        return {row[0]: row[1] for row in self.rows(query)}

    def _add_unrecorded(self, bindings: dict[str, Binding]) -> None:
        """External things an interrupted run was about to create, change or delete, so that nothing real is forgotten."""
        for address, kind, verb in self.rows("select address, kind, verb from effect where state = 'intended'"):
            if verb == "create":
                bindings.setdefault(address, Binding(address, kind, "external", "", "", ""))
            elif address in bindings:
                # What may be gone cannot be changed in place, only created again.
                bindings[address] = replace(bindings[address], key="" if verb == "delete" else UNRECORDED)

    def _damage(self, digest: str, fingerprint: str) -> str:
        if self.artifacts.fingerprint(digest) == fingerprint:
            return ""
        return self.artifacts.damage(digest)

    def _checkpoints(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for path in self.layout.folder.glob("checkpoints/*/step-*"):
            found[path.parent.name] = max(found.get(path.parent.name, 0), int(path.name.removeprefix("step-")))
        return found

    def history(self, kind: str) -> History:
        """Finished jobs of a kind, newest first, and those that were ended because they exceeded their memory."""
        rows = self.rows(
            "select actual, settings, forecast, run, (select max(id) from run) from job where kind = ? and verb != 'delete'"
            " and actual is not null and (state = 'done' and not coalesce(json_extract(actual, '$.resumed'), 0)"
            " or state = 'failed' and coalesce(json_extract(actual, '$.exceeded'), 0)) order by ended desc, id desc limit ?",
            kind,
            _HISTORY_LENGTH,
        )
        return History(
            tuple(
                past(json.loads(actual), json.loads(settings), json.loads(forecast or "{}"), (newest or run) - run)
                for actual, settings, forecast, run, newest in rows
            )
        )

    def aliases(self) -> dict[str, Pointer]:
        """Where every alias points."""
        return {
            row[0]: Pointer(*row[1:]) for row in self.rows("select name, artifact, output, digest, label from alias")
        }

    def digest_of(self) -> Callable[[Path], str]:
        """sha256 of a file, remembered by size, mtime and inode."""
        known = {row[0]: row[1:] for row in self.rows("select path, size, mtime, inode, digest from observed")}

        def digest(path: Path) -> str:
            status = path.stat()
            look = (status.st_size, status.st_mtime_ns, status.st_ino)
            # From before the file is read: if it changes under our eyes, the next look differs. Unless it changed a moment ago:
            # then it can change again within the same tick of the clock, and is read again next time.
            if time.time_ns() - status.st_mtime_ns > _SETTLED_SECONDS * 1e9:
                self._looks[os.fspath(path)] = look
            else:
                self._looks.pop(os.fspath(path), None)
            seen = known.get(os.fspath(path))
            if seen is not None and seen[:3] == look:
                return str(seen[3])
            return digest_of(path)

        return digest

    def remember_observed(self, paths: Mapping[str, str]) -> None:
        """Keep digests that `digest_of` found."""
        rows = [(name, *self._looks[name], digest) for name, digest in paths.items() if name in self._looks]
        if rows:
            with self.transaction() as connection:
                connection.executemany("replace into observed values (?, ?, ?, ?, ?)", rows)

    # Runs

    def begin_run(self, spec: str, plan: str | None) -> int:
        """Register a run; returns its number."""
        with self.transaction() as connection:
            cursor = connection.execute(
                "insert into run (plan, spec, pid, serial, state, started) values (?, ?, ?, ?, 'running', ?)",
                (plan, spec, os.getpid(), self.serial, now()),
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def end_run(self, run: int, state: str, summary: Mapping[str, Any]) -> None:
        """Close a run: `done`, `failed`, `held`, `interrupted` or `crashed`."""
        with self.transaction() as connection:
            connection.execute(
                "update run set state = ?, ended = ?, summary = ? where id = ?",
                (state, now(), json.dumps(summary), run),
            )

    def run_is_open(self) -> bool:
        """Whether an engine died here, or is at work."""
        return bool(self.rows("select 1 from run where state = 'running' limit 1"))

    def moved_only_by(self, plan: str, serial: int) -> bool:
        """Whether every change of the state since `serial` came from runs of this saved plan."""
        others = self.rows(
            "select count(*) from change c left join run r on r.id = c.run where c.serial > ? and (r.plan is null or r.plan != ?)",
            serial,
            plan,
        )
        return not others[0][0]

    def done_by(self, plan: str) -> frozenset[str]:
        """Addresses for which runs of this saved plan finished a job."""
        found = self.rows(
            "select j.address from job j join run r on r.id = j.run where r.plan = ? and j.state = 'done'", plan
        )
        return frozenset(row[0] for row in found)

    # Bindings

    def bind(self, binding: Binding, facts: Mapping[str, Any], run: int) -> None:
        """Let an address stand for something that is there already."""
        with self.transaction() as connection:
            put_binding(connection, binding, facts, run)
            changed(connection, run)

    def forget(self, address: str, run: int) -> None:
        """Drop what an address stands for; the bytes stay until they are collected."""
        with self.transaction() as connection:
            connection.execute("delete from binding where address = ?", (address,))
            changed(connection, run)

    def refresh_fingerprints(self) -> None:
        """Note the times of files that were touched and found sound, so that they are not read through again and again."""
        rows = self.rows(
            "select distinct a.digest, a.fingerprint from artifact a join binding b on b.artifact = a.digest where a.damage = ''"
        )
        moved = [(found, digest) for digest, then in rows if (found := self.artifacts.fingerprint(digest)) != then]
        sound = [(fingerprint, digest) for fingerprint, digest in moved if not self.artifacts.damage(digest)]
        if sound:
            with self.transaction() as connection:
                connection.executemany("update artifact set fingerprint = ? where digest = ?", sound)

    def mark_damaged(self, digest: str, damage: str) -> None:
        """Note that an artifact's bytes are wrong, so that the next plan makes it again."""
        with self.transaction() as connection:
            connection.execute("update artifact set damage = ? where digest = ?", (damage, digest))


def past(actual: Mapping[str, Any], settings: Mapping[str, Any], forecast: Mapping[str, Any], age: int = 0) -> Past:
    """What a job took beside what its kind had stated.

    What is not written down is unknown. A job that does not say where it computed was measured with mapped files counted as its
    memory, which says nothing of what forecasts are about.

    Args:
        actual: Of the job's end.
        settings: It ran with.
        forecast: It was started with; `uncorrected` is what the kind stated, where that was corrected.
        age: Runs of the engine since.
    """
    stated = forecast.get("uncorrected") or (_middle(forecast, "memory"), _middle(forecast, "seconds"))
    return Past(
        memory=actual.get("memory") or 0.0,
        seconds=actual.get("seconds") or 0.0,
        work=actual.get("work") or 0.0,
        settings=settings,
        device=actual.get("device") or "cpu",
        expected_memory=stated[0] if "device" in actual else None,
        expected_seconds=stated[1],
        exceeded=bool(actual.get("exceeded")),
        age=age,
    )


def _middle(forecast: Mapping[str, Any], name: str) -> float | None:
    found: float | None = forecast.get(name, {}).get("mid")
    return found


def changed(connection: sqlite3.Connection, run: int | None) -> None:
    """Count a change of the state, and note the run that made it."""
    connection.execute("update meta set value = cast(value as integer) + 1 where name = 'serial'")
    connection.execute("insert into change select cast(value as integer), ? from meta where name = 'serial'", (run,))


def put_binding(connection: sqlite3.Connection, binding: Binding, facts: Mapping[str, Any], run: int) -> None:
    """Write a binding inside a transaction."""
    connection.execute(
        "replace into binding (address, kind, family, artifact, key, recipe, identity, inputs, facts, run)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            binding.address,
            binding.kind,
            binding.family,
            binding.artifact,
            binding.key,
            binding.recipe,
            binding.identity_json,
            binding.inputs_json,
            json.dumps(facts),
            run,
        ),
    )


def put_artifact(connection: sqlite3.Connection, made: Made, key: str | None, job: str) -> None:
    """Register an artifact and the key it can be found under, if any, inside a transaction."""
    connection.execute(
        "replace into artifact (digest, kind, size, fingerprint, facts, damage, job, made_at) values (?, ?, ?, ?, ?, '', ?, ?)",
        (
            made.digest,
            made.manifest["kind"],
            made.size,
            made.fingerprint,
            json.dumps(made.manifest["facts"]),
            job,
            now(),
        ),
    )
    connection.executemany(
        "replace into output (artifact, name, digest, facts) values (?, ?, ?, ?)",
        [
            (made.digest, name, output["digest"], json.dumps(output["facts"]))
            for name, output in made.manifest["outputs"].items()
        ],
    )
    if key is not None:
        connection.execute("replace into made (key, artifact) values (?, ?)", (key, made.digest))
