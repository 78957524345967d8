"""An index on disk: a folder of immutable files that are mapped as they lie.

    manifest.json      what belongs to the index; written last, so that a crash leaves the index of before
    <sha256>.segment   a header and the arrays of a segment, each from a page's beginning
    <sha256>.mask      which rows of a segment were not removed

Files are named by the digest of their content and never changed. Whoever opened the folder keeps what was there then, even if another
process saves over it: a file that is no longer needed loses its name, and its bytes when the last mapping ends. Nothing a file says
about lengths and places is believed: they follow from rows and dimensions and must agree with the file's size.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import re
import stat
import struct
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from aifw.boundary import boundary
from aifw.errors import AifwError, ArtifactCorrupt, InputInvalid, NoSpace, StateError, StateTooNew
from aifw.search.backend import METRICS
from aifw.search.segment import BLOCK_ROWS, HEADER_BYTES, Segment, layout, over
from aifw.search.vectors import MOST_DIMENSIONS

FORMAT = "aifw.index"
VERSION = 1
MANIFEST = "manifest.json"

_MAGIC = b"aifw.seg"
_FIELDS = struct.Struct("<8sIIqqqd")  # magic, version, metric, dimensions, rows, bytes, largest norm
_DIGEST_AT = HEADER_BYTES - 32
_MOST_ROWS = 1 << 40
_MOST_MANIFEST_BYTES = 1 << 26
_PIECE = 4 << 20
_NAME = re.compile(r"[0-9a-f]{64}\.(segment|mask)")
_PARTIAL = ".partial-"
_ATTEMPTS = 5
_LOWEST_ID, _HIGHEST_ID = -(1 << 63), (1 << 63) - 1


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


class Partial:
    """A file that is being written. Its lock says that its writer lives; a sweep removes those without one."""

    def __init__(self, directory: Path) -> None:
        for number in range(1 << 30):
            self.path = directory / f"{_PARTIAL}{os.getpid()}-{number}"
            try:
                self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                break
            except FileExistsError:
                continue
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.discard = weakref.finalize(self, _discard, self.path, self.descriptor)

    def rename(self, name: str) -> Path:
        """Give the file its name, after its bytes are on disk."""
        os.fsync(self.descriptor)
        boundary("index.written")
        os.fchmod(self.descriptor, 0o444)
        target = self.path.with_name(name)
        self.path.rename(target)
        self.discard.detach()
        os.close(self.descriptor)
        boundary("index.renamed")
        return target


def _discard(path: Path, descriptor: int) -> None:
    path.unlink(missing_ok=True)
    os.close(descriptor)


def allocate_file(directory: Path, dimensions: int, rows: int) -> Segment:
    """An empty segment whose memory is a file, so that only the page cache grows.

    Raises:
        NoSpace: The disk has not that much space. All of it is taken at once: a mapping cannot report a full disk later.
    """
    capacity = -(-max(rows, 1) // BLOCK_ROWS) * BLOCK_ROWS
    size = layout(dimensions, capacity)[1]
    with _named(directory):
        partial = Partial(directory)
        os.posix_fallocate(partial.descriptor, 0, size)
        segment = over(mmap.mmap(partial.descriptor, size), dimensions, capacity)
    segment.source = partial
    return segment


def claim(directory: Path) -> Path:
    """Make a new folder for an index, or take an empty one.

    Raises:
        InputInvalid: There is something in it.
        StateError: It cannot be made.
    """
    home = directory.absolute()
    with _named(home):
        home.mkdir(parents=True, exist_ok=True)
        if MANIFEST in {each.name for each in home.iterdir()}:
            raise InputInvalid(
                f"there is an index in {home} already", hint="open it and add to it, or choose another folder"
            )
        _check_target(home, None)
    return home


def discard(segment: Segment) -> None:
    """Remove the file of a segment that nobody needs."""
    if isinstance(segment.source, Partial):
        segment.source.discard()


def reopened(segment: Segment, description: Description) -> Segment:
    """The same rows, mapped from the file they were saved to."""
    assert isinstance(segment.source, Path)
    found = _map(segment.source, description, segment.count, layout(segment.dimensions, _rounded(segment.count))[1])
    found.first_id, found.removed = segment.first_id, segment.removed
    found.mask = None if segment.mask is None else segment.mask[: found.capacity // BLOCK_ROWS].copy()
    return found


def twice(directory: Path | None, number: int) -> ArtifactCorrupt:
    """The error for an id that two rows have."""
    return ArtifactCorrupt(f"{directory}: two vectors have the id {number}", hint="build the index again")


def release(segment: Segment) -> None:
    """Let the pages of a finished segment in a file go; they stay in the page cache and come back when they are read."""
    if isinstance(segment.source, Partial):
        segment.memory.flush()
        segment.memory.madvise(mmap.MADV_DONTNEED)


# Writing


def save(directory: Path, description: Description, segments: Sequence[Segment], expected: str | None) -> str:
    """Write what is not there yet, then the manifest, then remove what it does not name.

    Args:
        directory: Made if it is not there.
        description: Of the index.
        segments: Gain their file's name.
        expected: Digest of the manifest that must be there now; None replaces any, or none.

    Returns:
        Digest of the new manifest.

    Raises:
        StateError: Someone else saved there meanwhile, or nothing can be written there.
        InputInvalid: The folder holds something else.
        NoSpace: The disk is full. The index of before is still there.
    """
    with _named(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            _check_target(directory, expected)
            described = [_described(directory, description, each) for each in segments]
            content = {
                "format": FORMAT,
                "version": VERSION,
                "metric": description.metric,
                "dimensions": description.dimensions,
                "count": sum(each.live for each in segments),
                "next_id": description.next_id,
                "segments": described,
            }
            digest = _digest(content)
            _sync(directory)
            partial = Partial(directory)
            text = json.dumps({**content, "digest": digest}, indent=1) + "\n"
            with os.fdopen(os.dup(partial.descriptor), "wb") as file:
                file.write(text.encode())
            boundary("index.described")
            partial.rename(MANIFEST)
            _sync(directory)
            boundary("index.saved")
            _sweep(directory, described)
    return digest


def _check_target(directory: Path, expected: str | None) -> None:
    names = {each.name for each in directory.iterdir()}
    if MANIFEST not in names:
        foreign = sorted(each for each in names if not _NAME.fullmatch(each) and not each.startswith(_PARTIAL))
        if foreign:
            raise InputInvalid(
                f"{directory} holds no index but other files ({foreign[0]}, ...)", hint="choose an empty folder"
            )
        return
    if expected is not None and _read_manifest(directory)[1] != expected:
        raise StateError(
            f"{directory} was saved by someone else after this index was opened",
            hint="open it again and repeat the change, or save into another folder",
        )


def _described(directory: Path, description: Description, segment: Segment) -> dict[str, Any]:
    if segment.file is None or not (directory / segment.file).exists():
        _keep(directory, description, segment)
    assert segment.file is not None
    mask = None
    if segment.removed:
        assert segment.mask is not None
        # Bits beyond the rows may be anything in memory, and are zero in a file.
        bits = np.zeros(-(-segment.count // BLOCK_ROWS) * BLOCK_ROWS, np.uint8)
        bits[segment.live_rows()] = 1
        content = np.packbits(bits, bitorder="little").tobytes()
        name = f"{sha256(content).hexdigest()}.mask"
        if not (directory / name).exists():
            partial = Partial(directory)
            with os.fdopen(os.dup(partial.descriptor), "wb") as file:
                file.write(content)
            partial.rename(name)
        mask = {"file": name, "bytes": len(content), "sha256": name.partition(".")[0], "removed": segment.removed}
    return {
        "file": segment.file,
        "rows": segment.count,
        "bytes": layout(segment.dimensions, _rounded(segment.count))[1],
        "sha256": segment.file.partition(".")[0],
        "first_id": segment.first_id,
        "mask": mask,
    }


def _keep(directory: Path, description: Description, segment: Segment) -> None:
    """Bring the file of a segment into the folder: by a link if it is on this disk, by its memory otherwise."""
    if segment.file is not None and isinstance(segment.source, Path):
        try:
            os.link(segment.source, directory / segment.file)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
        else:
            return
    known = segment.file
    header = _header(description, segment)
    if isinstance(segment.source, Partial) and segment.count == segment.capacity:
        partial = segment.source
        segment.memory[:HEADER_BYTES] = header
        segment.memory.flush()
        digest = _digest_of(segment.memory)
    else:
        partial = Partial(directory)
        with os.fdopen(os.dup(partial.descriptor), "wb") as file:
            digest = _write(file, header, segment)
    segment.file = f"{digest}.segment"
    if known is not None and segment.file != known:
        raise ArtifactCorrupt(f"{directory}: segment {known[:12]} was altered since it was opened")
    segment.source = partial.rename(segment.file)


def _header(description: Description, segment: Segment) -> bytes:
    size = layout(segment.dimensions, _rounded(segment.count))[1]
    fields = _FIELDS.pack(
        _MAGIC, VERSION, METRICS[description.metric], segment.dimensions, segment.count, size, segment.largest
    )
    content = fields.ljust(_DIGEST_AT, b"\0")
    return content + sha256(content).digest()


def _write(file: BinaryIO, header: bytes, segment: Segment) -> str:
    """Write a segment as if its capacity were its rows; what belongs to no row is zero. Returns the digest."""
    digest = sha256()
    place = 0

    def put(piece: Any) -> None:
        nonlocal place
        file.write(piece)
        digest.update(piece)
        place += len(piece)

    put(header)
    blocks = segment.count // BLOCK_ROWS
    filled = {"blocks": blocks, "reach": blocks, "low": blocks * BLOCK_ROWS, "fine": blocks * BLOCK_ROWS}
    sections, size = layout(segment.dimensions, _rounded(segment.count))
    for section in sections:
        put(bytes(section.offset - place))
        array = getattr(segment, section.name)[: filled.get(section.name, segment.count)]
        content = memoryview(array.reshape(-1).view(np.uint8))
        for start in range(0, len(content), _PIECE):
            put(content[start : start + _PIECE])
    put(bytes(size - place))
    return digest.hexdigest()


def _sweep(directory: Path, described: Sequence[dict[str, Any]]) -> None:
    """Remove files the manifest does not name, and those whose writer died."""
    named = {each["file"] for each in described} | {each["mask"]["file"] for each in described if each["mask"]}
    for path in directory.iterdir():
        if _NAME.fullmatch(path.name):
            if path.name not in named:
                path.unlink(missing_ok=True)
        elif path.name.startswith(_PARTIAL):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                pass
            finally:
                os.close(descriptor)


# Reading


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
            content, digest = _read_manifest(directory)
        try:
            return _read(directory, content, digest, verify)
        except ArtifactCorrupt:
            # Saved over between the two readings: what the old manifest names is gone, the new one is complete.
            if digest == seen or attempt == _ATTEMPTS - 1:
                raise
            seen = digest
    raise AssertionError


def _read_manifest(directory: Path) -> tuple[dict[str, Any], str]:
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
    if not _integer(version, 1, _HIGHEST_ID):
        _corrupt(path, f"its version is {version!r}")
    if version > VERSION:
        raise StateTooNew(f"{path} has version {version}; this aifw reads up to {VERSION}", hint="use a newer aifw")
    digest = found.pop("digest", None)
    try:
        actual = _digest(found)
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
    if not _integer(next_id, 0, _HIGHEST_ID + 1) or not isinstance(content["segments"], list):
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
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name != f"{digest}.segment":
        _corrupt(path, f"it names a segment {name!r}")
    if not _integer(rows, 1, _MOST_ROWS):
        _corrupt(path, f"segment {name[:12]} has {rows!r} rows")
    capacity = _rounded(rows)
    size = layout(description.dimensions, capacity)[1]
    if not _integer(entry["bytes"], size, size):
        _corrupt(path, f"segment {name[:12]} has {entry['bytes']!r} bytes; {rows:,} rows take {size:,}")
    segment = _map(directory / name, description, rows, size)
    segment.first_id = _first_id(path, name, entry["first_id"], description, segment)
    if verify and _digest_of(segment.memory) != digest:
        _corrupt(directory / name, "its bytes do not match its digest")
    if entry["mask"] is not None:
        _read_mask(directory, entry["mask"], segment)
    return segment


def _map(path: Path, description: Description, rows: int, size: int) -> Segment:
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
    segment = over(memory, dimensions, _rounded(rows))
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
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name != f"{entry['sha256']}.mask":
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


def _integer(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _rounded(rows: int) -> int:
    return -(-rows // BLOCK_ROWS) * BLOCK_ROWS


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _digest_of(memory: mmap.mmap) -> str:
    digest = sha256()
    with memoryview(memory) as view:
        for start in range(0, len(view), _PIECE):
            digest.update(view[start : start + _PIECE])
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


@contextmanager
def _named(directory: Path) -> Iterator[None]:
    """Say of an error of the system where it was."""
    try:
        yield
    except AifwError:
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace(
                f"the disk is full: the index could not be written to {directory}",
                hint="free some space and save again",
            ) from error
        raise StateError(f"the index cannot be written to {directory}: {error.strerror or error}") from error


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process saves into a folder at a time; the others wait."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
