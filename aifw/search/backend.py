"""Who computes: the compiled kernel, or numpy where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from aifw.search.kernel import loaded

# ruff: noqa: D102 - `_kernel.pyi` documents the methods

METRICS = {"inner_product": 0, "cosine": 1, "l2": 2}
"""The kernel's number for each metric."""


class Arrays(Protocol):
    """Rows that lie together and their coded form; `_kernel.pyi` has the shapes."""

    @property
    def rows(self) -> NDArray[np.float32]: ...
    @property
    def blocks(self) -> NDArray[np.uint8]: ...
    @property
    def low(self) -> NDArray[np.uint8]: ...
    @property
    def reach(self) -> NDArray[np.float32]: ...
    @property
    def fine(self) -> NDArray[np.float32]: ...
    @property
    def norms(self) -> NDArray[np.float64]: ...
    @property
    def ids(self) -> NDArray[np.int64]: ...


Entry = tuple[Arrays, int, NDArray[np.uint16] | None, float]
"""A segment as a search sees it: arrays, number of rows, mask of those that may be found, largest norm."""


class Table(Protocol):
    """Which slot an id is in. Not for use by two threads at once."""

    def __len__(self) -> int: ...
    def insert(self, ids: NDArray[np.int64], first_slot: int) -> int: ...
    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]: ...
    def erase(self, ids: NDArray[np.int64]) -> NDArray[np.int64]: ...
    def bytes(self) -> int: ...


class Backend(Protocol):
    """What `_kernel` and `reference` both offer."""

    def find_not_finite(self, rows: NDArray[np.float32]) -> int: ...
    def encode(self, segment: Arrays, dimensions: int, metric: int, first: int, last: int, threads: int) -> float: ...
    def search(
        self,
        segments: Sequence[Entry],
        queries: NDArray[np.float32],
        dimensions: int,
        metric: int,
        k: int,
        threads: int,
        cpus: Sequence[int] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, int]]: ...
    def IdTable(self) -> Table: ...  # noqa: N802


def backend() -> Backend:
    """The kernel; `reference` where it is not installed, or where `AIFW_NO_KERNEL` or `AIFW_SIMD=numpy` asks for it.

    Raises:
        UsageError: `AIFW_SIMD` asks for what this machine cannot do.
    """
    kernel = loaded()
    if kernel is not None:
        return cast("Backend", kernel)
    from aifw.search import reference

    return cast("Backend", reference)
