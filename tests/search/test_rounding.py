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
    even, odd, little = 2.0**53, 2.0**53 + 2, 2.0**-200
    terms = np.array([[start, 1.0, end] for start in (even, odd) for end in (little, -little, 0.0)] + [[1.0, 2.0, 3.0]])
    found, decided = sums(terms)
    assert found.tolist() == [even + 2, even, even, odd + 2, odd, odd + 2, 6.0]
    assert decided >= 4


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


def row_with_square(square: int) -> np.ndarray:
    """Integers that float32 holds, the sum of whose squares is this number: the largest possible one again and again."""
    found = []
    while square:
        root = math.isqrt(square)
        shift = max(0, root.bit_length() - 24)
        found.append(root >> shift << shift)
        square -= found[-1] ** 2
    return np.array(found, np.float32)


@given(st.integers(2**53, 2**54 - 1), st.integers(-1, 1), st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_norms_beside_the_middle_of_two_doubles(root: int, beside: int, shift: int) -> None:
    """The square of a number of 54 bits, the last of which is set, and one more and less."""
    square = (root | 1) ** 2 + beside
    row = np.ldexp(row_with_square(square), -shift)[None]
    assert row.dtype == np.float32
    found = float(norms(row)[0])
    assert is_rounded_root(found, Fraction(square, 4**shift))
    assert found == norm(row[0])


def test_few_norms_need_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).standard_normal((2000, 60)).astype(np.float32)
    asked: list[int] = []
    monkeypatch.setattr(rounding, "norm", lambda row: asked.append(1) or norm(row))
    assert len(norms(rows)) == 2000
    assert len(asked) < 10
