from __future__ import annotations

import pytest

from aifw.training.course import lay_out, learning_rate_factor


def test_every_row_is_used_once_an_epoch() -> None:
    order = lay_out(list(range(1, 13)), epochs=3, batch=4, seed=1)
    assert len(order) == 36
    for epoch in range(3):
        assert sorted(order[12 * epoch : 12 * (epoch + 1)]) == list(range(12))
    assert order[:12] != order[12:24]
    assert all(order[k : k + 4] == sorted(order[k : k + 4]) for k in range(0, 36, 4))
    assert order != lay_out(list(range(1, 13)), epochs=3, batch=4, seed=2)


def test_the_last_batch_is_filled_up() -> None:
    order = lay_out([1] * 5, epochs=1, batch=4, seed=1)
    assert len(order) == 8
    assert set(order) == set(range(5))
    assert len(lay_out([1], epochs=1, batch=4, seed=1)) == 4


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_learning_rate_rises_then_falls(schedule: str) -> None:
    factors = [learning_rate_factor(step, 40, 0.1, schedule) for step in range(40)]
    assert factors[:4] == sorted(factors[:4])
    assert max(factors) == 1
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert min(factors) > 0
