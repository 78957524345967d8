"""Vectors as callers have them, turned into float32 a few MiB at a time; ids and settings of a search, checked.

Every real type is taken: float16, bfloat16, float32, integers; what float32 cannot hold exactly (float64, large integers) is rounded
to the nearest. Vectors come as numpy arrays and memory maps (of any strides), torch tensors, ml_dtypes arrays, whatever numpy takes
(`__array__`, the buffer protocol, DLPack, lists), or what has a shape and a dtype and can be sliced (h5py, zarr).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifw.errors import InputInvalid
from aifw.search.arrays import MOST_DIMENSIONS

BLOCK_BYTES = 8 << 20
"""About as much is converted at a time."""

HIGHEST_ID = (1 << 63) - 1
_BFLOAT = "bfloat16"


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors that can be read in blocks.

    Attributes:
        write: `write(first, last, into)` puts rows `first` to `last` (not included) into a float32 array of that many rows.
    """

    rows: int
    dimensions: int
    write: Callable[[int, int, NDArray[np.float32]], None]

    def rows_of_a_block(self) -> int:
        """How many rows to convert at a time."""
        return max(16, BLOCK_BYTES // (4 * self.dimensions))


def as_vectors(
    vectors: Any, *, dtype: str | None = None, dimensions: int | None = None, what: str = "vectors"
) -> Vectors:
    """Look at vectors without copying them.

    Args:
        vectors: rows x dimensions, of a real type.
        dtype: `bfloat16` says that an array of uint16 holds bfloat16 bits, `uint16` that it holds numbers.
        dimensions: What is expected.
        what: How messages call them.

    Raises:
        InputInvalid: They are not two-dimensional, not of a real type, or of other dimensions.
    """
    source, shape, write = _source(vectors, dtype, what)
    if len(shape) != 2:
        raise InputInvalid(
            f"{what} have the shape {shape}; rows x dimensions were expected",
            hint="one vector is an array of one row: vector[None]" if len(shape) == 1 and shape[0] else None,
        )
    rows, found = shape
    if dimensions is not None:
        _check_dimensions(found, dimensions, what)
    if not 1 <= found <= MOST_DIMENSIONS:
        raise InputInvalid(f"{what} have {found:,} dimensions; from 1 to {MOST_DIMENSIONS:,} are possible")
    del source
    return Vectors(rows, found, write)


def _check_dimensions(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise InputInvalid(f"{what} have {found:,} dimensions; those of the index have {expected:,}")


def as_queries(queries: Any, dimensions: int) -> tuple[NDArray[np.float32], bool]:
    """Queries as a contiguous array n x dimensions, and whether one vector alone was given.

    Raises:
        InputInvalid: Of another shape or type, or not finite.
    """
    if isinstance(queries, np.ndarray) and queries.dtype == np.float32 and queries.ndim in {1, 2}:
        alone = queries.ndim == 1
        copy = np.ascontiguousarray(queries[None] if alone else queries)
        _check_dimensions(copy.shape[1], dimensions, "queries")
    else:
        _, shape, _ = _source(queries, None, "queries")
        alone = len(shape) == 1
        if alone:
            queries = queries[None] if hasattr(queries, "ndim") else [queries]
        source = as_vectors(queries, dimensions=dimensions, what="queries")
        copy = np.empty((source.rows, dimensions), np.float32)
        source.write(0, source.rows, copy)
    if not np.isfinite(copy).all():
        row = int(np.argmin(np.isfinite(copy).all(axis=1)))
        raise InputInvalid(
            f"query {row:,} (counted from 0) holds NaN or infinity in float32"
            if not alone
            else "the query holds NaN or infinity in float32"
        )
    return copy, alone


def as_ids(ids: Any, rows: int | None = None) -> NDArray[np.int64]:
    """Ids as int64.

    Args:
        ids: One-dimensional, of an integer type.
        rows: How many are expected.

    Raises:
        InputInvalid: Of another shape, type or number, or larger than int64 holds.
    """
    found = np.asarray(ids.detach().cpu() if _is_tensor(ids) else ids)
    if found.size == 0 and found.ndim == 1 and found.dtype.kind == "f":
        found = found.astype(np.int64)  # an empty list
    if found.ndim == 0:
        raise InputInvalid(f"ids are one {type(ids).__name__}; a list of integers was expected")
    if found.ndim != 1:
        raise InputInvalid(f"ids have the shape {found.shape}; a list of integers was expected")
    # Of larger integers in a list, numpy makes other types.
    beyond = (
        np.array([isinstance(each, int) and not -HIGHEST_ID - 1 <= each <= HIGHEST_ID for each in ids])
        if found.dtype.kind in "fO" and isinstance(ids, (list, tuple))
        else found > HIGHEST_ID
        if found.dtype == np.uint64
        else np.zeros(0, bool)
    )
    if beyond.any():
        position = int(np.argmax(beyond))
        raise InputInvalid(f"id {ids[position]} at position {position:,} does not fit into a signed 64-bit integer")
    if found.dtype.kind not in "iu":
        raise InputInvalid(
            f"ids are of type {found.dtype}; 64-bit integers were expected",
            hint="of a boolean mask, numpy.flatnonzero makes positions" if found.dtype.kind == "b" else None,
        )
    if rows is not None and len(found) != rows:
        raise InputInvalid(f"there are {len(found):,} ids for {rows:,} vectors")
    return found.astype(np.int64, copy=False)


def as_id_set(ids: Any) -> NDArray[np.int64]:
    """Ids whose order does not matter; see `as_ids`. A set and the keys of a dictionary are taken, too."""
    return as_ids(list(ids) if isinstance(ids, AbstractSet) else ids)


def as_count(value: Any, name: str, most: int | None = None) -> int:
    """A number of something, at least 1.

    Raises:
        InputInvalid: It is something else, or more than `most`.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise InputInvalid(f"{name} is {value!r}; an integer was expected")
    if value < 1:
        raise InputInvalid(f"{name} is {value}; at least 1 was expected")
    if most is not None and value > most:
        raise InputInvalid(f"{name} is {value}; at most {most} was expected")
    return int(value)


Writer = Callable[[int, int, NDArray[np.float32]], None]


def _is_tensor(value: Any) -> bool:
    """Whether this is a torch tensor, without importing torch."""
    return any(base.__module__.partition(".")[0] == "torch" for base in type(value).__mro__) and hasattr(
        value, "detach"
    )


def _source(vectors: Any, dtype: str | None, what: str) -> tuple[Any, tuple[int, ...], Writer]:
    if _is_tensor(vectors):
        return _tensor(vectors, dtype, what)
    if isinstance(vectors, np.ndarray):
        array: Any = vectors
    elif all(hasattr(vectors, name) for name in ("shape", "dtype", "__getitem__")) and not hasattr(
        vectors, "__dlpack__"
    ):
        array = vectors
    else:
        array = _array(vectors, what)
    try:
        given = np.dtype(array.dtype)
    except TypeError as error:
        raise InputInvalid(f"{what} are of type {array.dtype}; a real type was expected") from error
    shape = tuple(int(each) for each in array.shape)
    bits = given.kind == "V" and given.name == _BFLOAT
    if given == np.uint16 and dtype is None:
        raise InputInvalid(
            f"{what} are of type uint16, which may be numbers or the bits of bfloat16",
            hint='say dtype="bfloat16" or dtype="uint16"',
        )
    if given == np.uint16 and dtype == _BFLOAT:
        bits = True
    elif dtype is not None and dtype != given.name:
        raise InputInvalid(f"{what} are of type {given}, not {dtype}")
    if bits:

        def write(first: int, last: int, into: NDArray[np.float32]) -> None:
            block = np.asarray(array[first:last]).view(np.uint16)
            np.left_shift(block, 16, out=into.view(np.uint32), dtype=np.uint32)

        return array, shape, write
    if given.kind not in "fiu":
        raise InputInvalid(f"{what} are of type {given}; a real type was expected")

    def cast(first: int, last: int, into: NDArray[np.float32]) -> None:
        # What is too large for float32 becomes infinity, which is refused with its row.
        with np.errstate(over="ignore"):
            np.copyto(into, np.asarray(array[first:last]), casting="unsafe")

    return array, shape, cast


def _array(vectors: Any, what: str) -> NDArray[Any]:
    try:
        if hasattr(vectors, "__dlpack__") and not hasattr(vectors, "__array__"):
            return np.from_dlpack(vectors)
        return np.asarray(vectors)
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise InputInvalid(f"{what} cannot be read as an array: {error}") from error


def _tensor(tensor: Any, dtype: str | None, what: str) -> tuple[Any, tuple[int, ...], Writer]:
    """A torch tensor, on any device, by its own methods."""
    name = str(tensor.dtype).removeprefix("torch.")
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized or tensor.device.type == "meta":
        raise InputInvalid(f"{what} are a tensor without plain numbers ({tensor.layout}, {tensor.device})")
    if name == "bool" or name.startswith("complex"):
        raise InputInvalid(f"{what} are of type {name}; a real type was expected")
    if dtype is not None and dtype != name:
        raise InputInvalid(f"{what} are of type {name}, not {dtype}")
    plain = tensor.detach()

    def write(first: int, last: int, into: NDArray[np.float32]) -> None:
        np.copyto(into, plain[first:last].float().cpu().numpy())

    return plain, tuple(plain.shape), write
