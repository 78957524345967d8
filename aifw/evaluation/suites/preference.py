"""Suite `preference`: does the model find the answer people chose more probable than the one they rejected?

Fields of a row:

chosen             log p(chosen | prompt) under the model, summed over the answer's tokens, in nats
rejected           log p(rejected | prompt), likewise
chosen_tokens      tokens of the chosen answer, at least 1
rejected_tokens    tokens of the rejected answer, at least 1

preference_accuracy          1 if the chosen answer has the larger log-probability per token, one half on a tie
preference_accuracy_sum      the same with the sums, which favours short answers
margin_per_token             log-probability per token of the chosen answer minus that of the rejected one
length_controlled_win_rate   the share of items won per token that is to be expected where both answers are of equal length

No reference model takes part, so the measures mean the same for every model, trained or not. Beside them stands how often the shorter
answer is the chosen one: a model that does no better than that has learned nothing but length.

The length-controlled win rate follows the idea of AlpacaEval 2 (Dubois, Galambosi, Liang and Hashimoto, 2024): a logistic regression of
the win on tanh(difference of the lengths / its standard deviation), read off at a difference of 0. The hyperbolic tangent keeps a few
very long answers from deciding. It is not defined where every item is a tie, where the lengths never differ or all differ by the same,
where length separates won from lost items (the fit has no maximum), and where no difference lies on one side of 0: equal length would
then be a guess outside of what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.fields import number, whole
from aifw.evaluation.suites.weights import Floats, weights_of

if TYPE_CHECKING:
    from aifw.models.score import PairScore

MEASURES = ("preference_accuracy", "preference_accuracy_sum")

_ROUNDING = 1e-3
_STEPS = 100
_BINS = 20
_SIDES = ("chosen", "rejected")


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


class Preference(Defaults):
    """See the module."""

    name = "preference"

    def check(self, row: Row) -> None:
        """Refuse a row without both log-probabilities and lengths, or with a log-probability above 0: a loss with the wrong sign."""
        for side in _SIDES:
            wanted = "a log-probability summed over tokens, in nats, so at most 0"
            number(row, side, wanted, most=_ROUNDING)
            whole(row, f"{side}_tokens", "the answer's number of tokens, at least 1", least=1)

    def values(self, row: Row) -> dict[str, float]:
        """Of one pair."""
        margin = _margin(row)
        return {
            "preference_accuracy": outcome(margin),
            "preference_accuracy_sum": outcome(row["chosen"] - row["rejected"]),
            "margin_per_token": margin,
        }

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """The length-controlled win rate."""
        differences = [row["chosen_tokens"] - row["rejected_tokens"] for row in rows]
        wins = [outcome(_margin(row)) for row in rows]
        return {"length_controlled_win_rate": length_controlled(differences, wins)}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """How far length alone gets, ties, and the distribution of margins."""
        if not rows:
            return {"notes": {"length_controlled_win_rate": "no items"}}
        margins = [_margin(row) for row in rows]
        counts, edges = np.histogram(margins, _BINS)
        shorter = [outcome(row["rejected_tokens"] - row["chosen_tokens"]) for row in rows]
        value = self.statistics(rows)["length_controlled_win_rate"](None)
        why = "the fit of wins on lengths is not defined: all ties, too little difference of length, or wins separated by it"
        return {
            "shorter_wins": sum(shorter) / len(rows),
            "ties": sum(margin == 0 for margin in margins),
            **{f"mean_{side}_tokens": sum(row[f"{side}_tokens"] for row in rows) / len(rows) for side in _SIDES},
            "margins": {"edges": edges.tolist(), "counts": counts.tolist()},
            "notes": {"length_controlled_win_rate": why} if math.isnan(value) else {},
        }


def length_controlled(differences: Sequence[int], wins: Sequence[float]) -> Statistic:
    """Expected share of wins at equal length; see the module for where it is not defined.

    Args:
        differences: Tokens of the chosen answer minus those of the rejected one, by item.
        wins: 1, one half or 0, by item.
    """
    # Items of the same difference are alike to the fit, so that a draw costs one pass over the items and a fit over few points.
    lengths, place = np.unique(np.asarray(differences, np.float64), return_inverse=True)
    won_by = np.asarray(wins, np.float64)
    points = len(lengths)

    def statistic(weights: Floats | None) -> float:
        each = weights_of(weights, len(won_by))
        if not (each[won_by != 0.5] > 0).any():
            return math.nan
        won, lost = (np.bincount(place, each * share, points).astype(np.float64) for share in (won_by, 1 - won_by))
        there = won + lost > 0
        return _at_equal_length(lengths[there], won[there], lost[there])

    return statistic


def _at_equal_length(lengths: Floats, won: Floats, lost: Floats) -> float:
    both = won + lost
    mean = float(both @ lengths / both.sum())
    spread = math.sqrt(float(both @ (lengths - mean) ** 2 / both.sum()))
    if not spread > 0:
        return math.nan
    scaled = np.tanh(lengths / spread)
    of_won, of_lost = scaled[won > 0], scaled[lost > 0]
    if not len(of_won) or not len(of_lost):
        return math.nan
    # A finite maximum exists exactly where the two overlap (Albert and Anderson, 1984).
    if of_won.min() >= of_lost.max() or of_lost.min() >= of_won.max() or scaled.min() > 0 or scaled.max() < 0:
        return math.nan
    intercept = _fitted_intercept(scaled, won, lost)
    return math.nan if intercept is None else 1 / (1 + math.exp(-intercept))


def _fitted_intercept(scaled: Floats, won: Floats, lost: Floats) -> float | None:
    """Intercept of the logistic regression by Newton's method, or None if it does not settle."""
    both = won + lost
    intercept = slope = 0.0

    def likelihood(intercept: float, slope: float) -> float:
        logits = intercept + slope * scaled
        return float(won @ logits - both @ np.logaddexp(0.0, logits))

    reached = likelihood(intercept, slope)
    for _ in range(_STEPS):
        share = 0.5 * (1 + np.tanh(0.5 * (intercept + slope * scaled)))
        left = won - both * share
        first, second = float(left.sum()), float(left @ scaled)
        if max(abs(first), abs(second)) <= 1e-10 * float(both.sum()):
            return intercept
        curve = both * share * (1 - share)
        zero, one, two = float(curve.sum()), float(curve @ scaled), float(curve @ scaled**2)
        determinant = zero * two - one * one
        if not determinant > 0:
            return None
        change, turn = (two * first - one * second) / determinant, (zero * second - one * first) / determinant
        # Far from the maximum a full step can overshoot; close to it rounding can hide the gain.
        scale = 1.0
        while likelihood(intercept + scale * change, slope + scale * turn) < reached - 1e-12 * abs(reached):
            scale /= 2
            if scale < 1e-9:
                return None
        intercept, slope = intercept + scale * change, slope + scale * turn
        reached = likelihood(intercept, slope)
    return None


def _margin(row: Row) -> float:
    return float(row["chosen"] / row["chosen_tokens"] - row["rejected"] / row["rejected_tokens"])


SUITE = Preference()
