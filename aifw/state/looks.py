"""Looks at held-out sets: how often one decided about an alias.

Whoever compares candidate after candidate on the same items finds a better one sooner or later, whether there is one or not. So the
accepted probability of error is spent look by look, and which look this is has to be on disk before anything can be learnt from it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aifw.boundary import boundary
from aifw.state.store import Store, changed, now
from aifw.statistics.sketch import overlap

SAME_SET = 0.1
"""Estimated overlap from which two sets count as one that grew, shrank or was partly replaced. Sets that were drawn apart share nothing;
what shares a tenth has been learnt from to that extent, and the doubt is the gate's."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look.

    Attributes:
        holdout: Digest under which the set was first seen.
        number: Of the look, from 1.
    """

    holdout: str
    number: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent on a held-out set for an alias.

    Attributes:
        holdout: Digest under which the set was first seen.
        data: Digest it had last.
        looks: How many.
        last: UTC time of the last look.
        verdict: Of the last look that came to one: `alpha_spent`, `alpha_total`, `looks` and more. Empty if none did.
    """

    holdout: str
    data: str
    looks: int
    last: str
    verdict: Mapping[str, Any]


def reserve(store: Store, alias: str, data: str, sketch: Sequence[str], key: str, address: str, run: int) -> Look:
    """Write down that a job is about to look at a held-out set, and which look that is. A repeated job is the same look.

    Args:
        store: The state.
        alias: That is decided about.
        data: Digest of the held-out set.
        sketch: Of the ids of its items; see `aifw.statistics.sketch`.
        key: Of the job's result: the same job after a crash has the same.
        address: Of the resource that looks.
        run: Number of the run.
    """
    with store.transaction() as connection:
        known = connection.execute(
            "select holdout, number from look where alias = ? and artifact_key = ?", (alias, key)
        ).fetchone()
        if known is not None:
            return Look(*known)
        holdout = _same(connection, alias, data, sketch) or data
        (last,) = connection.execute(
            "select coalesce(max(number), 0) from look where alias = ? and holdout = ?", (alias, holdout)
        ).fetchone()
        connection.execute(
            "insert into look (alias, holdout, number, data, sketch, artifact_key, address, run, at)"
            " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (alias, holdout, last + 1, data, json.dumps(list(sketch)), key, address, run, now()),
        )
        changed(connection, run)
    boundary("look.reserved")
    return Look(holdout, last + 1)


def _same(connection: sqlite3.Connection, alias: str, data: str, sketch: Sequence[str]) -> str | None:
    """The set that this one is a form of, by what it was first called. Of several, the one most was spent on."""
    # The same bytes are the usual case, and need no comparison.
    row = connection.execute(
        "select holdout from look where alias = ? and data = ? order by number desc limit 1", (alias, data)
    ).fetchone()
    if row is not None:
        return str(row[0])
    seen = connection.execute(
        "select holdout, sketch, max(number) from look where alias = ? group by holdout, data", (alias,)
    ).fetchall()
    alike = [
        (number, holdout)
        for holdout, other, number in seen
        if sketch and (known := json.loads(other)) and overlap(sketch, known) >= SAME_SET
    ]
    return max(alike)[1] if alike else None


def spent(store: Store, alias: str) -> list[Spent]:
    """What was spent for an alias, by held-out set, the latest first."""
    rows = store.rows(
        "select holdout, data, number, at from look l where alias = ?1"
        " and number = (select max(number) from look where alias = ?1 and holdout = l.holdout) order by at desc",
        alias,
    )
    return [Spent(holdout, data, number, at, _verdict(store, alias, holdout)) for holdout, data, number, at in rows]


def _verdict(store: Store, alias: str, holdout: str) -> dict[str, Any]:
    rows = store.rows(
        "select verdict from verdict where json_extract(verdict, '$.alias') = ?1 and json_extract(verdict, '$.look') is not null"
        " and json_extract(verdict, '$.data') in (select data from look where alias = ?1 and holdout = ?2)"
        " order by json_extract(verdict, '$.look') desc limit 1",
        alias,
        holdout,
    )
    found: dict[str, Any] = json.loads(rows[0][0]) if rows else {}
    return found
