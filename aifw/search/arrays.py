"""Where the numbers lie in a `.npy` or `.safetensors` file, from its header alone. Standard library only, so that planning may look.

Sources: NumPy Enhancement Proposal 1 with versions 2 and 3 of `numpy.lib.format`; the description of the format in the README of
huggingface/safetensors. Nothing pickled is ever read.
"""

from __future__ import annotations

import ast
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from aifw.errors import InputInvalid

NUMPY = ".npy"
SAFETENSORS = ".safetensors"
ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("bool", "int8", "uint8"), 1),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64"), 8),
}
"""Bytes of an element, by the name of its type."""

MOST_DIMENSIONS = 1 << 16
"""Of a vector in an index."""

_MAGIC = b"\x93NUMPY"
_LENGTH_FORMATS = {1: "<H", 2: "<I", 3: "<I"}
_LONGEST_NUMPY_HEADER = 1 << 16
_LONGEST_SAFETENSORS_HEADER = 100_000_000
_NUMPY_TYPES = {
    "<f2": "float16",
    "<f4": "float32",
    "<f8": "float64",
    "|b1": "bool",
    "|i1": "int8",
    "|u1": "uint8",
    **{f"<{letter}{size}": f"{name}{8 * size}" for letter, name in (("i", "int"), ("u", "uint")) for size in (2, 4, 8)},
}
_SAFETENSORS_TYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "BOOL": "bool",
    **{
        f"{letter}{8 * size}": f"{name}{8 * size}"
        for letter, name in (("I", "int"), ("U", "uint"))
        for size in (1, 2, 4, 8)
    },
}


@dataclass(frozen=True, slots=True)
class Array:
    """Numbers in a file, row by row, little-endian.

    Attributes:
        name: Of the tensor; empty in a `.npy` file.
        dtype: Name of the type as numpy has it, `bfloat16`, or what the file calls a type that is not known here.
        offset: Of the first byte.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Bytes; 0 if the type is not known."""
        return prod(self.shape) * ITEM_BYTES.get(self.dtype, 0)

    def __str__(self) -> str:
        return f"tensor `{self.name}` of {self.path}" if self.name else str(self.path)


def read_arrays(path: Path) -> dict[str, Array]:
    """What a file holds, by name; the array of a `.npy` file has no name.

    Raises:
        InputInvalid: It is not there, neither of the two formats, broken or cut short.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if path.suffix == NUMPY:
                found = [_numpy(path, file)]
            elif path.suffix == SAFETENSORS:
                found = _safetensors(path, file, size)
            else:
                raise InputInvalid(
                    f"{path} is neither a .npy nor a .safetensors file",
                    hint="write one with `numpy.save(PATH, vectors)` or `safetensors.numpy.save_file`",
                )
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    for array in found:
        if array.offset + array.size > size:
            raise InputInvalid(
                f"{array} is cut short: {array.size:,} bytes of numbers were expected, {max(0, size - array.offset):,} are there",
                hint="was it copied or written completely?",
            )
    return {array.name: array for array in found}


def _numpy(path: Path, file: BinaryIO) -> Array:
    start = file.read(8)
    if start[:6] != _MAGIC or len(start) < 8:
        raise InputInvalid(f"{path} is not a .npy file: it does not begin with \\x93NUMPY")
    form = _LENGTH_FORMATS.get(start[6])
    if form is None:
        raise InputInvalid(f"{path} has version {start[6]} of the .npy format; 1, 2 and 3 can be read")
    length = _number(path, file, form)
    text = file.read(length) if length <= _LONGEST_NUMPY_HEADER else b""
    if len(text) < length or not length:
        raise InputInvalid(f"{path} has a broken .npy header")
    try:
        header = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin-1").strip())
        described, turned, shape = header["descr"], header["fortran_order"], tuple(header["shape"])
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise InputInvalid(f"{path} has a broken .npy header") from error
    _check_shape(path, shape)
    if turned and len(shape) > 1:
        raise InputInvalid(
            f"{path} is stored column by column",
            hint="numpy.save(PATH, numpy.ascontiguousarray(vectors)) stores it row by row",
        )
    dtype = _NUMPY_TYPES.get(described, str(described)) if isinstance(described, str) else "a structured type"
    return Array(path, "", dtype, shape, 8 + struct.calcsize(form) + length)


def _safetensors(path: Path, file: BinaryIO, size: int) -> list[Array]:
    length = _number(path, file, "<Q")
    if not 2 <= length <= min(_LONGEST_SAFETENSORS_HEADER, size - 8):
        raise InputInvalid(f"{path} is not a .safetensors file, or cut short: its header would have {length:,} bytes")
    try:
        header = json.loads(file.read(length))
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        found = [_tensor(path, name, entry, 8 + length) for name, entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputInvalid(f"{path} has a broken .safetensors header") from error
    if not found:
        raise InputInvalid(f"{path} holds no tensor")
    return found


def _tensor(path: Path, name: str, entry: Mapping[str, Any], base: int) -> Array:
    shape = tuple(entry["shape"])
    _check_shape(path, shape)
    begin, end = entry["data_offsets"]
    array = Array(path, name, _SAFETENSORS_TYPES.get(entry["dtype"], str(entry["dtype"])), shape, base + begin)
    if not 0 <= begin <= end or (array.dtype in ITEM_BYTES and end - begin != array.size):
        raise InputInvalid(
            f"{path} has a broken .safetensors header: the place of {array.name!r} does not fit its shape"
        )
    return array


def _number(path: Path, file: BinaryIO, form: str) -> int:
    size = struct.calcsize(form)
    found = file.read(size)
    if len(found) < size:
        raise InputInvalid(f"{path} ends within its header")
    return int(struct.unpack(form, found)[0])


def _check_shape(path: Path, shape: tuple[Any, ...]) -> None:
    if not all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in shape):
        raise InputInvalid(f"{path} has a broken header: {shape} is not a shape")
