"""The kernel's functions in numpy: slower, with the same results, so that a machine without the kernel can do everything.

Method: inner products in double by matrix multiplication, off by at most d * 2 ** -53 * |x| |q| to first order (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1), which no order of summation exceeds; that leaves few candidates, whose scores are
then summed exactly and rounded once. Products of two float32 are exact in double, and none of these sums leaves its range.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from aifw.search.backend import Arrays, Entry
from aifw.search.rounding import norms, sums

INNER_PRODUCT = 0
COSINE = 1
SQUARED_DISTANCE = 2
BLOCK_ROWS = 16

_HEADER_BYTES = 128
_FINE_HEADER_BYTES = 64
_CHUNK_BYTES = 16 << 20
_QUERIES_AT_ONCE = 64
_INFLATE = 1 + 2.0**-30  # covers the rounding of a bound that is computed in double
_FLOOR = (
    2.0**-60
)  # no scale or norm below it, so that no product of the kernel's filter leaves the range of normal floats

Rows = slice | NDArray[np.int64]


def row_floats(dimensions: int) -> int:
    """Floats from one row to the next."""
    return -(-dimensions // 16) * 16


def code_dimensions(dimensions: int) -> int:
    """Dimensions that codes are stored for."""
    return -(-dimensions // 64) * 64


def block_bytes(dimensions: int) -> int:
    """Bytes of the codes of 16 rows and their header."""
    return _HEADER_BYTES + 8 * code_dimensions(dimensions)


def low_bytes(dimensions: int) -> int:
    """A row's share of the second plane and of what stands behind it."""
    return code_dimensions(dimensions) * 3 // 4 + _FINE_HEADER_BYTES // BLOCK_ROWS


def find_not_finite(rows: NDArray[np.float32]) -> int:
    """Index of the first row with NaN or infinity, or -1."""
    step = max(1, _CHUNK_BYTES // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        finite = np.isfinite(rows[start : start + step]).all(axis=1)
        if not finite.all():
            return start + int(finite.argmin())
    return -1


def encode(segment: Arrays, dimensions: int, metric: int, first: int, last: int, threads: int) -> float:  # noqa: ARG001
    """Write norms of rows `first` to `last` (not included), and the coded form of every block that ends among them.

    Returns:
        The largest norm of those rows, rounded up.
    """
    if last <= first:
        return 0.0
    segment.norms[first:last] = norms(segment.rows[first:last, :dimensions])
    step = max(1, _CHUNK_BYTES // (BLOCK_ROWS * 8 * code_dimensions(dimensions)))
    for block in range(first // BLOCK_ROWS, last // BLOCK_ROWS, step):
        _encode_blocks(segment, dimensions, metric, block, min(block + step, last // BLOCK_ROWS))
    return float(segment.norms[first:last].max()) * (1 + 2.0**-50)


def _encode_blocks(segment: Arrays, dimensions: int, metric: int, first: int, last: int) -> None:
    """Codes and bounds as in `layout.h` and `PROOF.md`."""
    blocks, padded = last - first, code_dimensions(dimensions)
    rows = slice(first * BLOCK_ROWS, last * BLOCK_ROWS)
    values = segment.rows[rows, :dimensions].astype(np.float64)
    length = segment.norms[rows]
    if metric == COSINE:
        values /= np.where(length > 0, length, 1.0)[:, None]
    scale = _bfloat_up(np.maximum(np.abs(values).max(axis=1) / 8, _FLOOR))
    step = _bfloat_value(scale)[:, None]
    codes = _codes(values / step)
    coded = step * (codes - 7.5)
    left = values - coded
    low = _codes(left / (step / 16))
    # A unit vector comes from a division by a rounded norm, which moves it by at most 2 ** -51.
    moved = np.where(length > 0, 2.0**-50, 0.0) if metric == COSINE else 0.0
    radius = _bfloat_up(np.maximum(_length(left) + moved, _FLOOR))
    left = values - step / 16 * (16 * codes + low - 127.5)
    segment.fine[rows] = _float_up(np.maximum(_length(left) + moved, _FLOOR))
    segment.reach[first:last] = _reach(coded, blocks)
    six = step / 4 * (4 * codes + low // 4 - 31.5)
    radius_six = _bfloat_up(np.maximum(_length(values - six) + moved, _FLOOR))
    bias = np.zeros(len(length), np.float32)
    if metric == SQUARED_DISTANCE:
        bias = _float_up(np.maximum(-0.5 * length * length * (1 - 2.0**-19), -float(np.finfo(np.float32).max)))

    header = segment.blocks[first:last, :_HEADER_BYTES]
    header[:, :32] = scale.reshape(blocks, BLOCK_ROWS).view(np.uint8)
    header[:, 32:64] = radius.reshape(blocks, BLOCK_ROWS).view(np.uint8)
    header[:, 64:] = bias.reshape(blocks, BLOCK_ROWS).view(np.uint8)
    plane = _padded(codes, padded).reshape(blocks, BLOCK_ROWS, padded // 8, 2, 4).transpose(0, 2, 1, 3, 4)
    packed = plane[:, :, :, 0] | plane[:, :, :, 1] << 4
    segment.blocks[first:last, _HEADER_BYTES:] = packed.reshape(blocks, 8 * padded)
    low_codes = _padded(low, padded)
    behind = segment.low[rows].reshape(blocks, -1)
    plane = low_codes.reshape(blocks, BLOCK_ROWS, padded // 64, 2, 32)
    end = BLOCK_ROWS * padded // 2
    behind[:, :end] = (plane[:, :, :, 0] | plane[:, :, :, 1] << 4).reshape(blocks, end)
    fine_header = behind[:, end : end + _FINE_HEADER_BYTES]
    fine_header[:, :32] = radius_six.reshape(blocks, BLOCK_ROWS).view(np.uint8)
    fine_header[:, 32:36] = _reach(six, blocks)[:, None].view(np.uint8)
    fine_header[:, 36:] = 0
    # Two bits of each of four components to a byte: rows 0 to 7 first, and components 0 to 3 of eight.
    two = (low_codes >> 2).reshape(blocks, 2, 8, padded // 8, 2, 4).transpose(0, 3, 2, 5, 1, 4)
    shifts = np.array([[0, 2], [4, 6]], np.uint8)
    behind[:, end + _FINE_HEADER_BYTES :] = (two << shifts).sum(axis=(4, 5), dtype=np.uint8).reshape(blocks, 4 * padded)


def _reach(coded: NDArray[np.float64], blocks: int) -> NDArray[np.float32]:
    """At least the norm of any of a block's rows."""
    lengths = _float_up(np.maximum(_length(coded), _FLOOR)).reshape(blocks, BLOCK_ROWS)
    longest: NDArray[np.float32] = lengths.max(axis=1)
    return longest


def _codes(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.floor(steps + 8), 0, 15)


def _padded(codes: NDArray[np.float64], padded: int) -> NDArray[np.uint8]:
    result = np.zeros((len(codes), padded), np.uint8)
    result[:, : codes.shape[1]] = codes
    return result


def _length(values: NDArray[np.float64]) -> NDArray[np.float64]:
    length: NDArray[np.float64] = np.sqrt((values * values).sum(axis=1)) * _INFLATE
    return length


def _float_up(values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
        return np.where(nearest < values, np.nextafter(nearest, np.float32(np.inf)), nearest)


def _bfloat_up(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(_float_up(values)).view(np.uint32)
    return ((bits.astype(np.uint64) + 0xFFFF) >> 16).astype(np.uint16)


def _bfloat_value(bits: NDArray[np.uint16]) -> NDArray[np.float64]:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def search(
    segments: Sequence[Entry],
    queries: NDArray[np.float32],
    dimensions: int,
    metric: int,
    k: int,
    threads: int,  # noqa: ARG001
    cpus: Sequence[int] | None,  # noqa: ARG001
) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, int]]:
    """Find the `k` best rows of each query; arguments and results are those of the kernel.

    `threads` and `cpus` change nothing: numpy's own matrix multiplication chooses.
    """
    found = [(arrays, rows) for arrays, count, mask, _ in segments for rows in _parts(count, mask, dimensions)]
    available = sum(_count(rows) for _, rows in found)
    width = min(k, available)
    ids = np.empty((len(queries), width), np.int64)
    scores = np.empty((len(queries), width), np.float64)
    counters = dict.fromkeys(("rows", "refined", "scored", "exact", "summed"), 0)
    counters["rows"] = available * len(queries)
    if width:
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            _search(found, queries[some], dimensions, metric, width, ids[some], scores[some], counters)
    return ids, scores, counters


def _parts(count: int, mask: NDArray[np.uint16] | None, dimensions: int) -> Iterator[Rows]:
    """Rows that may be found, so many at a time that their products fit into memory."""
    step = max(BLOCK_ROWS, _CHUNK_BYTES // (8 * max(dimensions, _QUERIES_AT_ONCE)))
    if mask is None:
        yield from (slice(start, min(start + step, count)) for start in range(0, count, step))
        return
    # One read of each word: others may clear bits meanwhile.
    words = mask[: -(-count // BLOCK_ROWS)].astype("<u2")
    rows = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little", count=count))
    yield from (rows[start : start + step] for start in range(0, len(rows), step))


def _count(rows: Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _search(
    found: list[tuple[Arrays, Rows]],
    queries: NDArray[np.float32],
    dimensions: int,
    metric: int,
    width: int,
    ids: NDArray[np.int64],
    scores: NDArray[np.float64],
    counters: dict[str, int],
) -> None:
    lengths = norms(queries)
    doubles = queries.astype(np.float64)
    best = np.full((len(queries), 0), -np.inf)
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for number, (arrays, rows) in enumerate(found):
        products = doubles @ arrays.rows[rows, :dimensions].astype(np.float64).T
        middle, slack = _bounds(products, arrays.norms[rows], lengths, dimensions, metric)
        best = np.concatenate((best, middle - slack), axis=1)
        if best.shape[1] > width:
            best = np.partition(best, best.shape[1] - width, axis=1)[:, -width:]
        upper = middle + slack
        enough = best.min(axis=1) if best.shape[1] == width else np.full(len(queries), -np.inf)
        query, row = np.nonzero(upper >= enough[:, None])
        kept.append((query, np.full(len(query), number), row, upper[query, row]))
    query, part, row, upper = (np.concatenate(each) for each in zip(*kept, strict=True))
    chosen = upper >= best.min(axis=1)[query]
    query, part, row = query[chosen], part[chosen], row[chosen]
    if (np.bincount(query, minlength=len(queries)) < width).any():
        # Rows or norms that are not finite, which only an altered file holds.
        scores[:] = np.nan
        return
    counters["scored"] += len(query)
    counters["exact"] += len(query)

    exact = np.empty(len(query))
    names = np.empty(len(query), np.int64)
    step = max(1, _CHUNK_BYTES // (32 * dimensions))
    for number, (arrays, rows) in enumerate(found):
        here = np.flatnonzero(part == number)
        if not len(here):
            continue
        local = row[here] + rows.start if isinstance(rows, slice) else rows[row[here]]
        names[here] = arrays.ids[local]
        for start in range(0, len(here), step):
            some, at = here[start : start + step], local[start : start + step]
            exact[some] = _scores(
                arrays.rows[at, :dimensions],
                doubles[query[some]],
                arrays.norms[at],
                lengths[query[some]],
                metric,
                counters,
            )
    ordered = np.lexsort((names, exact if metric == SQUARED_DISTANCE else -exact, query))
    starts = np.searchsorted(query[ordered], np.arange(len(queries)))
    best_of_each = ordered[starts[:, None] + np.arange(width)]
    ids[:] = names[best_of_each]
    scores[:] = exact[best_of_each]


def _bounds(
    products: NDArray[np.float64],
    row_norms: NDArray[np.float64],
    query_norms: NDArray[np.float64],
    dimensions: int,
    metric: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Approximate scores, the larger the better, and at least by how much the rounded exact one may differ.

    The factor is twice what the sum and the operations after it can be off by.
    """
    factor = (dimensions + 16) * 2.0**-52
    x, q = row_norms[None, :], query_norms[:, None]
    if metric == INNER_PRODUCT:
        return products, factor * x * q
    if metric == COSINE:
        lengths = x * q
        return products / np.where(lengths > 0, lengths, 1.0), np.where(lengths > 0, factor, 0.0)
    return 2 * products - x * x - q * q, factor * (x + q) ** 2


def _scores(
    rows: NDArray[np.float32],
    queries: NDArray[np.float64],
    row_norms: NDArray[np.float64],
    query_norms: NDArray[np.float64],
    metric: int,
    counters: dict[str, int],
) -> NDArray[np.float64]:
    """The exact score of each pair of a row and a query."""
    values = rows.astype(np.float64)
    terms = values * queries
    if metric == SQUARED_DISTANCE:
        terms = np.concatenate((values * values, queries * queries, -2 * terms), axis=1)
    result, summed = sums(terms)
    counters["summed"] += summed
    if metric == COSINE:
        lengths = row_norms * query_norms
        result = np.where(lengths > 0, result / np.where(lengths > 0, lengths, 1.0), 0.0)
    return result


class IdTable:
    """Which slot an id is in. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def insert(self, ids: NDArray[np.int64], first_slot: int) -> int:
        """Enter ids for consecutive slots. Returns -1, or the position of the first id that is there already; then none is entered."""
        slots = self._slots
        numbers = ids.tolist()
        for position, number in enumerate(numbers):
            if slots.setdefault(number, first_slot + position) != first_slot + position:
                for entered in numbers[:position]:
                    del slots[entered]
                return position
        return -1

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slot of each id, -1 where it is not there."""
        return np.fromiter((self._slots.get(each, -1) for each in ids.tolist()), np.int64, len(ids))

    def erase(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same, and the ids are gone."""
        return np.fromiter((self._slots.pop(each, -1) for each in ids.tolist()), np.int64, len(ids))

    def bytes(self) -> int:
        """Memory it takes, about."""
        return sys.getsizeof(self._slots) + 64 * len(self._slots)
