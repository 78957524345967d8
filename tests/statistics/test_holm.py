from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import holm

TESTS = st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=12)


def test_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )


@given(TESTS)
def test_never_below_the_raw_value_and_in_its_order(p: dict[str, float]) -> None:
    adjusted = holm(p)
    assert list(adjusted) == list(p)
    assert all(p[name] <= value <= 1 for name, value in adjusted.items())
    ordered = [adjusted[name] for name in sorted(p, key=p.__getitem__)]
    assert ordered == sorted(ordered)


@given(TESTS)
def test_order_does_not_matter(p: dict[str, float]) -> None:
    assert holm(dict(reversed(p.items()))) == holm(p)


@given(TESTS.filter(bool), st.floats(0, 1))
def test_a_smaller_p_never_raises_another(p: dict[str, float], factor: float) -> None:
    first = next(iter(p))
    smaller, before = holm(p | {first: p[first] * factor}), holm(p)
    assert all(smaller[name] <= before[name] for name in p)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1])
def test_refuses(value: float) -> None:
    with pytest.raises(ValueError, match="accuracy is not a probability"):
        holm({"accuracy": value})
