import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.models.answer_score import likeness, score_answer, variety

TEXTS = st.text("ab c", max_size=40)


def test_every_part_counts_a_quarter():
    best = score_answer("turn it off", "Turn it off!", log_probability=0.0, tokens=4, ended=True)
    assert best.value == 1.0
    cut = score_answer("turn it off", "Turn it off!", log_probability=0.0, tokens=4, ended=False)
    assert cut.value == 0.75
    unlike = score_answer("turn it off", "pumps", log_probability=4 * math.log(0.5), tokens=4, ended=True)
    assert (unlike.fluency, unlike.likeness) == (pytest.approx(0.5), 0.0)
    assert unlike.value == pytest.approx((0.5 + 1 + 1 + 0) / 4)


def test_length_alone_changes_no_fluency():
    short = score_answer("a", "b", log_probability=-2.0, tokens=4, ended=True)
    long = score_answer("a", "b", log_probability=-20.0, tokens=40, ended=True)
    assert short.fluency == pytest.approx(long.fluency)


def test_repetition_costs():
    assert variety("one two three four five six") == 1.0
    assert variety("yes " * 30) == pytest.approx(1 / 28)
    assert variety("") == variety("two words") == 1.0


def test_likeness_is_the_f1_of_words():
    assert likeness("the pump is off", "The pump!") == pytest.approx(2 * 2 / 6)
    assert likeness("yes yes yes", "yes") == pytest.approx(2 / 4)
    assert likeness("", "") == 0.0


@given(TEXTS, TEXTS, st.floats(-1e6, 1e-9), st.integers(1, 100), st.booleans())
def test_a_score_is_between_zero_and_one(text, liked, total, tokens, ended):
    assert 0 <= score_answer(text, liked, log_probability=total, tokens=tokens, ended=ended).value <= 1
    assert likeness(text, liked) == likeness(liked, text)
