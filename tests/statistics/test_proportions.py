from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import mcnemar, newcombe_paired, wilson


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
