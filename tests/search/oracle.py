"""What a search must answer, from integers and `math.fsum`, with nothing of the code under test.

`rational_score` and `rational_search` are slow and plain: a float32 is an integer times 2**-149, and dividing two integers in Python is
correctly rounded. `Oracle` gives the same answers fast: products of two float32 are exact in double, so sums of them in double have a
known error, and only rows which that error leaves in doubt are summed by `math.fsum`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

INNER_PRODUCT, COSINE, SQUARED_DISTANCE = METRICS = ("inner_product", "cosine", "squared_distance")

_UNIT = 149  # a float32 is a multiple of 2**-149
_HALF_ULP = 2.0**-53

Answer = tuple[NDArray[np.int64], NDArray[np.float64]]


def integers(vector: NDArray[np.float32]) -> list[int]:
    """The components as multiples of 2**-149."""
    bits = vector.view(np.uint32)
    exponent = (bits >> 23 & 255).astype(np.int64)
    mantissa = (bits & 0x7FFFFF).astype(np.int64) | np.where(exponent > 0, 1 << 23, 0)
    signed = np.where(bits >> 31, -mantissa, mantissa)
    return [m << s for m, s in zip(signed.tolist(), np.maximum(exponent - 1, 0).tolist(), strict=True)]


def rounded_root(square: int, unit: int) -> float:
    """The square root of `square` times 2**-unit, rounded once, half to even."""
    extra = max(0, 128 - square.bit_length())
    extra += extra & 1
    root = math.isqrt(square << extra)
    inexact = root * root != square << extra
    return (2 * root + inexact) / (1 << (1 + extra // 2 + unit))


def rounded_norm(vector: NDArray[np.float32]) -> float:
    """The Euclidean norm, rounded once."""
    return rounded_root(sum(x * x for x in integers(vector)), _UNIT)


def rational_score(metric: str, row: NDArray[np.float32], query: NDArray[np.float32]) -> float:
    """The score of one pair, by integers alone."""
    pairs = list(zip(integers(row), integers(query), strict=True))
    one = 1 << 2 * _UNIT
    if metric == SQUARED_DISTANCE:
        return sum((x - q) ** 2 for x, q in pairs) / one
    product = sum(x * q for x, q in pairs) / one
    if metric == INNER_PRODUCT:
        return product
    norms = rounded_norm(row) * rounded_norm(query)
    return product / norms if norms else 0.0


def rational_search(
    metric: str, rows: NDArray[np.float32], ids: NDArray[np.int64], queries: NDArray[np.float32], k: int
) -> Answer:
    """The `k` best rows of each query by (score, id)."""
    sign = 1 if metric == SQUARED_DISTANCE else -1
    best = [
        sorted(
            ((rational_score(metric, row, query), number) for row, number in zip(rows, ids.tolist(), strict=True)),
            key=lambda pair: (sign * pair[0], pair[1]),
        )[:k]
        for query in queries
    ]
    shape = (len(queries), min(k, len(rows)))
    return (
        np.array([[number for _, number in hits] for hits in best], np.int64).reshape(shape),
        np.array([[score for score, _ in hits] for hits in best], np.float64).reshape(shape),
    )


def _lowest_bit(values: NDArray[np.float32]) -> int:
    """Exponent of the largest power of two that divides every component."""
    fractions, exponents = np.frexp(values[values != 0].astype(np.float64))
    if not len(exponents):
        return 0
    whole = np.abs(np.ldexp(fractions, 24)).astype(np.int64)
    return int((np.log2((whole & -whole).astype(np.float64)) + exponents - 24).min())


class Oracle:
    """The right answers for one set of rows under one metric."""

    def __init__(self, metric: str, rows: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        self.metric = metric
        self.ids = ids
        self.rows = np.ascontiguousarray(rows, np.float32)
        self._wide = self.rows.astype(np.float64)
        self._absolute = np.abs(self._wide)
        self._low = _lowest_bit(self.rows)
        _, first, self._group = np.unique(
            self.rows.view(np.dtype((np.void, self.rows.shape[1] * 4))).ravel(), return_index=True, return_inverse=True
        )
        self._first = first
        if metric == COSINE:
            norms = np.array([rounded_norm(self.rows[i]) for i in first])
            self.norms: NDArray[np.float64] = norms[self._group.ravel()]

    def _score(self, row: int, q: NDArray[np.float64], norm: float) -> float:
        x = self._wide[row]
        if self.metric == SQUARED_DISTANCE:
            return math.fsum(np.concatenate([x * x, -2 * x * q, q * q]).tolist())
        product = math.fsum((x * q).tolist())
        if self.metric == INNER_PRODUCT:
            return product
        norms = float(self.norms[row]) * norm
        return product / norms if norms else 0.0

    def _approximate(
        self, query: NDArray[np.float32], norm: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Scores in double arithmetic, and how far they and their rounding may be off; None if they are right."""
        q = query.astype(np.float64)
        dimensions = len(q)
        if self.metric == SQUARED_DISTANCE:
            difference = self._wide - q
            total = np.einsum("ij,ij->i", difference, difference)
            largest = max(float(self._absolute.max(initial=0)), float(np.abs(q).max(initial=0)))
            low = min(self._low, _lowest_bit(query))
            if dimensions * (2 * largest) ** 2 <= 2.0 ** (2 * low + 53):
                return total, None
            return total, (3 * dimensions + 16) * _HALF_ULP * total
        product = self._wide @ q + 0.0
        absolute = self._absolute @ np.abs(q)
        whole = float(absolute.max(initial=0)) * (1 + 1e-6) <= 2.0 ** (self._low + _lowest_bit(query) + 53)
        error = (3 * dimensions + 16) * _HALF_ULP * absolute
        if self.metric == INNER_PRODUCT:
            return product, None if whole else error
        norms = self.norms * norm
        safe = np.where(norms > 0, norms, 1.0)
        return np.where(norms > 0, product / safe, 0.0), None if whole else np.where(norms > 0, error / safe, 0.0)

    def search(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None) -> Answer:
        """The `k` best of the allowed rows of each query, by score and id."""
        pool = np.arange(len(self.rows)) if allowed is None else np.flatnonzero(allowed)
        k = min(k, len(pool))
        ids = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float64)
        if k == 0:
            return ids, scores
        sign = 1 if self.metric == SQUARED_DISTANCE else -1
        for i, query in enumerate(queries):
            norm = rounded_norm(query) if self.metric == COSINE else 0.0
            approximate, error = self._approximate(query, norm)
            key = sign * approximate[pool]
            if error is None:
                chosen = pool[key <= np.partition(key, k - 1)[k - 1]]
                found = approximate[chosen]
            else:
                doubt = error[pool]
                chosen = pool[key - doubt <= np.partition(key + doubt, k - 1)[k - 1]]
                found = self._scores(chosen, query.astype(np.float64), norm)
            order = np.lexsort((self.ids[chosen], sign * found))[:k]
            ids[i], scores[i] = self.ids[chosen[order]], found[order]
        return ids, scores

    def _scores(self, chosen: NDArray[np.int64], q: NDArray[np.float64], norm: float) -> NDArray[np.float64]:
        """Scores of the chosen rows, one sum for rows that are equal."""
        groups, inverse = np.unique(self._group.ravel()[chosen], return_inverse=True)
        each = np.array([self._score(int(self._first[group]), q, norm) for group in groups])
        return each[inverse.ravel()]
