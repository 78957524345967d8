"""The simple routers a learned one has to beat: logistic regression and nearest neighbours on the same embeddings, always the one
expert that was best in training, and chance.

None of them sees the test rows' labels or qualities. Embeddings are standardised by the training rows.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aifw.errors import InputInvalid
from aifw.evaluation.suites import Row
from aifw.evaluation.suites.fields import has, item

NEIGHBOURS = 10

_KEPT = ("id", "group", "label", "quality", "embedding", "experts")
"""Fields of a row that are the item's and not a router's."""


def baselines(training: Sequence[Row], test: Sequence[Row], seed: int) -> dict[str, list[dict[str, Any]]]:
    """Rows as simple routers would have answered them.

    Args:
        training: Rows with `label`, and `embedding` for the routers that learn from it.
        test: Rows to route.
        seed: Of chance.

    Returns:
        By name of the router, `logistic_regression`, `nearest_neighbours`, `best_single` and `random`: the test rows with its
        ranking. Without embeddings, the latter two.

    Raises:
        InputInvalid: There is nothing to learn from, an item is on both sides, or embeddings differ in length or are only in some.
    """
    if not training:
        raise InputInvalid(
            "there are no training rows for the simple routers", hint="give some with label and embedding"
        )
    both = {str(row["id"]) for row in training if "id" in row}.intersection(
        str(row["id"]) for row in test if "id" in row
    )
    if both:
        raise InputInvalid(f"item {min(both)!r} is both in the training rows and in the test rows")
    experts = sorted({str(name) for row in (*training, *test) for name in _named(row)})
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    rankings = {
        "best_single": [_best_first(training, experts)] * len(test),
        "random": [chance.sample(experts, len(experts)) for _ in test],
    }
    if any(has(row, "embedding") for row in (*training, *test)):
        rankings = _learned(training, test, experts) | rankings
    return {
        name: [
            {field: row[field] for field in _KEPT if field in row} | {"experts": experts, "ranking": ranking}
            for row, ranking in zip(test, each, strict=True)
        ]
        for name, each in rankings.items()
    }


def beside(rows: Sequence[Row], others: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """The rows with the rankings of other routers in `beside`, so that a report shows these next to the router.

    All get the same `experts`, so that the load of each router is measured against as many.

    Args:
        rows: Of the router.
        others: What `baselines` gave for the same rows, in the same order.
    """
    experts = sorted(set().union(*(_named(row) for each in (rows, *others.values()) for row in each)))
    return [
        {**row, "experts": experts, "beside": {name: each[at]["ranking"] for name, each in others.items()}}
        for at, row in enumerate(rows)
    ]


def _named(row: Row) -> set[str]:
    return {row["label"], *(row.get("ranking") or ()), *(row.get("scores") or ()), *(row.get("experts") or ())}.union(
        row.get("quality") or ()
    )


def _best_first(training: Sequence[Row], experts: Sequence[str]) -> list[str]:
    """Experts by mean quality where every training row tells it of all, else by how often they are the label."""
    if all(has(row, "quality") and {*experts} <= {*row["quality"]} for row in training):
        worth: dict[str, float] = defaultdict(float)
        for row in training:
            for name in experts:
                worth[name] += row["quality"][name]
    else:
        worth = {**Counter(row["label"] for row in training)}
    return sorted(experts, key=lambda name: (-worth.get(name, 0), name))


def _learned(training: Sequence[Row], test: Sequence[Row], experts: Sequence[str]) -> dict[str, list[list[str]]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen, asked = _matrix(training, None), _matrix(test, len(training[0].get("embedding") or ()))
    labels = [str(row["label"]) for row in training]
    usual = _best_first(training, experts)
    if len({*labels}) == 1:
        # Whatever learns from one label says this one.
        return {name: [usual] * len(test) for name in ("logistic_regression", "nearest_neighbours")}
    if not test:
        return {"logistic_regression": [], "nearest_neighbours": []}
    near = KNeighborsClassifier(n_neighbors=min(NEIGHBOURS, len(training)), weights="distance")
    models = {"logistic_regression": LogisticRegression(max_iter=2000), "nearest_neighbours": near}
    rankings = {}
    for name, model in models.items():
        fitted = make_pipeline(StandardScaler(), model).fit(seen, labels)
        shares = fitted.predict_proba(asked)
        classes = [str(each) for each in fitted.classes_]
        rankings[name] = [_ranking(dict(zip(classes, row, strict=True)), usual) for row in shares.tolist()]
    return rankings


def _ranking(shares: Mapping[str, float], usual: Sequence[str]) -> list[str]:
    """Most probable first; between equals, what is more often right in training."""
    return sorted(usual, key=lambda name: -shares.get(name, 0.0))


def _matrix(rows: Sequence[Row], width: int | None) -> npt.NDArray[np.float64]:
    for row in rows:
        length = len(row.get("embedding") or ())
        width = length if width is None else width
        if not length or length != width:
            raise InputInvalid(
                f"`embedding` of {item(row)} has {length} numbers, that of others {width}",
                hint="every row of a router's data needs an embedding of the same model, or none does",
            )
    return np.asarray([row["embedding"] for row in rows], np.float64).reshape(len(rows), width or 0)
