"""Rows of an index that lie together in memory: float32 rows, their coded form, norms and ids in one mapping.

The mapping is laid out as a segment's file is, so that a file is used as it lies on disk.
"""

from __future__ import annotations

import errno
import mmap
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifw.errors import MemoryRefused
from aifw.search import reference
from aifw.units import format_bytes

BLOCK_ROWS = reference.BLOCK_ROWS
HEADER_BYTES = 4096
_PAGE = 4096
_HUGE_FROM = 32 << 20
"""From this many bytes on, huge pages are asked for: smaller mappings would waste them."""


@dataclass(frozen=True, slots=True)
class Section:
    """Where an array lies in the mapping; bytes."""

    name: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.dtype.itemsize


def rounded(rows: int) -> int:
    """Rows in whole blocks."""
    return -(-rows // BLOCK_ROWS) * BLOCK_ROWS


def layout(dimensions: int, capacity: int) -> tuple[tuple[Section, ...], int]:
    """The sections of a segment, each from a page's beginning, and the bytes of all with the header.

    Args:
        dimensions: Of a vector.
        capacity: Rows, a multiple of 16.
    """
    blocks = capacity // BLOCK_ROWS
    described: tuple[tuple[str, tuple[int, ...], str], ...] = (
        ("rows", (capacity, reference.row_floats(dimensions)), "<f4"),
        ("blocks", (blocks, reference.block_bytes(dimensions)), "|u1"),
        ("low", (capacity, reference.low_bytes(dimensions)), "|u1"),
        ("reach", (blocks,), "<f4"),
        ("fine", (capacity,), "<f4"),
        ("norms", (capacity,), "<f8"),
        ("ids", (capacity,), "<i8"),
    )
    sections = []
    offset = HEADER_BYTES
    for name, shape, dtype in described:
        section = Section(name, offset, shape, np.dtype(dtype))
        sections.append(section)
        offset += -(-section.size // _PAGE) * _PAGE
    return tuple(sections), offset


def bytes_of_a_row(dimensions: int) -> int:
    """Bytes that a row takes in every section together, rounded up."""
    block = BLOCK_ROWS * (4 * reference.row_floats(dimensions) + reference.low_bytes(dimensions) + 20)
    return -(-(block + reference.block_bytes(dimensions) + 4) // BLOCK_ROWS)


@dataclass(eq=False)
class Segment:
    """Rows that lie together.

    Attributes:
        count: Rows that are complete. A search uses the count it was given with the segment, not this one.
        capacity: Rows there is room for, a multiple of 16.
        mask: One bit a row, 16 to a word: cleared when it is removed. None while none is.
        removed: How many are.
        largest: At least the norm of every row.
        first_id: Id of the first row if the ids ascend by one from row to row, else None.
        sealed: Whether no row may be added.
        file: Name of its file, which has the digest of its content, if it has one.
        source: What keeps the file of a mapping, see `storage`.
    """

    dimensions: int
    capacity: int
    memory: mmap.mmap
    rows: NDArray[np.float32]
    blocks: NDArray[np.uint8]
    low: NDArray[np.uint8]
    reach: NDArray[np.float32]
    fine: NDArray[np.float32]
    norms: NDArray[np.float64]
    ids: NDArray[np.int64]
    count: int = 0
    mask: NDArray[np.uint16] | None = None
    removed: int = 0
    largest: float = 0.0
    first_id: int | None = None
    sealed: bool = False
    file: str | None = None
    source: Any = field(default=None, repr=False)

    @property
    def live(self) -> int:
        """Rows that were not removed."""
        return self.count - self.removed

    @property
    def size(self) -> int:
        """Bytes of the mapping."""
        return len(self.memory)

    def live_rows(self, count: int | None = None) -> NDArray[np.int64]:
        """Which of the first rows were not removed."""
        count = self.count if count is None else count
        if self.mask is None:
            return np.arange(count)
        words = self.mask[: -(-count // BLOCK_ROWS)].astype("<u2")
        return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little", count=count))

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Clear the bits of rows that are set. The mask is made if there is none; its bits beyond the rows are set, too."""
        if self.mask is None:
            self.mask = np.full(self.capacity // BLOCK_ROWS, 0xFFFF, np.uint16)
        bits = np.left_shift(1, rows % BLOCK_ROWS).astype(np.uint16)
        np.bitwise_and.at(self.mask, rows // BLOCK_ROWS, ~bits)
        self.removed += len(rows)


def over(memory: mmap.mmap, dimensions: int, capacity: int) -> Segment:
    """A segment in a mapping, which is as long as `layout` says or longer."""
    arrays: dict[str, Any] = {
        each.name: np.frombuffer(memory, each.dtype, prod(each.shape), each.offset).reshape(each.shape)
        for each in layout(dimensions, capacity)[0]
    }
    return Segment(dimensions, capacity, memory, **arrays)


def allocate(dimensions: int, rows: int) -> Segment:
    """An empty segment in memory of its own, with huge pages where they help and there are any.

    Raises:
        MemoryRefused: There is not that much address space.
    """
    capacity = rounded(max(rows, 1))
    size = layout(dimensions, capacity)[1]
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        raise MemoryRefused(
            f"{rows:,} rows of {dimensions:,} dimensions take {format_bytes(size)} of memory, which this process cannot have",
            hint="build the index into a folder: Index.build(vectors, path=...)",
        ) from error
    if size >= _HUGE_FROM and hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError as error:
            # A Linux built without them.
            if error.errno != errno.EINVAL:
                raise
    return over(memory, dimensions, capacity)


def mask_of(rows: NDArray[np.int64], capacity: int) -> NDArray[np.uint16]:
    """A mask with the bits of some rows set."""
    bits = np.zeros(capacity, np.uint8)
    bits[rows] = 1
    words: NDArray[np.uint16] = np.packbits(bits, bitorder="little").view("<u2").astype(np.uint16, copy=False)
    return words
