from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import normal_quantile
from aifw.statistics.distributions import student_quantile, student_tail


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


@given(st.floats(1e-12, 1 - 1e-12), st.sampled_from([1, 2, 7, 59, 60, 61, 311, 99_999, 10**8, 10**18]))
def test_students_quantile_inverts_its_tail(probability: float, freedom: int) -> None:
    value = student_quantile(probability, freedom)
    assert student_tail(-value, freedom) == pytest.approx(probability, rel=1e-9)
    assert student_tail(value, freedom) == pytest.approx(1 - probability, rel=1e-9)


def test_students_distribution_with_one_degree_is_cauchys() -> None:
    for value in (0.0, 0.3, 2.0, 1e6):
        assert student_tail(value, 1) == pytest.approx(0.5 - math.atan(value) / math.pi, rel=1e-6)
    assert student_quantile(0.75, 1) == pytest.approx(1.0, rel=1e-14)


def test_the_end_of_the_tail() -> None:
    assert student_tail(math.inf, 5) == 0
    assert student_tail(-math.inf, 5) == 1
    assert student_quantile(0.5, 5) == 0


@pytest.mark.parametrize(("value", "freedom"), [(math.nan, 3), (1.0, 0), (1.0, math.nan)])
def test_no_tail_outside(value: float, freedom: float) -> None:
    with pytest.raises(ValueError, match="no tail"):
        student_tail(value, freedom)


@pytest.mark.parametrize(("probability", "freedom"), [(0, 3), (1, 3), (math.nan, 3), (0.4, 0)])
def test_no_students_quantile_outside(probability: float, freedom: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        student_quantile(probability, freedom)


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    script = (
        "import sys, aifw.statistics as s\n"
        "s.compare({'a': 1, 'b': 0}, {'a': 1, 'b': 1}); s.spending.available(1); s.sketch.sketch('ab'); s.holm({'a': 0.1})\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"numpy", "scipy", "statsmodels"} & set(done.stdout.split())
