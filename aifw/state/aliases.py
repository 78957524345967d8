"""Aliases: compare-and-set moves outside the apply lock, with a history that can be walked back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from aifw.boundary import boundary
from aifw.errors import UsageError
from aifw.plan.snapshot import Pointer
from aifw.state.store import Store, changed, now


def label(address: str, digest: str) -> str:
    """How an alias shows what it points to: `dpo@a41f`."""
    return f"{address.rpartition('.')[2]}@{digest[:4]}"


def initialise(store: Store, name: str, pointer: Pointer, run: int) -> bool:
    """Set an alias that was never set; False if it was."""
    with store.transaction() as connection:
        return _move(connection, name, None, pointer, "initial", run, None)


def promote(
    store: Store, name: str, incumbent: str | None, pointer: Pointer, run: int, verdict: Mapping[str, Any]
) -> str:
    """Move an alias because a verdict says so.

    Args:
        store: The state.
        name: Of the alias.
        incumbent: Output digest the candidate was compared with; the alias must still point to it.
        pointer: The candidate.
        run: The run that carries it out.
        verdict: Kept with the move.

    Returns:
        Empty, or why it was not moved: rolled back meanwhile, or the alias moved.
    """
    boundary("alias.before_move")
    with store.transaction() as connection:
        held = connection.execute("select reason from quarantine where digest = ?", (pointer.digest,)).fetchone()
        if held is not None:
            return f"{held[0]}; `aifw release` lets it be promoted again"
        if not _move(connection, name, incumbent, pointer, "promotion", run, verdict):
            return f"{name} moved while the candidate was being compared"
    boundary("alias.moved")
    return ""


def _move(
    connection: sqlite3.Connection,
    name: str,
    expected: str | None,
    pointer: Pointer,
    cause: str,
    run: int | None,
    verdict: Mapping[str, Any] | None,
) -> bool:
    row = connection.execute("select digest from alias where name = ?", (name,)).fetchone()
    if (row[0] if row else None) != expected:
        return False
    connection.execute(
        "replace into alias values (?, ?, ?, ?, ?)",
        (name, pointer.artifact, pointer.output, pointer.digest, pointer.label),
    )
    connection.execute(
        "insert into alias_move (name, artifact, output, digest, label, cause, run, verdict, at) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            name,
            pointer.artifact,
            pointer.output,
            pointer.digest,
            pointer.label,
            cause,
            run,
            json.dumps(verdict) if verdict is not None else None,
            now(),
        ),
    )
    changed(connection, run)
    return True


def rollback(store: Store, name: str) -> tuple[Pointer, Pointer]:
    """Move an alias back to what it pointed to before, and quarantine what it leaves.

    Returns:
        What it pointed to, and what it points to now.

    Raises:
        UsageError: There is no such alias, nothing to go back to, or it was collected.
    """
    with store.transaction() as connection:
        current = _pointer(connection, "select artifact, output, digest, label from alias where name = ?", name)
        if current is None:
            known = (
                ", ".join(row[0] for row in connection.execute("select name from alias order by name")) or "none yet"
            )
            raise UsageError(f"there is no alias `{name}`", hint=f"aliases: {known}")
        former = _former(connection, name, current)
        if former is None:
            raise UsageError(
                f"{name} has pointed to nothing else before {current.label}", hint=f"`aifw show {name}` lists its moves"
            )
        if not store.artifacts.path(former.artifact).is_dir():
            raise UsageError(
                f"{former.label}, which {name} pointed to before {current.label}, is no longer in the store",
                hint="apply the spec it was made from again; then promote it",
            )
        connection.execute(
            "replace into quarantine values (?, ?, ?)", (current.digest, f"rolled back from {name}", now())
        )
        moved = _move(connection, name, current.digest, former, "rollback", None, None)
        assert moved
    return current, former


def _former(connection: sqlite3.Connection, name: str, current: Pointer) -> Pointer | None:
    """What the alias pointed to before: the history is a stack, on which a rollback takes off what it left."""
    stack: list[Pointer] = []
    rows = connection.execute(
        "select artifact, output, digest, label, cause from alias_move where name = ? order by id", (name,)
    )
    for *fields, cause in rows:
        pointer = Pointer(*fields)
        if cause == "rollback":
            while stack and stack[-1].digest != pointer.digest:
                stack.pop()
        else:
            stack.append(pointer)
    while stack and stack[-1].digest == current.digest:
        stack.pop()
    return stack[-1] if stack else None


def _pointer(connection: sqlite3.Connection, query: str, *parameters: str) -> Pointer | None:
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else Pointer(*row)


def release(store: Store, digest_prefix: str) -> list[str]:
    """Let quarantined outputs be promoted again.

    Args:
        store: The state.
        digest_prefix: Start of the output's digest, the label an alias showed (`dpo@a41f`), or `all`.

    Returns:
        Digests released.

    Raises:
        UsageError: Nothing in quarantine matches.
    """
    with store.transaction() as connection:
        rows = [row[0] for row in connection.execute("select digest from quarantine")]
        labels = {
            label: digest
            for label, digest in connection.execute("select label, digest from alias_move order by id")
            if digest in rows
        }
        wanted = labels.get(digest_prefix, digest_prefix.rpartition("@")[2])
        found = rows if digest_prefix == "all" else [digest for digest in rows if wanted and digest.startswith(wanted)]
        if not found:
            shown = ", ".join(labels) or "nothing"
            raise UsageError(f"nothing in quarantine matches `{digest_prefix}`", hint=f"in quarantine: {shown}")
        connection.executemany("delete from quarantine where digest = ?", [(digest,) for digest in found])
        changed(connection, None)
    return found


def record_verdict(store: Store, address: str, verdict: Mapping[str, Any], run: int) -> None:
    """Keep a finished comparison for good."""
    with store.transaction() as connection:
        connection.execute(
            "insert or ignore into verdict (address, candidate, incumbent, run, verdict, at) values (?, ?, ?, ?, ?, ?)",
            (
                address,
                verdict.get("candidate", ""),
                verdict.get("incumbent", ""),
                run,
                json.dumps(verdict, sort_keys=True),
                now(),
            ),
        )
