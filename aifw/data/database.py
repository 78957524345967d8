"""The table `feedback` through SQLAlchemy Core: made, filled, and read in one transaction."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from aifw.data.events import COLUMNS, REQUIRED, Event, as_columns, encode
from aifw.data.observation import read_only
from aifw.errors import InputInvalid

_BATCH = 500


def feedback_table(name: str = "feedback") -> sa.Table:
    """The documented table, as `aifw feedback import` makes it."""
    return sa.Table(
        name,
        sa.MetaData(),
        *(
            sa.Column(
                column,
                sa.Integer if column == "stars" else sa.Text,
                primary_key=column == "id",
                nullable=column not in REQUIRED,
            )
            for column in COLUMNS
        ),
    )


@dataclass
class Imported:
    """What an import did.

    Attributes:
        added: New rows.
        present: Rows that were there already, with the same content.
        conflicts: Ids that are there with other content; the rows in the database were kept.
    """

    added: int = 0
    present: int = 0
    conflicts: list[str] = field(default_factory=list)


def add(path: Path, events: Iterable[Event], table_name: str = "feedback") -> Imported:
    """Add events to a SQLite database, all or nothing; an id that is there already is left as it is.

    Args:
        path: Made with the table if it is not there.
        events: Checked rows.
        table_name: An identifier.

    Raises:
        InputInvalid: The file is no SQLite database, is locked, or its table has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=NullPool)
    table = feedback_table(table_name)
    result = Imported()
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            table.metadata.create_all(connection)
            _require_columns(connection, path, table_name, COLUMNS)
            batch: list[Event] = []
            for event in events:
                batch.append(event)
                if len(batch) == _BATCH:
                    _add_batch(connection, table, batch, result)
                    batch = []
            _add_batch(connection, table, batch, result)
    except sa.exc.DatabaseError as error:
        raise InputInvalid(f"{path} cannot be written as a SQLite database: {error.orig}") from error
    finally:
        engine.dispose()
    return result


def _add_batch(connection: sa.Connection, table: sa.Table, batch: list[Event], result: Imported) -> None:
    if not batch:
        return
    ids = [event["id"] for event in batch]
    found = connection.execute(sa.select(table).where(table.c.id.in_(ids)))
    present: dict[str, str] = {row.id: encode(dict(row._mapping)) for row in found}
    fresh = []
    for event in batch:
        row = as_columns(event)
        content = encode(row)
        known = present.setdefault(row["id"], "")
        if not known:
            present[row["id"]] = content
            fresh.append(row)
        elif known == content:
            result.present += 1
        else:
            result.conflicts.append(row["id"])
    if fresh:
        connection.execute(sa.insert(table), fresh)
    result.added += len(fresh)


@contextmanager
def snapshot(path: Path, table_name: str = "feedback") -> Iterator[Iterator[tuple[int, dict[str, Any]]]]:
    """The rows of a table as they are at one instant, while others may go on writing.

    Yields:
        An iterator over (position from 1, row), by id in the order of UTF-8 bytes; a value that is no text is given as it is.

    Raises:
        InputInvalid: No SQLite database, no such table, or a documented column every event needs is missing.
    """

    def connect() -> sqlite3.Connection:
        return read_only(path)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            present = _require_columns(connection, path, table_name, REQUIRED)
            columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in COLUMNS if name in present]
            table = sa.table(table_name, *columns)
            query = sa.select(*columns).order_by(table.c.id).select_from(table)
            rows = connection.execution_options(yield_per=_BATCH).execute(query)
            yield ((position, dict(row)) for position, row in enumerate(rows.mappings(), 1))
    except sa.exc.DatabaseError as error:
        raise InputInvalid(f"{path} cannot be read as a SQLite database: {error.orig}") from error
    finally:
        engine.dispose()


def _require_columns(connection: sa.Connection, path: Path, table: str, wanted: Iterable[str]) -> set[str]:
    inspector = sa.inspect(connection)
    try:
        present = {column["name"] for column in inspector.get_columns(table)}
    except sa.exc.NoSuchTableError:
        raise InputInvalid(f"{path} has no table `{table}`", hint="`table:` names another") from None
    missing = [name for name in wanted if name not in present]
    if missing:
        raise InputInvalid(
            f"table `{table}` of {path} has no column {', '.join(missing)}",
            hint="`aifw feedback import --help` lists the columns; a view can rename those of another table",
        )
    return present


class Sorter:
    """Sorts rows by id and counts names in a temporary file, so that a file of any size is read in bounded memory.

    Args:
        folder: Where the temporary file goes.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"sorting-{os.getpid()}.db"
        self._path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute("CREATE TABLE rows (id TEXT NOT NULL, position INTEGER NOT NULL, text TEXT NOT NULL)")
        self._connection.execute(
            "CREATE TABLE names (what TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (what, name)) WITHOUT ROWID"
        )

    def add(self, identifier: str, position: int, text: str) -> None:
        """Keep one row."""
        self._connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (identifier, position, text))

    def rows(self) -> Iterator[tuple[str, int, str]]:
        """Every row by id, in the order of UTF-8 bytes, then by position."""
        with closing(self._connection.execute("SELECT id, position, text FROM rows ORDER BY id, position")) as cursor:
            yield from cursor

    def count(self, what: str, name: str) -> None:
        """Count a name once."""
        self._connection.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (what, name))

    def counted(self, what: str) -> int:
        """How many different names were counted."""
        found = self._connection.execute("SELECT count(*) FROM names WHERE what = ?", (what,)).fetchone()[0]
        return int(found)

    def close(self) -> None:
        """Remove the temporary file."""
        self._connection.close()
        self._path.unlink(missing_ok=True)
