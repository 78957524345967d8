from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import InputInvalid
from aifw.evaluation.measures import SUITES
from aifw.evaluation.suites.generation import SUITE, repetition


def _row(number: int, text: str, tokens: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": f"i{number}", "text": text, "tokens": len(text.split()) if tokens is None else tokens} | more


ROW = _row(1, "Hold reset.", [5, 6], reference_tokens=2, entropy=0.4, kl=0.1)


def _statistics(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {name: statistic(None) for name, statistic in SUITE.statistics(rows).items()}


def test_every_measure_is_there() -> None:
    SUITE.check(ROW)
    assert SUITE.values(ROW) == {
        "answer_tokens": 2.0,
        "repetition": 0.0,
        "token_entropy": 0.4,
        "kl_to_reference": 0.1,
    }
    assert {*SUITE.values(ROW), *SUITE.statistics([ROW])} == SUITES["generation"].keys()


@pytest.mark.parametrize(("lengths", "change"), [((30, 30), 0.5), ((10, 10), -0.5), ((10, 30), 0.0)])
def test_length_drifts_either_way(lengths: tuple[int, int], change: float) -> None:
    rows = [_row(n, f"answer {n}", length, reference_tokens=20) for n, length in enumerate(lengths)]
    assert _statistics(rows)["length_drift"] == pytest.approx(abs(change))
    assert SUITE.details(rows)["length_change"] == pytest.approx(change)


def test_length_is_compared_where_there_is_a_reference() -> None:
    rows = [_row(1, "a", 30, reference_tokens=20), _row(2, "b", 1000)]
    assert _statistics(rows)["length_drift"] == pytest.approx(0.5)
    assert SUITE.details(rows)["length_compared"] == 1


def test_answers_repeat_others_whatever_their_case_and_punctuation() -> None:
    rows = [_row(1, "I cannot help."), _row(2, "i cannot  help"), _row(3, "Hold reset."), _row(4, "Press it.")]
    assert _statistics(rows)["duplicate_rate"] == 0.5
    details = SUITE.details(rows)
    assert details["different_answers"] == 3
    assert details["most_repeated"] == [{"text": "i cannot help", "answers": 2}]


def test_all_answers_the_same_is_the_worst() -> None:
    assert _statistics([_row(n, "") for n in range(5)])["duplicate_rate"] == 1.0
    assert SUITE.details([_row(n, "") for n in range(5)])["empty"] == 5


def test_a_draw_makes_no_duplicates() -> None:
    rows = [_row(1, "one"), _row(2, "two"), _row(3, "two")]
    statistic = SUITE.statistics(rows)["duplicate_rate"]
    assert statistic(np.array([3.0, 0.0, 0.0])) == 0.0
    assert statistic(np.array([0.0, 0.0, 3.0])) == 1.0


@pytest.mark.parametrize(
    ("units", "share"),
    [
        ([], 0.0),
        ([1, 1, 1], 0.0),
        ([1, 2, 3, 4], 0.0),
        ([1, 1, 1, 1, 1, 1], 2 / 3),
        ([1, 2, 3, 4, 1, 2, 3, 4], 1 / 5),
    ],
)
def test_repetition_is_the_share_of_4_grams_seen_before(units: list[int], share: float) -> None:
    assert repetition(units) == pytest.approx(share)


def test_repetition_is_of_tokens_or_else_of_words() -> None:
    assert SUITE.values(_row(1, "a b c", [7] * 6))["repetition"] == pytest.approx(2 / 3)
    assert SUITE.values(_row(1, "go go go go go go", 6))["repetition"] == pytest.approx(2 / 3)
    assert SUITE.values(_row(1, "a b c", 3))["repetition"] == 0.0
    assert SUITE.details([_row(1, "a b c", 3)])["too_short_to_repeat"] == 1


answers = st.tuples(
    st.sampled_from(["yes", "no", "maybe", ""]), st.integers(0, 50), st.none() | st.integers(0, 50), st.integers(1, 3)
)


@given(st.lists(answers, min_size=2, max_size=15))
def test_weights_are_repetitions(drawn: list[tuple[str, int, int | None, int]]) -> None:
    rows = [_row(n, text, tokens, reference_tokens=reference) for n, (text, tokens, reference, _) in enumerate(drawn)]
    repeated = [row for row, each in zip(rows, drawn, strict=True) for _ in range(each[-1])]
    weights = np.array([each[-1] for each in drawn], float)
    for name, statistic in SUITE.statistics(rows).items():
        assert statistic(weights) == pytest.approx(SUITE.statistics(repeated)[name](None), nan_ok=True)
    json.dumps(SUITE.details(rows), allow_nan=False)


@pytest.mark.parametrize(
    ("rows", "undefined"),
    [
        ([], {"length_drift", "duplicate_rate", "token_entropy", "kl_to_reference"}),
        (
            [_row(1, "one", 3, reference_tokens=0)],
            {"length_drift", "duplicate_rate", "token_entropy", "kl_to_reference"},
        ),
        ([ROW, ROW | {"id": "i2", "kl": None}], set()),
    ],
)
def test_what_is_not_defined_says_why(rows: list[dict[str, Any]], undefined: set[str]) -> None:
    assert SUITE.details(rows)["notes"].keys() == undefined
    for name, value in _statistics(rows).items():
        assert math.isnan(value) == (name in undefined)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokens", None),
        ("tokens", -1),
        ("tokens", [1, -2]),
        ("tokens", [1, 0.5]),
        ("tokens", True),
        ("text", None),
        ("text", 5),
        ("reference_tokens", 1.5),
        ("entropy", -0.2),
        ("entropy", math.nan),
        ("kl", math.inf),
        ("kl", "low"),
    ],
)
def test_a_bad_row_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputInvalid, match=f"`{field}` of item 'i1'"):
        SUITE.check(ROW | {field: value})


def test_an_entropy_that_was_rounded_below_0_is_taken() -> None:
    SUITE.check(ROW | {"entropy": -1e-9})
