from __future__ import annotations

from typing import Any

import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.comparison import measured
from aifw.evaluation.measures import named, suite_of, table
from aifw.evaluation.suites import find

SUITE = find("lm_eval")


def test_measures_are_those_the_rows_name() -> None:
    rows = [
        {"id": "a/0", "values": {"a/acc": 1.0, "a/acc_norm": 0.0}},
        {"id": "a/1", "values": {"a/acc": 0.0}},
        {"id": "b/0", "corpus": {"b/word_perplexity": 12.5}},
    ]
    assert list(table("lm_eval", rows)) == ["a/acc", "a/acc_norm", "b/word_perplexity"]
    found = measured(SUITE, rows)
    assert (found["a/acc"]["value"], found["a/acc"]["n"], found["a/acc_norm"]["n"]) == (0.5, 2, 1)
    assert found["b/word_perplexity"]["value"] == 12.5
    assert found["b/word_perplexity"]["low"] is None
    assert SUITE.details(rows)["tasks"] == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"values": {}},
        {"values": {"a/acc": float("nan")}},
        {"values": {"accuracy": 1.0}},
        {"values": {"acc": 1.0}},
        {"values": {"a/word_perplexity": 1.0}},
        {"corpus": {"a/acc": 1.0}},
    ],
)
def test_rows_that_cannot_be_used(row: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid):
        SUITE.check({"id": "a/0", **row})


def test_measures_by_name() -> None:
    acc = named("arc/acc/strict")
    assert (acc.title, acc.form, acc.better, acc.unit) == ("arc acc (strict)", "mean", "higher", "share")
    assert named("lambada/perplexity").better == "lower"
    assert named("latency_p95").unit == "seconds"
    assert suite_of("arc/acc") == "lm_eval"
    assert suite_of("accuracy") == "classification"
    for name in ("arc", "arc/", "/acc", "a/b/c/d", "no_such_measure"):
        with pytest.raises(KeyError):
            named(name)
