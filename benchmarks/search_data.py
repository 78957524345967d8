"""Vectors to search in, queries, and what the right answers are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

METRICS = ("inner_product", "cosine", "l2")
NAMES = ("gaussian", "clustered", "text")
CLUSTERS = 1000
TOLERANCE = 1e-12
"""Of the largest score there can be: scores of 64-bit arithmetic that differ by less are taken for ties."""


@dataclass(frozen=True)
class Data:
    """Rows, queries from the same source that are no rows, and where they come from."""

    name: str
    about: str
    rows: NDArray[np.float32]
    queries: NDArray[np.float32]


def load(name: str, dimensions: int, rows: int, queries: int, cache: Path) -> Data:
    """The same vectors each time; text is embedded on first use and kept in `cache`."""
    random = np.random.default_rng(1)
    total = rows + queries
    if name == "gaussian":
        about = "isotropic Gaussian, not normalised"
        vectors = random.standard_normal((total, dimensions), dtype=np.float32)
    elif name == "clustered":
        # A spectrum that falls as a power and a common offset: what sentence embeddings look like.
        about = f"{CLUSTERS:,} clusters with a falling spectrum, rotated, not normalised"
        spectrum = ((1 + np.arange(dimensions)) ** -0.4).astype(np.float32)
        centres = random.standard_normal((CLUSTERS, dimensions), dtype=np.float32)
        vectors = 0.9 * random.standard_normal((total, dimensions), dtype=np.float32)
        vectors += centres[random.integers(0, CLUSTERS, total)]
        vectors *= spectrum
        rotation = np.linalg.qr(random.standard_normal((dimensions, dimensions)))[0].astype(np.float32)
        vectors = vectors @ rotation
        vectors += 0.02 * random.standard_normal(dimensions, dtype=np.float32)
    elif name == "text":
        import search_text

        vectors, provenance = search_text.vectors(dimensions, total, cache)
        sources = ", ".join(f"{count:,} {source}" for source, count in provenance["sources"].items())
        about = f"{provenance['method']}, of {provenance['sentences']:,} sentences ({sources}), normalised"
    else:
        raise ValueError(f"no data is called {name}")
    return Data(name, about, np.ascontiguousarray(vectors[:rows]), np.ascontiguousarray(vectors[rows:]))


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of norm 1; a zero row stays."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


class Truth:
    """The k-th best score of each query in 64-bit arithmetic, by which answers are judged.

    Args:
        rows, queries: As given to the index, not normalised.
        metric: One of METRICS. Scores of `l2` are squared distances; here their negatives, so that more is better.
    """

    def __init__(self, rows: NDArray[np.float32], queries: NDArray[np.float32], metric: str, k: int) -> None:
        self._rows, self._metric, self.k = rows, metric, k
        self._queries = queries.astype(np.float64)
        self._query_norms = np.linalg.norm(self._queries, axis=1)
        best = np.full((len(queries), k), -np.inf)
        largest = 0.0
        step = max(1, 32_000_000 // max(len(queries), rows.shape[1]))
        for start in range(0, len(rows), step):
            block = rows[start : start + step].astype(np.float64)
            norms = np.linalg.norm(block, axis=1)
            scores = self._scored(self._queries @ block.T, norms, self._query_norms[:, None])
            largest = max(largest, float(norms.max()))
            kept = np.partition(scores, -k, axis=1)[:, -k:] if scores.shape[1] > k else scores
            best = np.partition(np.hstack([best, kept]), -k, axis=1)[:, -k:]
        self._worst = best.min(axis=1)
        self._scale = 1.0 if metric == "cosine" else (largest + float(self._query_norms.max())) ** 2

    def _scored(
        self, products: NDArray[np.float64], norms: NDArray[np.float64], query_norms: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        if self._metric == "inner_product":
            return products
        if self._metric == "cosine":
            return products / np.maximum(norms * query_norms, np.finfo(np.float64).tiny)
        return 2 * products - norms**2 - query_norms**2

    def of(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score of each of the rows `ids` (queries x any) in 64-bit arithmetic."""
        found = self._rows[ids].astype(np.float64)
        queries = self._queries[: len(ids)]
        products = np.einsum("qkd,qd->qk", found, queries)
        return self._scored(products, np.linalg.norm(found, axis=2), self._query_norms[: len(ids), None])

    def recall(self, ids: NDArray[np.int64]) -> float:
        """Share of the k best rows that are among `ids`; of rows with equal scores any will do.

        Answers to more queries than are known are not looked at.
        """
        ids = ids[: len(self._queries)]
        good = self.of(ids) >= self._worst[: len(ids), None] - TOLERANCE * self._scale
        return sum(len(set(row[right].tolist())) for row, right in zip(ids, good, strict=True)) / (len(ids) * self.k)

    def score_error(self, ids: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
        """Largest difference between `scores` and those of 64-bit arithmetic, as a part of the largest score there can be."""
        ids = ids[: len(self._queries)]
        sign = -1 if self._metric == "l2" else 1
        return float(np.abs(sign * scores[: len(ids)] - self.of(ids)).max() / self._scale)
