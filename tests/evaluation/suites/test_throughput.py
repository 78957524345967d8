from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import InputInvalid
from aifw.evaluation.suites.throughput import SUITE

ROW = {"id": "i1", "tokens": 10, "seconds": 0.5}


def test_long_items_count_by_their_time() -> None:
    rows = [{"id": "a", "tokens": 10, "seconds": 1.0}, {"id": "b", "tokens": 90, "seconds": 3.0}]
    found = {name: statistic(None) for name, statistic in SUITE.statistics(rows).items()}
    assert found == {"tokens_per_second": 25.0, "items_per_second": 0.5}
    assert SUITE.details(rows) == {"items": 2, "tokens": 100, "seconds": 4.0, "notes": {}}


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0.001, 100), st.integers(0, 4)), min_size=1, max_size=20))
def test_weights_are_repetitions(drawn: list[tuple[int, float, int]]) -> None:
    rows: list[dict[str, Any]] = [{"id": f"{n}", "tokens": t, "seconds": s} for n, (t, s, _) in enumerate(drawn)]
    weights = np.array([weight for _, _, weight in drawn], float)
    repeated = [row for row, (_, _, weight) in zip(rows, drawn, strict=True) for _ in range(weight)]
    for name, statistic in SUITE.statistics(rows).items():
        assert statistic(weights) == pytest.approx(SUITE.statistics(repeated)[name](None), nan_ok=True)


@pytest.mark.parametrize("rows", [[], [{"id": "a", "tokens": 5, "seconds": 0.0}]])
def test_no_time_is_no_speed(rows: list[dict[str, Any]]) -> None:
    statistics = SUITE.statistics(rows)
    assert all(math.isnan(statistic(None)) for statistic in statistics.values())
    assert SUITE.details(rows)["notes"].keys() == statistics.keys()


@pytest.mark.parametrize(
    ("field", "value"),
    [("tokens", -1), ("tokens", 1.5), ("tokens", True), ("tokens", None), ("seconds", -1), ("seconds", math.nan)],
)
def test_a_bad_row_is_refused_by_name(field: str, value: object) -> None:
    SUITE.check(ROW)
    with pytest.raises(InputInvalid, match=f"`{field}` of item 'i1'"):
        SUITE.check(ROW | {field: value})
    with pytest.raises(InputInvalid, match=f"item 'i1' has no `{field}`"):
        SUITE.check({name: each for name, each in ROW.items() if name != field})
