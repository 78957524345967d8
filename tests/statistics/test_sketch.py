from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics.sketch import SIZE, containment, jaccard, overlap, sketch

IDS = st.sets(st.text(max_size=4), max_size=60)


def _ids(first: int, last: int) -> list[str]:
    return [f"item-{index}" for index in range(first, last)]


@given(IDS, IDS)
def test_of_small_sets_it_is_exact(a: set[str], b: set[str]) -> None:
    one, other = sketch(a), sketch(b)
    common = len(a & b)
    assert overlap(one, other) == (common / min(len(a), len(b)) if a and b else 0)
    assert containment(one, other) == (common / len(a) if a else 0)
    assert jaccard(one, other) == (common / len(a | b) if a | b else 0)


@given(st.lists(st.text(max_size=5), max_size=300), st.randoms())
def test_neither_order_nor_repetition_matters(ids: list[str], generator: object) -> None:
    assert sketch(reversed(ids)) == sketch(ids) == sketch(ids + ids)
    assert len(sketch(ids)) == min(SIZE, len(set(ids)))


def test_it_stays_what_it_is() -> None:
    # Kept in states and reports, so it may never change.
    assert sketch(["b", "a"]) == ["40f89e395b66422f", "8472c2e34d854f75"]


@pytest.mark.parametrize("grown", [1001, 2000, 20_000])
def test_a_set_that_only_grew_is_recognised(grown: int) -> None:
    old, new = sketch(_ids(0, 1000)), sketch(_ids(0, grown))
    assert overlap(old, new) == overlap(new, old) == 1
    assert containment(old, new) == 1
    assert containment(new, old) == pytest.approx(1000 / grown, abs=0.2)


def test_another_set_is_another() -> None:
    assert overlap(sketch(_ids(0, 5000)), sketch(_ids(5000, 10_000))) == 0


@pytest.mark.parametrize("common", [0.1, 0.5, 0.9])
def test_estimates(common: float) -> None:
    shift = round(4000 * (1 - common))
    one, other = sketch(_ids(0, 4000)), sketch(_ids(shift, 4000 + shift))
    assert overlap(one, other) == pytest.approx(common, abs=0.19)
    assert containment(one, other) == pytest.approx(common, abs=0.19)
    assert jaccard(one, other) == pytest.approx(common / (2 - common), abs=0.19)


@given(st.sets(st.integers(0, 3000), max_size=400), st.sets(st.integers(0, 3000), max_size=400))
def test_bounds_and_symmetry(a: set[int], b: set[int]) -> None:
    one, other = sketch(map(str, a)), sketch(map(str, b))
    assert overlap(one, other) == overlap(other, one)
    assert jaccard(one, other) == jaccard(other, one)
    assert 0 <= jaccard(one, other) <= containment(one, other) <= overlap(one, other) <= 1


@pytest.mark.parametrize(
    "wrong", [["b" * 16, "a" * 16], ["a"], ["a" * 16] * 2, [f"{index:016}" for index in range(65)]]
)
def test_refuses_what_is_no_sketch(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match="not a sketch"):
        overlap(wrong, [])
