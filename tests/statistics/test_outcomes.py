from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import compare

OUTCOMES = st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1])), min_size=1, max_size=60)


def _outcomes(pairs: list[tuple[float, float]]) -> tuple[dict[str, float], dict[str, float]]:
    return {str(i): before for i, (before, _) in enumerate(pairs)}, {
        str(i): after for i, (_, after) in enumerate(pairs)
    }


def test_compare_says_better_worse_and_neither() -> None:
    better = compare(*_outcomes([(0, 1)] * 19 + [(1, 0)] * 2 + [(1, 1)] * 40 + [(0, 0)] * 39))
    assert (better.before, better.after) == pytest.approx((0.42, 0.59))
    assert better.p == pytest.approx(0.000221, abs=1e-6)
    assert better.decide() == "better"
    worse = compare(*_outcomes([(1, 0)] * 19 + [(0, 1)] * 2 + [(1, 1)] * 40))
    assert worse.decide() == "worse"
    assert worse.decide(margin=0.02) == "worse"
    unclear = compare(*_outcomes([(0, 1)] * 6 + [(1, 0)] * 4 + [(1, 1)] * 90))
    assert unclear.decide() == "inconclusive"
    assert unclear.detectable is not None
    assert unclear.needed is not None
    assert unclear.needed > unclear.n
    same = compare(*_outcomes([(1, 1)] * 300 + [(0, 0)] * 200))
    assert same.p == 1
    assert same.decide() == "inconclusive"
    assert same.decide(margin=0.02) == "not_worse"


@given(OUTCOMES)
def test_compare_is_consistent(pairs: list[tuple[float, float]]) -> None:
    before, after = _outcomes(pairs)
    result, swapped = compare(before, after), compare(after, before)
    assert 0 < result.p <= 1
    assert result.p == pytest.approx(swapped.p)
    assert -1 <= result.low <= result.high <= 1
    if result.decide() == "better":
        assert result.difference > 0


def test_compare_with_groups_is_not_fooled_by_copies() -> None:
    pairs = [(0.0, 1.0)] * 12 + [(1.0, 1.0)] * 8
    before, after = _outcomes(pairs)
    assert compare(before, after).decide() == "better"
    copies = compare(before, after, {name: "copy" if int(name) < 12 else name for name in before})
    assert copies.groups == 9
    assert copies.decide() == "inconclusive"


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ({}, {}, "same items"),
        ({"a": 1}, {"b": 1}, "same items"),
        ({"a": 0.7}, {"a": 1}, "outcome"),
        ({"a": math.nan}, {"a": 1}, "outcome"),
    ],
)
def test_compare_refuses(before: dict[str, float], after: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        compare(before, after)


@pytest.mark.parametrize("count", range(1, 130))
def test_nothing_lost_is_no_trouble_for_rounding(count: int) -> None:
    for gained in range(count + 1):
        rest = count - gained
        result = compare(*_outcomes([(0, 1)] * gained + [(1, 1)] * (rest // 2) + [(0, 0)] * (rest - rest // 2)))
        assert (result.needed is None) == (gained == 0)


@given(OUTCOMES, st.randoms(use_true_random=False))
def test_swapping_mirrors_and_order_does_not_matter(pairs: list[tuple[float, float]], generator: random.Random) -> None:
    before, after = _outcomes(pairs)
    groups = {name: str(int(name) // 3) for name in before}
    result, swapped = compare(before, after, groups), compare(after, before, groups)
    assert (swapped.low, swapped.high) == pytest.approx((-result.high, -result.low), abs=1e-12)
    assert swapped.p == pytest.approx(result.p, rel=1e-9)
    names = list(before)
    generator.shuffle(names)
    assert compare({name: before[name] for name in names}, {name: after[name] for name in names}, groups) == result


def test_one_group_proves_nothing() -> None:
    names = [str(index) for index in range(50)]
    same = dict.fromkeys(names, 1.0)
    result = compare(same, same, dict.fromkeys(names, "only"))
    assert (result.p, result.groups, result.detectable, result.needed) == (1, 1, None, None)
    assert result.decide(margin=0.9) == "inconclusive"
    assert compare(dict.fromkeys(names, 0.0), same, dict.fromkeys(names, "only")).decide() == "inconclusive"


def test_ties_only_are_as_sure_as_their_number() -> None:
    few, many = ({str(index): 0.5 for index in range(count)} for count in (3, 1000))
    assert compare(few, few).decide(margin=0.5) == "inconclusive"
    assert compare(many, many).decide(margin=0.02) == "not_worse"
    assert compare(many, many).p == 1


@pytest.mark.parametrize("alpha", [2.5e-4, 1e-5])
def test_intervals_widen_with_smaller_levels_beyond_what_draws_reach(alpha: float) -> None:
    generator = random.Random(4)
    before = {str(index): float(generator.random() < 0.5) for index in range(400)}
    after = {name: float(generator.random() < 0.75) for name in before}
    groups = {name: str(int(name) // 2) for name in before}
    usual, small = compare(before, after, groups), compare(before, after, groups, alpha=alpha)
    assert usual.p == small.p
    assert small.low < usual.low < usual.high < small.high
    # Normal approximation: the interval grows as the quantile does.
    factor = {2.5e-4: 3.662 / 1.960, 1e-5: 4.417 / 1.960}[alpha]
    assert (small.high - small.low) / (usual.high - usual.low) == pytest.approx(factor, rel=0.1)
    assert small.detectable is not None
    assert usual.detectable is not None
    assert small.detectable > usual.detectable


def test_an_item_without_a_group_is_named() -> None:
    with pytest.raises(ValueError, match="'b' has no group"):
        compare({"a": 1, "b": 1}, {"a": 1, "b": 0}, {"a": "x"})
