"""Sums and norms of many rows at once, rounded once to double.

Method: error-free addition (Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B) in a binary tree; the
sum of the errors is a correction with a bound of its own, and where that bound leaves the last bit open, `math.fsum` or integer
arithmetic decides.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 4 << 20
_SCALE = 149  # every float32 is an integer times 2 ** -149


def _add(terms: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sum rows: high + low is off by at most the third array."""
    low = np.zeros(len(terms))
    size = np.zeros(len(terms))
    count = terms.shape[1]
    level = terms
    while level.shape[1] > 1:
        half = level.shape[1] // 2
        first, second = level[:, :half], level[:, half : 2 * half]
        total = first + second
        taken = total - first
        error = (first - (total - taken)) + (second - taken)
        low += error.sum(axis=1)
        size += np.abs(error).sum(axis=1)
        rest = level[:, 2 * half :]
        level = np.concatenate((total, rest), axis=1) if rest.shape[1] else total
    # Twice what the additions of fewer than `count` errors can be off by (unit roundoff 2 ** -53), and the roundings below.
    return level[:, 0].copy(), low, size * ((count + 8) * 2.0**-52)


def sums(terms: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """The sum of each row, rounded once. No addition may overflow or underflow.

    Args:
        terms: m x n, n at least 1.

    Returns:
        m sums, zero as +0.0, and for how many `math.fsum` decided.
    """
    high, low, error = _add(terms)
    result = high + (low + error)
    unclear = np.flatnonzero(high + (low - error) != result)
    for row in unclear:
        result[row] = math.fsum(terms[row].tolist())
    return result + 0.0, len(unclear)


def norms(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The Euclidean norm of each row: the square root of the exact sum of squares, rounded once.

    Args:
        rows: m x n, finite.

    Returns:
        m norms.
    """
    result = np.empty(len(rows))
    step = max(1, BLOCK_BYTES // (8 * max(1, rows.shape[1])))
    for start in range(0, len(rows), step):
        result[start : start + step] = _norms(rows[start : start + step])
    return result


def _norms(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    terms = rows.astype(np.float64)
    terms *= terms
    high, low, error = _add(terms)
    root = np.sqrt(high + low)
    there = root > 0
    safe = np.where(there, root, 1.0)
    safe += _remainder(safe, high, low)[0] / (2 * safe)
    remainder, slack = _remainder(safe, high, low)
    # The root is right if the sum lies between the squares of the two midpoints beside it.
    gap = (safe - np.nextafter(safe, 0.0)) * safe
    clear = np.abs(remainder) + (slack + error) < gap * (1 - 2.0**-30)
    result: NDArray[np.float64] = np.where(there, safe, 0.0)
    for row in np.flatnonzero(there & ~clear):
        result[row] = norm(rows[row])
    return result


def _remainder(
    root: NDArray[np.float64], high: NDArray[np.float64], low: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What high + low is beyond root ** 2, and by how much that may be off. The square is split as by Dekker (Numerische Mathematik 18, 1971)."""
    shifted = root * 134217729.0
    top = shifted - (shifted - root)
    rest = root - top
    square = root * root
    tail = ((top * top - square) + 2 * top * rest) + rest * rest
    difference = high - square
    return difference + (low - tail), (np.abs(low) + np.abs(tail) + np.abs(difference)) * 2.0**-50


def norm(row: NDArray[np.float32]) -> float:
    """The same for one row, in integers."""
    square = sum(_integer(value) ** 2 for value in row.tolist())
    if not square:
        return 0.0
    shift = max(0, 112 - square.bit_length() + 1) // 2
    square <<= 2 * shift
    root = math.isqrt(square)
    # 56 bits or more, the last one set if anything is left: rounding to 53 then sees on which side of a midpoint the root lies.
    return math.ldexp(float(root | (root * root != square)), -shift - _SCALE)


def _integer(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return (numerator << _SCALE) // denominator
