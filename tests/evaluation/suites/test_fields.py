from __future__ import annotations

import math
from typing import Any

import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.suites import fields


@pytest.mark.parametrize(
    ("read", "held"),
    [
        (lambda row: fields.number(row, "x", "a number"), "1"),
        (lambda row: fields.number(row, "x", "a number"), math.nan),
        (lambda row: fields.number(row, "x", "a number"), True),
        (lambda row: fields.number(row, "x", "a number", least=0), -1),
        (lambda row: fields.number(row, "x", "a number", most=1), 2),
        (lambda row: fields.number(row, "x", "a number", above=0), 0),
        (lambda row: fields.number(row, "x", "a number"), 10**400),
        (lambda row: fields.whole(row, "x", "a number"), 1.0),
        (lambda row: fields.whole(row, "x", "a number"), -1),
        (lambda row: fields.whole(row, "x", "a number"), 10**400),
        (lambda row: fields.text(row, "x", "a text"), ""),
        (lambda row: fields.truth(row, "x", "true or false"), 0),
        (lambda row: fields.listed(row, "x", "a list"), []),
        (lambda row: fields.listed(row, "x", "a list"), "list"),
        (lambda row: fields.numbers_by_name(row, "x", "numbers"), {}),
        (lambda row: fields.numbers_by_name(row, "x", "numbers"), {"a": math.inf}),
        (lambda row: fields.numbers_by_name(row, "x", "numbers"), {3: 1.0}),
    ],
)
def test_what_is_wrong_is_refused_by_item_and_field(read: Any, held: object) -> None:
    with pytest.raises(InputInvalid, match=r"`x` of item 'i1'") as wrong:
        read({"id": "i1", "x": held})
    assert wrong.value.hint
    with pytest.raises(InputInvalid, match=r"item 'i1' has no `x`") as missing:
        read({"id": "i1"})
    assert missing.value.hint


def test_what_is_right_is_read() -> None:
    row = {"id": "i1", "n": 2, "t": "", "b": False, "l": [], "m": {"a": 1}, "nothing": None}
    assert fields.number(row, "n", "a number") == 2.0
    assert fields.text(row, "t", "a text", empty=True) == ""
    assert fields.truth(row, "b", "true or false") is False
    assert fields.listed(row, "l", "a list", empty=True) == []
    assert fields.numbers_by_name(row, "m", "numbers") == {"a": 1.0}
    assert not fields.has(row, "nothing")
    assert not fields.has(row, "absent")


def test_a_field_that_lies_deeper_and_a_long_one_are_shown() -> None:
    row = {"id": "i1", "prices": {"machine": "x" * 100}}
    message = fields.refused(row, "prices.machine", "an amount").message
    assert message.startswith("`prices.machine` of item 'i1' is 'xxx")
    assert len(message) < 120
    assert fields.refused(row, "prices.hour", "an amount").message == "item 'i1' has no `prices.hour`"
