from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.statistics import (
    compare_means,
    groups_needed,
    mcnemar,
    minimum_detectable_effect,
    minimum_detectable_mean,
    pairs_needed,
)


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


@given(st.floats(1e-6, 1e6), st.floats(0.01, 100), st.sampled_from([0.05, 2.5e-4, 1e-5]))
def test_groups_needed_inverts_the_detectable_mean(spread: float, ratio: float, alpha: float) -> None:
    difference = spread / ratio
    needed = groups_needed(difference, spread, alpha)
    assert (minimum_detectable_mean(spread / math.sqrt(needed), needed, alpha) or math.inf) <= difference * 1.001
    if needed > 2:
        fewer = needed - 1
        assert (minimum_detectable_mean(spread / math.sqrt(fewer), fewer, alpha) or 0.0) > difference * 0.999


def test_what_never_varies_has_no_detectable_mean() -> None:
    assert minimum_detectable_mean(0.0, 30) is None
    assert minimum_detectable_mean(1.0, 1) is None
    with pytest.raises(ValueError, match="no number of groups"):
        groups_needed(0.0, 1.0)


@pytest.mark.parametrize("alpha", [0.05, 5e-4])
def test_power_of_means_is_what_it_says(alpha: float) -> None:
    effect = minimum_detectable_mean(1 / math.sqrt(60), 60, alpha)
    assert effect is not None
    names = [str(index) for index in range(60)]
    before = dict.fromkeys(names, 0.0)
    draws = np.random.default_rng(2).normal(effect, 1, (300, 60))
    shown = [
        compare_means(before, dict(zip(names, row.tolist(), strict=True)), alpha=alpha, resamples=100).p <= alpha
        for row in draws
    ]
    assert 0.7 <= np.mean(shown) <= 0.9
