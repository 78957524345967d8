from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import (
    Comparison,
    bootstrap,
    compare,
    mcnemar,
    minimum_detectable_effect,
    newcombe_paired,
    normal_quantile,
    pairs_needed,
    sign_flip,
    wilson,
)

OUTCOMES = st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1])), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("probability", "value"),
    [(0.975, 1.959963984540054), (0.8, 0.8416212335729143), (0.5, 0.0), (1e-10, -6.361340902404056)],
)
def test_quantiles_of_the_normal_distribution(probability: float, value: float) -> None:
    assert normal_quantile(probability) == pytest.approx(value, abs=1e-12)


@given(st.floats(1e-12, 1 - 1e-12))
def test_quantile_inverts_the_distribution(probability: float) -> None:
    assert 0.5 * math.erfc(-normal_quantile(probability) / math.sqrt(2)) == pytest.approx(probability, rel=1e-9)


@pytest.mark.parametrize("probability", [0, 1, -0.1, math.nan])
def test_no_quantile_outside(probability: float) -> None:
    with pytest.raises(ValueError, match="strictly between"):
        normal_quantile(probability)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2/4)) / (n + z^2), worked out by hand for 8 of 10 and 0 of 20.
    [(8, 10, 0.4901624715, 0.9433178485), (0, 20, 0.0, 0.1611251581), (20, 20, 0.8388748419, 1.0)],
)
def test_wilson(successes: int, count: int, low: float, high: float) -> None:
    found = wilson(successes, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.001, 0.5))
def test_wilson_holds_the_share_and_mirrors(sample: tuple[int, int], alpha: float) -> None:
    successes, count = sample
    found, mirrored = wilson(successes, count, alpha), wilson(count - successes, count, alpha)
    assert 0 <= found.low <= successes / count <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(19, 2, 464 / 2**21), (5, 5, 1.0), (0, 0, 1.0), (6, 0, 2 / 64), (10, 4, 2 * (1 + 14 + 91 + 364 + 1001) / 2**14)],
)
def test_mcnemar_counts_tails(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == p
    assert mcnemar(lost, gained) == p


def test_mid_p_counts_the_observed_outcome_half() -> None:
    assert mcnemar(6, 0, mid_p=True) == 1 / 64
    assert mcnemar(4, 4, mid_p=True) == 1.0


def test_mcnemar_of_many_pairs() -> None:
    # Normal approximation with continuity correction: 2 * (1 - Phi(99 / sqrt(18100))).
    assert mcnemar(9000, 9100) == pytest.approx(math.erfc(99 / math.sqrt(18100) / math.sqrt(2)), rel=1e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_sign_flip_is_mcnemar_without_groups_and_ties(gained: int, lost: int, same: int) -> None:
    assert sign_flip([1.0] * gained + [-1.0] * lost + [0.0] * same) == pytest.approx(mcnemar(gained, lost), rel=1e-9)


def test_sign_flip_by_enumeration() -> None:
    differences = [0.5, 1, -1, 1.5, 1]
    totals = [
        sum(value if signs >> index & 1 else -value for index, value in enumerate(differences)) for signs in range(32)
    ]
    expected = sum(abs(total) >= sum(differences) for total in totals) / 32
    assert sign_flip(differences) == pytest.approx(expected, rel=1e-12)


def test_groups_count_once() -> None:
    assert sign_flip([1.0] * 12, ["a"] * 12) == 1.0
    assert sign_flip([1.0] * 12, [str(index // 2) for index in range(12)]) == pytest.approx(2 / 64)


def test_sign_flip_agrees_with_itself_where_it_stops_counting_exactly() -> None:
    generator = random.Random(3)
    differences = [generator.choice([-1, 0, 1]) for _ in range(3000)]
    gained, lost = differences.count(1), differences.count(-1)
    assert gained + lost > 1000
    assert sign_flip(differences) == pytest.approx(mcnemar(gained, lost), rel=1e-8)


def test_sign_flip_refuses_other_steps() -> None:
    with pytest.raises(ValueError, match="multiple of one half"):
        sign_flip([0.3])


def test_newcombe_as_published() -> None:
    # Newcombe 1998, table II, method 10, (e, f, g, h) = (20, 12, 2, 16): 0.0562 to 0.3292.
    found = newcombe_paired(20, 12, 2, 16)
    assert (found.low, found.high) == pytest.approx((0.0562, 0.3292), abs=5e-5)


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(lambda cells: sum(cells) > 0))
def test_newcombe_holds_the_difference_and_mirrors(cells: tuple[int, int, int, int]) -> None:
    both, gained, lost, neither = cells
    found, mirrored = newcombe_paired(both, gained, lost, neither), newcombe_paired(both, lost, gained, neither)
    difference = (gained - lost) / sum(cells)
    assert -1 <= found.low <= difference + 1e-12
    assert difference - 1e-12 <= found.high <= 1
    assert found.low == pytest.approx(-mirrored.high, abs=1e-9)


def test_newcombe_covers() -> None:
    generator, hits = random.Random(5), 0
    for _ in range(400):
        cells = [0, 0, 0, 0]
        for cell in generator.choices(range(4), weights=[40, 20, 10, 30], k=80):
            cells[cell] += 1
        found = newcombe_paired(*cells)
        hits += found.low <= 0.1 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


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


def test_pairs_needed_as_published() -> None:
    # Connor 1987's formula with z 1.959964 and 0.841621, difference 0.1, discordant 0.3, by hand.
    by_hand = ((1.959963985 * math.sqrt(0.3) + 0.841621234 * math.sqrt(0.29)) / 0.1) ** 2
    assert pairs_needed(0.1, 0.3) == pytest.approx(by_hand, rel=1e-8)


@given(st.integers(20, 5000), st.floats(0.02, 1))
def test_detectable_effect_inverts_pairs_needed(count: int, discordant: float) -> None:
    effect = minimum_detectable_effect(count, discordant)
    if effect is None:
        assert pairs_needed(discordant, discordant) > count
    else:
        assert 0 < effect <= discordant
        assert pairs_needed(effect, discordant) <= count + 1e-6


def test_power_is_what_it_says() -> None:
    effect = minimum_detectable_effect(300, 0.2)
    assert effect is not None
    generator, shown = random.Random(11), 0
    for _ in range(300):
        draws = generator.choices(
            ("gained", "lost", "same"), weights=[(0.2 + effect) / 2, (0.2 - effect) / 2, 0.8], k=300
        )
        shown += mcnemar(draws.count("gained"), draws.count("lost"), mid_p=True) <= 0.05
    assert 0.72 <= shown / 300 <= 0.88


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


def test_better_needs_test_and_interval() -> None:
    disagreeing = Comparison(0.5, 0.6, -0.001, 0.2, 100, 100, 0.04, 0.1, 90, "")
    assert disagreeing.decide() == "inconclusive"


@pytest.mark.parametrize("count", range(1, 130))
def test_nothing_lost_is_no_trouble_for_rounding(count: int) -> None:
    for gained in range(count + 1):
        rest = count - gained
        result = compare(*_outcomes([(0, 1)] * gained + [(1, 1)] * (rest // 2) + [(0, 0)] * (rest - rest // 2)))
        assert (result.needed is None) == (gained == 0)
