"""The journal of effects outside the store: intent, act, outcome. Recovery repeats an intent without an outcome under the same key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aifw.boundary import boundary
from aifw.plan.snapshot import Binding
from aifw.state.store import Store, changed, now, put_binding


def intend(store: Store, key: str, verb: str, address: str, kind: str, run: int, intent: Mapping[str, Any]) -> None:
    """Write down what is about to be done. Intending the same again is the same effect, with the settings of the last time."""
    with store.transaction() as connection:
        connection.execute(
            "insert into effect (key, verb, address, kind, run, state, intent, at) values (?, ?, ?, ?, ?, 'intended', ?, ?)"
            " on conflict (key, verb) do update set state = 'intended', run = excluded.run, intent = excluded.intent, at = excluded.at",
            (key, verb, address, kind, run, json.dumps(intent), now()),
        )
    boundary("effect.intended")


def created(store: Store, binding: Binding, verb: str, run: int, outcome: Mapping[str, Any]) -> None:
    """An external thing is as it should be."""
    boundary("effect.acted")
    with store.transaction() as connection:
        connection.execute(
            "update effect set state = 'done', outcome = ?, at = ? where key = ? and verb = ?",
            (json.dumps(outcome), now(), binding.key, verb),
        )
        # An earlier change of the same thing that was never recorded is overtaken by this one.
        connection.execute(
            "update effect set state = 'overtaken' where address = ? and state = 'intended'", (binding.address,)
        )
        put_binding(connection, binding, outcome, run)
        changed(connection, run)
    boundary("effect.recorded")


def deleted(store: Store, address: str, run: int) -> None:
    """An external thing is gone."""
    boundary("effect.deleted")
    with store.transaction() as connection:
        connection.execute("update effect set state = 'done', at = ? where address = ?", (now(), address))
        connection.execute("delete from binding where address = ?", (address,))
        changed(connection, run)
    boundary("effect.forgotten")


def intent_of(store: Store, address: str) -> tuple[str, dict[str, Any]] | None:
    """Key and settings an external thing was last made with, so that it can be deleted after its entry left the spec."""
    rows = store.rows(
        "select key, intent from effect where address = ? and verb in ('create', 'update') order by at desc limit 1",
        address,
    )
    return (rows[0][0], json.loads(rows[0][1])) if rows else None


def unrecorded_creation(store: Store, address: str, key: str) -> tuple[str, dict[str, Any]] | None:
    """Key and settings of a creation under another key that may or may not have happened, or None."""
    rows = store.rows(
        "select key, intent from effect where address = ? and verb = 'create' and state = 'intended' and key != ? limit 1",
        address,
        key,
    )
    return (rows[0][0], json.loads(rows[0][1])) if rows else None
