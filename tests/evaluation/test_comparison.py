"""Measures of one subject and of two: the right form for each, items that must be the same, and nothing that looks fine from bad input."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import InputInvalid
from aifw.evaluation.comparison import adjusted, compare_measure, compare_suite, measured, outcome
from aifw.evaluation.measures import named
from aifw.evaluation.suites import Defaults, find
from aifw.statistics import compare, wilson

PREFERENCE, LATENCY, CLASSIFICATION, RAG = map(find, ("preference", "latency", "classification", "rag"))


def pair(item: str, margin: float, **more: Any) -> dict[str, Any]:
    row = {"id": item, "chosen": 10 * margin - 20, "rejected": -20.0, "chosen_tokens": 10, "rejected_tokens": 10}
    return row | more


def pairs(outcomes: Sequence[float], **more: Any) -> list[dict[str, Any]]:
    return [pair(f"i{place:03}", each - 0.5, **more) for place, each in enumerate(outcomes)]


def test_an_outcome_has_wilsons_interval() -> None:
    found = measured(PREFERENCE, pairs([1] * 30 + [0] * 10))["preference_accuracy"]
    expected = wilson(30, 40)
    assert found == {"value": 0.75, "low": expected.low, "high": expected.high, "n": 40, "method": "Wilson"}


def test_items_of_one_group_do_not_count_as_many() -> None:
    outcomes = [1.0] * 100 + [0.0] * 100
    alone = measured(PREFERENCE, pairs(outcomes))["preference_accuracy"]
    rows = [row | {"group": f"g{place // 20}"} for place, row in enumerate(pairs(outcomes))]
    together = measured(PREFERENCE, rows)["preference_accuracy"]
    assert together["high"] - together["low"] > 1.5 * (alone["high"] - alone["low"])
    assert "10 groups" in together["method"]


def test_equal_outcomes_of_groups_are_not_certain() -> None:
    rows = [row | {"group": f"g{place // 10}"} for place, row in enumerate(pairs([1.0] * 50))]
    found = measured(PREFERENCE, rows)["preference_accuracy"]
    assert (found["value"], found["low"], found["method"]) == (1.0, wilson(5, 5).low, "Wilson over 5 groups")


def test_one_item_has_a_value_and_says_why_it_has_no_interval() -> None:
    found = measured(PREFERENCE, pairs([1]))
    assert found["preference_accuracy"]["low"] == wilson(1, 1).low
    assert found["margin_per_token"]["value"] == pytest.approx(0.5)
    assert found["margin_per_token"]["low"] is None
    assert found["margin_per_token"]["note"]


def test_a_percentile_of_too_few_is_null_with_the_reason() -> None:
    rows = [{"id": f"{place}", "seconds": 0.01 * (place + 1)} for place in range(212)]
    found = measured(LATENCY, rows)
    assert found["latency_p50"]["value"] == pytest.approx(1.065)
    assert found["latency_p99"]["value"] is None
    assert found["latency_p99"]["low"] is None
    assert found["latency_p99"]["note"] == "too few: 212 of 1,000"


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(InputInvalid, match="preference has no items"):
        measured(PREFERENCE, [])


def test_an_item_twice_is_an_error() -> None:
    with pytest.raises(InputInvalid, match="item 'i000' is there more than once"):
        measured(PREFERENCE, [*pairs([1, 0]), pair("i000", 1)])


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.3", True])
def test_scores_that_are_no_numbers_are_errors(value: Any) -> None:
    with pytest.raises(InputInvalid, match="chosen"):
        measured(PREFERENCE, [pair("a", 0.1), pair("b", 0.1, chosen=value)])


class Broken(Defaults):
    """A suite that lets through what it should not."""

    name = "preference"

    def check(self, row: Mapping[str, Any]) -> None:
        pass

    def values(self, row: Mapping[str, Any]) -> dict[str, float]:
        return {"margin_per_token": math.nan}


def test_a_suite_cannot_let_nan_through() -> None:
    with pytest.raises(InputInvalid, match="margin_per_token of item 'a' is nan, not a finite number"):
        measured(Broken(), [{"id": "a"}])


# Two subjects


def test_outcomes_are_compared_item_by_item() -> None:
    before, after = [1.0] * 50 + [0.0] * 50, [1.0] * 48 + [0.0] * 2 + [1.0] * 20 + [0.0] * 30
    found = compare_measure(PREFERENCE, "preference_accuracy", pairs(before), pairs(after)[::-1])
    names = [row["id"] for row in pairs(before)]
    assert found == compare(dict(zip(names, before, strict=True)), dict(zip(names, after, strict=True)))
    assert found.p < 0.001


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=2, max_size=40), st.randoms()
)
def test_the_order_of_rows_changes_nothing(outcomes: list[tuple[float, float]], shuffle: random.Random) -> None:
    before, after = (pairs([each[side] for each in outcomes]) for side in (0, 1))
    expected = compare_suite(PREFERENCE, before, after)
    shuffle.shuffle(before)
    shuffle.shuffle(after)
    assert compare_suite(PREFERENCE, before, after) == expected


def test_all_ties_are_inconclusive() -> None:
    rows = pairs([1, 0, 1, 0, 1, 1])
    found = compare_suite(PREFERENCE, rows, rows)
    for name, entry in found.items():
        p = adjusted(found).get(name)
        assert entry["difference"] in {0, None}
        assert p in {1, None}
        assert outcome(named(name), entry, p) == "inconclusive"


def test_one_item_is_inconclusive() -> None:
    found = compare_suite(PREFERENCE, pairs([0]), pairs([1]))
    for name, entry in found.items():
        assert outcome(named(name), entry, adjusted(found).get(name)) == "inconclusive"


def test_items_that_differ_are_refused_and_named() -> None:
    with pytest.raises(InputInvalid, match=r"'i003'.* only in the first and .*'x'.* only in the second"):
        compare_suite(PREFERENCE, pairs([1, 0, 1, 0]), [*pairs([1, 0, 1]), pair("x", 1)])


def test_an_item_that_changed_under_its_id_is_refused() -> None:
    before, after = pairs([1, 0], item_digest="one"), pairs([1, 0], item_digest="one")
    after[1]["item_digest"] = "other"
    with pytest.raises(InputInvalid, match="item 'i001' is not the same on both sides"):
        compare_measure(PREFERENCE, "preference_accuracy", before, after)
    with pytest.raises(InputInvalid, match=r"2 items \('i000', 'i001'\) are not the same"):
        compare_suite(PREFERENCE, before, [row | {"group": "g"} for row in before])


def test_a_measure_only_some_items_have_is_compared_over_those_that_have_it() -> None:
    """Otherwise leaving an item unanswered would improve the mean of the rest without a trace."""

    def questions(answered: int) -> list[dict[str, Any]]:
        return [
            {
                "id": f"q{place:03}",
                "question": "?",
                "answer": "a" if place < answered else "",
                "references": ["a"],
                "answerable": True,
                "abstained": place >= answered,
                "cited": ["d1"] if place < answered else [],
                "supporting": ["d1", "d2"],
                "retrievals": 1,
            }
            for place in range(60)
        ]

    found = compare_suite(RAG, questions(50), questions(40))
    for entry in found.values():
        assert entry["n"] == 60
        assert entry["difference"] is None or np.isfinite(entry["difference"])


def test_statistics_are_compared_by_the_same_draws() -> None:
    generator = random.Random(3)
    base = [generator.lognormvariate(-3, 0.4) for _ in range(400)]
    before, after = (
        [{"id": f"{place:03}", "seconds": each * factor} for place, each in enumerate(base)] for factor in (1, 0.9)
    )
    found = compare_suite(LATENCY, before, after)
    assert found["latency_p95"]["difference"] == pytest.approx(-0.1 * found["latency_p95"]["before"])
    assert found["latency_p95"]["high"] < 0
    assert outcome(named("latency_p95"), found["latency_p95"], 0.001) == "better"
    assert found["latency_p99"]["p"] is None
    assert "too few" in found["latency_p99"]["note"]
    with pytest.raises(InputInvalid, match="latency_p99 cannot be compared: too few: 400 of 1,000"):
        compare_measure(LATENCY, "latency_p99", before, after)


def test_what_was_observed_once_cannot_be_compared() -> None:
    rows = [{"id": "run", "items": 3}]
    with pytest.raises(InputInvalid, match="no items behind it"):
        compare_measure(find("resources"), "peak_memory", rows, rows)


# In words


@pytest.mark.parametrize(
    ("measure", "low", "high", "p", "expected"),
    [
        ("accuracy", 0.01, 0.1, 0.01, "better"),
        ("accuracy", -0.1, -0.01, 0.01, "worse"),
        ("perplexity", -2, -1, 0.01, "better"),
        ("perplexity", 1, 2, 0.01, "worse"),
        ("answer_tokens", 1, 2, 0.01, "different"),
        ("accuracy", 0.01, 0.1, 0.06, "inconclusive"),
        ("accuracy", -0.01, 0.1, 0.01, "inconclusive"),
        ("accuracy", 0.0, 0.1, 0.01, "inconclusive"),
        ("accuracy", None, None, None, "inconclusive"),
        ("accuracy", 0.01, 0.1, math.nan, "inconclusive"),
    ],
)
def test_outcomes_in_a_word(measure: str, low: float, high: float, p: float, expected: str) -> None:
    assert outcome(named(measure), {"low": low, "high": high}, p) == expected


def test_p_values_are_adjusted_for_how_many_are_looked_at() -> None:
    assert adjusted({"a": {"p": 0.01}, "b": {"p": 0.04}, "c": {"p": None}}) == {"a": 0.02, "b": 0.04}


def _answers(left_out: bool) -> list[dict[str, Any]]:
    """Half of 200 answers are right; the others are wrong, or are left out."""
    scored = {"log_probability": -9.0, "tokens": 4, "item_digest": "x"}
    answer = {"references": ["yes"]}
    rows = [{"id": f"i{place:03}", **scored, **answer, "answer": "yes" if place % 2 else "no"} for place in range(200)]
    if left_out:
        for row in rows[::2]:
            del row["answer"], row["references"]
    return rows


def test_leaving_out_what_one_gets_wrong_is_no_gain() -> None:
    found = compare_suite(find("language_model"), _answers(False), _answers(True))
    for name in ("exact_match", "token_f1", "bleu"):
        assert found[name]["p"] is None
        assert found[name]["note"] == "not known for the same items on both sides"


def test_perplexity_is_not_compared_across_tokenizers() -> None:
    finer = [row | {"tokens": 8} for row in _answers(False)]
    found = compare_suite(find("language_model"), _answers(False), finer)["perplexity"]
    assert found["p"] is None
    assert "different numbers of tokens" in found["note"]
