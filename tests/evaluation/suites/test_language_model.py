import math
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu

from aifw.errors import InputInvalid
from aifw.evaluation.suites.language_model import SUITE

ANSWERS = [
    ("the cat sat on the mat today", ["a cat sat on the mat today", "there is a cat on the mat"]),
    ("two dogs are sleeping under the tree", ["two dogs sleep under the old tree"]),
    ("it rained, and nobody minded.", ["It rained and nobody minded it.", "Nobody minded the rain.", "rain"]),
    ("", ["an answer was expected here"]),
]


def _answered(pairs=ANSWERS):
    return [
        {"id": str(place), "answer": answer, "references": references}
        for place, (answer, references) in enumerate(pairs)
    ]


def _streams(pairs):
    most = max(len(references) for _, references in pairs)
    return [
        [references[place] if place < len(references) else None for _, references in pairs] for place in range(most)
    ]


def test_perplexity_is_per_token():
    rows = [{"id": "a", "log_probability": -2.0, "tokens": 1}, {"id": "b", "log_probability": -7.0, "tokens": 8}]
    perplexity = SUITE.statistics(rows)["perplexity"]
    assert perplexity(None) == pytest.approx(math.exp(9 / 9))
    assert perplexity(np.array([1.0, 0.0])) == pytest.approx(math.exp(2))


def test_perplexity_too_large_for_a_float_is_none():
    rows = [{"id": "a", "log_probability": -1e6, "tokens": 1}]
    assert math.isnan(SUITE.statistics(rows)["perplexity"](None))


def test_bleu_is_that_of_sacrebleu():
    expected = corpus_bleu([answer for answer, _ in ANSWERS], _streams(ANSWERS)).score
    assert SUITE.statistics(_answered())["bleu"](None) == pytest.approx(expected, rel=1e-12)
    assert expected > 5


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("abc .,", max_size=30), st.lists(st.text("abc", min_size=4, max_size=4), min_size=1, max_size=3)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_bleu_agrees_with_sacrebleu_wherever_it_is_defined(pairs):
    pairs = [(answer, [f"{reference} a b c" for reference in references]) for answer, references in pairs]
    expected = corpus_bleu([answer for answer, _ in pairs], _streams(pairs), force=True).score
    assert SUITE.statistics(_answered(pairs))["bleu"](None) == pytest.approx(expected, rel=1e-9)


def test_bleu_of_single_words_is_not_defined():
    rows = _answered([("cat", ["cat"]), ("dog", ["a dog"])])
    assert math.isnan(SUITE.statistics(rows)["bleu"](None))
    assert SUITE.details(rows)["notes"]["bleu"]


def test_empty_answers_to_long_references_are_worth_nothing():
    assert SUITE.statistics(_answered(ANSWERS[3:]))["bleu"](None) == 0.0


def test_the_signature_says_how_many_references():
    assert "nrefs:var" in SUITE.details(_answered())["bleu_signature"]
    assert "nrefs:1|" in SUITE.details(_answered(ANSWERS[1:2]))["bleu_signature"]
    assert "eff:no" in SUITE.details(_answered())["bleu_signature"]


@settings(max_examples=50, deadline=None)
@given(
    answer=st.text(string.printable, max_size=60),
    reference=st.text(string.printable, max_size=60).map(lambda text: text + " word"),
)
def test_rouge_is_that_of_rouge_score_on_ascii(answer, reference):
    values = SUITE.values({"id": "a", "answer": answer, "references": [reference]})
    expected = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, answer)
    assert values["rouge_1"] == expected["rouge1"].fmeasure
    assert values["rouge_2"] == expected["rouge2"].fmeasure
    assert values["rouge_l"] == expected["rougeL"].fmeasure


def test_rouge_reads_other_scripts():
    values = SUITE.values({"id": "a", "answer": "Кошка сидит дома", "references": ["кошка сидит на окне"]})
    assert values["rouge_1"] == pytest.approx(4 / 7)


def test_rouge_of_a_reference_without_words_is_not_there():
    values = SUITE.values({"id": "a", "answer": "?!", "references": ["?!"]})
    assert values == {"exact_match": 1.0, "token_f1": 1.0}


def test_only_what_the_rows_have_is_measured():
    scored, answered = {"id": "a", "log_probability": -2.0, "tokens": 1}, _answered()[0]
    assert SUITE.values(scored) == {}
    assert set(SUITE.statistics([scored])) == {"perplexity"}
    assert set(SUITE.statistics([answered])) == {"bleu"}
    both = SUITE.statistics([scored, answered])
    assert both["perplexity"](None) == pytest.approx(math.exp(2))
    assert both["bleu"](None) == pytest.approx(corpus_bleu([ANSWERS[0][0]], [[each] for each in ANSWERS[0][1]]).score)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "neither"),
        ({"log_probability": -1.0}, "no `tokens`"),
        ({"tokens": 3}, "no `log_probability`"),
        ({"log_probability": math.nan, "tokens": 3}, "`log_probability`"),
        ({"log_probability": 3.2, "tokens": 3}, "`log_probability`"),
        ({"log_probability": -3.2, "tokens": 0}, "`tokens`"),
        ({"answer": "x"}, "no `references`"),
        ({"references": ["x"]}, "no `answer`"),
        ({"answer": 3, "references": ["x"]}, "`answer`"),
        ({"answer": "x", "references": []}, "`references`"),
        ({"answer": "x", "references": "x"}, "`references`"),
        ({"answer": "x", "references": ["y", " "]}, "`references`"),
        ({"answer": "x", "references": ["y", None]}, "`references`"),
    ],
)
def test_bad_rows_are_refused_by_name(row, said):
    with pytest.raises(InputInvalid, match=said) as raised:
        SUITE.check({"id": "q7", **row})
    assert "q7" in raised.value.message
