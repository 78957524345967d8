"""Reading an index from disk, where nothing is believed that can be checked; `storage` says what lies there."""

from __future__ import annotations

import json
import mmap
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from aifw.errors import ArtifactCorrupt, InputInvalid, StateError, StateTooNew
from aifw.search.arrays import MOST_DIMENSIONS
from aifw.search.backend import METRICS
from aifw.search.segment import BLOCK_ROWS, HEADER_BYTES, Segment, layout, over, rounded
from aifw.search.vectors import HIGHEST_ID

FORMAT = "aifw.index"
VERSION = 1
MANIFEST = "manifest.json"
NAME = re.compile(r"[0-9a-f]{64}\.(segment|mask)")
"""Names of files that belong to an index."""

_MAGIC = b"aifw.seg"
_FIELDS = struct.Struct("<8sIIqqqd")  # magic, version, metric, dimensions, rows, bytes, largest norm
_DIGEST_AT = HEADER_BYTES - 32
_MOST_ROWS = 1 << 40
_MOST_MANIFEST_BYTES = 1 << 26
_PIECE = 4 << 20
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Description:
    """What an index is, apart from its rows.

    Attributes:
        next_id: The first automatic id that is free.
    """

    metric: str
    dimensions: int
    next_id: int


@dataclass(frozen=True, slots=True)
class Found:
    """An index that was read; `digest` is that of its manifest."""

    description: Description
    segments: list[Segment]
    digest: str


def load(directory: Path, *, verify: bool = False) -> Found:
    """Map an index.

    Args:
        directory: Of the index.
        verify: Compare every byte with its digest. Without it the manifest, the headers and the masks are checked, and no size is
            believed, but altered vectors are not noticed.

    Raises:
        InputInvalid: There is no index.
        ArtifactCorrupt: It is incomplete, cut short or altered.
        StateTooNew: A newer aifw wrote it.
    """
    seen = ""
    for attempt in range(_ATTEMPTS):
        with _readable(directory):
            content, digest = read_manifest(directory)
        try:
            return _read(directory, content, digest, verify)
        except ArtifactCorrupt:
            # Saved over between the two readings: what the old manifest names is gone, the new one is complete.
            if digest == seen or attempt == _ATTEMPTS - 1:
                raise
            seen = digest
    raise AssertionError


def read_manifest(directory: Path) -> tuple[dict[str, Any], str]:
    """The manifest of an index and its digest; see `load` for errors."""
    path = directory / MANIFEST
    try:
        with _regular(path) as file:
            text = file.read(_MOST_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        if not directory.exists():
            raise InputInvalid(f"there is no index at {directory}") from None
        if any(directory.iterdir()):
            _corrupt(directory, f"it holds no {MANIFEST}: it is no index, or was never saved completely")
        raise InputInvalid(f"{directory} is empty: there is no index") from None
    except NotADirectoryError:
        raise InputInvalid(f"{directory} is a file; an index is a folder") from None
    try:
        found = json.loads(text) if len(text) <= _MOST_MANIFEST_BYTES else None
    except (ValueError, RecursionError):
        _corrupt(path, "it is not JSON")
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        _corrupt(path, "it is not the manifest of an index")
    version: Any = found.get("version")
    if not _integer(version, 1, HIGHEST_ID):
        _corrupt(path, f"its version is {version!r}")
    if version > VERSION:
        raise StateTooNew(f"{path} has version {version}; this aifw reads up to {VERSION}", hint="use a newer aifw")
    digest = found.pop("digest", None)
    try:
        actual = manifest_digest(found)
    except (ValueError, RecursionError):
        _corrupt(path, "it is altered")
    if digest != actual:
        _corrupt(path, "it does not match its digest: it is altered or cut short")
    return found, actual


def _read(directory: Path, content: dict[str, Any], digest: str, verify: bool) -> Found:
    path = directory / MANIFEST
    keys = {"format", "version", "metric", "dimensions", "count", "next_id", "segments"}
    if set(content) != keys:
        _corrupt(path, f"it has the wrong entries: {', '.join(sorted(set(content) ^ keys))}")
    metric, dimensions, next_id = content["metric"], content["dimensions"], content["next_id"]
    if not isinstance(metric, str) or metric not in METRICS:
        _corrupt(path, f"its metric is {metric!r}")
    if not _integer(dimensions, 1, MOST_DIMENSIONS):
        _corrupt(path, f"its dimensions are {dimensions!r}")
    if not _integer(next_id, 0, HIGHEST_ID + 1) or not isinstance(content["segments"], list):
        _corrupt(path, "it is not well formed")
    description = Description(metric, dimensions, next_id)
    segments = [_read_segment(directory, description, each, verify) for each in content["segments"]]
    if len({each.file for each in segments}) != len(segments):
        _corrupt(path, "it names a segment twice")
    if not _integer(content["count"], 0, _MOST_ROWS) or content["count"] != sum(each.live for each in segments):
        _corrupt(
            path, f"it counts {content['count']!r} rows; its segments have {sum(each.live for each in segments):,}"
        )
    return Found(description, segments, digest)


def _read_segment(directory: Path, description: Description, entry: Any, verify: bool) -> Segment:
    path = directory / MANIFEST
    if not isinstance(entry, dict) or set(entry) != {"file", "rows", "bytes", "sha256", "first_id", "mask"}:
        _corrupt(path, "the entry of a segment is not well formed")
    name, rows, digest = entry["file"], entry["rows"], entry["sha256"]
    if not isinstance(name, str) or not NAME.fullmatch(name) or name != f"{digest}.segment":
        _corrupt(path, f"it names a segment {name!r}")
    if not _integer(rows, 1, _MOST_ROWS):
        _corrupt(path, f"segment {name[:12]} has {rows!r} rows")
    capacity = rounded(rows)
    size = layout(description.dimensions, capacity)[1]
    if not _integer(entry["bytes"], size, size):
        _corrupt(path, f"segment {name[:12]} has {entry['bytes']!r} bytes; {rows:,} rows take {size:,}")
    segment = map_segment(directory / name, description, rows)
    segment.first_id = _first_id(path, name, entry["first_id"], description, segment)
    if verify and digest_of(segment.memory) != digest:
        _corrupt(directory / name, "its bytes do not match its digest")
    if entry["mask"] is not None:
        _read_mask(directory, entry["mask"], segment)
    return segment


def map_segment(path: Path, description: Description, rows: int) -> Segment:
    """Map the file of a segment that must have so many rows; see `load` for errors."""
    size = layout(description.dimensions, rounded(rows))[1]
    with _readable(path), _regular(path) as file:
        actual = os.fstat(file.fileno()).st_size
        if actual != size:
            _corrupt(
                path, f"it has {actual:,} bytes; {rows:,} rows of {description.dimensions:,} dimensions take {size:,}"
            )
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    header = memory[:HEADER_BYTES]
    if header[: len(_MAGIC)] != _MAGIC:
        _corrupt(path, "it is not a segment of an index")
    if sha256(header[:_DIGEST_AT]).digest() != header[_DIGEST_AT:]:
        _corrupt(path, "its header does not match its digest")
    _, version, metric, dimensions, count, length, largest = _FIELDS.unpack_from(header)
    if version > VERSION:
        raise StateTooNew(f"{path} has version {version}; this aifw reads up to {VERSION}", hint="use a newer aifw")
    found = (version, metric, dimensions, count, length)
    if found != (VERSION, METRICS[description.metric], description.dimensions, rows, size) or not 0 <= largest < float(
        "inf"
    ):
        _corrupt(path, "its header does not agree with the manifest")
    segment = over(memory, dimensions, rounded(rows))
    segment.count, segment.largest, segment.sealed = rows, largest, True
    segment.file, segment.source = path.name, path
    return segment


def _first_id(path: Path, name: str, first: Any, description: Description, segment: Segment) -> int | None:
    if first is None:
        return None
    if not _integer(first, 0, description.next_id - segment.count):
        _corrupt(path, f"the ids of segment {name[:12]} begin with {first!r}")
    if (segment.ids[0], segment.ids[segment.count - 1]) != (first, first + segment.count - 1):
        _corrupt(path, f"the ids of segment {name[:12]} are not the automatic ones it claims")
    return int(first)


def _read_mask(directory: Path, entry: Any, segment: Segment) -> None:
    path = directory / MANIFEST
    if not isinstance(entry, dict) or set(entry) != {"file", "bytes", "sha256", "removed"}:
        _corrupt(path, "the entry of a mask is not well formed")
    name, words = entry["file"], segment.capacity // BLOCK_ROWS
    if not isinstance(name, str) or not NAME.fullmatch(name) or name != f"{entry['sha256']}.mask":
        _corrupt(path, f"it names a mask {name!r}")
    if not _integer(entry["bytes"], 2 * words, 2 * words):
        _corrupt(path, f"mask {name[:12]} has {entry['bytes']!r} bytes")
    with _readable(directory / name), _regular(directory / name) as file:
        content = file.read(2 * words + 1)
    if sha256(content).hexdigest() != entry["sha256"]:
        _corrupt(directory / name, "its bytes do not match its digest")
    segment.mask = np.frombuffer(content, "<u2").astype(np.uint16)
    live = len(segment.live_rows())
    if not _integer(entry["removed"], 1, segment.count) or segment.count - live != entry["removed"]:
        _corrupt(directory / name, f"it does not leave out {entry['removed']!r} rows")
    segment.removed = entry["removed"]


def header_of(description: Description, segment: Segment) -> bytes:
    """The first page of a segment's file, with its own digest at the end."""
    size = layout(segment.dimensions, rounded(segment.count))[1]
    fields = _FIELDS.pack(
        _MAGIC, VERSION, METRICS[description.metric], segment.dimensions, segment.count, size, segment.largest
    )
    content = fields.ljust(_DIGEST_AT, b"\0")
    return content + sha256(content).digest()


def _integer(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def manifest_digest(content: dict[str, Any]) -> str:
    """Digest of what a manifest says."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def digest_of(memory: mmap.mmap) -> str:
    """The sha256 of a mapped file. Its pages are let go: they stay in the page cache, and the process does not seem to hold it all."""
    digest = sha256()
    with memoryview(memory) as view:
        for start in range(0, len(view), _PIECE):
            piece = view[start : start + _PIECE]
            digest.update(piece)
            memory.madvise(mmap.MADV_DONTNEED, start, len(piece))
    return digest.hexdigest()


def _corrupt(path: Path, why: str) -> NoReturn:
    raise ArtifactCorrupt(f"{path}: {why}", hint="build the index again, or restore the folder from a copy")


@contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, but nothing that could block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            _corrupt(path, "it is not a file")
        yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactCorrupt(
            f"{path} is missing", hint="build the index again, or restore the folder from a copy"
        ) from error
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror or error}") from error
