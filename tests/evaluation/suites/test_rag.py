import itertools
import math

import numpy as np
import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.suites.rag import SUITE
from aifw.evaluation.suites.risk_coverage import RiskCoverage


def _row(**change):
    return {
        "id": "q7",
        "answer": "It is Paris.",
        "references": ["Paris"],
        "cited": ["c1", "c2", "c2"],
        "supporting": ["c1", "c3", "c4"],
        "abstained": False,
        "answerable": True,
        "retrievals": 2,
        **change,
    }


def test_an_answer_with_sources():
    row = _row()
    SUITE.check(row)
    assert SUITE.values(row) == pytest.approx(
        {
            "answer_match": 1.0,
            "citation_precision": 1 / 2,
            "citation_recall": 1 / 3,
            "abstention_rate": 0.0,
            "abstention_accuracy": 1.0,
            "retrievals": 2.0,
        }
    )


def test_withholding_an_answer_that_exists_earns_nothing():
    values = SUITE.values(_row(abstained=True))
    assert values["answer_match"] == 0
    assert values["citation_precision"] == values["citation_recall"] == 0
    assert values["abstention_accuracy"] == 0


def test_a_question_without_answer_asks_only_for_abstention():
    row = _row(answerable=False, references=[], supporting=[])
    SUITE.check(row)
    assert SUITE.values(row) == {"abstention_rate": 0.0, "abstention_accuracy": 0.0, "retrievals": 2.0}
    assert SUITE.values({**row, "abstained": True})["abstention_accuracy"] == 1.0


def test_citing_nothing_supports_nothing():
    values = SUITE.values(_row(cited=[]))
    assert values["citation_precision"] == values["citation_recall"] == 0
    assert "citation_precision" not in SUITE.values(_row(supporting=[]))


def _area(confidences, wrong):
    """Mean risk over all coverages and all orders of ties, written out."""
    areas = []
    for order in itertools.permutations(range(len(wrong))):
        if all(confidences[one] >= confidences[other] for one, other in itertools.pairwise(order)):
            found = np.cumsum([wrong[place] for place in order]) / np.arange(1, len(wrong) + 1)
            areas.append(found.mean())
    return np.mean(areas)


@pytest.mark.parametrize("seed", range(10))
def test_area_is_the_mean_over_coverages_and_orders_of_ties(seed):
    generator = np.random.default_rng(seed)
    confidences = [0.0, *generator.integers(0, 4, 6).tolist(), 3.0]
    wrong = generator.integers(0, 2, 8).astype(float).tolist()
    assert RiskCoverage(confidences, wrong).area() == pytest.approx(_area(confidences, wrong))


def test_a_perfect_order_has_the_smallest_area():
    wrong = [0.0, 0.0, 0.0, 1.0]
    curve = RiskCoverage([4, 3, 2, 1], wrong).curve()
    assert curve["risk"] == pytest.approx([0, 0, 0, 0.25])
    assert curve["coverage"] == [0.25, 0.5, 0.75, 1]
    assert curve["area"] == curve["area_perfect"] == pytest.approx(0.25 / 4)
    assert curve["area_random"] == 0.25
    assert RiskCoverage([1, 2, 3, 4], wrong).area() == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_a_curve_of_many_items_has_a_hundred_points():
    generator = np.random.default_rng(0)
    confidences = generator.random(1000)
    wrong = (generator.random(1000) > confidences).astype(float)
    curve = RiskCoverage(confidences.tolist(), wrong.tolist()).curve()
    assert len(curve["coverage"]) == len(curve["risk"]) == 100
    assert curve["risk"][-1] == pytest.approx(wrong.mean())
    assert curve["area_perfect"] < curve["area"] < curve["area_random"]


@pytest.mark.parametrize(("confidences", "wrong"), [([], []), ([0.3], [0.0]), ([0.3, 0.3, 0.3], [0.0, 1.0, 0.0])])
def test_nothing_sorted_has_no_area(confidences, wrong):
    curve = RiskCoverage(confidences, wrong)
    assert math.isnan(curve.area())
    assert curve.curve().get("area") is None


def test_abstaining_does_not_make_the_area_smaller():
    answers = [_row(id="a", confidence=0.9), _row(id="b", confidence=0.5, answer="Rome"), _row(id="c", confidence=0.1)]
    for place, row in enumerate(answers):
        withheld, least = (
            SUITE.statistics([*answers[:place], {**row, **change}, *answers[place + 1 :]])["risk_coverage_area"](None)
            for change in ({"abstained": True}, {"confidence": -1.0})
        )
        # The second answer is wrong either way.
        assert withheld == least if row["id"] == "b" else withheld > least
    # The wrong answer comes last, where it costs least, but still counts.
    assert SUITE.statistics([answers[0], {**answers[1], "abstained": True}])["risk_coverage_area"](None) == 0.25


def test_details():
    rows = [
        _row(id="a", confidence=0.9),
        _row(id="b", confidence=0.5, answer="paris", cited=[]),
        _row(id="c", confidence=0.5, abstained=True),
        _row(id="d", confidence=0.1, answerable=False, supporting=[]),
    ]
    details = SUITE.details(rows)
    assert details["abstention"] == {
        "answerable": {"answered": 2, "abstained": 1},
        "unanswerable": {"answered": 1, "abstained": 0},
    }
    assert details["exact_match"] == pytest.approx(1 / 3)
    assert details["match_where_answered"] == 1
    assert details["answers_without_citation"] == 1
    assert details["citations_counted"] == 3
    assert details["risk_coverage"]["area"] == pytest.approx(SUITE.statistics(rows)["risk_coverage_area"](None))
    assert details["notes"] == {}


def test_what_is_not_defined_is_noted():
    notes = SUITE.details([_row(answerable=False, supporting=[])])["notes"]
    assert set(notes) == {"answer_match", "citation_precision", "citation_recall", "risk_coverage_area"}
    assert SUITE.details([_row(confidence=1.0)])["notes"]["risk_coverage_area"] == "all confidences are the same"


def test_confidence_for_some_items_only_is_refused():
    with pytest.raises(InputInvalid, match="item 'b' has no `confidence`, 1 of 2"):
        SUITE.statistics([_row(id="a", confidence=0.9), _row(id="b")])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": None}, "`answer`"),
        ({"references": []}, "answerable and has no `references`"),
        ({"references": [""]}, "`references`"),
        ({"cited": None}, "`cited`"),
        ({"cited": [3]}, "`cited`"),
        ({"supporting": "c1"}, "`supporting`"),
        ({"abstained": 0}, "`abstained`"),
        ({"answerable": "yes"}, "`answerable`"),
        ({"retrievals": -1}, "`retrievals`"),
        ({"retrievals": 1.5}, "`retrievals`"),
        ({"confidence": math.nan}, "`confidence`"),
        ({"confidence": "high"}, "`confidence`"),
    ],
)
def test_bad_rows_are_refused_by_name(change, said):
    with pytest.raises(InputInvalid, match=said) as raised:
        SUITE.check(_row(**change))
    assert "q7" in raised.value.message
