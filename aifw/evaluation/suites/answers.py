"""Comparing an answer with reference answers, as SQuAD does (Rajpurkar, Zhang, Lopyrev and Liang, 2016).

Normalising lowers the case, drops ASCII punctuation and the English articles a, an and the, and makes one space of white space. A text
of which nothing is left, such as "The?", stays as it is but for case and space: otherwise it would equal every other such text.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """See the module."""
    lower = text.lower()
    plain = " ".join(_ARTICLES.sub(" ", lower.translate(_PUNCTUATION)).split())
    return plain or " ".join(lower.split())


def exact(answer: str, references: Sequence[str]) -> bool:
    """Whether the answer equals one of the references, both normalised."""
    return normalised(answer) in {normalised(reference) for reference in references}


def contains(answer: str, references: Sequence[str]) -> bool:
    """Whether one of the references stands in the answer word by word, both normalised."""
    padded = f" {normalised(answer)} "
    return any(f" {normalised(reference)} " in padded for reference in references)


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Largest F1 over the references of the words shared with the answer, as multisets of normalised words."""
    return max(_f1(normalised(answer).split(), normalised(reference).split()) for reference in references)


def _f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    shared = sum((Counter(answer) & Counter(reference)).values())
    return 2 * shared / (len(answer) + len(reference)) if shared else 0.0
