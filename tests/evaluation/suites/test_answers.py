import pytest

from aifw.evaluation.suites.answers import contains, exact, normalised, token_f1


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The Eiffel Tower!", "eiffel tower"),
        ("  an   apple,\na day ", "apple day"),
        ("U.S.A.", "usa"),
        ("theatre and another", "theatre and another"),
        ("The?", "the?"),
        ("!!!", "!!!"),
        ("", ""),
    ],
)
def test_normalised(text, plain):
    assert normalised(text) == plain


def test_exact_against_any_reference():
    assert exact("the Cat.", ["dog", "Cat"])
    assert not exact("a cat sat", ["cat"])


def test_nothing_is_not_a_match():
    assert not exact("", ["the"])
    assert not exact("a", ["the"])
    assert not contains("anything at all", ["the"])
    assert not contains("", ["Paris"])


def test_containment_is_by_words():
    assert contains("It is Paris, I think.", ["paris"])
    assert contains("In New York City", ["New York"])
    assert not contains("comparisons", ["paris"])


def test_token_f1_takes_the_best_reference_and_counts_multisets():
    # 2 words shared, 3 said, 2 in the reference
    assert token_f1("big red cat", ["red cat", "dog"]) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert token_f1("cat cat cat", ["cat"]) == pytest.approx(0.5)
    assert token_f1("", ["cat"]) == 0.0
