import math

import pytest
from sklearn.metrics import f1_score

from aifw.errors import InputInvalid
from aifw.evaluation.suites.reflection import JUDGEMENTS, SUITE


def _judged(label, predicted, probabilities=None):
    judgement = {"label": label, "predicted": predicted}
    return judgement if probabilities is None else {**judgement, "probabilities": probabilities}


SUPPORT = [
    ("supported", "supported"),
    ("supported", "partially_supported"),
    ("partially_supported", "partially_supported"),
    ("not_supported", "not_supported"),
    ("not_supported", "supported"),
]


def _rows():
    return [{"id": str(place), "support": _judged(*pair)} for place, pair in enumerate(SUPPORT)]


def test_an_item_is_measured_on_the_judgements_it_has():
    row = {"id": "a", "retrieve": _judged("yes", "yes"), "utility": _judged("5", "3")}
    SUITE.check(row)
    assert SUITE.values(row) == {"retrieve_accuracy": 1.0, "utility_accuracy": 0.0}


def test_macro_f1_agrees_with_scikit_learn():
    # The item without the judgement changes nothing.
    rows = [{"id": "other", "retrieve": _judged("yes", "no")}, *_rows()]
    labels, predicted = zip(*SUPPORT, strict=True)
    statistics = SUITE.statistics(rows)
    assert set(statistics) == {"support_f1"}
    assert statistics["support_f1"](None) == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_details_of_each_judgement():
    details = SUITE.details([*_rows(), {"id": "u", "utility": _judged("5", "3")}])
    assert set(details["judgements"]) == {"support", "utility"}
    support = details["judgements"]["support"]
    assert support["n"] == 5
    assert support["confusion"]["labels"] == ["not_supported", "partially_supported", "supported"]
    assert support["confusion"]["counts"] == [[1, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert support["calibration_error"] is None
    assert details["judgements"]["utility"]["mean_absolute_error"] == 2
    assert details["judgements"]["utility"]["f1_macro"] is None
    assert details["notes"]["relevance_f1"] == "no item has `relevance`"
    assert details["notes"]["reflection_calibration_error"] == "no judgement has `probabilities`"


def test_calibration_takes_all_judgements_together():
    sure = {"yes": 0.75, "no": 0.25}
    rows = [{"id": str(place), "retrieve": _judged("yes", "yes", sure)} for place in range(12)]
    for place in range(4):
        rows[place]["support"] = _judged("supported", "not_supported", {"not_supported": 0.75, "supported": 0.25})
    # 16 judgements at 0.75, of which 12 are right
    assert SUITE.statistics(rows)["reflection_calibration_error"](None) == pytest.approx(0.0, abs=1e-12)
    details = SUITE.details(rows)
    assert len(details["reliability"]) == 15
    assert details["judgements"]["retrieve"]["calibration_error"] is None  # 12 are too few
    assert "reflection_calibration_error" not in details["notes"]


def test_too_few_or_one_class_are_not_defined():
    rows = [{"id": "a", "relevance": _judged("relevant", "relevant", {"relevant": 1.0})}]
    for statistic in SUITE.statistics(rows).values():
        assert math.isnan(statistic(None))
    notes = SUITE.details(rows)["notes"]
    assert "1 class" in notes["relevance_f1"]
    assert notes["reflection_calibration_error"] == "too few: 1 of 15"


def test_probabilities_for_some_items_only_are_refused():
    rows = [
        {"id": "a", "retrieve": _judged("yes", "yes", {"yes": 1.0})},
        {"id": "b", "retrieve": _judged("yes", "yes")},
    ]
    with pytest.raises(InputInvalid, match=r"item 'b' has no `retrieve\.probabilities`, 1 of 2"):
        SUITE.statistics(rows)


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_every_class_is_accepted(name):
    for label in JUDGEMENTS[name]:
        SUITE.check({"id": "a", name: _judged(label, label, {label: 1.0})})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "no judgement"),
        ({"retrieve": "yes"}, "`retrieve`"),
        ({"retrieve": {"label": "yes"}}, "no `retrieve.predicted`"),
        ({"retrieve": _judged("yes", "maybe")}, "`retrieve.predicted`"),
        ({"utility": _judged(5, "5")}, "`utility.label`"),
        ({"utility": _judged("6", "5")}, "`utility.label`"),
        ({"retrieve": _judged("yes", "yes", {"yes": 0.5})}, "`retrieve.probabilities` .* sum to 0.5"),
        ({"retrieve": _judged("yes", "yes", {"yes": 0.5, "maybe": 0.5})}, "'maybe'"),
        ({"retrieve": _judged("yes", "yes", {"yes": math.nan, "no": 0.5})}, "nan"),
    ],
)
def test_bad_rows_are_refused_by_name(row, said):
    with pytest.raises(InputInvalid, match=said) as raised:
        SUITE.check({"id": "q7", **row})
    assert "q7" in raised.value.message
