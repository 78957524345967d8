from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.statistics import Comparison, compare, compare_means

VALUES = st.lists(
    st.tuples(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), st.floats(-1e3, 1e3).map(lambda x: round(x, 3))),
    min_size=2,
    max_size=60,
)


def _values(pairs: list[tuple[float, float]]) -> tuple[dict[str, float], dict[str, float]]:
    return {str(i): before for i, (before, _) in enumerate(pairs)}, {
        str(i): after for i, (_, after) in enumerate(pairs)
    }


def _normal(count: int, shift: float, seed: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    generator = random.Random(seed)
    before = {f"{index:04}": generator.gauss(0, 1) for index in range(count)}
    return before, {name: value + generator.gauss(shift, 1) for name, value in before.items()}


def test_better_worse_and_neither() -> None:
    before, after = _normal(300, 0.4)
    better = compare_means(before, after)
    assert better.decide() == "better"
    assert better.p < 1e-6
    assert compare_means(after, before).decide() == "worse"
    assert compare_means(*_normal(300, 0.0)).decide() == "inconclusive"
    assert "Student's t test over 300 groups" in better.method
    assert "bootstrap interval" in better.method
    assert better.detectable == pytest.approx(2.8 / math.sqrt(300), rel=0.15)
    # A difference of 0.4 standard deviations needs about (2.8 / 0.4) squared items.
    assert better.needed == pytest.approx((2.8 / better.difference) ** 2, rel=0.3)


@settings(max_examples=60)
@given(VALUES, st.integers(1, 4), st.sampled_from([0.05, 1e-3]), st.randoms(use_true_random=False))
def test_properties(pairs: list[tuple[float, float]], size: int, alpha: float, generator: random.Random) -> None:
    before, after = _values(pairs)
    groups = {name: str(int(name) % max(2, len(pairs) // size)) for name in before}

    def made(first: dict[str, float], second: dict[str, float]) -> Comparison:
        return compare_means(first, second, groups, alpha=alpha, seed=5, resamples=400)

    result, swapped = made(before, after), made(after, before)
    assert 0 < result.p <= 1
    assert swapped.p == pytest.approx(result.p, rel=1e-9)
    assert (swapped.low, swapped.high) == pytest.approx((-result.high, -result.low), rel=1e-9, abs=1e-9)
    assert result.low <= result.difference + 1e-9
    assert result.difference - 1e-9 <= result.high
    assert made(before, after) == result
    names = list(before)
    generator.shuffle(names)
    assert made({name: before[name] for name in names}, {name: after[name] for name in names}) == result
    if result.decide(alpha) == "better":
        assert result.difference > 0


def test_of_binary_outcomes_it_is_close_to_the_exact_test() -> None:
    generator = random.Random(3)
    for _ in range(20):
        before = {str(index): float(generator.random() < 0.5) for index in range(400)}
        after = {name: float(generator.random() < 0.6) for name in before}
        exact, mean = compare(before, after), compare_means(before, after)
        assert math.log(mean.p) == pytest.approx(math.log(exact.p), abs=0.35, rel=0.1)
        assert (mean.low, mean.high) == pytest.approx((exact.low, exact.high), abs=0.01)


def test_few_groups_that_differ_are_flipped_in_every_way() -> None:
    before = {str(index): 0.0 for index in range(300)}
    after = before | {str(index): 0.1 + index / 1000 for index in range(5)}
    result = compare_means(before, after)
    assert result.p == 2 / 2**5
    assert result.decide() == "inconclusive"
    assert "exact sign-flip test of the 5 of 300 groups that differ" in result.method


def test_groups_count_once() -> None:
    before, after = _normal(40, 0.8)
    names = [f"{name}-{copy}" for name in before for copy in range(10)]
    tenfold = compare_means(
        {name: before[name[:4]] for name in names},
        {name: after[name[:4]] for name in names},
        {name: name[:4] for name in names},
    )
    once = compare_means(before, after)
    assert tenfold.p == pytest.approx(once.p, rel=1e-9)
    assert tenfold.detectable == pytest.approx(once.detectable, rel=1e-9)
    assert tenfold.needed == pytest.approx(10 * (once.needed or 0), rel=0.1)
    assert tenfold.groups == 40


def test_a_level_beyond_what_draws_reach() -> None:
    before, after = _normal(300, 0.35)
    alpha = 1e-5
    result = compare_means(before, after, alpha=alpha)
    assert "by inverting Student's t test" in result.method
    # Test and interval are one there.
    assert (result.p <= alpha) == (result.low > 0)
    assert result.decide(alpha) == "better"


def test_where_nothing_varies_there_is_no_test() -> None:
    before = {str(index): 0.1 * index for index in range(30)}
    same, shifted = dict(before), {name: value + 0.3 for name, value in before.items()}
    for after in (same, shifted):
        result = compare_means(before, after)
        assert result.p == 1
        assert result.detectable is result.needed is None
        assert "no test, as all 30 groups differ by the same amount" in result.method
        assert result.low < result.difference < result.high
    few = dict.fromkeys("abc", 1.0)
    assert compare_means(few, few).decide(margin=0.5) == "inconclusive"


def test_a_better_average_on_few_items_is_not_better() -> None:
    # Poisoned: a little worse on most items, far better on three.
    generator = random.Random(1)
    before = {str(index): generator.gauss(0, 1) for index in range(300)}
    after = {
        name: value - 0.01 + (40 if int(name) < 3 else 0) + generator.gauss(0, 0.1) for name, value in before.items()
    }
    result = compare_means(before, after)
    assert result.difference > 0.3
    assert result.decide() == "inconclusive"


@pytest.mark.parametrize(
    ("before", "after", "groups", "word"),
    [
        ({}, {}, None, "same items"),
        ({"a": 1.0}, {"b": 1.0}, None, "same items"),
        ({"a": 1.0}, {"a": 2.0}, None, "one group"),
        ({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 2.0}, {"a": "x", "b": "x"}, "one group"),
        ({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 2.0}, {"a": "x"}, "'b' has no group"),
        ({"a": 1.0, "b": math.nan}, {"a": 2.0, "b": 2.0}, None, "before of the item 'b'"),
        ({"a": 1.0, "b": 1.0}, {"a": 2.0, "b": math.inf}, None, "after of the item 'b'"),
        ({"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 1e200}, None, "too large"),
    ],
)
def test_refuses(before: dict[str, float], after: dict[str, float], groups: dict[str, str] | None, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        compare_means(before, after, groups)


@pytest.mark.parametrize("skewed", ["normal", "losses", "gains"])
def test_size_at_the_level_of_a_look(skewed: str) -> None:
    """Of equally good subjects at most about half of alpha is called better, whichever way the values lean."""
    generator, alpha, count = np.random.default_rng(12), 0.01, 60
    draws = {
        "normal": generator.normal(size=(2000, count)),
        "losses": 1 - generator.exponential(size=(2000, count)),
        "gains": generator.exponential(size=(2000, count)) - 1,
    }[skewed]
    names = [str(index) for index in range(count)]
    before = dict.fromkeys(names, 0.0)
    called = [
        compare_means(before, dict(zip(names, row, strict=True)), alpha=alpha, resamples=100).decide(alpha)
        for row in draws.tolist()
    ]
    # Half of alpha is 10 of 2,000, three standard errors above it 19; without the guard against skewness it would be about 40.
    assert called.count("better") <= (19 if skewed != "losses" else 26)
