"""The SQLite file: opening, migrating, transactions, and errors a user can act on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aifw.errors import NoSpace, StateError, StateTooNew
from aifw.state.schema import MIGRATIONS

_BUSY_SECONDS = 10.0
_NEEDED_BYTES = 256 * 1024


def connect(path: Path, *, create: bool) -> sqlite3.Connection | None:
    """Open the state, bringing it up to date.

    Args:
        path: The file.
        create: Make it if it is not there; otherwise None is returned.

    Raises:
        StateTooNew: Written by a newer aifw.
        StateError: Not a state, or it cannot be opened.
    """
    if not create and not path.exists():
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"the state {path} cannot be opened: {error}") from error
    try:
        (version,) = connection.execute("pragma user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StateTooNew(
                f"the state {path} was written by a newer aifw (format {version}, this one knows {len(MIGRATIONS)})",
                hint="upgrade aifw, or use another --state folder",
            )
        if version < len(MIGRATIONS):
            _migrate(connection)
        connection.execute("pragma synchronous=full")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise translated(error, path) from error
    except StateError:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("begin immediate")
    try:
        (version,) = connection.execute("pragma user_version").fetchone()
        for script in MIGRATIONS[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"pragma user_version={len(MIGRATIONS)}")
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """One durable step: on disk when this returns, or not done at all.

    Raises:
        NoSpace: The disk is full; nothing was changed.
        StateError: The file cannot be written.
    """
    try:
        connection.execute("begin immediate")
        yield connection
        connection.execute("commit")
    except sqlite3.DatabaseError as error:
        _abandon(connection)
        raise translated(error, path) from error
    except BaseException:
        _abandon(connection)
        raise


def _abandon(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("rollback")


def translated(error: sqlite3.Error, path: Path) -> StateError:
    """SQLite's error as one of ours."""
    where = f"the state {path}"
    name = getattr(error, "sqlite_errorname", "") or ""
    # Where a file cannot grow, SQLite reports some full disks as a failure to read or write.
    if name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and _full(path.parent)):
        return NoSpace(
            f"the disk is full: {where} could not be written and is unchanged",
            hint="free some space and run the same command again",
        )
    if name.startswith("SQLITE_BUSY"):
        return StateError(f"{where} is being written by another process", hint="try again in a moment")
    if name in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
        return StateError(
            f"{where} is not a readable database ({error})",
            hint="restore it from a backup, or move it away to start afresh",
        )
    return StateError(f"{where} cannot be used: {error}")


def _full(folder: Path) -> bool:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize < _NEEDED_BYTES
