"""Texts that are nearly the same: an exact similarity join on character shingles, and clusters of what it joins.

A prefix filter finds the pairs (Chaudhuri, Ganti and Kaushik, 2006; Bayardo, Ma and Srikant, 2007; with more than one common element,
Wang, Li and Feng, 2012): two sets whose Jaccard index is at least t have at least `ceil(t * size)` elements in common, so the first
m of these, rarest first, are among the rarest `size - ceil(t * size) + m` of each. Unlike MinHash it misses nothing, so that "train and
held-out share no near-duplicate" is a guarantee and not a probability, and it needs no library. Its memory grows with the texts; where that is
too much, `aifw.data.text_table` turns to MinHash and says so.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SHINGLE = 5
"""Characters. Long enough that unrelated short texts share few, short enough that a typo touches few."""

_COMMON = 8
"""The m above: more leave fewer pairs to compare in full, and more rare shingles to look up."""

_NOT_WORD = re.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """Lower case, with one space for every run of anything but letters and digits."""
    return _NOT_WORD.sub(" ", text.casefold()).strip() or text.strip()


def shingles(text: str) -> frozenset[str]:
    """Every run of `SHINGLE` characters of the normalised text; the whole text if it is shorter."""
    plain = normalised(text)
    return frozenset(plain[at : at + SHINGLE] for at in range(max(1, len(plain) - SHINGLE + 1)))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def near_pairs(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int]]:
    """Find every pair of texts whose shingles overlap by at least `threshold`.

    Texts with the same normalised form are joined to the first of them only: for n of them, n - 1 pairs.

    Args:
        texts: Any number. Memory is about 4 bytes a character, and 120 for every different shingle.
        threshold: Jaccard index, above 0, at most 1.

    Yields:
        Pairs of positions, the smaller first, in an order that depends on nothing but the texts.
    """
    first: dict[str, int] = {}
    for position, text in enumerate(texts):
        plain = normalised(text)
        if plain in first:
            yield first[plain], position
        else:
            first[plain] = position
    if threshold < 1:
        yield from _near(first, threshold)


def _near(position_of: Mapping[str, int], threshold: float) -> Iterator[tuple[int, int]]:
    frequency = Counter(shingle for plain in position_of for shingle in shingles(plain))
    by_rarity = sorted(frequency, key=lambda shingle: (frequency[shingle], shingle))
    rank = {shingle: number for number, shingle in enumerate(by_rarity)}
    ranks = {
        position: array("I", sorted(rank[shingle] for shingle in shingles(plain)))
        for plain, position in position_of.items()
    }
    seen: defaultdict[int, list[int]] = defaultdict(list)
    # Shorter sets first, so that everything already seen is no longer than the one at hand.
    for position in sorted(ranks, key=lambda at: (len(ranks[at]), at)):
        mine = ranks[position]
        # A hair below the threshold, so that rounding never loses a pair; the overlap itself decides.
        least = math.ceil(threshold * len(mine) - 1e-9)
        prefix = mine[: len(mine) - least + _COMMON]
        common = Counter(chain.from_iterable(seen[shingle] for shingle in prefix))
        needed = min(_COMMON, least)
        candidates = sorted(other for other, count in common.items() if count >= needed and len(ranks[other]) >= least)
        if candidates:
            whole = set(mine)
            for other in candidates:
                shared = len(whole.intersection(ranks[other]))
                if shared / (len(mine) + len(ranks[other]) - shared) >= threshold:
                    yield min(position, other), max(position, other)
        for shingle in prefix:
            seen[shingle].append(position)


class Clusters:
    """Union-find over the positions 0 to n - 1; a cluster's root is its smallest member."""

    def __init__(self, size: int) -> None:
        self._parent = array("i", range(size))

    def root(self, member: int) -> int:
        """The smallest member of the cluster `member` is in."""
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, one: int, other: int) -> None:
        """Make one cluster of two."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low

    def roots(self) -> npt.NDArray[np.int32]:
        """The root of every member."""
        import numpy as np

        return np.array([self.root(member) for member in range(len(self._parent))], np.int32)


def text_digest(plain: str) -> bytes:
    """16 bytes that stand for a normalised text."""
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def stable_hash(*parts: str) -> int:
    """A 64-bit number that depends on the parts only: the same in every process, on every machine."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return int.from_bytes(digest.digest(), "big")
