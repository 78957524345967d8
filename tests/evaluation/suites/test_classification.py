import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, precision_recall_fscore_support

from aifw.errors import InputInvalid
from aifw.evaluation.suites.calibration import Calibration
from aifw.evaluation.suites.classification import SUITE
from aifw.evaluation.suites.confusion import Confusion

CLASSES = ("a", "b", "c", "d")


def _rows(count, seed=0, classes=CLASSES):
    generator = np.random.default_rng(seed)
    rows = []
    for place in range(count):
        probabilities = generator.dirichlet(np.ones(len(classes)))
        rows.append(
            {
                "id": str(place),
                "label": str(generator.choice(classes)),
                "predicted": classes[int(probabilities.argmax())],
                "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
            }
        )
    return rows


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES), st.integers(0, 3)), min_size=2, max_size=30
    ).filter(lambda rows: len({label for label, _, weight in rows if weight}) > 1)
)
def test_means_over_classes_agree_with_scikit_learn(rows):
    labels, predicted, weights = (list(column) for column in zip(*rows, strict=True))
    kept = [place for place, weight in enumerate(weights) if weight]
    expected = precision_recall_fscore_support(
        [labels[place] for place in kept],
        [predicted[place] for place in kept],
        sample_weight=[weights[place] for place in kept],
        average="macro",
        zero_division=0,
    )
    confusion = Confusion(labels, predicted)
    for score, theirs in zip(("precision", "recall", "f1"), expected, strict=False):
        assert confusion.macro(score)(np.array(weights, float)) == pytest.approx(theirs, abs=1e-12)


def test_per_class_agrees_with_scikit_learn():
    rows = _rows(200)
    labels, predicted = [row["label"] for row in rows], [row["predicted"] for row in rows]
    expected = precision_recall_fscore_support(labels, predicted, labels=list(CLASSES))
    details = SUITE.details(rows)
    for place, name in enumerate(CLASSES):
        found = details["per_class"][name]
        assert [found[score] for score in ("precision", "recall", "f1", "n")] == pytest.approx(
            [column[place] for column in expected]
        )
    assert np.sum(details["confusion"]["counts"]) == 200
    assert details["confusion"]["counts"][0][1] == sum(
        (label, said) == ("a", "b") for label, said in zip(labels, predicted, strict=True)
    )


def test_brier_agrees_with_scikit_learn():
    rows = _rows(100)
    ours = np.mean([SUITE.values(row)["brier"] for row in rows])
    given_to = np.array([[row["probabilities"][name] for name in CLASSES] for row in rows])
    theirs = brier_score_loss([row["label"] for row in rows], given_to, labels=list(CLASSES), scale_by_half=False)
    assert ours == pytest.approx(theirs)


def test_a_label_the_classifier_does_not_know_counts_as_given_nothing():
    row = {"id": "a", "label": "new", "predicted": "a", "probabilities": {"a": 1.0}}
    SUITE.check(row)
    assert SUITE.values(row) == {"accuracy": 0.0, "brier": 2.0}


def _by_array_split(confidences, right):
    order = np.argsort(confidences)
    parts = zip(np.array_split(confidences[order], 15), np.array_split(right[order], 15), strict=True)
    return sum(abs(part.mean() - truth.mean()) * len(part) for part, truth in parts) / len(order)


def test_calibration_error_is_that_of_equal_bins():
    generator = np.random.default_rng(3)
    confidences = generator.random(300)
    right = (generator.random(300) < confidences**2).astype(float)
    calibration = Calibration(confidences.tolist(), right.tolist())
    assert calibration.error() == pytest.approx(_by_array_split(confidences, right))
    bins = calibration.bins()
    assert len(bins) == 15
    assert sum(each["n"] for each in bins) == pytest.approx(300)
    assert sum(abs(each["confidence"] - each["accuracy"]) for each in bins) / 15 == pytest.approx(calibration.error())
    ordered = np.sort(confidences)
    assert [each["low"] for each in bins] == ordered[::20].tolist()
    assert [each["high"] for each in bins] == ordered[19::20].tolist()


def test_calibration_of_one_level_is_its_distance():
    right = [1.0] * 6 + [0.0] * 14
    assert Calibration([0.9] * 20, right).error() == pytest.approx(0.6)
    assert Calibration([0.3] * 20, right).error() == pytest.approx(0.0, abs=1e-12)


def test_calibration_of_fewer_items_than_bins_is_not_defined():
    calibration = Calibration([0.5] * 14, [1.0] * 14)
    assert math.isnan(calibration.error())
    assert calibration.bins() == []
    assert SUITE.details(_rows(14))["notes"]["calibration_error"] == "too few: 14 of 15"


@pytest.mark.parametrize("count", [1, 5])
def test_one_class_is_not_told_apart(count):
    rows = [{"id": str(place), "label": "a", "predicted": "a"} for place in range(count)]
    statistics = SUITE.statistics(rows)
    assert set(statistics) == {"precision_macro", "recall_macro", "f1_macro"}
    assert all(math.isnan(statistic(None)) for statistic in statistics.values())
    assert "1 class" in SUITE.details(rows)["notes"]["f1_macro"]


def test_probabilities_for_some_items_only_are_refused():
    rows = _rows(20)
    del rows[3]["probabilities"]
    with pytest.raises(InputInvalid, match="item '3' has no `probabilities`, 19 of 20"):
        SUITE.statistics(rows)


def test_many_classes_show_their_mistakes_only():
    labels = [str(place) for place in range(60)] * 2
    table = Confusion(labels, [*labels[:-3], "0", "0", "0"]).table()
    assert table["classes"] == 60
    assert len(table["mistakes"]) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": None}, "`label`"),
        ({"label": 3}, "`label`"),
        ({"predicted": ""}, "`predicted`"),
        ({"probabilities": [0.5, 0.5]}, "`probabilities`"),
        ({"probabilities": {}}, "`probabilities`"),
        ({"probabilities": {"a": 0.5, "b": 0.4}}, "sum to 0.9"),
        ({"probabilities": {"a": math.nan, "b": 0.4}}, "nan for 'a'"),
        ({"probabilities": {"a": 1.5, "b": -0.5}}, "1.5 for 'a'"),
        ({"probabilities": {"a": True}}, "True for 'a'"),
        ({"probabilities": {"b": 1.0}}, "none for the predicted class 'a'"),
    ],
)
def test_bad_rows_are_refused_by_name(change, said):
    with pytest.raises(InputInvalid, match=said) as raised:
        SUITE.check({"id": "q7", "label": "b", "predicted": "a", **change})
    assert "q7" in raised.value.message
