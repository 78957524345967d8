"""Suite `preference`: does the model find the answer people chose more probable than the one they rejected?

An item counts 1 if log p(chosen | prompt) > log p(rejected | prompt) under the model alone, one half on a tie. No reference model
takes part, so the measure means the same for every model, trained or not. Two forms: per token, which a gate uses, and summed over
the tokens, which favours short answers. Beside them stands how often the shorter answer is the chosen one: a model that does no
better than that has learned nothing but length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aifw.models.score import PairScore
from aifw.statistics import wilson

MEASURES = ("preference_accuracy", "preference_accuracy_sum")


def outcome(margin: float) -> float:
    """1 if the chosen answer is ahead, 0 if it is behind, one half on a tie."""
    return 0.5 if margin == 0 else float(margin > 0)


def outcomes(score: PairScore) -> dict[str, float]:
    """Outcome of one item by measure."""
    return {
        "preference_accuracy": outcome(score.margin_per_token),
        "preference_accuracy_sum": outcome(score.margin),
    }


def shorter_wins(score: PairScore) -> float:
    """1 if the chosen answer has fewer tokens, one half if both have as many."""
    return outcome(score.rejected_tokens - score.chosen_tokens)


def item(score: PairScore) -> dict[str, Any]:
    """What is kept of one item under one model."""
    return {"chosen": score.chosen, "rejected": score.rejected, **outcomes(score)}


def summary(items: Sequence[Mapping[str, Any]], side: str) -> dict[str, Any]:
    """Means over items, with Wilson intervals.

    Args:
        items: Rows of `items.jsonl`.
        side: `subject` or `baseline`.
    """
    measures: dict[str, Any] = {}
    for name in MEASURES:
        total, count = sum(row[side][name] for row in items), len(items)
        interval = wilson(total, count)
        measures[name] = {"value": total / count, "low": interval.low, "high": interval.high, "n": count}
    margins = [
        row[side]["chosen"] / row["chosen_tokens"] - row[side]["rejected"] / row["rejected_tokens"] for row in items
    ]
    measures["margin_per_token"] = {"value": _mean(margins), "n": len(items)}
    return measures


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
