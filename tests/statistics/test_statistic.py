from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.statistics import compare_means, compare_statistic, interval_of_mean, interval_of_statistic, paired_bootstrap

Weights = npt.NDArray[np.float64] | None


def _mean(values: npt.NDArray[np.float64]) -> Callable[[Weights], float]:
    return lambda weights: float(np.average(values, weights=weights))


def _median(values: npt.NDArray[np.float64]) -> Callable[[Weights], float]:
    order = np.argsort(values)

    def median(weights: Weights) -> float:
        counted = np.cumsum(np.ones(len(values)) if weights is None else weights[order])
        return float(values[order][np.searchsorted(counted, counted[-1] / 2)])

    return median


def _sample(
    count: int, shift: float, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[str]]:
    generator = np.random.default_rng(seed)
    before = generator.normal(size=count)
    return before, before + generator.normal(shift, 1, count), [f"{index:04}" for index in range(count)]


@pytest.mark.parametrize("alpha", [0.05, 1e-4])
def test_of_a_mean_it_says_what_the_mean_says(alpha: float) -> None:
    before, after, names = _sample(300, 0.3)
    groups = [str(index // 2) for index in range(300)]
    found = compare_statistic(_mean(before), _mean(after), groups, alpha=alpha, seed=1)
    expected = compare_means(
        dict(zip(names, before.tolist(), strict=True)),
        dict(zip(names, after.tolist(), strict=True)),
        dict(zip(names, groups, strict=True)),
        alpha=alpha,
        seed=1,
    )
    assert found.difference == pytest.approx(expected.difference)
    assert math.log(found.p) == pytest.approx(math.log(expected.p), rel=0.1)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.06 * width)
    assert found.detectable == pytest.approx(expected.detectable, rel=0.05)
    assert found.needed == pytest.approx(expected.needed, rel=0.1)
    assert (found.n, found.groups) == (300, 150)


def test_better_and_neither() -> None:
    before, after, names = _sample(300, 0.5)
    result = compare_statistic(_median(before), _median(after), names)
    assert result.decide() == "better"
    assert result.p < 1e-3
    assert "paired bootstrap over 300 groups" in result.method
    before, after, names = _sample(300, 0.0)
    assert compare_statistic(_median(before), _median(after), names).decide() == "inconclusive"


def test_both_sides_see_the_same_draws() -> None:
    before, _, names = _sample(50, 0.0)
    first, second = paired_bootstrap((_mean(before), _mean(before + 1)), names, resamples=200)
    assert second - first == pytest.approx(np.ones(200))
    assert first.std() > 0.05


def test_groups_are_drawn_whole() -> None:
    seen = []

    def watch(weights: Weights) -> float:
        assert weights is not None
        seen.append(weights)
        return float(weights.sum())

    paired_bootstrap((watch,), ["b", "a", "b", "c"], resamples=200)
    assert all(weights[0] == weights[2] for weights in seen)
    assert any(weights[0] == 0 for weights in seen)
    assert {float(weights[[0, 1, 3]].sum()) for weights in seen} == {3.0}


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=30), st.integers(0, 99))
def test_properties(pairs: list[tuple[float, float]], seed: int) -> None:
    before, after = np.array(pairs).round(3).T
    groups = [str(index % max(2, len(pairs) // 2)) for index in range(len(pairs))]
    result = compare_statistic(_mean(before), _mean(after), groups, seed=seed, resamples=200)
    swapped = compare_statistic(_mean(after), _mean(before), groups, seed=seed, resamples=200)
    assert 0 < result.p <= 1
    assert swapped.p == pytest.approx(result.p, rel=1e-6)
    assert (swapped.low, swapped.high) == pytest.approx((-result.high, -result.low), rel=1e-6, abs=1e-9)
    assert compare_statistic(_mean(before), _mean(after), groups, seed=seed, resamples=200) == result
    order = np.random.default_rng(seed).permutation(len(pairs))
    moved = compare_statistic(
        _mean(before[order]), _mean(after[order]), [groups[at] for at in order], seed=seed, resamples=200
    )
    assert (moved.p, moved.low, moved.high) == pytest.approx((result.p, result.low, result.high), rel=1e-6, abs=1e-9)


def test_interval_is_that_of_the_mean() -> None:
    values, _, names = _sample(200, 0.0)
    found, expected = interval_of_statistic(_mean(values), names), interval_of_mean(values.tolist(), names)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_biased_statistic_keeps_its_place() -> None:
    # The largest value: a draw misses it often and never exceeds it.
    values, _, names = _sample(100, 0.0)
    found = interval_of_statistic(
        lambda weights: float(values.max() if weights is None else values[weights > 0].max()), names
    )
    assert found.low < values.max() < found.high


def test_size_of_a_percentile() -> None:
    wrong = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        before, after = generator.lognormal(size=(2, 120))
        wrong += compare_statistic(
            _median(before), _median(after), [str(index) for index in range(120)], resamples=200
        ).decide() in {"better", "worse"}
    assert wrong <= 20


def test_many_groups_are_bundled() -> None:
    before, after, _names = _sample(20_000, 0.05)
    found = compare_statistic(_mean(before), _mean(after), [f"{index:05}" for index in range(20_000)], resamples=400)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / math.sqrt(20_000), rel=0.2)
    assert found.groups == 20_000


def test_where_nothing_varies_there_is_no_test() -> None:
    values, _, names = _sample(40, 0.0)
    for shift in (0.0, 1.0):
        result = compare_statistic(_mean(values), _mean(values + shift), names, resamples=200)
        assert result.p == 1
        assert result.method.startswith("no test")
        assert result.decide() == "inconclusive"


def test_undefined_is_refused() -> None:
    values, _, names = _sample(40, 0.0)

    def needs_the_first(weights: Weights) -> float:
        return math.nan if weights is not None and not weights[0] else 1.0

    with pytest.raises(ValueError, match=r"not defined on \d+ of 200 draws"):
        compare_statistic(_mean(values), needs_the_first, names, resamples=200)
    with pytest.raises(ValueError, match="second statistic is not defined"):
        compare_statistic(_mean(values), lambda weights: math.nan, names)
    with pytest.raises(ValueError, match="not defined"):
        interval_of_statistic(lambda weights: math.inf, names)
    with pytest.raises(ValueError, match="one group"):
        compare_statistic(_mean(values), _mean(values), ["a"] * 40)
    with pytest.raises(ValueError, match="no rows"):
        interval_of_statistic(lambda weights: 1.0, [])
