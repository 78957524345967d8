from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.suites.routing import SUITE
from aifw.evaluation.suites.routing_baselines import baselines, beside

EXPERTS = ["code", "law", "maths"]
NAMES = {"logistic_regression", "nearest_neighbours", "best_single", "random"}


def _rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Three clouds, one for each expert, of which maths is the most frequent."""
    source = np.random.default_rng(start)
    rows = []
    for number in range(start, start + count):
        kind = [0, 1, 2, 2][number % 4]
        rows.append(
            {
                "id": f"i{number}",
                "group": f"g{number // 2}",
                "label": EXPERTS[kind],
                "embedding": (source.normal(0, 0.3, 4) + np.eye(4)[kind] * 3).tolist(),
                "quality": {name: float(name == EXPERTS[kind]) for name in EXPERTS},
            }
        )
    return rows


def _top_1(rows: list[dict[str, Any]]) -> float:
    return float(np.mean([SUITE.values(row)["routing_top_1"] for row in rows]))


def test_what_can_be_learned_is() -> None:
    test = _rows(80, 1000)
    found = baselines(_rows(120), test, seed=1)
    assert found.keys() == NAMES
    for rows in found.values():
        assert [(row["id"], row["group"], row["label"]) for row in rows] == [
            (row["id"], row["group"], row["label"]) for row in test
        ]
        for row in rows:
            SUITE.check(row)
    assert _top_1(found["logistic_regression"]) == 1.0
    assert _top_1(found["nearest_neighbours"]) == 1.0
    assert _top_1(found["best_single"]) == 0.5
    assert 0.1 < _top_1(found["random"]) < 0.6


def test_chance_is_seeded() -> None:
    training, test = _rows(12), _rows(20, 1000)
    first, again, other = (baselines(training, test, seed)["random"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_labels_and_qualities_of_the_test_rows_are_not_seen() -> None:
    training, test = _rows(40), _rows(20, 1000)
    changed = [row | {"label": "code", "quality": dict.fromkeys(EXPERTS, 0.0)} for row in test]
    one, other = baselines(training, test, 1), baselines(training, changed, 1)
    for name in NAMES:
        assert [row["ranking"] for row in one[name]] == [row["ranking"] for row in other[name]]


def test_the_best_single_expert_is_the_one_that_was_worth_most() -> None:
    training = [row | {"quality": {"code": 0.9, "law": 0.1, "maths": 0.2}} for row in _rows(8)]
    assert baselines(training, _rows(4, 1000), 1)["best_single"][0]["ranking"] == ["code", "maths", "law"]
    unjudged = [{key: value for key, value in row.items() if key != "quality"} for row in training]
    assert baselines(unjudged, _rows(4, 1000), 1)["best_single"][0]["ranking"][0] == "maths"


def test_without_embeddings_there_is_what_needs_none() -> None:
    bare = [
        [{key: value for key, value in row.items() if key != "embedding"} for row in rows]
        for rows in (_rows(8), _rows(4, 1000))
    ]
    assert baselines(bare[0], bare[1], 1).keys() == {"best_single", "random"}


def test_one_label_only_is_what_is_learned() -> None:
    training = [row | {"label": "law"} for row in _rows(8)]
    found = baselines([{k: v for k, v in row.items() if k != "quality"} for row in training], _rows(4, 1000), 1)
    assert {row["ranking"][0] for row in found["logistic_regression"]} == {"law"}
    assert {row["ranking"][0] for row in found["nearest_neighbours"]} == {"law"}


def test_one_training_row_for_each_expert_is_enough_to_try() -> None:
    assert baselines(_rows(3), _rows(8, 1000), 1).keys() == NAMES


def test_nothing_to_route_is_routed() -> None:
    assert baselines(_rows(8), [], 1) == {name: [] for name in NAMES}


def test_columns_beside_the_router() -> None:
    test = _rows(40, 1000)
    router = [row | {"ranking": ["law", "code", "maths"]} for row in test]
    rows = beside(router, baselines(_rows(60), test, 1))
    for row in rows:
        SUITE.check(row)
    columns = SUITE.details(rows)["beside"]
    assert columns.keys() == NAMES
    assert columns["logistic_regression"]["routing_top_1"] == 1.0
    assert columns["best_single"]["regret"] == 0.5
    assert columns["best_single"]["dead_experts"] == 2.0


def test_an_item_on_both_sides_is_refused() -> None:
    with pytest.raises(InputInvalid, match=r"item 'i3' is both"):
        baselines(_rows(8), _rows(8)[3:4], 1)


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(InputInvalid, match="no training rows"):
        baselines([], _rows(2), 1)


@pytest.mark.parametrize("embedding", [None, [0.1, 0.2]])
def test_embeddings_of_another_length_are_refused_by_name(embedding: list[float] | None) -> None:
    test = _rows(3, 1000)
    test[1]["embedding"] = embedding
    with pytest.raises(InputInvalid, match=r"`embedding` of item 'i1001' has [02] numbers, that of others 4"):
        baselines(_rows(8), test, 1)
