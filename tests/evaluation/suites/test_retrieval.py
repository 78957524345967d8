import math

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, P, R, nDCG

from aifw.errors import InputInvalid
from aifw.evaluation.suites.retrieval import SUITE

DOCUMENTS = [f"d{place}" for place in range(12)]


@settings(max_examples=100, deadline=None)
@given(
    ranking=st.lists(st.sampled_from(DOCUMENTS), unique=True, min_size=1),
    judgements=st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 4), min_size=1).filter(
        lambda grades: any(grades.values())
    ),
    k=st.integers(1, 15),
)
def test_agrees_with_ir_measures(ranking, judgements, k):
    run = {"q": {document: float(-place) for place, document in enumerate(ranking)}}
    names = {"precision_at_k": P @ k, "recall_at_k": R @ k, "mrr": RR @ k, "ndcg_at_k": nDCG @ k}
    theirs = ir_measures.calc_aggregate(names.values(), {"q": judgements}, run)
    ours = SUITE.values({"id": "q", "ranking": ranking, "judgements": judgements, "k": k})
    assert ours == pytest.approx({name: theirs[measure] for name, measure in names.items()}, abs=1e-9)


def test_worked_by_hand():
    row = {"id": "q", "ranking": ["x", "a", "b", "c"], "judgements": {"a": 1, "b": 3, "z": 2, "x": 0}, "k": 3}
    SUITE.check(row)
    best = 3 + 2 / math.log2(3) + 1 / 2
    assert SUITE.values(row) == pytest.approx(
        {"precision_at_k": 2 / 3, "recall_at_k": 2 / 3, "mrr": 1 / 2, "ndcg_at_k": (1 / math.log2(3) + 3 / 2) / best}
    )


def test_finding_nothing_is_zero():
    row = {"id": "q", "ranking": [], "judgements": {"a": 1}, "k": 3}
    SUITE.check(row)
    assert set(SUITE.values(row).values()) == {0.0}


def test_a_query_without_relevant_documents_is_left_out_and_counted():
    row = {"id": "q", "ranking": ["a"], "judgements": {"a": 0}, "k": 3}
    SUITE.check(row)
    assert SUITE.values(row) == {}
    assert SUITE.details([row])["without_relevant"] == 1
    assert "ndcg_at_k" in SUITE.details([row])["notes"]
    other = {"id": "r", "ranking": ["a", "b"], "judgements": {"a": 1}, "k": 3}
    details = SUITE.details([row, other])
    assert details["queries"] == 2
    assert details["without_relevant"] == 1
    assert details["judged_at_k"] == 0.5
    assert details["notes"] == {}


def test_one_k_for_all_queries():
    rows = [{"id": name, "ranking": ["a"], "judgements": {"a": 1}, "k": k} for name, k in (("q", 3), ("r", 5))]
    for ask in (SUITE.statistics, SUITE.details):
        with pytest.raises(InputInvalid, match="item 'r' is 5, of item 'q' 3"):
            ask(rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ranking": None}, "`ranking`"),
        ({"ranking": "abc"}, "`ranking`"),
        ({"ranking": ["a", "b", "a"]}, "'a' twice"),
        ({"ranking": ["a", 3]}, "3, which is no text"),
        ({"judgements": None}, "`judgements`"),
        ({"judgements": {}}, "`judgements`"),
        ({"judgements": {"a": math.nan}}, "nan"),
        ({"judgements": {"a": -1}}, "-1"),
        ({"judgements": {"a": "1"}}, "'1'"),
        ({"k": 0}, "`k`"),
        ({"k": 2.0}, "`k`"),
    ],
)
def test_bad_rows_are_refused_by_name(change, said):
    with pytest.raises(InputInvalid, match=said) as raised:
        SUITE.check({"id": "q7", "ranking": ["a"], "judgements": {"a": 1}, "k": 3, **change})
    assert "q7" in raised.value.message
