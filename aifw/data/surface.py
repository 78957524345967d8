"""Can the choice be guessed without understanding it? Baselines that see lengths or bags of words only.

A model that learns such a cue looks as if it had learned what people prefer. The nearer these accuracies are to one half, the more a
better model means.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aifw.data.near_duplicates import stable_hash

FOLDS = 5
MOST_ITEMS = 2500
"""More are sampled by hash: enough for an interval of two points."""
MOST_WORDS = 1000
_ITERATIONS = 120
_PENALTY = 1.0
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")  # noqa: RUF001 - the typographic apostrophe is meant
_Z95 = 1.959964

Matrix = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Item:
    """Two answers and the cluster they come from."""

    group: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of items guessed right, with a 95 % interval that allows for items of one group going together."""

    value: float
    low: float
    high: float
    items: int


def words(text: str) -> list[str]:
    """Words in lower case, in order."""
    return _WORD.findall(text.casefold())


def accuracy(hits: Sequence[float] | Values, groups: Sequence[str] | npt.NDArray[np.uint64]) -> Accuracy:
    """Mean of `hits` with a cluster-robust normal interval, cut at 0 and 1.

    Args:
        hits: 1 right, 0 wrong, one half undecided.
        groups: Of each item.
    """
    right = np.asarray(hits, np.float64)
    value = float(right.mean())
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    deviation = np.bincount(group, right - value)
    clusters = len(deviation)
    correction = clusters / (clusters - 1) if clusters > 1 else 1.0
    margin = _Z95 * math.sqrt(correction * float(deviation @ deviation)) / len(right)
    return Accuracy(round(value, 4), round(max(0.0, value - margin), 4), round(min(1.0, value + margin), 4), len(right))


def longer_wins(
    chosen: Sequence[int] | Numbers, rejected: Sequence[int] | Numbers, groups: Sequence[str] | npt.NDArray[np.uint64]
) -> Accuracy:
    """How often the longer answer is the chosen one; below one half the shorter one is.

    Args:
        chosen: Characters of the chosen answers.
        rejected: Characters of the rejected answers.
        groups: Of each pair.
    """
    return accuracy(0.5 + 0.5 * np.sign(np.subtract(chosen, rejected, dtype=np.float64)), groups)


def bag_of_words(items: Sequence[Item]) -> Accuracy | None:
    """How often a logistic regression on the words that only one answer has picks the chosen one, cross-validated by group.

    Returns:
        None if there are fewer groups than folds.
    """
    if len(items) > MOST_ITEMS:
        items = sorted(items, key=lambda item: stable_hash(item.group, item.chosen, item.rejected))[:MOST_ITEMS]
    order = sorted({item.group for item in items}, key=lambda group: stable_hash("fold", group))
    if len(order) < FOLDS:
        return None
    fold_of = {group: position % FOLDS for position, group in enumerate(order)}
    folds = np.array([fold_of[item.group] for item in items])
    sides = [(set(words(item.chosen)), set(words(item.rejected))) for item in items]
    hits = np.zeros(len(items))
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        counts = Counter(word for at in train for word in sides[at][0] ^ sides[at][1])
        frequent = sorted((word for word in counts if counts[word] >= 2), key=lambda word: (-counts[word], word))
        column = {word: number for number, word in enumerate(frequent[:MOST_WORDS])}
        weights = _fit(_differences([sides[at] for at in train], column))
        scores = _differences([sides[at] for at in test], column) @ weights
        hits[test] = 0.5 + 0.5 * np.sign(np.round(scores, 6))
    return accuracy(hits, [item.group for item in items])


def _differences(sides: Sequence[tuple[set[str], set[str]]], column: dict[str, int]) -> Matrix:
    """+1 where only the chosen answer has a word, -1 where only the rejected one has; (items, words)."""
    matrix = np.zeros((len(sides), len(column)), dtype=np.float32)
    for row, (chosen, rejected) in enumerate(sides):
        for word in chosen - rejected:
            if word in column:
                matrix[row, column[word]] = 1
        for word in rejected - chosen:
            if word in column:
                matrix[row, column[word]] = -1
    return matrix


def _fit(differences: Matrix) -> Matrix:
    """Weights of a logistic regression without intercept, ridge penalty 1, by Nesterov's accelerated gradient.

    Args:
        differences: (items, words), oriented so that every label is 1.

    Returns:
        (words,)
    """
    if differences.shape[1] == 0:
        return np.zeros(0, dtype=np.float32)
    vector = np.ones(differences.shape[1], dtype=np.float32)
    for _ in range(20):
        vector = differences.T @ (differences @ vector)
        vector /= max(float(np.linalg.norm(vector)), 1e-12)
    curvature = 0.25 * 1.2 * float(np.linalg.norm(differences @ vector)) ** 2 + _PENALTY
    weights = np.zeros(differences.shape[1], dtype=np.float32)
    ahead = weights
    for step in range(_ITERATIONS):
        slope = -1 / (1 + np.exp(np.clip(differences @ ahead, -50, 50)))
        following = ahead - (differences.T @ slope + _PENALTY * ahead) / np.float32(curvature)
        ahead = following + np.float32(step / (step + 3)) * (following - weights)
        weights = following
    return weights.astype(np.float32)
