"""The jobs of kinds `vectors` and `index`."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aifw.errors import AifwError, InputInvalid, JobStopped
from aifw.job import Job
from aifw.search import stored
from aifw.search.arrays import Array
from aifw.search.growth import difference, read_source, write_source
from aifw.search.index import Index
from aifw.search.kinds import Index as IndexKind
from aifw.search.kinds import IndexSettings, VectorsSettings, locate
from aifw.search.segment import bytes_of_a_row, rounded
from aifw.search.storage import FILE_BYTES
from aifw.search.storing import Writer, link_or_copy
from aifw.search.vectors import HIGHEST_ID

_ADDED_BYTES = 128 * 1024**2
"""Rows added to an index that was there are in memory until as many bytes of them are saved."""
_FILES = 2
"""A new index is saved, so that it can be gone on with, each time so many of its files are full."""
_CHECKPOINT_SECONDS = 60.0
_DONE = "rows.json"


def store_vectors(job: Job[VectorsSettings]) -> None:
    """Check vectors and write the output `vectors`. Parts that are the same as in the former artifact are shared with it.

    Raises:
        InputInvalid: A file cannot be read or is cut short, a vector holds NaN or infinity, an id is used twice or is too large.
    """
    vectors, ids = locate(job.settings, lambda text: job.root / Path(text).expanduser())
    rows, dimensions = vectors.shape
    if ids is not None:
        _check_ids(ids)
    former = job.previous / "vectors" if job.previous is not None else None
    at_once = stored.rows_of_a_block(dimensions, vectors.dtype)
    with (
        _removed_unless_done(job.output("vectors")) as out,
        Writer(out, dimensions, vectors.dtype, former) as writer,
        vectors.path.open("rb") as file,
    ):
        for first in range(0, rows, at_once):
            block = stored.read_block(file, vectors, first, min(at_once, rows - first))
            _check_finite(block, vectors, first)
            numbers = np.arange(first, first + len(block)) if ids is None else _ids(ids, first, len(block))
            writer.add(block, numbers)
            job.progress(writer.rows, rows, "row")
            job.obey()
    job.fact("summary", f"{rows:,} x {dimensions:,} {vectors.dtype}", "vectors")
    for name, value in writer.facts.items():
        job.fact(name, value, "vectors")
    if writer.linked:
        job.note(f"{writer.linked:,} of {writer.facts['parts']:,} parts are those of before and take no further space")


def _check_finite(block: NDArray[np.generic], vectors: Array, first: int) -> None:
    numbers = stored.as_float32(block, vectors.dtype)
    finite = np.isfinite(numbers)
    if finite.all():
        return
    row = int(np.argmin(finite.all(axis=1)))
    column = int(np.argmin(finite[row]))
    raise InputInvalid(
        f"row {first + row:,} of {vectors} holds {numbers[row, column]} at position {column:,} (both counted from 0)",
        hint="leave such rows out, or make them again: nothing can be near a vector that is not finite",
    )


def _ids(ids: Array, first: int, count: int) -> NDArray[np.int64]:
    with ids.path.open("rb") as file:
        return stored.read_block(file, ids, first, count).astype(np.int64)


def _check_ids(ids: Array) -> None:
    (count,) = ids.shape
    with ids.path.open("rb") as file:
        found = stored.read_block(file, ids, 0, count)
    if ids.dtype == "uint64" and int(found.max()) > HIGHEST_ID:
        row = int(np.argmax(found > HIGHEST_ID))
        raise InputInvalid(f"row {row:,} of {ids} is {found[row]}; the largest id is {HIGHEST_ID}")
    ordered = np.sort(found)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        value = ordered[twice[0]]
        one, other = np.flatnonzero(found == value)[:2]
        raise InputInvalid(
            f"rows {one:,} and {other:,} of {ids} are both {value}", hint="every vector needs an id of its own"
        )


def build_index(job: Job[IndexSettings]) -> None:
    """Make the output `index`, from the former one if most of its vectors are still the same.

    A search finds the same either way: results are exact and ordered by score and id, wherever a row lies. The files are the
    same only if the way was. What depends on an index depends on the digest of its files and may be made again where nothing
    would be found differently; the other way round, the same digest always finds the same.

    Raises:
        InputInvalid: The vectors cannot be read.
        NoSpace: The disk is full.
    """
    vectors = stored.Reader(job.inputs["vectors"].path)
    work = _Work(job, vectors)
    with _removed_unless_done(work.out):
        if job.resume is not None:
            work.resume(job.resume)
        elif not work.go_on():
            work.build()
    index = Index.open(work.out)
    assert len(index) == vectors.rows
    write_source(work.out, IndexKind.version, vectors.manifest)
    job.fact("summary", f"{len(index):,} x {index.dimensions:,}, {index.metric}", "index")
    for name, value in {"rows": len(index), "dimensions": index.dimensions, "metric": index.metric}.items():
        job.fact(name, value, "index")


@contextmanager
def _removed_unless_done(folder: Path) -> Iterator[Path]:
    """Gigabytes that nobody will use do not wait for a collection."""
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Work:
    """An index that is being made in a folder and saved from time to time."""

    def __init__(self, job: Job[IndexSettings], vectors: stored.Reader) -> None:
        self.out = job.output("index")
        self._job = job
        self._vectors = vectors
        self._threads = min(job.settings.threads or job.threads, job.threads)
        self._kept = time.monotonic()

    def build(self) -> None:
        """Make it from nothing. Rows are written to files at once, so that only the page cache grows."""
        index = Index.create(self.out, self._vectors.dimensions, self._job.settings.metric)
        step = _FILES * rounded(FILE_BYTES // bytes_of_a_row(index.dimensions))
        for first in range(0, self._vectors.rows, step):
            rows = np.arange(first, min(first + step, self._vectors.rows))
            with self._kept_if_stopped(first):
                self._add(index, rows, first, self._vectors.rows)
            index.save()
            self._keep_now_and_then(first + len(rows))

    def resume(self, checkpoint: Path) -> None:
        """Go on from what was kept."""
        done = json.loads((checkpoint / _DONE).read_bytes())
        for path in checkpoint.iterdir():
            if path.name != _DONE:
                link_or_copy(path, self.out / path.name)
        for first, rows in self._steps(np.arange(done, self._vectors.rows)):
            with self._kept_if_stopped(done + first):
                self._append(rows, done + first, self._vectors.rows)
            self._keep_now_and_then(done + first + len(rows))

    def go_on(self) -> bool:
        """Make it from the former index, whose files stay as they are and are shared. False if that is not possible."""
        folder = self._job.previous / "index" if self._job.previous is not None else None
        former = read_source(folder, IndexKind.version) if folder is not None else None
        # Nothing but `--replace` asks for an index of the very same vectors, and means it.
        if folder is None or former is None or former == self._vectors.manifest:
            return False
        try:
            # What is linked counts as right from then on, so its bytes are looked at first.
            index = Index.open(folder, verify=True)
        except AifwError as error:
            self._job.note(f"the former index is not taken on: {error.message}")
            return False
        if index.metric != self._job.settings.metric:
            return False
        change = difference(index, former, self._vectors)
        if change is None:
            self._job.note("too little is as it was in the former index, so it is made anew")
            return False
        before = len(index)
        index.remove(change.gone)
        index.save(self.out)
        for first, rows in self._steps(change.new):
            self._append(rows, first, len(change.new))
        self._job.note(f"made from the former index of {before:,} vectors: {change}")
        return True

    def _steps(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Rows to be in memory at a time, and how many came before."""
        most = max(1024, _ADDED_BYTES // (4 * self._vectors.dimensions))
        return ((first, rows[first : first + most]) for first in range(0, len(rows), most))

    def _append(self, rows: NDArray[np.int64], before: int, total: int) -> None:
        # Opened again each time: what was in memory is in the page cache then.
        index = Index.open(self.out)
        self._add(index, rows, before, total)
        index.save()

    def _add(self, index: Index, rows: NDArray[np.int64], before: int, total: int) -> None:
        def progress(done: int, _total: int) -> None:
            self._job.progress(before + done, total, "row")
            self._job.obey()

        chosen = self._vectors.rows_of(rows)
        index.add(chosen, chosen.ids(), threads=self._threads, progress=progress)

    @contextmanager
    def _kept_if_stopped(self, done: int) -> Iterator[None]:
        """Leave a checkpoint of the first rows if the job is asked to stop meanwhile."""
        try:
            yield
        except JobStopped:
            if done:
                self._keep(done)
            raise

    def _keep_now_and_then(self, done: int) -> None:
        if done < self._vectors.rows and time.monotonic() - self._kept > _CHECKPOINT_SECONDS:
            self._keep(done)

    def _keep(self, done: int) -> None:
        """Leave a checkpoint: links to what is saved, which never changes."""
        with self._job.checkpoint(done) as folder:
            for path in self.out.iterdir():
                link_or_copy(path, folder / path.name)
            (folder / _DONE).write_text(json.dumps(done), encoding="utf-8")
        self._kept = time.monotonic()
