"""How sure feedback makes us that one answer is better than another: the whole model, in one place.

**Kind and margin.** Every judgement is a vote on a pair of answers to one prompt in one context. It says which is better, and is
right with a probability p, its reliability:

| vote                                                         | p                                       |
|--------------------------------------------------------------|-----------------------------------------|
| correction: what the rater wrote against what was answered   | 0.90                                    |
| comparison                                                   | 0.80                                    |
| stars: one rater gave one answer m more stars                | 0.55 + 0.10 m                           |
| stars: the means of different raters differ by m, at least 1 | 0.50 + 0.10 m                           |
| thumbs: one rater, one up and one down                       | 0.75                                    |
| thumbs: up from one rater, down from another                 | 0.65                                    |
| comparison: a tie                                            | takes 0.65 away from whichever leads    |

**Rater.** Where raters judged the same pairs, their agreement tells how reliable each is (`aifw.data.raters`); the log-odds of a
rater's votes are shifted by how far that is above or below what the table says of them. A rater nobody else can be compared with keeps
the table's word. The reliability of a vote stays between one half and 0.95: one who is wrong more often than a coin is not
listened to, but neither believed to mean the opposite.

**Age.** With a half-life, the log-odds of a vote halve each time that span passes between it and the newest event of the data. They
are never measured against the clock: the same data give the same pairs tomorrow. A vote made of several events is as old as the oldest.

**Agreement.** Votes are taken as independent, so their log-odds add up; the confidence of a pair is the logistic function of the
sum. Raters who agree make it rise, raters who contradict each other make it fall, and votes that cancel out leave no pair. Only the last
judgement of a rater on the same thing counts, of comparisons and corrections in all conversations together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Source = Literal["comparison", "correction", "thumbs", "stars", "simulated"]

CORRECTION, COMPARISON, TIE = 0.90, 0.80, 0.65
THUMBS_ONE_RATER, THUMBS_TWO_RATERS = 0.75, 0.65
MOST = 0.95
"""No single vote is trusted further."""

SIMULATED_CONFIDENCE = 0.55
"""Nobody judged them: barely more than a coin."""

_STARS_ONE_RATER, _STARS_TWO_RATERS, _STARS_STEP = 0.55, 0.50, 0.10


def stars_of_one_rater(margin: float) -> float:
    """Reliability of a rater's word that one answer is worth that many more stars."""
    return min(MOST, _STARS_ONE_RATER + _STARS_STEP * margin)


def stars_of_different_raters(margin: float) -> float:
    """Reliability of the difference between the means of two answers, in stars."""
    return min(MOST, _STARS_TWO_RATERS + _STARS_STEP * margin)


def log_odds(reliability: float) -> float:
    """Natural logarithm of p / (1 - p)."""
    return math.log(reliability / (1 - reliability))


@dataclass(frozen=True, slots=True)
class Vote:
    """One judgement.

    Attributes:
        reliability: By kind and margin, 0.5 to 1.
        for_first: It prefers the answer that comes first in the order of their texts.
        raters: One, or those whose events together make the vote.
        time: Of its oldest event.
    """

    reliability: float
    for_first: bool
    source: Source
    raters: tuple[str, ...]
    time: str


@dataclass(frozen=True)
class Belief:
    """What is known beyond the single vote.

    Attributes:
        half_life: Seconds after which the log-odds of a vote count half; None if age does not matter.
        newest: Time of the newest event; ages are measured from it.
        shifts: Log-odds added for a rater, by name.
    """

    half_life: float | None = None
    newest: str = ""
    shifts: Mapping[str, float] = field(default_factory=dict)

    def weight(self, vote: Vote) -> float:
        """Log-odds of a vote for the answer it prefers, 0 or more."""
        odds = log_odds(vote.reliability)
        if self.shifts:
            odds += sum(self.shifts.get(rater, 0.0) for rater in vote.raters) / len(vote.raters)
            odds = min(max(0.0, odds), max(log_odds(MOST), log_odds(vote.reliability)))
        return odds * self.freshness(vote.time)

    def freshness(self, time: str) -> float:
        """What is left of a vote of that time: 1, or one half for every half-life that has passed."""
        return 1.0 if self.half_life is None else 0.5 ** (self.age(time) / self.half_life)

    def age(self, time: str) -> float:
        """Seconds between an event and the newest one."""
        return max(0.0, (_moment(self.newest) - _moment(time)).total_seconds()) if self.newest else 0.0


PLAIN = Belief()
"""Age does not matter, and no rater is known to be better than another."""


def _moment(time: str) -> datetime:
    return datetime.fromisoformat(time)
