"""A folder of stored vectors, read in blocks; `storing` writes it. The layout is that of `aifw.search.kinds.StoredVectors`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aifw.errors import InputInvalid
from aifw.search.arrays import ITEM_BYTES, Array, read_arrays

FORMAT = "aifw.vectors/v1"
MANIFEST = "vectors.json"
BLOCK_BYTES = 4 * 1024**2
"""About as much is read and held at a time."""

_PART_BYTES = 64 * 1024**2
_MOST_ROWS_OF_A_PART = 65_536
SAFETENSORS_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What safetensors calls the types of number that are stored."""
_STORED_AS = {"bfloat16": np.dtype("<u2")}
"""numpy has no bfloat16; its bits are kept as they are."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file: its rows, and the sha256 of its vectors and of its ids as bytes."""

    rows: int
    vectors: str
    ids: str


def file_name(number: int) -> str:
    """Name of a part, counted from 0."""
    return f"{number:05d}.safetensors"


def rows_of_a_part(dimensions: int, dtype: str) -> int:
    """How many rows every part but the last has: a power of two, so that a part is at most 64 MiB, and at least 16 rows."""
    fitting = _PART_BYTES // (dimensions * ITEM_BYTES[dtype])
    return max(16, min(_MOST_ROWS_OF_A_PART, 1 << max(0, fitting.bit_length() - 1)))


def rows_of_a_block(dimensions: int, dtype: str) -> int:
    """How many rows to hold at a time."""
    return max(16, BLOCK_BYTES // (dimensions * ITEM_BYTES[dtype]))


def stored_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy type that holds the bytes of a type of number."""
    return _STORED_AS.get(dtype) or np.dtype(dtype).newbyteorder("<")


def as_float32(block: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """The same numbers in float32; every stored type fits into it exactly."""
    if dtype == "bfloat16":
        return (block.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return block.astype(np.float32, copy=False)


def read_block(file: Any, array: Array, first: int, rows: int) -> NDArray[Any]:
    """Rows of an array in an open file, in a buffer of their own.

    Raises:
        InputInvalid: The file ends before them.
    """
    dtype = stored_dtype(array.dtype)
    width = dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    block = np.empty((rows, *array.shape[1:]), dtype)
    file.seek(array.offset + first * width)
    if file.readinto(block.data.cast("B")) != block.nbytes:
        raise InputInvalid(f"{array} ended while it was read", hint="is it being written? Run the same command again")
    return block


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `vectors.json` says.

    Attributes:
        rows: Of all parts.
        dtype: Name of the type of number.
        ids: `positions` if they count the rows from 0, else `given`.
    """

    rows: int
    dimensions: int
    dtype: str
    ids: str
    parts: tuple[Part, ...]

    def as_json(self) -> dict[str, Any]:
        """For `read`."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def read(cls, content: Any) -> Self:
        """Take what `as_json` gave.

        Raises:
            ValueError: It is something else.
        """
        try:
            head = {name: content[name] for name in ("rows", "dimensions", "dtype", "ids")}
            found = cls(**head, parts=tuple(Part(**each) for each in content["parts"]))
            known = content["format"] == FORMAT and found.dtype in SAFETENSORS_NAMES and found.dimensions > 0
            whole = known and [part.rows for part in found.parts] == list(found._rows_of_parts())
        except (KeyError, TypeError) as error:
            raise ValueError("an entry is missing or of the wrong type") from error
        if not whole:
            raise ValueError("it is of another format, or contradicts itself")
        return found

    def _rows_of_parts(self) -> Iterator[int]:
        each = rows_of_a_part(self.dimensions, self.dtype)
        return (min(each, self.rows - first) for first in range(0, self.rows, each))


class Reader:
    """Reads a folder of stored vectors.

    Raises:
        InputInvalid: The folder holds no stored vectors, or its parts do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.manifest = Manifest.read(json.loads((folder / MANIFEST).read_bytes()))
        except OSError as error:
            raise InputInvalid(f"{folder} holds no stored vectors: there is no readable {MANIFEST}") from error
        except ValueError as error:
            raise InputInvalid(f"{folder / MANIFEST} is broken: {error}") from error
        self.rows, self.dimensions = self.manifest.rows, self.manifest.dimensions
        self._arrays: dict[int, dict[str, Array]] = {}

    def blocks(self, first: int = 0) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Vectors (n x dimensions, in float32) and their ids from row `first` on, about 4 MiB at a time.

        Raises:
            InputInvalid: A part is missing or broken.
        """
        most = rows_of_a_block(self.dimensions, "float32")
        for row in range(first, self.rows, most):
            last = min(row + most, self.rows)
            yield self.vectors(row, last), self.ids(row, last)

    def vectors(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows `first` to `last` (not included), in float32.

        Raises:
            InputInvalid: A part is missing or broken.
        """
        found = np.empty((last - first, self.dimensions), np.float32)
        for number, begin, end, place in self._spans(first, last):
            block = self._read(number, "vectors", begin, end)
            found[place : place + end - begin] = as_float32(block, self.manifest.dtype)
        return found

    def ids(self, first: int, last: int) -> NDArray[np.int64]:
        """Ids of rows `first` to `last` (not included).

        Raises:
            InputInvalid: A part is missing or broken.
        """
        found = np.empty(last - first, np.int64)
        for number, begin, end, place in self._spans(first, last):
            found[place : place + end - begin] = self._read(number, "ids", begin, end)
        return found

    def rows_of(self, rows: NDArray[np.int64]) -> Rows:
        """Some of the rows, to be read when they are asked for."""
        return Rows(self, rows)

    def beginning(self, number: int, rows: int) -> Part:
        """What a part would be if it ended after so many rows."""
        digest = sha256()
        most = rows_of_a_block(self.dimensions, self.manifest.dtype)
        for first in range(0, rows, most):
            digest.update(self._read(number, "vectors", first, min(first + most, rows)).data.cast("B"))
        return Part(rows, digest.hexdigest(), sha256(self._read(number, "ids", 0, rows).tobytes()).hexdigest())

    def grown_from(self, former: Manifest) -> int | None:
        """How many rows there were formerly, if these are still the first ones and unchanged; None if they are not.

        Full parts are compared by their digests. The last one of before may have been filled up since, so its rows are read.
        """
        now = self.manifest
        if (former.dimensions, former.dtype) != (now.dimensions, now.dtype) or former.rows > now.rows:
            return None
        for number, (before, here) in enumerate(zip(former.parts, now.parts, strict=False)):
            if before != here and (before.rows >= here.rows or self.beginning(number, before.rows) != before):
                return None
        return former.rows

    def _spans(self, first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
        """The parts that rows lie in: number, first and last row within it, and place among the rows asked for."""
        each = rows_of_a_part(self.dimensions, self.manifest.dtype)
        row = first
        while row < last:
            number, begin = divmod(row, each)
            end = min(each, begin + last - row)
            yield number, begin, end, row - first
            row += end - begin

    def _read(self, number: int, name: str, first: int, last: int) -> NDArray[Any]:
        if number not in self._arrays:
            path = self.folder / file_name(number)
            arrays, rows = read_arrays(path), self.manifest.parts[number].rows
            found = {key: (array.dtype, array.shape) for key, array in arrays.items()}
            if found != {"vectors": (self.manifest.dtype, (rows, self.dimensions)), "ids": ("int64", (rows,))}:
                raise InputInvalid(f"{path} does not hold what {MANIFEST} says")
            self._arrays[number] = arrays
        array = self._arrays[number][name]
        with array.path.open("rb") as file:
            return read_block(file, array, first, last - first)


class Rows:
    """Chosen rows as an array that reads what is sliced out of it.

    Args:
        rows: Ascending.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, reader: Reader, rows: NDArray[np.int64]) -> None:
        self._reader = reader
        self._rows = rows
        self.shape = (len(rows), reader.dimensions)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: slice) -> NDArray[np.float32]:
        runs = self._runs(which)
        return (
            np.concatenate([self._reader.vectors(*run) for run in runs])
            if runs
            else np.empty((0, self.shape[1]), self.dtype)
        )

    def ids(self) -> NDArray[np.int64]:
        """Of every row."""
        runs = self._runs(slice(None))
        return np.concatenate([self._reader.ids(*run) for run in runs]) if runs else np.empty(0, np.int64)

    def _runs(self, which: slice) -> list[tuple[int, int]]:
        """First and last row (not included) of each run without a gap."""
        rows = self._rows[which]
        parts = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]
