from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, confusion_matrix, top_k_accuracy_score

from aifw.errors import InputInvalid
from aifw.evaluation.measures import SUITES
from aifw.evaluation.suites.routing import SUITE, ranked

EXPERTS = ["code", "law", "maths"]
LOAD = {"load_entropy", "max_violation", "dead_experts"}


def _row(number: int, label: str, ranking: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": f"i{number}", "label": label} | ({"ranking": ranking} if ranking else {}) | more


def _measured(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {name: statistic(None) for name, statistic in SUITE.statistics(rows).items()}


def _sent(*chosen: str) -> list[dict[str, Any]]:
    return [_row(n, "code", [name], experts=EXPERTS) for n, name in enumerate(chosen)]


ROW = _row(1, "law", ["code", "law"], quality={"code": 0.25, "law": 1.0}, embedding=[0.1, 0.2], experts=EXPERTS)


def test_every_measure_is_there() -> None:
    SUITE.check(ROW)
    assert SUITE.values(ROW) == {"routing_top_1": 0.0, "routing_top_2": 1.0, "regret": 0.75}
    assert {*SUITE.values(ROW), *SUITE.statistics([ROW])} == SUITES["routing"].keys()


scores = st.lists(st.floats(-5, 5), min_size=3, max_size=3, unique=True)


@given(st.lists(st.tuples(st.sampled_from(EXPERTS), scores), min_size=1, max_size=20))
def test_accuracies_are_those_of_scikit_learn(drawn: list[tuple[str, list[float]]]) -> None:
    rows = [_row(n, label, scores=dict(zip(EXPERTS, each, strict=True))) for n, (label, each) in enumerate(drawn)]
    values = [SUITE.values(row) for row in rows]
    labels, table = [label for label, _ in drawn], [each for _, each in drawn]
    chosen = [ranked(row)[0] for row in rows]
    assert np.mean([each["routing_top_1"] for each in values]) == pytest.approx(accuracy_score(labels, chosen))
    assert np.mean([each["routing_top_2"] for each in values]) == pytest.approx(
        top_k_accuracy_score(labels, table, k=2, labels=EXPERTS)
    )
    details = SUITE.details(rows)
    assert details["confusion"] == confusion_matrix(labels, chosen, labels=details["experts"]).tolist()


def test_a_router_that_tells_nothing_apart_is_not_right_by_chance() -> None:
    row = _row(1, "code", scores=dict.fromkeys(EXPERTS, 1 / 3))
    assert SUITE.values(row) == {"routing_top_1": 0.0, "routing_top_2": 0.0}
    tied = _row(1, "code", scores={"code": 0.5, "law": 0.5, "maths": 0.0})
    assert SUITE.values(tied) == {"routing_top_1": 0.0, "routing_top_2": 1.0}


def test_the_choice_between_equals_does_not_depend_on_the_order_in_a_file() -> None:
    tied = _row(1, "code", scores={"maths": 0.5, "code": 0.5, "law": 0.0})
    assert ranked(tied) == ranked(json.loads(json.dumps(tied, sort_keys=True))) == ["code", "maths", "law"]


def test_an_expert_that_is_not_ranked_is_not_right() -> None:
    assert SUITE.values(_row(1, "law", ["code"])) == {"routing_top_1": 0.0, "routing_top_2": 0.0}
    assert SUITE.values(_row(1, "law", scores={"code": 0.4})) == {"routing_top_1": 0.0, "routing_top_2": 0.0}


@given(st.lists(st.sampled_from(EXPERTS), min_size=3, max_size=30))
def test_load(chosen: list[str]) -> None:
    found = _measured(_sent(*chosen))
    counts = [chosen.count(name) for name in EXPERTS]
    assert found["load_entropy"] == pytest.approx(entropy(counts) / math.log(3))
    assert found["max_violation"] == pytest.approx(max(counts) / (len(chosen) / 3) - 1)
    assert found["dead_experts"] == counts.count(0)


def test_even_and_collapsed_load() -> None:
    assert _measured(_sent(*EXPERTS)) == pytest.approx({"load_entropy": 1, "max_violation": 0, "dead_experts": 0})
    assert _measured(_sent("code", "code", "code")) == pytest.approx(
        {"load_entropy": 0, "max_violation": 2, "dead_experts": 2}
    )


@given(st.lists(st.tuples(st.sampled_from(EXPERTS), st.integers(0, 4)), min_size=3, max_size=20))
def test_weights_are_repetitions(drawn: list[tuple[str, int]]) -> None:
    rows = _sent(*(name for name, _ in drawn))
    weights = np.array([weight for _, weight in drawn], float)
    repeated = [row for row, (_, weight) in zip(rows, drawn, strict=True) for _ in range(weight)]
    found = {name: statistic(weights) for name, statistic in SUITE.statistics(rows).items()}
    if len(repeated) >= len(EXPERTS):
        assert found == pytest.approx(_measured(repeated))
    if not repeated:
        assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "too few: 0 of 1"),
        (_sent("code", "law"), "too few: 2 of 3"),
        ([_row(1, "code", ["code"]), _row(2, "code", ["code"])], "there is one expert"),
    ],
)
def test_a_load_that_says_nothing_is_not_defined(rows: list[dict[str, Any]], why: str) -> None:
    assert all(math.isnan(value) for value in _measured(rows).values())
    assert {name: SUITE.details(rows)["notes"][name] for name in LOAD} == dict.fromkeys(LOAD, why)


def test_without_qualities_there_is_no_regret() -> None:
    assert SUITE.details(_sent(*EXPERTS))["notes"] == {"regret": "no item has `quality`"}


def test_that_nothing_stands_beside_is_said() -> None:
    details = SUITE.details(_sent(*EXPERTS))
    assert details["beside"] == {}
    assert "no simple router" in details["beside_note"]


def test_what_stands_beside_is_measured_alike() -> None:
    rows = [
        _row(n, name, [name], experts=EXPERTS, quality=dict.fromkeys(EXPERTS, 0.0) | {name: 1.0})
        | {"beside": {"best_single": ["law", "code", "maths"]}}
        for n, name in enumerate(EXPERTS)
    ]
    for row in rows:
        SUITE.check(row)
    details = SUITE.details(rows)
    assert details["beside"]["best_single"] == pytest.approx(
        {
            "routing_top_1": 1 / 3,
            "routing_top_2": 2 / 3,
            "regret": 2 / 3,
            "load_entropy": 0.0,
            "max_violation": 2.0,
            "dead_experts": 2.0,
        }
    )
    json.dumps(details, allow_nan=False)


def test_regret_of_one_beside_needs_the_quality_of_what_it_chose() -> None:
    rows = [
        _row(1, "code", ["code"], quality={"code": 1.0}, beside={"other": ["law"]}),
        _row(2, "law", ["law"], quality={"code": 0.0, "law": 1.0}, beside={"other": ["code"]}),
    ]
    assert SUITE.details(rows)["beside"]["other"]["regret"] is None


def test_one_beside_that_did_not_rank_all_is_refused() -> None:
    rows = [_row(1, "code", ["code"], beside={"other": ["law"]}), _row(2, "law", ["law"])]
    with pytest.raises(InputInvalid, match=r"item 'i2' has no ranking of 'other'"):
        SUITE.details(rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": None}, "`label`"),
        ({"label": ""}, "`label`"),
        ({"ranking": None}, "neither `ranking` nor `scores`"),
        ({"scores": {"code": 1.0}}, "both `ranking` and `scores`"),
        ({"ranking": []}, "`ranking`"),
        ({"ranking": "law"}, "`ranking`"),
        ({"ranking": ["law", "law"]}, "`ranking`"),
        ({"ranking": ["law", 3]}, "`ranking`"),
        ({"ranking": None, "scores": {"law": math.nan}}, "nan for 'law'"),
        ({"ranking": None, "scores": {}}, "`scores`"),
        ({"experts": ["code"]}, "'law', which is not among"),
        ({"quality": {"law": 1.0}}, "lacks the chosen expert 'code'"),
        ({"quality": {"code": math.inf}}, "inf for 'code'"),
        ({"embedding": []}, "`embedding`"),
        ({"embedding": [0.1, math.nan]}, "`embedding`"),
        ({"beside": ["law"]}, "`beside`"),
        ({"beside": {"other": ["law", "law"]}}, "`beside.other`"),
    ],
)
def test_a_bad_row_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputInvalid, match="item 'i1'") as error:
        SUITE.check(ROW | change)
    assert said in error.value.message
