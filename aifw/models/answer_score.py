"""How good an answer of a model is, where nobody has judged it: the mean of four numbers from 0 to 1.

| number   | what                                                                                                                     |
|----------|--------------------------------------------------------------------------------------------------------------------------|
| fluency  | geometric mean of the probabilities of its tokens under the model, so that length makes no difference                    |
| variety  | distinct runs of three words among all of them (distinct-3; Li et al., 2016, arXiv:1510.03055); 1 below three words      |
| ended    | 1 if it ended by itself, 0 if it was cut off                                                                             |
| likeness | F1 of its words with those of the answer people preferred to the same prompt (ROUGE-1; Lin, 2004)                        |

Fluency alone likes repetition, which variety takes back; neither knows the question, which likeness does. There is nothing to fit weights
to, so all count the same.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

_RUN = 3
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """The four numbers of an answer."""

    fluency: float
    variety: float
    ended: float
    likeness: float

    @property
    def value(self) -> float:
        """Their mean, 0 to 1."""
        return (self.fluency + self.variety + self.ended + self.likeness) / 4


def score_answer(text: str, liked: str, *, log_probability: float, tokens: int, ended: bool) -> AnswerScore:
    """Score an answer.

    Args:
        text: Of the answer.
        liked: What people preferred as an answer to the same prompt.
        log_probability: Sum over its tokens, natural logarithm.
        tokens: How many, at least 1.
        ended: It ended by itself.
    """
    return AnswerScore(
        fluency=math.exp(min(0.0, log_probability / tokens)),
        variety=variety(text),
        ended=float(ended),
        likeness=likeness(text, liked),
    )


def variety(text: str) -> float:
    """Distinct runs of three words among all."""
    words = _words(text)
    runs = [tuple(words[at : at + _RUN]) for at in range(len(words) - _RUN + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def likeness(text: str, other: str) -> float:
    """Harmonic mean of the shares of words that each has in common with the other, repeated words counted."""
    one, two = Counter(_words(text)), Counter(_words(other))
    shared = (one & two).total()
    return 2 * shared / (one.total() + two.total()) if shared else 0.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
