"""What a hold-out holds, in 64 numbers: enough to see that another is the same one, or one that grew.

A bottom-k sketch (Broder 1997; Cohen and Kaplan 2007): of the hashes of all ids the smallest ones. Whatever the size of two sets, the
hashes below a common threshold are a random sample of both, so shares of what they have in common can be estimated. With 64 hashes
the standard error of a share is about six points at most; of equal sets, and of a set within another, the estimate is exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

SIZE = 64


def sketch(ids: Iterable[str]) -> list[str]:
    """The 64 smallest hashes of 64 bits, as sixteen hexadecimal digits, sorted; fewer where there are fewer ids."""
    hashes = {hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest() for name in ids}
    return sorted(hashes)[:SIZE]


def overlap(a: Sequence[str], b: Sequence[str]) -> float:
    """Estimate of the overlap coefficient (Szymkiewicz 1934, Simpson 1943): what is common, as a share of the smaller set.

    It is 1 for a set that only grew, whichever of the two is the older.

    Args:
        a: Sketch of a set.
        b: Sketch of another.

    Returns:
        0 to 1; 0 if one is empty.

    Raises:
        ValueError: Not a sketch.
    """
    sample_a, sample_b = _samples(a, b)
    smaller = min(len(sample_a), len(sample_b))
    return len(sample_a & sample_b) / smaller if smaller else 0.0


def containment(a: Sequence[str], b: Sequence[str]) -> float:
    """Estimate of the share of the first set that is in the second as well; arguments as `overlap`.

    It is 0 where the second is so much larger that the sketches have nothing to compare, about 64 times.

    Raises:
        ValueError: Not a sketch.
    """
    sample_a, sample_b = _samples(a, b)
    return len(sample_a & sample_b) / len(sample_a) if sample_a else 0.0


def jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    """Estimate of the Jaccard index: what is common, as a share of what is in either; arguments as `overlap`.

    Raises:
        ValueError: Not a sketch.
    """
    sample_a, sample_b = _samples(a, b)
    either = sample_a | sample_b
    return len(sample_a & sample_b) / len(either) if either else 0.0


def _samples(a: Sequence[str], b: Sequence[str]) -> tuple[set[str], set[str]]:
    """The hashes of both below what either has seen all of."""
    for each in (a, b):
        if len(each) > SIZE or any(len(text) != 16 for text in each) or list(each) != sorted(set(each)):
            raise ValueError("not a sketch: up to 64 hashes of sixteen hexadecimal digits, sorted")
    # A sketch that is not full is the whole set.
    seen = [each[-1] for each in (a, b) if len(each) == SIZE]
    threshold = min(seen, default="g")
    return {text for text in a if text <= threshold}, {text for text in b if text <= threshold}
