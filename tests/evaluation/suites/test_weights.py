from __future__ import annotations

import math

import numpy as np
import pytest

from aifw.evaluation.suites.weights import ratio_of_totals, too_few, undefined, weights_of


def test_no_weights_count_each_row_once() -> None:
    assert weights_of(None, 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, -1.0, 0.0], [1.0, math.nan, 1.0], [[1.0, 1.0, 1.0]]])
def test_what_is_no_weight_for_each_row_is_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 3 weights"):
        weights_of(np.array(weights), 3)


def test_a_ratio_of_nothing_is_not_defined() -> None:
    assert ratio_of_totals([1, 2], [3, 3])(None) == 0.5
    assert math.isnan(ratio_of_totals([1, 2], [0, 0])(None))
    assert math.isnan(ratio_of_totals([], [])(None))
    assert math.isnan(undefined(None))


def test_too_few_is_said_as_people_read_numbers() -> None:
    assert too_few(212, 1000) == "too few: 212 of 1,000"
