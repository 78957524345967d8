"""The header of a GGUF file: what it says about itself and the formats of its weights, without touching the weights.

Layout: github.com/ggml-org/ggml, docs/gguf.md. The library `gguf` reads it too, token by token, which takes seconds.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from aifw.errors import InputInvalid

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_MOST_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about itself.

    Attributes:
        stated: Single values by key, such as `general.license`; lists are left out.
        formats: Number of weights by format, such as `Q4_1`.
    """

    stated: dict[str, Any]
    formats: Counter[str]

    @property
    def format(self) -> str:
        """The format most weights are in."""
        return max(sorted(self.formats), key=lambda name: self.formats[name])


def read_header(path: Path) -> Header:
    """Read the header.

    Raises:
        InputInvalid: Not a GGUF file, or cut off.
    """
    from gguf.constants import GGMLQuantizationType

    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ValueError("it does not begin with GGUF")
            version, tensors, entries = _unpack(file, "IQQ")
            if version not in {2, 3}:
                raise ValueError(f"version {version} of the format is not known")
            stated: dict[str, Any] = {}
            for _ in range(entries):
                key = _text(file)
                (kind,) = _unpack(file, "I")
                value = _value(file, kind)
                if value is not None:
                    stated[key] = value
            formats: Counter[str] = Counter()
            for _ in range(tensors):
                _text(file)
                (dimensions,) = _unpack(file, "I")
                shape = _unpack(file, f"{dimensions}Q")
                kind, _ = _unpack(file, "IQ")
                formats[GGMLQuantizationType(kind).name] += prod(shape)
    except (OSError, ValueError, struct.error, MemoryError) as error:
        raise InputInvalid(f"{path.name} is not a whole GGUF file: {error}") from error
    if not formats:
        raise InputInvalid(f"{path.name} holds no weights")
    return Header(stated, formats)


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack("<" + layout, file.read(struct.calcsize("<" + layout)))


def _text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    return _bytes(file, length).decode("utf-8", errors="replace")


def _bytes(file: BinaryIO, length: int) -> bytes:
    if length > _MOST_BYTES:
        raise ValueError(f"an entry of {length} bytes")
    content = file.read(length)
    if len(content) != length:
        raise ValueError("it is cut off")
    return content


def _value(file: BinaryIO, kind: int) -> Any:
    """A single value, or None for a list, which is skipped."""
    if kind == _TEXT:
        return _text(file)
    if kind != _LIST:
        if kind not in _NUMBERS:
            raise ValueError(f"type {kind} of a value is not known")
        return _unpack(file, _NUMBERS[kind])[0]
    inner, count = _unpack(file, "IQ")
    if inner in _NUMBERS:
        _bytes(file, count * struct.calcsize(_NUMBERS[inner]))
    else:
        for _ in range(count):
            _value(file, inner)
    return None
