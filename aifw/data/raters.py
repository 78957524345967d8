"""How reliable each rater is, from how far raters agree with each other: nobody knows the truth.

The method is Dawid and Skene's (1979, "Maximum likelihood estimation of observer error-rates using the EM algorithm") with one number a
rater, the probability of being right whichever answer is better, and a Beta prior on it (Raykar et al., 2010, "Learning from crowds").
In turns, the probability that an answer is the better one follows from the votes and their reliabilities, and a rater's reliability from how
probable it is that the votes were right:

    q = (PRIOR_VOTES * m + sum of P(vote is right)) / (PRIOR_VOTES + votes)

where m is the mean of what the table of `aifw.data.confidence` says of these votes. A rater's votes are of several kinds, so what is estimated
is kept as a shift of log-odds, `logit q - logit m`, on top of each vote's own; for a rater with votes of one kind this is the step of
the published method. Only pairs that at least two raters judged say anything.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from aifw.data.confidence import MOST, Vote

PRIOR_VOTES = 40.0
"""As if every rater had been compared on so many votes before, and had been as reliable as the table says. Where raters differ or the table is
wrong, weighing them takes 0.01 to 0.16 nats off the loss of fresh pairs; where all are just as the table says, noise adds up to 0.007 (with 10
such votes 0.016). Measured with ten raters and 30 to 1,000 pairs."""

_ROUNDS = 100
_SETTLED = 1e-6


class Agreement:
    """Collects votes of several raters on the same pairs: 17 bytes a vote, whatever the texts."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._item, self._rater = array("q"), array("q")
        self._odds, self._sign = array("d"), array("b")
        self._items = 0

    def add(self, votes: Sequence[Vote]) -> None:
        """The votes on one pair, of each rater the last one: nobody is compared with themselves.

        Those that several raters made together say nothing of any of them.
        """
        last: dict[tuple[str, ...], Vote] = {}
        for vote in sorted(votes, key=lambda vote: (vote.time, vote.reliability, vote.for_first)):
            if len(vote.raters) == 1:
                last[vote.raters] = vote
        if len(last) < 2:
            return
        for vote in last.values():
            self._item.append(self._items)
            self._rater.append(self._names.setdefault(vote.raters[0], len(self._names)))
            self._odds.append(np.log(vote.reliability / (1 - vote.reliability)))
            self._sign.append(1 if vote.for_first else -1)
        self._items += 1

    @property
    def pairs(self) -> int:
        """Pairs that at least two raters judged."""
        return self._items

    def agreeing(self) -> float | None:
        """Share of these pairs on which all raters say the same; None if there are none."""
        if not self._items:
            return None
        item, sign = np.frombuffer(self._item, np.int64), np.frombuffer(self._sign, np.int8)
        balance = np.abs(np.bincount(item, sign, self._items))
        return float(np.mean(balance == np.bincount(item, minlength=self._items)))

    def shifts(self) -> dict[str, float]:
        """Log-odds to add to the votes of each rater who can be compared with another."""
        if not self._items:
            return {}
        item, rater = np.frombuffer(self._item, np.int64), np.frombuffer(self._rater, np.int64)
        base, sign = np.frombuffer(self._odds, np.float64), np.frombuffer(self._sign, np.int8)
        raters = len(self._names)
        votes = np.bincount(rater, minlength=raters)
        expected = np.bincount(rater, 1 / (1 + np.exp(-base)), raters) / votes
        shift = np.zeros(raters)
        highest = np.maximum(np.log(MOST / (1 - MOST)), base)
        for _ in range(_ROUNDS):
            odds = np.clip(base + shift[rater], 0.0, highest)
            first = np.bincount(item, sign * odds, self._items)
            right = 1 / (1 + np.exp(-sign * first[item]))
            share = (PRIOR_VOTES * expected + np.bincount(rater, right, raters)) / (PRIOR_VOTES + votes)
            former, shift = shift, _logit(share) - _logit(expected)
            if np.abs(shift - former).max() < _SETTLED:
                break
        return {name: round(float(shift[number]), 6) for name, number in self._names.items()}


def _logit(share: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(np.log(share / (1 - share)))
