"""Writes a folder of stored vectors part by part, the same bytes for the same vectors.

Parts are files of their own so that vectors that only grew need no more disk space than what was added: a part that is the same as
before is linked, not written.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aifw.errors import InputInvalid
from aifw.search.arrays import ITEM_BYTES
from aifw.search.stored import MANIFEST, SAFETENSORS_NAMES, Manifest, Part, Reader, file_name, rows_of_a_part

_HEADER_BYTES = 512
"""Of a part; the same for any number of rows, so that it can be written last."""


class Writer:
    """Writes a folder of stored vectors; `close` completes it. In a `with` statement that is done unless an error ends it.

    Args:
        folder: An empty folder.
        former: A folder of stored vectors from before whose parts may be linked, or None.

    Attributes:
        rows: Added so far.
        linked: How many parts are those of the former folder.
        facts: Of the output, once it is complete.
    """

    def __init__(self, folder: Path, dimensions: int, dtype: str, former: Path | None = None) -> None:
        self.rows = 0
        self.linked = 0
        self.facts: dict[str, Any] = {}
        self._folder = folder
        self._dimensions = dimensions
        self._dtype = dtype
        self._former = former
        self._known = _known_parts(former, dimensions, dtype)
        self._most = rows_of_a_part(dimensions, dtype)
        self._parts: list[Part] = []
        self._ids: list[NDArray[np.int64]] = []
        self._positions = True
        self._open()

    def _open(self) -> None:
        self._path = self._folder / file_name(len(self._parts))
        self._file = self._path.open("wb")
        self._file.write(bytes(_HEADER_BYTES))
        self._digest = sha256()
        self._rows_here = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()

    def add(self, vectors: NDArray[Any], ids: NDArray[np.int64]) -> None:
        """Add rows.

        Args:
            vectors: n x dimensions, contiguous, of `stored_dtype(dtype)`, finite.
            ids: n, none of them used before. Neither is checked here.
        """
        done = 0
        while done < len(vectors):
            if self._rows_here == self._most:
                self._finish_part()
                self._open()
            block = vectors[done : done + self._most - self._rows_here]
            raw = np.ascontiguousarray(block).data.cast("B")
            self._file.write(raw)
            self._digest.update(raw)
            here = np.array(ids[done : done + len(block)], dtype="<i8")
            self._positions &= bool((here == np.arange(self.rows, self.rows + len(here))).all())
            self._ids.append(here)
            self.rows += len(block)
            self._rows_here += len(block)
            done += len(block)

    def close(self) -> None:
        """Complete the folder."""
        if self._rows_here:
            self._finish_part()
        else:
            self._file.close()
            self._path.unlink()
        ids = "positions" if self._positions else "given"
        manifest = Manifest(self.rows, self._dimensions, self._dtype, ids, tuple(self._parts))
        (self._folder / MANIFEST).write_text(json.dumps(manifest.as_json(), indent=1) + "\n", encoding="utf-8")
        self.facts = {**asdict(manifest), "parts": len(self._parts)}

    def _finish_part(self) -> None:
        ids = np.concatenate(self._ids)
        raw = ids.tobytes()
        self._file.write(raw)
        rows, size = self._rows_here, self._rows_here * self._dimensions * ITEM_BYTES[self._dtype]
        header = {
            "vectors": {
                "dtype": SAFETENSORS_NAMES[self._dtype],
                "shape": [rows, self._dimensions],
                "data_offsets": [0, size],
            },
            "ids": {"dtype": "I64", "shape": [rows], "data_offsets": [size, size + ids.nbytes]},
        }
        text = json.dumps(header, separators=(",", ":")).encode().ljust(_HEADER_BYTES - 8)
        self._file.seek(0)
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.close()
        part = Part(rows, self._digest.hexdigest(), sha256(raw).hexdigest())
        self._link(part)
        self._parts.append(part)
        self._ids.clear()

    def _link(self, part: Part) -> None:
        """Put the same file of the former folder in the place of the one just written. Never written to again, it can be shared."""
        number = len(self._parts)
        if self._former is None or self._known[number : number + 1] != (part,):
            return
        former = self._former / file_name(number)
        # The digest is of what it held when it was made; what it holds now is what counts.
        if former.is_file() and filecmp.cmp(former, self._path, shallow=False) and link(former, self._path):
            self.linked += 1


def link(source: Path, target: Path) -> bool:
    """Let `target` be the same file as `source`; False, and nothing changed, where the file system cannot."""
    temporary = target.with_name(f".{target.name}")
    try:
        os.link(source, temporary)
    except OSError:
        return False
    temporary.replace(target)
    return True


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file that is never written to again at a second place."""
    if not link(source, target):
        shutil.copyfile(source, target)


def _known_parts(former: Path | None, dimensions: int, dtype: str) -> tuple[Part, ...]:
    try:
        found = Reader(former).manifest if former is not None else None
    except InputInvalid:
        return ()
    return found.parts if found is not None and (found.dimensions, found.dtype) == (dimensions, dtype) else ()
