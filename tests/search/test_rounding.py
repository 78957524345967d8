from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aifw.search import rounding
from aifw.search.rounding import norm, norms, sums

singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


def is_rounded_root(root: float, square: Fraction) -> bool:
    """Whether no double is nearer to the square root, by comparing squares of midpoints."""
    above = (Fraction(root) + Fraction(math.nextafter(root, math.inf))) / 2
    below = (Fraction(root) + Fraction(math.nextafter(root, 0.0))) / 2
    even = np.float64(root).view(np.int64) % 2 == 0
    return below**2 <= square <= above**2 if even else below**2 < square < above**2


@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 40)), elements=singles))
@settings(max_examples=200, deadline=None)
def test_sums_are_those_of_fsum(values: np.ndarray) -> None:
    terms = values.astype(np.float64) * values[::-1].astype(np.float64)
    found, _ = sums(terms)
    assert found.tolist() == [math.fsum(row) for row in terms.tolist()]
    assert not np.signbit(found[found == 0]).any()


def test_sums_that_cancel_are_decided_one_by_one() -> None:
    # Halfway between two doubles, and a little beside it by a term that a double sum loses.
    terms = np.array([[2.0**53, 1.0, 2.0**-200], [2.0**53, 1.0, -(2.0**-200)], [2.0**53, 1.0, 0.0], [1.0, 2.0, 3.0]])
    found, decided = sums(terms)
    assert found.tolist() == [2.0**53 + 2, 2.0**53, 2.0**53, 6.0]
    assert decided >= 2


@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=singles))
@settings(max_examples=200, deadline=None)
def test_norms_are_rounded_once(rows: np.ndarray) -> None:
    for row, found in zip(rows, norms(rows), strict=True):
        square = sum(Fraction(value) ** 2 for value in row.tolist())
        assert found == 0 if square == 0 else is_rounded_root(float(found), square)
        assert found == norm(row)


@pytest.mark.parametrize("value", [2.0**-149, 2.0**-126, 1.0, 3.0, float(np.finfo(np.float32).max)])
def test_norms_of_extremes(value: float) -> None:
    rows = np.full((3, 4), np.float32(value))
    rows[1, 1:] = 0
    assert norms(rows).tolist() == [2 * value, value, 2 * value]


def test_few_norms_need_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).standard_normal((2000, 60)).astype(np.float32)
    asked: list[int] = []
    monkeypatch.setattr(rounding, "norm", lambda row: asked.append(1) or norm(row))
    assert len(norms(rows)) == 2000
    assert len(asked) < 10
