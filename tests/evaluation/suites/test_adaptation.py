from __future__ import annotations

import math
from typing import Any

import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.measures import SUITES
from aifw.evaluation.suites.adaptation import SUITE

ROW: dict[str, Any] = {
    "id": "e1",
    "accuracy": {"0": 0.2, "1": 0.6, "5": 0.9},
    "plain_fine_tuning": 0.5,
    "prototypes": 0.95,
}


def test_an_episode_is_compared_with_what_is_simpler() -> None:
    SUITE.check(ROW)
    assert SUITE.values(ROW) == pytest.approx(
        {
            "accuracy_after_0": 0.2,
            "accuracy_after_1": 0.6,
            "accuracy_after_5": 0.9,
            "over_fine_tuning": 0.4,
            "over_prototypes": -0.05,
        }
    )
    assert SUITE.values(ROW).keys() == SUITES["adaptation"].keys()


def test_what_an_episode_lacks_has_no_value() -> None:
    row = {"id": "e1", "accuracy": {"0": 0.2, "1": 0.6}, "prototypes": 0.5}
    SUITE.check(row)
    assert SUITE.values(row) == {"accuracy_after_0": 0.2, "accuracy_after_1": 0.6}
    assert SUITE.details([row])["notes"] == {
        "accuracy_after_5": "no episode has it",
        "over_fine_tuning": "no episode has `plain_fine_tuning`",
        "over_prototypes": "no episode has 5 steps",
    }


def test_the_course_is_in_the_order_of_steps() -> None:
    rows = [{"id": "a", "accuracy": {"10": 1.0, "0": 0.0, "5": 0.5}}, {"id": "b", "accuracy": {"0": 0.5}}]
    course = SUITE.details(rows)["course"]
    assert [*course] == ["0", "5", "10"]
    assert course["0"] == {"mean": 0.25, "episodes": 2}
    assert course["10"] == {"mean": 1.0, "episodes": 1}


def test_no_episode_has_no_value() -> None:
    assert SUITE.details([])["notes"].keys() == SUITES["adaptation"].keys()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"accuracy": None}, "`accuracy`"),
        ({"accuracy": {}}, "`accuracy`"),
        ({"accuracy": {"5": 0.4}}, "`accuracy.0`"),
        ({"accuracy": {"0": 1.4}}, "`accuracy.0`"),
        ({"accuracy": {"0": math.nan}}, "`accuracy.0`"),
        ({"accuracy": {"0": True}}, "`accuracy.0`"),
        ({"accuracy": {"0": 0.1, "one": 0.4}}, "'one'"),
        ({"accuracy": {"0": 0.1, "01": 0.4}}, "'01'"),
        ({"accuracy": {"0": 0.1, 5: 0.4}}, "5 for a number of steps"),
        ({"plain_fine_tuning": -0.1}, "`plain_fine_tuning`"),
        ({"prototypes": "good"}, "`prototypes`"),
    ],
)
def test_a_bad_row_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputInvalid, match="item 'e1'") as error:
        SUITE.check(ROW | change)
    assert named in error.value.message
