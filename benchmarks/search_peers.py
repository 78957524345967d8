"""Ways to find the k best rows by looking at all of them: aifw and others, each used as its authors mean it to be used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from search_data import normalised
from search_figures import FAISS_BLAS, FAISS_SCAN, OURS, faiss_default

if TYPE_CHECKING:
    from aifw.search import Index

PACKAGES = {"FAISS": "faiss-cpu", "numpy": "numpy", "torch": "torch", "usearch": "usearch", "numkong": "numkong"}
NEVER = 2**31 - 1

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class Method(ABC):
    """One way to search, with rows and queries in hand.

    Attributes:
        name: In tables.
        gains: Whether a query costs ever less in ever larger batches. One that does not is left out of batches where it must lose.
    """

    name: str
    gains = True

    def __init__(self, rows: Floats, queries: Floats, metric: str, k: int, threads: int) -> None:
        self.metric, self.k, self.threads = metric, k, threads
        self.rows, self.queries = rows, queries

    @abstractmethod
    def search(self, batch: int) -> Ids:
        """Ids of the k best rows of the first `batch` queries, best first. The whole of what is timed."""

    def is_default(self, batch: int) -> bool:
        """Whether this is what the library does with such a batch when nobody tells it what to do."""
        return False

    def close(self) -> None:
        """Give back what does not go by itself."""
        del self.rows, self.queries


class Ours(Method):
    name = OURS

    def __init__(
        self, rows: Floats, queries: Floats, metric: str, k: int, threads: int, index: Index | None = None
    ) -> None:
        super().__init__(rows, queries, metric, k, threads)
        from aifw.search import Index

        self.index = Index.build(rows, metric=metric, threads=threads) if index is None else index
        self.scores: NDArray[np.float64] = np.empty((0, k))

    def search(self, batch: int) -> Ids:
        ids, self.scores = self.index.search(self.queries[:batch], self.k, threads=self.threads)
        return ids

    def counted(self, batch: int) -> dict[str, float]:
        """The kernel's counters, for one query."""
        counters = self.index.search_counted(self.queries[:batch], self.k, threads=self.threads)[2]
        return {name: count / batch for name, count in counters.items()}


class _Peer(Method):
    """Cosine is the inner product of rows and queries that were normalised beforehand, which costs a peer nothing."""

    def __init__(self, rows: Floats, queries: Floats, metric: str, k: int, threads: int) -> None:
        if metric == "cosine":
            rows, queries = normalised(rows), normalised(queries)
        super().__init__(rows, queries, metric, k, threads)


class Faiss(_Peer):
    """IndexFlat. By default it asks BLAS if `queries * dimensions` reaches a threshold; here always or never."""

    def __init__(
        self, rows: Floats, queries: Floats, metric: str, k: int, threads: int, *, blas: bool, shared: dict[str, Any]
    ) -> None:
        super().__init__(rows, queries, metric, k, threads)
        import faiss

        faiss.omp_set_num_threads(threads)
        self._faiss = faiss
        self.name, self.gains, self._threshold = (FAISS_BLAS, True, 1) if blas else (FAISS_SCAN, False, NEVER)
        if "index" not in shared:
            index = faiss.IndexFlatL2(rows.shape[1]) if metric == "l2" else faiss.IndexFlatIP(rows.shape[1])
            index.add(self.rows)
            shared |= {"index": index, "settings": faiss.cvar, "default": faiss.cvar.distance_compute_blas_threshold}
        self.index, self._settings, self.default = shared["index"], shared["settings"], shared["default"]

    def search(self, batch: int) -> Ids:
        self._settings.distance_compute_blas_threshold = self._threshold
        return self.index.search(self.queries[:batch], self.k)[1]

    def is_default(self, batch: int) -> bool:
        return faiss_default(self.default, batch, self.rows.shape[1]) == self.name

    def search_among(self, chosen: Any) -> Ids:
        """The first query, among the rows that `bitmap` or `batch` chose."""
        return self.index.search(self.queries[:1], self.k, params=chosen)[1]

    def bitmap(self, ids: Ids) -> Any:
        """A choice of rows that is quick to ask and slow to make."""
        chosen = np.packbits(np.isin(np.arange(len(self.rows)), ids), bitorder="little")
        return self._faiss.SearchParameters(sel=self._faiss.IDSelectorBitmap(chosen))

    def batch(self, ids: Ids) -> Any:
        """A choice of rows that is made from ids at once."""
        return self._faiss.SearchParameters(sel=self._faiss.IDSelectorBatch(ids))

    def close(self) -> None:
        super().close()
        self._settings.distance_compute_blas_threshold = self.default


class Numpy(_Peer):
    """Matrix product into memory that is kept, `argpartition`, then the k in order."""

    name = "numpy"
    AT_ONCE = 64

    def __init__(self, rows: Floats, queries: Floats, metric: str, k: int, threads: int) -> None:
        super().__init__(rows, queries, metric, k, threads)
        self._transposed = self.rows.T
        self._squares = np.einsum("nd,nd->n", self.rows, self.rows) if metric == "l2" else None
        self._products = np.empty((min(self.AT_ONCE, len(queries)), len(rows)), np.float32)

    def search(self, batch: int) -> Ids:
        parts = range(0, batch, self.AT_ONCE)
        return np.concatenate([self._some(self.queries[start : min(start + self.AT_ONCE, batch)]) for start in parts])

    def _some(self, queries: Floats) -> Ids:
        products = np.matmul(queries, self._transposed, out=self._products[: len(queries)])
        if self._squares is not None:
            products *= -2
            products += self._squares
        return best(products, self.k, least=self._squares is not None)


class Torch(_Peer):
    """Matrix product and `topk`."""

    name = "torch"

    def __init__(self, rows: Floats, queries: Floats, metric: str, k: int, threads: int) -> None:
        super().__init__(rows, queries, metric, k, threads)
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        self._transposed, self._queries = torch.from_numpy(self.rows).T, torch.from_numpy(self.queries)
        self._squares = torch.from_numpy(np.einsum("nd,nd->n", self.rows, self.rows)) if metric == "l2" else None

    def search(self, batch: int) -> Ids:
        queries = self._queries[:batch]
        with self._torch.inference_mode():
            if self._squares is None:
                return self._torch.topk(queries @ self._transposed, self.k, dim=1).indices.numpy()
            distances = self._torch.addmm(self._squares, queries, self._transposed, alpha=-2)
            return self._torch.topk(distances, self.k, dim=1, largest=False).indices.numpy()


class Usearch(_Peer):
    name = "usearch"
    gains = False

    def __init__(self, rows: Floats, queries: Floats, metric: str, k: int, threads: int) -> None:
        super().__init__(rows, queries, metric, k, threads)
        from usearch.index import search

        self._search, self._kind = search, "l2sq" if metric == "l2" else "ip"

    def search(self, batch: int) -> Ids:
        queries = self.queries[0] if batch == 1 else self.queries[:batch]
        found = self._search(self.rows, queries, self.k, self._kind, exact=True, threads=self.threads)
        return np.asarray(found.keys).astype(np.int64).reshape(batch, -1)


class Numkong(_Peer):
    """Products with packed rows, in 64-bit sums, and `argpartition`; each thread has a part of the rows, for a call uses one thread."""

    name = "numkong"
    gains = False
    AT_ONCE = 64

    def __init__(self, rows: Floats, queries: Floats, metric: str, k: int, threads: int) -> None:
        super().__init__(rows, queries, metric, k, threads)
        import numkong

        self._product = numkong.euclideans_packed if metric == "l2" else numkong.dots_packed
        bounds = np.linspace(0, len(rows), threads + 1).astype(int)
        self._parts = [(int(first), numkong.dots_pack(self.rows[first:last])) for first, last in pairwise(bounds)]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def search(self, batch: int) -> Ids:
        parts = range(0, batch, self.AT_ONCE)
        return np.concatenate([self._some(self.queries[start : min(start + self.AT_ONCE, batch)]) for start in parts])

    def _some(self, queries: Floats) -> Ids:
        def one(part: tuple[int, Any]) -> tuple[NDArray[np.float64], Ids]:
            first, packed = part
            products = np.asarray(self._product(queries, packed))
            found = best(products, self.k, least=self.metric == "l2")
            return np.take_along_axis(products, found, 1), found + first

        found = list(self._pool.map(one, self._parts) if self._pool else map(one, self._parts))
        if len(found) == 1:
            return found[0][1]
        scores, ids = (np.hstack([each[side] for each in found]) for side in (0, 1))
        return np.take_along_axis(ids, best(scores, self.k, least=self.metric == "l2"), 1)

    def close(self) -> None:
        super().close()
        if self._pool:
            self._pool.shutdown()


def best(scores: NDArray[Any], k: int, *, least: bool) -> Ids:
    """Columns of the k best of each row, in order; least or most is best."""
    last = scores.shape[1] - 1
    found = (
        np.argpartition(scores, min(k - 1, last), axis=1)[:, :k]
        if least
        else np.argpartition(scores, max(last + 1 - k, 0), axis=1)[:, -k:]
    )
    values = np.take_along_axis(scores, found, 1)
    return np.take_along_axis(found, np.argsort(values if least else -values, axis=1), 1)


def prepared(
    rows: Floats, queries: Floats, metric: str, k: int, threads: int, wanted: Sequence[str] = ()
) -> tuple[list[Method], list[str]]:
    """Every method that is installed (and in `wanted`, if that is not empty), ready to search; and those that are not installed."""
    shared: dict[str, Any] = {}
    makers: dict[str, list[Callable[..., Method]]] = {
        OURS: [Ours],
        "FAISS": [
            lambda *given: Faiss(*given, blas=False, shared=shared),
            lambda *given: Faiss(*given, blas=True, shared=shared),
        ],
        "numpy": [Numpy],
        "torch": [Torch],
        "usearch": [Usearch],
        "numkong": [Numkong],
    }
    found: list[Method] = []
    missing: list[str] = []
    for name, making in makers.items():
        if wanted and name not in wanted:
            continue
        try:
            found += [make(rows, queries, metric, k, threads) for make in making]
        except ModuleNotFoundError as error:
            if name == OURS or not str(error.name).startswith(("faiss", "torch", "usearch", "numkong")):
                raise
            missing.append(name)
    return found, missing


def versions() -> dict[str, str]:
    """Of every peer."""
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def pools() -> list[str]:
    """Thread pools and BLAS libraries in this process, with the kernel OpenBLAS chose; see threadpoolctl."""
    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        return []
    return [
        " ".join(
            str(each[key]) if key != "num_threads" else f"threads={each[key]}"
            for key in ("internal_api", "version", "architecture", "num_threads")
            if each.get(key)
        )
        + f" ({Path(each['filepath']).name})"
        for each in threadpool_info()
    ]
