from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import InputInvalid
from aifw.evaluation.suites.search import SUITE


def _row(number: int, seconds: float, peers: dict[str, float] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": f"q{number}", "seconds": seconds, "peers": peers, "found": [1, 2], "exact": [1, 2]} | more


ROW = _row(1, 0.1, {"faiss": 0.2})


def test_the_peer_that_counts_is_the_fastest_on_all_queries() -> None:
    rows = [_row(1, 1.0, {"numpy": 1.0, "faiss": 3.0}), _row(2, 1.0, {"numpy": 9.0, "faiss": 3.0})]
    assert SUITE.statistics(rows)["search_speedup"](None) == 3.0
    details = SUITE.details(rows)
    assert details["fastest_peer"] == "faiss"
    assert details["peers"] == {"faiss": {"seconds": 6.0, "speedup": 3.0}, "numpy": {"seconds": 10.0, "speedup": 5.0}}
    # In a draw it may be another one.
    assert SUITE.statistics(rows)["search_speedup"](np.array([2.0, 0.0])) == 1.0


def test_recall_is_of_the_true_neighbours() -> None:
    assert SUITE.values(_row(1, 0.1, found=["a", "x"], exact=["a", "b", "c", "d"])) == {"search_recall": 0.25}
    assert SUITE.values(_row(1, 0.1, found=[], exact=["a"])) == {"search_recall": 0.0}


times = st.floats(0.001, 10)


@given(st.lists(st.tuples(times, times, times, st.integers(0, 4)), min_size=1, max_size=20))
def test_weights_are_repetitions(drawn: list[tuple[float, float, float, int]]) -> None:
    rows = [_row(n, own, {"a": a, "b": b}) for n, (own, a, b, _) in enumerate(drawn)]
    repeated = [row for row, each in zip(rows, drawn, strict=True) for _ in range(each[-1])]
    weights = np.array([each[-1] for each in drawn], float)
    assert SUITE.statistics(rows)["search_speedup"](weights) == pytest.approx(
        SUITE.statistics(repeated)["search_speedup"](None), nan_ok=True
    )


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "there is no query"),
        ([_row(1, 0.5)], "there is no peer"),
        ([_row(1, 0.0, {"a": 1.0})], "the queries took no time that the clock could tell"),
    ],
)
def test_without_a_peer_or_time_there_is_no_speedup(rows: list[dict[str, Any]], why: str) -> None:
    assert math.isnan(SUITE.statistics(rows)["search_speedup"](None))
    assert SUITE.details(rows)["notes"] == {"search_speedup": why}


def test_a_peer_that_was_not_asked_everything_is_refused() -> None:
    rows = [_row(1, 1.0, {"a": 1.0, "b": 1.0}), _row(2, 1.0, {"a": 1.0})]
    with pytest.raises(InputInvalid, match=r"item 'q2' has no seconds of the peer 'b'"):
        SUITE.statistics(rows)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", -0.1),
        ("seconds", math.nan),
        ("peers", {}),
        ("peers", {"a": -1.0}),
        ("peers", {"a": math.inf}),
        ("peers", [1.0]),
        ("found", None),
        ("found", "12"),
        ("found", [1.5]),
        ("found", [1, 1]),
        ("exact", []),
        ("exact", [True]),
    ],
)
def test_a_bad_row_is_refused_by_name(field: str, value: object) -> None:
    SUITE.check(ROW)
    with pytest.raises(InputInvalid, match=f"`{field}` of item 'q1'"):
        SUITE.check(ROW | {field: value})
