"""A cheap look at feedback before planning: what is there, and whether it may have changed. Standard library only."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid
from aifw.kind import Observation

CONTENT_ROWS = 5_000
"""Up to this many rows the content of a table is part of its fingerprint, so that a row changed in place is seen."""

ANSWERS = ("answer", "answer_a", "answer_b", "corrected")
"""Columns that hold an answer."""

_BLOCK = 1 << 20


def read_only(path: Path) -> sqlite3.Connection:
    """Open a SQLite database that others may be writing, without ever making or changing it."""
    location = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(f"file:{location}?mode=ro", uri=True, isolation_level=None)
    connection.text_factory = bytes_or_text
    return connection


def bytes_or_text(raw: bytes) -> str | bytes:
    """Text, or the bytes themselves where they are not UTF-8, so that one broken row does not end the reading."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def look_at_table(path: Path, table: str) -> Observation:
    """Fingerprint of a table: its schema, highest rowid and count, and its content while it is small.

    Rows are only ever added, so count and highest rowid say enough about a large table.

    Args:
        path: A SQLite database.
        table: An identifier.

    Raises:
        InputInvalid: Not a SQLite database, locked for long, or there is no such table.
    """
    digest = hashlib.sha256()
    try:
        with closing(read_only(path)) as connection:
            connection.execute("BEGIN")
            schema = connection.execute(
                "SELECT sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?", (table,)
            ).fetchone()
            if schema is None:
                raise InputInvalid(
                    f"{path} has no table `{table}`",
                    hint="`aifw feedback import FILE.jsonl --into sqlite:///PATH` makes it; `table:` names another",
                )
            rows = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608 - an identifier by pattern
            try:
                highest = connection.execute(f'SELECT max(rowid) FROM "{table}"').fetchone()[0]  # noqa: S608
            except sqlite3.OperationalError:
                highest = None  # a view or a table WITHOUT ROWID
            digest.update(repr((schema[0], highest, rows)).encode())
            content: dict[str, Any] = {}
            if rows <= CONTENT_ROWS:
                content = _content(connection.execute(f'SELECT * FROM "{table}" ORDER BY 1'), digest)  # noqa: S608
            size = (
                connection.execute("PRAGMA page_count").fetchone()[0]
                * (connection.execute("PRAGMA page_size").fetchone()[0])
            )
    except sqlite3.Error as error:
        raise InputInvalid(
            f"{path} cannot be read as a SQLite database: {error}", hint="is it a SQLite file, and not locked?"
        ) from error
    return Observation(digest.hexdigest(), _events(rows), {"rows": rows, "bytes": size} | content)


def _content(cursor: sqlite3.Cursor, digest: hashlib._Hash) -> dict[str, Any]:
    """Add every row to the digest; the facts a forecast can use: rows by kind and mean lengths in characters."""
    names = [column[0] for column in cursor.description]
    kinds: Counter[str] = Counter()
    answers: list[int] = []
    prompts: list[int] = []
    for values in cursor:
        digest.update(repr(values).encode())
        row = {name: value for name, value in zip(names, values, strict=True) if isinstance(value, str)}
        kinds[row.get("kind", "")] += 1
        prompts.append(len(row.get("turns", "")) + len(row.get("prompt", "")))
        answers += [len(row[name]) for name in ANSWERS if name in row]
    if not answers:
        return {}
    return {
        "kinds": dict(sorted(kinds.items())),
        "chars_prompt": round(sum(prompts) / len(prompts), 1),
        "chars_answer": round(sum(answers) / len(answers), 1),
    }


def look_at_lines(path: Path, digest_of: Callable[[Path], str]) -> Observation:
    """Fingerprint of a file of JSON lines: its sha256.

    Raises:
        InputInvalid: It cannot be read.
    """
    try:
        fingerprint = digest_of(path)
        rows, last = 0, b"\n"
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                rows += block.count(b"\n")
                last = block[-1:]
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}") from error
    rows += last != b"\n"
    return Observation(fingerprint, _events(rows), {"rows": rows, "bytes": path.stat().st_size})


def _events(rows: int) -> str:
    return f"{rows:,} event{'' if rows == 1 else 's'}"
