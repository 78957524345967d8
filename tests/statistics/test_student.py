from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aifw.statistics.distributions import student_quantile
from aifw.statistics.student import Estimate, t_test

ESTIMATES = st.builds(Estimate, st.floats(-50, 50), st.floats(0.01, 10), st.floats(-1.5, 1.5), st.integers(1, 500))


@given(ESTIMATES, st.sampled_from([0.05, 2.5e-4, 1e-5]))
def test_interval_holds_what_the_test_does_not_reject(estimate: Estimate, alpha: float) -> None:
    found = estimate.interval(alpha)
    assert found.low < estimate.value < found.high
    for end, outwards in ((found.low, -1), (found.high, 1)):
        step = outwards * 1e-6 * max(abs(end - estimate.value), 1e-3)
        assert estimate.p(end - step) >= alpha * (1 - 1e-3)
        assert estimate.p(end + step) <= alpha * (1 + 1e-3)


@given(ESTIMATES)
def test_the_guard_never_makes_p_smaller(estimate: Estimate) -> None:
    assert 0 < t_test(estimate) <= estimate.p() <= 1 or estimate.p() == 5e-324


@given(ESTIMATES)
def test_mirrored_values_have_the_same_p(estimate: Estimate) -> None:
    mirrored = Estimate(-estimate.value, estimate.error, -estimate.skewness, estimate.freedom)
    assert mirrored.p() == estimate.p()


def test_without_skewness_it_is_student() -> None:
    estimate = Estimate(1.0, 0.3, 0.0, 24)
    assert estimate.p() == t_test(estimate)
    bound = 0.3 * student_quantile(0.975, 24)
    found = estimate.interval(0.05)
    assert (found.low, found.high) == pytest.approx((1 - bound, 1 + bound), rel=1e-12)


@given(st.floats(1e-9, 1e-4), st.floats(-5, 5))
def test_little_skewness_changes_little(skewness: float, value: float) -> None:
    assume(abs(value) > 0.1)
    assert Estimate(value, 1.0, skewness, 40).p() == pytest.approx(Estimate(value, 1.0, 0.0, 40).p(), rel=0.02)


def test_where_nothing_varies_there_is_no_test() -> None:
    constant = Estimate(0.2, 0.0, 0.0, 30)
    assert constant.p() == 1
    assert constant.interval(0.05).low == 0.2
    with pytest.raises(ValueError, match="no t test"):
        t_test(constant)


def test_the_far_tail_is_positive() -> None:
    assert 0 < Estimate(1e9, 1.0, 0.0, 1000).p() < 1e-300
    assert math.isclose(Estimate(0.0, 1.0, 0.4, 1000).p(), 1.0)


@pytest.mark.parametrize(("level", "most"), [(0.025, 1.35), (0.002, 2.5)])
def test_size_with_skewed_values(level: float, most: float) -> None:
    # Forty groups with many small gains and a few large losses, equally good on average: what a gate must not fall for.
    draws = 1 - np.random.default_rng(8).exponential(size=(20_000, 40))
    mean = draws.mean(axis=1)
    deviations = draws - mean[:, None]
    square = (deviations**2).sum(axis=1)
    estimates = map(
        Estimate,
        mean.tolist(),
        np.sqrt(square / 39 / 40).tolist(),
        ((deviations**3).sum(axis=1) / square**1.5).tolist(),
        [39] * len(mean),
    )
    found = [(estimate.value > 0, estimate.p(), t_test(estimate)) for estimate in estimates]
    guarded, plain = (sum(up and p[which] <= 2 * level for up, *p in found) / len(found) for which in (0, 1))
    assert guarded <= most * level
    assert plain > guarded
