from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import normal_quantile
from aifw.statistics.spending import LOOKS, TOTAL, available, spent, two_sided

TOTALS = st.floats(1e-6, 0.5)


@given(TOTALS, st.integers(1, 400), st.integers(0, 50))
def test_the_sum_never_exceeds_the_total(total: float, looks: int, more: int) -> None:
    shares = [available(look, total, looks) for look in range(1, looks + more + 1)]
    assert sum(map(Fraction, shares)) <= Fraction(total)
    assert math.fsum(shares) >= total * (1 - 1e-9)
    assert all(first >= second for first, second in itertools.pairwise(shares))
    assert min(shares[:looks]) >= total / looks / 2 * (1 - 1e-9)


@given(TOTALS, st.integers(1, 300), st.integers(0, 400))
def test_spent_is_what_was_available(total: float, looks: int, look: int) -> None:
    assert spent(look, total, looks) == pytest.approx(
        sum(available(k, total, looks) for k in range(1, look + 1)), abs=1e-15
    )
    assert spent(look, total, looks) <= total


def test_after_the_last_look_there_is_nothing() -> None:
    assert available(LOOKS) > 0
    assert available(LOOKS + 1) == 0
    assert available(10**9) == 0
    assert spent(10**9) == pytest.approx(TOTAL, rel=1e-9)


def test_shares_and_what_they_cost_are_as_documented() -> None:
    shares = [available(look) for look in (1, 2, 10, 200)]
    assert shares == pytest.approx([0.01269, 0.00431, 0.000353, 0.0001256], rel=2e-3)
    equal = -normal_quantile(TOTAL / LOOKS) + normal_quantile(0.8)
    effects = [(-normal_quantile(share) + normal_quantile(0.8)) / equal - 1 for share in shares]
    assert effects == pytest.approx([-0.29, -0.20, -0.02, 0.04], abs=0.005)


@pytest.mark.parametrize(
    ("look", "total", "looks"), [(0, 0.05, 200), (1, 0, 200), (1, 1, 200), (1, math.nan, 9), (1, 0.05, 0)]
)
def test_refuses(look: int, total: float, looks: int) -> None:
    with pytest.raises(ValueError, match="has no share"):
        available(look, total, looks)


def test_a_look_before_none_is_refused() -> None:
    assert spent(0) == 0
    with pytest.raises(ValueError, match="no look -1"):
        spent(-1)


def test_two_sided() -> None:
    assert two_sided(0.0125) == 0.025
    assert two_sided(0) == 0
    for level in (-0.1, 0.6, math.nan):
        with pytest.raises(ValueError, match="one tail"):
            two_sided(level)
