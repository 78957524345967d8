from __future__ import annotations

import math

import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.suites.contamination import SUITE


def test_what_was_seen_counts_and_is_shown_nearest_first() -> None:
    rows = [
        {"id": "a", "seen": True, "nearest": 0.82, "where": "datasets.forum"},
        {"id": "b", "seen": False, "nearest": 0.1},
        {"id": "c", "seen": True, "nearest": 1.0, "where": "datasets.forum"},
        {"id": "d", "seen": False},
    ]
    for row in rows:
        SUITE.check(row)
    assert [SUITE.values(row)["contamination"] for row in rows] == [1.0, 0.0, 1.0, 0.0]
    details = SUITE.details(rows)
    assert (details["seen"], details["items"]) == (2, 4)
    assert details["examples"] == ["c", "a"]
    assert details["where"] == {"datasets.forum": 2}
    assert details["similarity"]["counts"] == [0, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert details["notes"] == {}


def test_no_item_is_said() -> None:
    assert SUITE.details([])["notes"] == {"contamination": "there is no item"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seen", None),
        ("seen", 1),
        ("seen", "yes"),
        ("nearest", 1.2),
        ("nearest", -0.1),
        ("nearest", math.nan),
        ("where", 3),
        ("where", ""),
    ],
)
def test_a_bad_row_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputInvalid, match=f"`{field}` of item 'i1'"):
        SUITE.check({"id": "i1", "seen": False, field: value})


def test_a_row_that_says_nothing_is_refused() -> None:
    with pytest.raises(InputInvalid, match="has no `seen`"):
        SUITE.check({"id": "i1"})
