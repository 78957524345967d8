"""Types of the compiled kernel (`kernels/`). Nothing but `aifw.search` calls it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

INNER_PRODUCT: int
COSINE: int
SQUARED_DISTANCE: int

BLOCK_ROWS: int
MAXIMUM_DIMENSIONS: int

class SegmentLike(Protocol):
    """Arrays of rows that lie together; shapes in terms of a capacity `c`, a multiple of `BLOCK_ROWS`."""

    rows: NDArray[np.float32]  # c x row_floats(dimensions)
    blocks: NDArray[np.uint8]  # c / 16 x block_bytes(dimensions)
    low: NDArray[np.uint8]  # c x low_bytes(dimensions)
    reach: NDArray[np.float32]  # c / 16
    fine: NDArray[np.float32]  # c
    norms: NDArray[np.float64]  # c
    ids: NDArray[np.int64]  # c

def built() -> tuple[str, ...]:
    """Instruction sets compiled in, from the most modest."""

def usable() -> tuple[str, ...]:
    """Those of them that processor and operating system support."""

def usable_for(leaf1_ecx: int, leaf7_ebx: int, leaf7_ecx: int, leaf7_1_eax: int, xcr0: int) -> tuple[str, ...]:
    """The instruction sets a machine can run of which CPUID and XGETBV say this, whether compiled in or not."""

def level() -> str:
    """The one in use."""

def select(level: str) -> None:
    """Use another one. ValueError if it is not usable."""

def compiler() -> str:
    """What built it."""

def row_floats(dimensions: int) -> int: ...
def block_bytes(dimensions: int) -> int: ...
def low_bytes(dimensions: int) -> int: ...
def find_not_finite(rows: NDArray[np.float32]) -> int:
    """Index of the first row (2-D, rows contiguous) with NaN or infinity, or -1."""

def encode(segment: SegmentLike, dimensions: int, metric: int, first: int, last: int, threads: int) -> float:
    """Write norms of rows `first` to `last` (not included), and the coded form of every block that ends among them.

    Returns:
        The largest norm of those rows, rounded up.
    """

def search(
    segments: Sequence[tuple[SegmentLike, int, NDArray[np.uint16] | None, float]],
    queries: NDArray[np.float32],
    dimensions: int,
    metric: int,
    k: int,
    threads: int,
    cpus: Sequence[int] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, int]]:
    """Find the `k` best rows of each query, ordered by score (squared distance: ascending; else descending) and id.

    Args:
        segments: Each with its number of rows, the mask of rows that may be found (one 16-bit word a block, the last one for the rows
            behind the blocks; None for all), and the largest norm of its rows.
        queries: n x dimensions, contiguous.
        dimensions: Of a vector.
        metric: `INNER_PRODUCT`, `COSINE` or `SQUARED_DISTANCE`, the one the segments were encoded for.
        k: At least 1.
        threads: At most so many, the calling one among them.
        cpus: Processors to pin the threads to, or None.

    Returns:
        ids and scores, n x min(k, rows that may be found), and counters: `rows`, `refined`, `scored`, `exact`, `summed`.
    """

class IdTable:
    """Which slot an id is in: a hash table of 64-bit integers. Not for use by two threads at once."""

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def insert(self, ids: NDArray[np.int64], first_slot: int) -> int:
        """Enter ids for consecutive slots. Returns -1, or the position of the first id that is there already; then none is entered."""

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slot of each id, -1 where it is not there."""

    def erase(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same, and the ids are gone."""

    def bytes(self) -> int:
        """Memory it takes."""
