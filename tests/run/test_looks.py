"""Looks at held-out sets, as the engine counts them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

SPEC = """
stages:
  base: {kind: toy, text: base}
  measured: {kind: toy, text: MEASURED, holdout: h}
  better: {kind: toy, text: TEXT}
  gate: {kind: toy_gate, candidate: better, baseline: "@best", alias: best, evidence: measured}
aliases: {best: {initial: base}}
"""


def looks(stack: Any) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(stack.name_folder / "state.db")) as connection:
        return connection.execute("select alias, number from look order by number").fetchall()


def seen(stack: Any) -> list[int]:
    """The looks that jobs were told of, by the verdicts they left."""
    with closing(sqlite3.connect(stack.name_folder / "state.db")) as connection:
        rows = connection.execute("select json_extract(verdict, '$.look') from verdict order by id").fetchall()
    return [row[0] for row in rows]


def apply(stack: Any, text: str, measured: str = "m", **crash: str) -> dict[str, Any]:
    stack.write(SPEC.replace("TEXT", text).replace("MEASURED", measured))
    result: dict[str, Any] = stack.apply(**crash)
    return result


def test_every_verdict_on_a_held_out_set_is_a_look_at_it(stack: Any) -> None:
    for number, text in enumerate(("no", "not", "longer than base"), start=1):
        apply(stack, text)
        assert looks(stack) == [("best", each) for each in range(1, number + 1)]
    assert seen(stack) == [1, 2, 3]


def test_nothing_new_is_no_look(stack: Any) -> None:
    apply(stack, "no")
    apply(stack, "no")
    assert seen(stack) == [1]


def test_a_crash_before_the_verdict_repeats_the_same_look(stack: Any) -> None:
    assert apply(stack, "no", AIFW_CRASH_AT="look.reserved") == {"killed": True}
    assert looks(stack) == [("best", 1)]
    apply(stack, "no")
    assert looks(stack) == [("best", 1)]
    apply(stack, "not")
    assert seen(stack) == [1, 2]


def test_a_verdict_that_was_reached_and_lost_keeps_its_look(stack: Any) -> None:
    apply(stack, "no", AIFW_CRASH_AT="job.before_commit")
    apply(stack, "no")
    assert seen(stack) == [1]
    assert looks(stack) == [("best", 1)]


def test_new_evidence_on_the_same_set_is_another_look(stack: Any) -> None:
    apply(stack, "no")
    apply(stack, "no", measured="n")
    assert seen(stack) == [1, 2]


def test_a_gate_without_a_held_out_set_counts_nothing(stack: Any) -> None:
    stack.write(SPEC.replace("TEXT", "no").replace("MEASURED", "m").replace(", holdout: h", ""))
    stack.apply()
    assert looks(stack) == []
    assert seen(stack) == [0]
