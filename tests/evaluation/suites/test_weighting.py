"""Integer weights give what repeating the rows gives, for every statistic of these suites."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.evaluation.measures import SUITES
from aifw.evaluation.suites import find

WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "two", "dogs", "slept", "under", "one", "tree"]

log_probability = st.floats(-40, 0)
length = st.integers(1, 12)
pairs = st.fixed_dictionaries(
    {"chosen": log_probability, "rejected": log_probability, "chosen_tokens": length, "rejected_tokens": length}
)
sentence = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
reference = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
answered = st.fixed_dictionaries({"answer": sentence, "references": st.lists(reference, min_size=1, max_size=3)})
scored = st.fixed_dictionaries({"log_probability": log_probability, "tokens": length})


def _probabilities(classes):
    shares = st.lists(st.integers(1, 9), min_size=len(classes), max_size=len(classes))
    return shares.map(lambda given: {name: each / sum(given) for name, each in zip(classes, given, strict=True)})


def _labelled(classes):
    return st.fixed_dictionaries(
        {
            "label": st.sampled_from(classes),
            "predicted": st.sampled_from(classes),
            "probabilities": _probabilities(classes),
        }
    )


retrieve, support = _labelled(("yes", "no")), _labelled(("supported", "partially_supported", "not_supported"))
relevance = _labelled(("relevant", "partially_relevant", "irrelevant"))
reflections = st.one_of(
    st.fixed_dictionaries({"retrieve": retrieve}),
    st.fixed_dictionaries({"retrieve": retrieve, "relevance": relevance, "support": support}),
)
questions = st.fixed_dictionaries(
    {
        "answer": sentence,
        "references": st.lists(reference, min_size=1, max_size=2),
        "cited": st.just([]),
        "supporting": st.just([]),
        "abstained": st.booleans(),
        "answerable": st.booleans(),
        "retrievals": st.integers(0, 3),
        "confidence": st.sampled_from([0.1, 0.2, 0.5, 0.9]),
    }
)

ROWS = {
    "preference": pairs,
    "language_model": st.one_of(scored, answered),
    "classification": _labelled(("a", "b", "c")),
    "reflection": reflections,
    "rag": questions,
}


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_integer_weights_are_repeated_rows(name, data):
    suite = find(name)
    rows = data.draw(st.lists(ROWS[name], min_size=1, max_size=40))
    rows = [{"id": str(place), **row} for place, row in enumerate(rows)]
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    repeated = [row for row, often in zip(rows, weights, strict=True) for _ in range(often)]
    for row in rows:
        suite.check(row)
    weighted, written_out = suite.statistics(rows), suite.statistics(repeated)
    for measure, statistic in weighted.items():
        value = statistic(np.array(weights, float))
        expected = written_out[measure](None) if measure in written_out else math.nan
        assert value == pytest.approx(expected, rel=1e-7, abs=1e-9, nan_ok=True), measure
        assert statistic(None) == pytest.approx(statistic(np.ones(len(rows))), nan_ok=True)


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_order_of_rows_does_not_matter(name, data):
    suite = find(name)
    rows = data.draw(st.lists(ROWS[name], min_size=1, max_size=40))
    rows = [{"id": str(place), **row} for place, row in enumerate(rows)]
    backwards = suite.statistics(rows[::-1])
    for measure, statistic in suite.statistics(rows).items():
        assert statistic(None) == pytest.approx(backwards[measure](None), rel=1e-7, abs=1e-9, nan_ok=True), measure


@pytest.mark.parametrize("name", [*ROWS, "retrieval"])
def test_no_rows_have_no_value(name):
    suite = find(name)
    for measure, statistic in suite.statistics([]).items():
        assert math.isnan(statistic(None)), measure
        assert measure in suite.details([])["notes"]


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_all_weights_zero_have_no_value(name, data):
    row = {"id": "only", **data.draw(ROWS[name])}
    for measure, statistic in find(name).statistics([row] * 20).items():
        assert math.isnan(statistic(np.zeros(20))), measure


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_measures_are_those_of_the_table_and_finite(name, data):
    suite = find(name)
    row = {"id": "only", **data.draw(ROWS[name])}
    forms = {measure.name: measure.form for measure in SUITES[name].values()}
    values = suite.values(row)
    assert all(math.isfinite(value) for value in values.values())
    assert {forms[measure] for measure in values} <= {"outcome", "mean"}
    assert all(values[measure] in {0, 0.5, 1} for measure in values if forms[measure] == "outcome")
    assert {forms[measure] for measure in suite.statistics([row])} <= {"statistic"}
