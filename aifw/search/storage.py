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
import secrets
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from aifw.boundary import boundary
from aifw.errors import AifwError, ArtifactCorrupt, InputInvalid, NoSpace, StateError
from aifw.search.opening import (
    FORMAT,
    MANIFEST,
    NAME,
    VERSION,
    Description,
    digest_of,
    header_of,
    manifest_digest,
    map_segment,
    read_manifest,
)
from aifw.search.segment import BLOCK_ROWS, HEADER_BYTES, Segment, allocate, bytes_of_a_row, layout, over, rounded

_PARTIAL = ".partial-"
FILE_BYTES = 512 << 20
_PIECE = 4 << 20


class Partial:
    """A file that is being written. Its lock says that its writer lives; a sweep removes those without one."""

    def __init__(self, directory: Path) -> None:
        while True:
            self.path = directory / f"{_PARTIAL}{secrets.token_hex(8)}"
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            # A sweep may have come between the two.
            if self.path.exists():
                break
            os.close(self.descriptor)
        self.discard = weakref.finalize(self, _discard, self.path, self.descriptor, os.getpid())

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


def _discard(path: Path, descriptor: int, owner: int) -> None:
    # A child made by fork ends with copies of its parent's objects.
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
    os.close(descriptor)


class Room:
    """Where an index keeps its rows: in memory of its own, or in files of a folder, so that only the page cache grows.

    Attributes:
        folder: For files; None for memory.
    """

    def __init__(self, dimensions: int, folder: Path | None = None) -> None:
        self.folder = folder
        self._dimensions = dimensions

    def allocate(self, rows: int) -> Segment:
        """An empty segment with room for so many rows, or for as many as a file of some 512 MiB may have.

        Raises:
            MemoryRefused: There is not that much memory.
            NoSpace: The disk has not that much space. All of it is taken at once: a mapping cannot report a full disk later.
        """
        if self.folder is None:
            return allocate(self._dimensions, rows)
        capacity = rounded(max(1, min(rows, FILE_BYTES // bytes_of_a_row(self._dimensions))))
        size = layout(self._dimensions, capacity)[1]
        with _named(self.folder):
            partial = Partial(self.folder)
            os.posix_fallocate(partial.descriptor, 0, size)
            segment = over(mmap.mmap(partial.descriptor, size), self._dimensions, capacity)
        segment.source = partial
        return segment

    def discard(self, segment: Segment) -> None:
        """Remove the file of a segment that nobody needs."""
        if isinstance(segment.source, Partial):
            segment.source.discard()

    def filled(self, segment: Segment) -> None:
        """Let the pages of a finished file go; they stay in the page cache and come back when they are read."""
        if isinstance(segment.source, Partial):
            segment.memory.flush()
            segment.memory.madvise(mmap.MADV_DONTNEED)


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


def reopened(segment: Segment, description: Description) -> Segment:
    """The same rows, mapped from the file they were saved to."""
    assert isinstance(segment.source, Path)
    found = map_segment(segment.source, description, segment.count)
    found.first_id, found.removed = segment.first_id, segment.removed
    found.mask = None if segment.mask is None else segment.mask[: found.capacity // BLOCK_ROWS].copy()
    return found


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
            digest = manifest_digest(content)
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
        foreign = sorted(each for each in names if not NAME.fullmatch(each) and not each.startswith(_PARTIAL))
        if foreign:
            raise InputInvalid(
                f"{directory} holds no index but other files ({foreign[0]}, ...)", hint="choose an empty folder"
            )
        return
    if expected is not None and read_manifest(directory)[1] != expected:
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
        bits = np.zeros(rounded(segment.count), np.uint8)
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
        "bytes": layout(segment.dimensions, rounded(segment.count))[1],
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
    header = header_of(description, segment)
    in_place = isinstance(segment.source, Partial) and segment.source.path.parent == directory
    if in_place and segment.count == segment.capacity:
        partial = segment.source
        segment.memory[:HEADER_BYTES] = header
        segment.memory.flush()
        digest = digest_of(segment.memory)
    else:
        partial = Partial(directory)
        with os.fdopen(os.dup(partial.descriptor), "wb") as file:
            digest = _write(file, header, segment)
    segment.file = f"{digest}.segment"
    if known is not None and segment.file != known:
        raise ArtifactCorrupt(f"{directory}: segment {known[:12]} was altered since it was opened")
    segment.source = partial.rename(segment.file)


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
    sections, size = layout(segment.dimensions, rounded(segment.count))
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
        if NAME.fullmatch(path.name):
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
