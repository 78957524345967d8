from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import bootstrap, interval_of_mean
from aifw.statistics.bootstrap import MOST_DRAWN, bundles, draw_weights


def test_bootstrap_is_seeded_and_clustered() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0] * 10
    groups = [str(index // 8) for index in range(80)]
    assert bootstrap(values, seed=4) == bootstrap(values, seed=4)
    # Every group has the same mean, so nothing varies between draws of groups.
    assert bootstrap(values, groups) == bootstrap([0.625])
    alone = bootstrap(values)
    # Normal approximation: 0.625 -+ 1.96 sqrt(0.625 * 0.375 / 80).
    assert (alone.low, alone.high) == pytest.approx((0.519, 0.731), abs=0.02)


@pytest.mark.parametrize(("values", "word"), [([], "no values"), ([math.nan], "finite")])
def test_bootstrap_refuses(values: list[float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        bootstrap(values)


def test_every_draw_has_as_many_as_there_are() -> None:
    drawn = np.concatenate(list(draw_weights(7, 1, 500)))
    assert drawn.shape == (500, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)
    # A draw of seven holds any one a binomial number of times: variance 7 * 1/7 * 6/7.
    assert drawn.var() == pytest.approx(6 / 7, abs=0.1)


def test_draws_in_pieces_are_bounded_in_memory() -> None:
    pieces = list(draw_weights(4096, 1, 1000))
    assert len(pieces) > 1
    assert max(piece.size for piece in pieces) <= 1 << 20
    assert sum(map(len, pieces)) == 1000


def test_many_groups_are_bundled_evenly() -> None:
    assert (bundles(50, 3) == np.arange(50)).all()
    sizes = np.bincount(bundles(10_000, 3))
    assert len(sizes) == MOST_DRAWN
    assert set(sizes) == {2, 3}


def test_bundles_do_not_change_the_width() -> None:
    generator = random.Random(2)
    values = [generator.gauss(0, 1) for _ in range(20_000)]
    found = interval_of_mean(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(20_000), rel=0.08)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=60), st.sampled_from([0.05, 1e-4]), st.randoms())
def test_interval_of_mean_holds_it_whatever_the_order(
    values: list[float], alpha: float, generator: random.Random
) -> None:
    found = interval_of_mean(values, alpha=alpha, seed=3, resamples=400)
    assert found.low <= math.fsum(values) / len(values) + 1e-9
    assert found.high >= math.fsum(values) / len(values) - 1e-9
    assert interval_of_mean(values, alpha=alpha, seed=3, resamples=400) == found
    shuffled = generator.sample(values, len(values))
    again = interval_of_mean(shuffled, alpha=alpha, seed=3, resamples=400)
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=1e-9)


@pytest.mark.parametrize(("count", "alpha"), [(12, 0.05), (40, 0.05), (40, 0.001)])
def test_interval_of_mean_covers(count: int, alpha: float) -> None:
    draws = np.random.default_rng(6).exponential(size=(1000, count))
    # The interval above a level that is too small for draws is checked where misses can be counted.
    missed = [
        not (found.low <= 1 <= found.high)
        for found in (interval_of_mean(row, alpha=alpha, resamples=800) for row in draws)
    ]
    assert np.mean(missed) <= {0.05: 0.1, 0.001: 0.012}[alpha]


def test_what_never_varied_is_as_sure_as_its_number() -> None:
    few, many = interval_of_mean([1.0] * 3), interval_of_mean([1.0] * 3000)
    assert few.low < 0.5 < 1.5 < few.high
    # Rule of three for both ends: 3.69 / 3000.
    assert (many.low, many.high) == pytest.approx((1 - 0.00123, 1 + 0.00123), abs=1e-5)


@pytest.mark.parametrize(
    ("values", "groups", "word"),
    [
        ([], None, "no values"),
        ([1.0], None, "one group"),
        ([1.0, 2.0], ["a", "a"], "one group"),
        ([1.0, math.nan], None, "finite"),
        ([1.0, math.inf], None, "finite"),
        ([1.0, 1e200], None, "too large"),
        ([1.0, 2.0], ["a"], "as many groups"),
    ],
)
def test_interval_of_mean_refuses(values: list[float], groups: list[str] | None, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        interval_of_mean(values, groups)


def test_a_handful_of_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 100"):
        bootstrap([1.0, 2.0], resamples=10)
