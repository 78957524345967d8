from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import mcnemar, sign_flip
from aifw.statistics.sign_flip import flip_all


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


def test_many_sizes_of_groups_are_counted() -> None:
    generator = random.Random(9)
    groups = [str(generator.randrange(40)) for _ in range(200)]
    differences = [generator.choice([-1, -0.5, 0, 0.5, 1, 1]) for _ in groups]
    sums = {
        name: sum(value for value, group in zip(differences, groups, strict=True) if group == name) for name in groups
    }
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(200_000, len(sums)))
    totals = np.abs(signs @ np.array(list(sums.values())))
    share = float((totals >= abs(sum(sums.values()))).mean())
    assert sign_flip(differences, groups) == pytest.approx(share, abs=5 * (share / 200_000) ** 0.5)


@given(st.lists(st.floats(-1e4, 1e4).map(lambda value: round(value, 3)), min_size=1, max_size=9))
def test_flip_all_by_enumeration(sums: list[float]) -> None:
    observed = abs(sum(sums)) - 1e-6
    ways = [abs(sum(map(float.__mul__, sums, signs))) for signs in itertools.product((1.0, -1.0), repeat=len(sums))]
    assert flip_all(np.array(sums)) == pytest.approx(sum(way >= observed for way in ways) / len(ways))


@given(st.lists(st.sampled_from([-1.0, 1.0]), max_size=16))
def test_flip_all_is_sign_flip_of_equal_sizes(sums: list[float]) -> None:
    assert flip_all(np.array(sums)) == pytest.approx(sign_flip(sums), rel=1e-12)


def test_flip_all_knows_its_limit() -> None:
    assert flip_all(np.full(16, 0.1)) == 2**-15
    with pytest.raises(ValueError, match="too many ways"):
        flip_all(np.ones(17))
