"""Probabilities of both answers of every pair under a model alone: rows of suite `preference`."""

from __future__ import annotations

from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.runs import Rows
from aifw.evaluation.runs.items import Items
from aifw.evaluation.runs.side import Side, is_finite
from aifw.models.load import quiet
from aifw.models.score import PairScore, score_pairs


class PreferenceRun:
    """See the module.

    Args:
        steps: Items there are.
    """

    suites: tuple[str, ...] = ("preference",)

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.scores: dict[str, list[PairScore]] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def measure(self, side: Side, items: Items) -> None:
        """Score all pairs; scores of a model that is known are kept between runs."""
        if not items.preferences:
            raise InputInvalid(
                "suite `preference` compares two answers, conversations have one",
                hint="measure on preference pairs, or leave the suite out",
            )
        scores = self.scores[side.name] = _scores(side, items)
        for score in scores:
            if not is_finite(score.chosen, score.rejected):
                raise side.no_numbers()
        self._rows[side.name] = [
            {
                **items.identified(position),
                "chosen": score.chosen,
                "rejected": score.rejected,
                "chosen_tokens": score.chosen_tokens,
                "rejected_tokens": score.rejected_tokens,
            }
            for position, score in enumerate(scores)
        ]

    def rows(self, side: str) -> Rows:
        """Log-probabilities and lengths of both answers."""
        return {"preference": self._rows[side]}


def _scores(side: Side, items: Items) -> list[PairScore]:
    tokens = items.encoded.tokens

    def compute() -> list[list[float]]:
        with quiet():
            return [[score.chosen, score.rejected] for score in score_pairs(side.model, tokens, side.tell)]

    found = side.kept("scores", [[pair.prompt, pair.chosen, pair.rejected] for pair in tokens], compute)
    return [
        PairScore(chosen, rejected, len(pair.chosen), len(pair.rejected))
        for (chosen, rejected), pair in zip(found, tokens, strict=True)
    ]
