"""Evaluations as `evaluate` writes them, from outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aifw.evaluation import report
from aifw.job import Input

QUIET: dict[str, Any] = {
    "time": "2026-01-02T03:04:05Z",
    "aifw": "0.1.0",
    "python": "3.11.7",
    "packages": {},
    "hardware": {"processor": "any", "cores": 2, "memory": 1, "devices": ["cpu"]},
    "threads": 1,
    "device": "cpu",
    "seed": 0,
    "spec": None,
    "contention": {
        "before": {"cpu": 0.0, "memory": 0.0, "io": 0.0},
        "after": {"cpu": 0.0, "memory": 0.0, "io": 0.0},
        "contended": False,
    },
}


def preference_row(item: str, outcome: float, group: str | None = None) -> dict[str, Any]:
    """A row of suite `preference` that comes to an outcome."""
    chosen = {1.0: -1.0, 0.5: -2.0, 0.0: -3.0}[outcome]
    return {
        "id": item,
        "group": group or item,
        "chosen": 10 * chosen,
        "rejected": -20.0,
        "chosen_tokens": 10,
        "rejected_tokens": 10,
    }


def preference_rows(outcomes: Sequence[float], groups: int | None = None) -> list[dict[str, Any]]:
    """Rows of suite `preference`; `groups` puts items together in turn."""
    return [
        preference_row(f"i{number:04}", outcome, None if groups is None else f"g{number % groups:04}")
        for number, outcome in enumerate(outcomes)
    ]


def write(
    folder: Path,
    rows: Mapping[str, tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]] | None]],
    *,
    observed: Any = None,
    baseline: str | None = "old",
    contended: bool = False,
    data: str = "data-digest",
) -> Input:
    """An evaluation in a folder. `rows` are those of the subject and of the baseline, by suite."""
    folder.mkdir(parents=True)
    environment = {**QUIET, "contention": {**QUIET["contention"], "contended": contended}}
    built, items = report.build(
        subject={"address": "stages.dpo", "digest": "new", "name": "dpo"},
        baseline=None if baseline is None else {"address": "@champion", "digest": baseline, "name": "base"},
        data={"address": "datasets.pairs", "digest": data, "name": "pairs"},
        settings={},
        rows=rows,
        environment=environment,
        observed=observed,
    )
    report.write(folder, built, items)
    return Input("stages.check", folder, {"data": data, "sketch": built["data"]["sketch"]})
