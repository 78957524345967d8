"""An exact vector index: build, add, remove, search, save, open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aifw.errors import ArtifactCorrupt, InputInvalid
from aifw.search import storage
from aifw.search.arrays import MOST_DIMENSIONS
from aifw.search.backend import METRICS, Entry, backend
from aifw.search.content import Content, Progress
from aifw.search.kernel import default_threads, performance_cores
from aifw.search.merge import groups
from aifw.search.opening import Description, load
from aifw.search.segment import BLOCK_ROWS
from aifw.search.snapshot import Masks, Selection
from aifw.search.vectors import HIGHEST_ID, as_count, as_id_set, as_ids, as_queries, as_vectors

_AT_ONCE = 1 << 16
_MOST_THREADS = 4096


class Index:
    """Vectors with 64-bit ids, and the exact nearest of them.

    The score of a vector is the exact inner product (`inner_product`, the larger the better) or squared distance (`l2`, the smaller the
    better) of the stored float32 values, rounded once to double; for `cosine` that inner product over the product of the two norms,
    each rounded once, and 0 for a zero vector. Results are ordered by score and then by id, so that they are the same on every machine.

    Any number of threads may search while one adds or removes; a search sees the index as it was when it began, or some of the
    removals since. Writers wait for each other.

    Args:
        dimensions: Of a vector, 1 to 65,536.
        metric: `cosine`, `inner_product` or `l2`.

    Raises:
        InputInvalid: One of them is something else.
    """

    def __init__(self, dimensions: int, metric: str = "cosine") -> None:
        if not isinstance(metric, str) or metric not in METRICS:
            raise InputInvalid(f"there is no metric {metric!r}", hint=f"one of {', '.join(METRICS)}")
        self._dimensions = as_count(dimensions, "dimensions", MOST_DIMENSIONS)
        self._metric = metric
        self._room = storage.Room(self._dimensions)
        self._content = Content(self._dimensions, METRICS[metric], self._room)
        self._home: Path | None = None
        self._saved: str | None = None  # digest of the manifest that was read or written last

    # Making one

    @classmethod
    def build(
        cls,
        vectors: Any,
        ids: Any = None,
        metric: str = "cosine",
        *,
        dtype: str | None = None,
        path: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """An index of vectors.

        Args:
            vectors: n x dimensions; see `add`.
            ids: n different integers; 0, 1, ... without them.
            metric: `cosine`, `inner_product` or `l2`.
            dtype: See `add`.
            path: A new folder to build and save the index in, part by part, so that only the page cache grows. In memory without it.
            threads: The physical performance cores this process may use, unless given.
            progress: Is told how many rows are done, and of how many.

        Raises:
            InputInvalid: The vectors or ids cannot be used, or there is something at `path`.
            NoSpace: The disk is full.
            MemoryRefused: There is not that much memory.
        """
        source = as_vectors(vectors, dtype=dtype)
        index = cls(source.dimensions, metric) if path is None else cls.create(path, source.dimensions, metric)
        index._content.add(source, None if ids is None else as_ids(ids, source.rows), _threads(threads), progress)
        if path is not None:
            index.save()
        return index

    @classmethod
    def create(cls, path: str | os.PathLike[str], dimensions: int, metric: str = "cosine") -> Self:
        """An empty index whose rows are kept in files of a new folder from the beginning; `save` makes it one that can be opened.

        Raises:
            InputInvalid: There is something in the folder, or an argument is not possible.
        """
        index = cls(dimensions, metric)
        index._home = index._room.folder = storage.claim(Path(path))
        return index

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = False) -> Self:
        """Map a saved index: nothing is read before it is needed, and processes share the memory.

        Args:
            path: Its folder.
            verify: Compare every byte with its digest first. Without it altered vectors are not noticed.

        Raises:
            InputInvalid: There is no index.
            ArtifactCorrupt: It is incomplete, cut short or altered.
            StateTooNew: A newer aifw wrote it.
        """
        home = Path(path).absolute()
        found = load(home, verify=verify)
        index = cls(found.description.dimensions, found.description.metric)
        index._home, index._saved = home, found.digest
        index._content.next_id = found.description.next_id
        index._content.replace(found.segments)
        return index

    # What it is

    @property
    def metric(self) -> str:
        """`cosine`, `inner_product` or `l2`."""
        return self._metric

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        return self._dimensions

    @property
    def next_id(self) -> int:
        """The first id that `add` gives by itself: one more than the largest there ever was, at least 0."""
        return self._content.next_id

    def __len__(self) -> int:
        return self._content.snapshot.live

    def __repr__(self) -> str:
        return f"<Index of {len(self):,} x {self._dimensions:,}, {self._metric}>"

    def __contains__(self, item: object) -> bool:
        if (
            isinstance(item, (bool, np.bool_))
            or not isinstance(item, (int, np.integer))
            or not -HIGHEST_ID - 1 <= item <= HIGHEST_ID
        ):
            return False
        return bool(self._content.places(np.array([item], np.int64))[1][0] >= 0)

    def __iter__(self) -> Iterator[int]:
        snapshot = self._content.snapshot
        for number, segment in enumerate(snapshot.segments):
            rows = snapshot.live_rows(number)
            for start in range(0, len(rows), _AT_ONCE):
                yield from segment.ids[rows[start : start + _AT_ONCE]].tolist()

    def ids(self) -> NDArray[np.int64]:
        """All ids, in the order in which the rows lie."""
        snapshot = self._content.snapshot
        parts = [segment.ids[snapshot.live_rows(number)] for number, segment in enumerate(snapshot.segments)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def vectors(self, ids: Any) -> NDArray[np.float32]:
        """The stored vectors of some ids, in their order: n x dimensions, a copy.

        Raises:
            InputInvalid: One of them is not in the index.
        """
        wanted = as_ids(ids)
        snapshot, number, row = self._content.places(wanted)
        if len(missing := np.flatnonzero(number < 0)):
            raise InputInvalid(f"there is no id {wanted[missing[0]]} in the index")
        found = np.empty((len(wanted), self._dimensions), np.float32)
        for each, segment in enumerate(snapshot.segments):
            here = np.flatnonzero(number == each)
            found[here] = segment.rows[row[here], : self._dimensions]
        return found

    def memory(self) -> dict[str, int]:
        """Bytes of each part, whether in memory of this process or in the page cache."""
        snapshot = self._content.snapshot
        parts = dict.fromkeys(("rows", "codes", "low_codes", "bounds", "norms", "ids", "masks", "table"), 0)
        for count, segment, mask in zip(snapshot.counts.tolist(), snapshot.segments, snapshot.masks, strict=True):
            blocks = count // BLOCK_ROWS
            parts["rows"] += segment.rows[:count].nbytes
            parts["codes"] += segment.blocks[:blocks].nbytes
            parts["low_codes"] += segment.low[: blocks * BLOCK_ROWS].nbytes
            parts["bounds"] += segment.reach[:blocks].nbytes + segment.fine[: blocks * BLOCK_ROWS].nbytes
            parts["norms"] += segment.norms[:count].nbytes
            parts["ids"] += segment.ids[:count].nbytes
            parts["masks"] += 0 if mask is None else mask.nbytes
        parts["table"] = self._content.table_bytes()
        return parts

    # Searching

    def search(
        self,
        queries: Any,
        k: int,
        threads: int | None = None,
        allow: Any = None,
        deny: Any = None,
        pin: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k best rows of each query.

        Args:
            queries: n x dimensions, or one vector.
            k: At least 1.
            threads: The physical performance cores this process may use, unless given.
            allow: Ids, or a `selection` of them, which is faster where it is used again: nothing else is found.
            deny: Ids, or a `selection` of them: they are not found. Ids that are not in the index count for nothing.
            pin: Keep each thread on a performance core of its own.

        Returns:
            ids and scores, n x min(k, rows that may be found), for one vector without the first axis. Best first; of equal scores the
            smaller id.

        Raises:
            InputInvalid: The index is empty, or an argument is not possible.
            ArtifactCorrupt: Stored vectors were altered so that they are not finite.
        """
        ids, scores, _ = self.search_counted(queries, k, threads, allow, deny, pin)
        return ids, scores

    def search_counted(
        self,
        queries: Any,
        k: int,
        threads: int | None = None,
        allow: Any = None,
        deny: Any = None,
        pin: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, int]]:
        """The same with what was done for it: `rows` looked at, `refined`, `scored`, `exact`, `summed`."""
        wanted = as_count(k, "k")
        given, alone = as_queries(queries, self._dimensions)
        workers = _threads(threads)
        cpus = performance_cores() if pin else None
        entries, live = self._entries(self._as_selection(allow), self._as_selection(deny))
        if not live:
            raise InputInvalid("the index is empty", hint="add vectors first")
        ids, scores, counters = backend().search(
            entries, given, self._dimensions, METRICS[self._metric], min(wanted, live), workers, cpus
        )
        if not np.isfinite(scores).all():
            # No sum of finite float32 is anything else.
            raise ArtifactCorrupt(
                f"{self._home}: stored vectors are not what they were",
                hint="Index.open(path, verify=True) says which file was altered",
            )
        return (ids[0], scores[0], counters) if alone else (ids, scores, counters)

    def selection(self, ids: Any) -> Selection:
        """A set of ids to use as `allow` or `deny` of many searches.

        Raises:
            InputInvalid: They are not ids.
        """
        return Selection(np.unique(as_id_set(ids)), self, self._content.find)

    def _as_selection(self, ids: Any) -> Selection | None:
        if ids is None:
            return None
        if not isinstance(ids, Selection):
            # Used once, so that repeated ids do no harm.
            return Selection(as_id_set(ids), self, self._content.find)
        if ids.owner is not self:
            raise InputInvalid(
                "the selection was made by another index", hint="make one with the selection method of this index"
            )
        return ids

    def _entries(self, allow: Selection | None, deny: Selection | None) -> tuple[list[Entry], int]:
        if allow is None and deny is None:
            snapshot = self._content.snapshot
            return snapshot.entries(), snapshot.live
        while True:
            snapshot = self._content.snapshot
            masks: list[Masks | None] = [None if each is None else each.masks(snapshot) for each in (allow, deny)]
            if all(each is None or found is not None for each, found in zip((allow, deny), masks, strict=True)):
                return snapshot.entries(*masks), snapshot.live

    # Changing

    def add(
        self,
        vectors: Any,
        ids: Any = None,
        *,
        dtype: str | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Add vectors. They are found by searches that begin after it; if it is refused, the index is as before.

        Args:
            vectors: n x dimensions, of any real type: numpy arrays and memory maps, torch tensors, whatever numpy takes, or what can
                be sliced. float16 and bfloat16 are exact, what float32 cannot hold is rounded to the nearest. Read in blocks.
            ids: n integers that are not in the index. Without them, those from `next_id` on.
            dtype: `bfloat16` if an array of uint16 holds its bits.
            threads: The physical performance cores this process may use, unless given.
            progress: Is told how many rows are done, and of how many.

        Raises:
            InputInvalid: They have another shape or type, hold NaN or infinity (in float32), or an id is there already.
            NoSpace: The disk is full.
            MemoryRefused: There is not that much memory.
        """
        source = as_vectors(vectors, dtype=dtype, dimensions=self._dimensions)
        given = None if ids is None else as_ids(ids, source.rows)
        self._content.add(source, given, _threads(threads), progress)

    def remove(self, ids: Any) -> int:
        """Remove vectors, each in constant time. They are not found by searches that begin after it.

        Args:
            ids: Integers, or one. Those that are not in the index count for nothing: removing twice is no mistake.

        Returns:
            How many were removed.

        Raises:
            InputInvalid: They are not ids.
        """
        return self._content.remove(as_id_set([ids] if isinstance(ids, (int, np.integer)) else ids))

    # Keeping

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write what is not on disk yet: rows since the last time, and masks. What was there stays usable until all is written.

        Small segments are merged first, see `merge.groups`. Another process that has the folder open keeps what it opened.

        Args:
            path: A folder, made if it is not there; by default the one the index was opened in, created in or saved to last. An index
                in another folder is replaced; files that both have in common are linked, not copied, where that is possible.

        Raises:
            InputInvalid: No folder is known, or there is something else in it.
            StateError: Someone else saved there since this index was opened, or it cannot be written.
            NoSpace: The disk is full; the index that was there still is.
        """
        with self._content.writing:
            home = self._home if path is None else Path(path).absolute()
            if home is None:
                raise InputInvalid("the index has no folder yet", hint="say where: save(path)")
            for segment in self._content.segments:
                segment.sealed = True
            self._content.merge(groups(self._content.segments), _threads(None))
            description = Description(self._metric, self._dimensions, self._content.next_id)
            expected = self._saved if home == self._home else None
            self._saved = storage.save(home, description, self._content.segments, expected)
            self._home = home
            if self._room.folder is not None:
                self._room.folder = home
            if self._room.folder is not None and any(
                each.capacity - each.count >= BLOCK_ROWS for each in self._content.segments
            ):
                # The files they were written to had room for more rows; those that were saved have not.
                self._content.replace([storage.reopened(each, description) for each in self._content.segments])

    def compact(self) -> None:
        """Give back the space of removed vectors and join all segments. Until it is done there is a second copy of the vectors."""
        with self._content.writing:
            segments = self._content.segments
            if len(segments) > 1 or any(each.removed for each in segments):
                self._content.merge([(list(segments), True)], _threads(None))


def _threads(wanted: int | None) -> int:
    return default_threads() if wanted is None else as_count(wanted, "threads", _MOST_THREADS)
