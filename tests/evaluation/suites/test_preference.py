import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from aifw.errors import InputInvalid
from aifw.evaluation.suites.preference import SUITE, length_controlled, outcome, outcomes, shorter_wins
from aifw.models.score import PairScore


def _row(chosen=-4.0, rejected=-8.0, chosen_tokens=4, rejected_tokens=4, name="a"):
    return {
        "id": name,
        "chosen": chosen,
        "rejected": rejected,
        "chosen_tokens": chosen_tokens,
        "rejected_tokens": rejected_tokens,
    }


def test_per_token_and_summed_can_disagree():
    # -6 over 6 tokens is better per token than -4 over 2, and worse summed.
    row = _row(-6.0, -4.0, 6, 2)
    SUITE.check(row)
    assert SUITE.values(row) == {
        "preference_accuracy": 1.0,
        "preference_accuracy_sum": 0.0,
        "margin_per_token": 1.0,
    }


def test_a_tie_is_one_half():
    assert SUITE.values(_row(-4.0, -4.0))["preference_accuracy"] == 0.5
    assert outcome(0.0) == 0.5
    assert outcome(-1e-9) == 0.0


def test_scores_and_rows_agree():
    score = PairScore(-6.0, -4.0, 6, 2)
    values = SUITE.values(_row(-6.0, -4.0, 6, 2))
    assert outcomes(score) == {name: values[name] for name in ("preference_accuracy", "preference_accuracy_sum")}
    assert shorter_wins(score) == 0.0


def _reference(differences, wins):
    scaled = np.tanh(np.array(differences, float) / np.std(differences))
    fit = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(scaled[:, None], np.array(wins))
    return fit.predict_proba([[0.0]])[0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_win_rate_at_equal_length_agrees_with_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    differences = generator.integers(-30, 60, 400)
    wins = (generator.random(400) < 1 / (1 + np.exp(-0.4 - differences / 20))).astype(float)
    value = length_controlled(differences.tolist(), wins.tolist())(None)
    assert value == pytest.approx(_reference(differences, wins), abs=1e-6)


def test_length_alone_is_taken_out():
    # Wins follow length only; at equal length it is a coin, although far more than half are won.
    generator = np.random.default_rng(1)
    differences = generator.integers(-5, 40, 5000)
    wins = (generator.random(5000) < 1 / (1 + np.exp(-differences / 10))).astype(float)
    assert wins.mean() > 0.75
    assert length_controlled(differences.tolist(), wins.tolist())(None) == pytest.approx(0.5, abs=0.04)


def test_a_very_long_answer_does_not_break_the_fit():
    value = length_controlled([-1, 1, -1, 1, 10_000_000], [1, 1, 0, 0, 1])(None)
    assert value == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("differences", "wins"),
    [
        ([], []),
        ([3], [1.0]),
        ([-2, 0, 2, 4], [0.5, 0.5, 0.5, 0.5]),  # every item is a tie
        ([0, 0, 0, 0], [1.0, 0.0, 1.0, 1.0]),  # no difference of length
        ([5, 5, 5], [1.0, 0.0, 1.0]),
        ([-2, -1, 1, 2], [0.0, 0.0, 1.0, 1.0]),  # separated
        ([-2, 0, 0, 2], [0.0, 0.0, 1.0, 1.0]),  # touching
        ([-2, -1, 1, 2], [1.0, 1.0, 1.0, 1.0]),  # one class
        ([1, 2, 3, 4], [1.0, 0.0, 1.0, 0.0]),  # equal length is outside of what was seen
    ],
)
def test_what_has_no_fit_has_no_value(differences, wins):
    assert math.isnan(length_controlled(differences, wins)(None))


def test_details_say_why_and_how_far_length_gets():
    rows = [_row(chosen_tokens=2, name="a"), _row(chosen_tokens=4, name="b"), _row(chosen_tokens=6, name="c")]
    details = SUITE.details(rows)
    assert details["shorter_wins"] == 0.5
    assert details["mean_chosen_tokens"] == 4
    assert sum(details["margins"]["counts"]) == 3
    assert "length_controlled_win_rate" in details["notes"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chosen": None}, "`chosen`"),
        ({"rejected": math.nan}, "`rejected`"),
        ({"rejected": -math.inf}, "`rejected`"),
        ({"chosen": 12.5}, "`chosen`"),
        ({"chosen": "-4"}, "`chosen`"),
        ({"chosen_tokens": 0}, "`chosen_tokens`"),
        ({"rejected_tokens": 2.5}, "`rejected_tokens`"),
        ({"chosen_tokens": True}, "`chosen_tokens`"),
    ],
)
def test_bad_rows_are_refused_by_name(change, said):
    with pytest.raises(InputInvalid, match=said) as raised:
        SUITE.check({**_row(), **change})
    assert "'a'" in raised.value.message


def test_a_missing_field_is_refused():
    row = _row()
    del row["rejected"]
    with pytest.raises(InputInvalid, match="item 'a' has no `rejected`"):
        SUITE.check(row)
