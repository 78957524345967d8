from __future__ import annotations

from aifw.statistics import Comparison


def test_better_needs_test_and_interval() -> None:
    disagreeing = Comparison(0.5, 0.6, -0.001, 0.2, 100, 100, 0.04, 0.1, 90, "")
    assert disagreeing.decide() == "inconclusive"
