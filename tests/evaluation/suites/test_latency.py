from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import InputInvalid
from aifw.evaluation.measures import SUITES
from aifw.evaluation.suites.latency import SUITE, percentile

seconds = st.floats(0, 1e6)


def _rows(values: list[float]) -> list[dict[str, object]]:
    return [{"id": f"i{number}", "seconds": value} for number, value in enumerate(values)]


def _measured(values: list[float]) -> dict[str, float]:
    return {name: statistic(None) for name, statistic in SUITE.statistics(_rows(values)).items()}


@given(st.lists(st.tuples(seconds, st.integers(0, 4)), min_size=1, max_size=40), st.floats(0, 1))
def test_a_percentile_of_weighted_values_is_that_of_repeated_ones(pairs: list[tuple[float, int]], share: float) -> None:
    pairs.sort()
    values, weights = np.array([value for value, _ in pairs]), np.array([weight for _, weight in pairs], float)
    repeated = np.repeat(values, weights.astype(int))
    found = percentile(values, weights, share)
    if len(repeated):
        assert found == pytest.approx(np.percentile(repeated, 100 * share), rel=1e-9, abs=1e-9)
    else:
        assert math.isnan(found)


@given(st.lists(seconds, min_size=20, max_size=60), st.randoms())
def test_percentiles_are_those_of_numpy_in_whatever_order(values: list[float], random: object) -> None:
    found = _measured(values)
    assert found["latency_p50"] == pytest.approx(np.percentile(values, 50))
    assert found["latency_p95"] == pytest.approx(np.percentile(values, 95))


@given(st.lists(st.tuples(seconds, st.integers(0, 3)), min_size=20, max_size=40))
def test_weights_belong_to_rows_not_to_the_sorted_values(pairs: list[tuple[float, int]]) -> None:
    weights = np.array([weight for _, weight in pairs], float)
    statistic = SUITE.statistics(_rows([value for value, _ in pairs]))["latency_p95"]
    repeated = np.repeat([value for value, _ in pairs], weights.astype(int))
    if len(repeated):
        assert statistic(weights) == pytest.approx(np.percentile(repeated, 95), rel=1e-9, abs=1e-9)
    else:
        assert math.isnan(statistic(weights))


@pytest.mark.parametrize(
    ("count", "known"),
    [
        (0, set()),
        (1, set()),
        (2, {"latency_p50"}),
        (19, {"latency_p50"}),
        (20, {"latency_p50", "latency_p95"}),
        (999, {"latency_p50", "latency_p95"}),
        (1000, {"latency_p50", "latency_p95", "latency_p99"}),
    ],
)
def test_too_few_is_said_and_never_a_number(count: int, known: set[str]) -> None:
    found = _measured([0.25] * count)
    assert found.keys() == SUITES["latency"].keys()
    assert {name for name, value in found.items() if value == 0.25} == known
    assert all(math.isnan(value) for name, value in found.items() if name not in known)
    assert SUITE.details(_rows([0.25] * count))["notes"].keys() == found.keys() - known


def test_the_note_tells_how_many_there_are() -> None:
    assert SUITE.details(_rows([0.1] * 212))["notes"] == {"latency_p99": "too few: 212 of 1,000"}


def test_a_draw_of_fewer_rows_does_not_take_the_percentile_away() -> None:
    statistic = SUITE.statistics(_rows([float(each) for each in range(1000)]))["latency_p99"]
    weights = np.ones(1000)
    weights[:10] = 0
    assert statistic(weights) == pytest.approx(np.percentile(np.arange(10, 1000), 99))


@given(st.lists(seconds, max_size=50))
def test_the_histogram_holds_every_row_once(values: list[float]) -> None:
    details = SUITE.details(_rows(values))
    json.dumps(details, allow_nan=False)
    assert details["samples"] == len(values)
    if values:
        histogram = details["histogram"]
        assert sum(histogram["counts"]) == len(values)
        assert len(histogram["seconds"]) == len(histogram["counts"]) + 1
        assert histogram["seconds"] == sorted(histogram["seconds"])
        assert histogram["seconds"][-1] == max(values)


def test_the_histogram_tells_short_from_long() -> None:
    histogram = SUITE.details(_rows([0.01] * 30 + [1.0] * 5))["histogram"]
    assert (histogram["counts"][0], histogram["counts"][-1]) == (30, 5)


@pytest.mark.parametrize("value", [None, "fast", math.nan, math.inf, -0.1, True])
def test_what_is_no_duration_is_refused_by_name(value: object) -> None:
    with pytest.raises(InputInvalid, match=r"`seconds` of item 'i7'"):
        SUITE.check({"id": "i7", "seconds": value})


def test_a_missing_duration_is_refused_by_name() -> None:
    with pytest.raises(InputInvalid, match=r"item 'i7' has no `seconds`"):
        SUITE.check({"id": "i7"})
    SUITE.check({"id": "i7", "seconds": 0})
