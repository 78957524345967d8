"""The rows of an index: adding behind what searches see, removing, finding by id, joining segments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aifw.errors import ArtifactCorrupt, InputInvalid
from aifw.search.backend import Table, backend
from aifw.search.merge import rewritten
from aifw.search.segment import Segment
from aifw.search.snapshot import Snapshot, take
from aifw.search.vectors import HIGHEST_ID, Vectors

Progress = Callable[[int, int], None]
"""Is told how many rows are done, and of how many."""

_SMALLEST_STEP = 1024
_LARGEST_STEP = 1 << 16


@dataclass(slots=True)
class Piece:
    """Rows that are being added to a segment; `slot` is that of the first."""

    segment: Segment
    first: int
    last: int
    slot: int
    largest: float = 0.0


class Room(Protocol):
    """Where rows are kept."""

    def allocate(self, rows: int) -> Segment:
        """Make an empty segment with room for so many rows, or for fewer if it is to be no larger."""
        ...

    def discard(self, segment: Segment) -> None:
        """A segment is not needed after all."""
        ...

    def filled(self, segment: Segment) -> None:
        """A segment has become full."""
        ...


class Content:
    """Segments and what leads to their rows.

    Whoever changes something holds `writing`; searches take `snapshot`, which is one assignment, and need no lock. `_looking` is held
    for moments: by look-ups in the table of ids and by what changes it.

    Args:
        dimensions: Of a vector.
        metric: The kernel's number.
        room: Where rows are kept.
    """

    def __init__(self, dimensions: int, metric: int, room: Room) -> None:
        self.snapshot = take((), 0, 0)
        self.segments: list[Segment] = []
        self.next_id = 0
        self.writing = threading.RLock()
        self._dimensions = dimensions
        self._metric = metric
        self._room = room
        self._looking = threading.Lock()
        self._table: Table | None = None  # made when an id that is not automatic has to be found

    # Finding

    def find(self, snapshot: Snapshot, ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Slots of ids in a snapshot, -1 where there is none; None if rows have moved since the snapshot.

        Where all ids are automatic they are computed; the table takes over with the first id that is not.
        """
        if snapshot.first_ids is not None:
            return snapshot.automatic(ids)
        with self._looking:
            if self.snapshot.epoch != snapshot.epoch:
                return None
            return self._the_table().find(np.ascontiguousarray(ids))

    def places(self, ids: NDArray[np.int64]) -> tuple[Snapshot, NDArray[np.int64], NDArray[np.int64]]:
        """A snapshot, and in it the numbers of segment (-1: not there) and row of each id."""
        while True:
            snapshot = self.snapshot
            slots = self.find(snapshot, ids)
            if slots is not None:
                return snapshot, *snapshot.places(slots)

    def table_bytes(self) -> int:
        """Memory of the table of ids."""
        with self._looking:
            return 0 if self._table is None else self._table.bytes()

    def _the_table(self) -> Table:
        """The table of ids; the caller holds `_looking`."""
        if self._table is None:
            table = backend().IdTable()
            for number, segment in enumerate(self.snapshot.segments):
                rows = self.snapshot.live_rows(number)
                # Runs of rows without one that was removed.
                for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                    if not len(run):
                        continue
                    ids = segment.ids[run[0] : run[-1] + 1]
                    position = table.insert(ids, int(self.snapshot.bases[number] + run[0]))
                    if position >= 0:
                        raise ArtifactCorrupt(
                            f"two vectors of the index have the id {ids[position]}", hint="build the index again"
                        )
            self._table = table
        return self._table

    # Changing

    def add(self, source: Vectors, ids: NDArray[np.int64] | None, threads: int, progress: Progress | None) -> None:
        """Add rows, all or none.

        Raises:
            InputInvalid: An id is there already or none are left, or a vector is not finite.
        """
        if not source.rows:
            return
        with self.writing:
            # The last id is looked at, too: differences wrap around from the largest to the smallest.
            last = self.next_id + source.rows - 1
            if ids is not None and (ids[0], ids[-1]) == (self.next_id, last) and bool((np.diff(ids) == 1).all()):
                ids = None
            if ids is None and last > HIGHEST_ID:
                raise InputInvalid(f"no automatic ids are left after {self.next_id - 1}", hint="give ids")
            pieces: list[Piece] = []
            entered = 0
            try:
                for piece in self._places_for(source.rows):
                    pieces.append(piece)
                    if ids is not None:
                        self._enter(ids, entered, piece)
                        entered += piece.last - piece.first
                self._fill(source, ids, pieces, threads, progress)
            except BaseException:
                if ids is not None and entered:
                    with self._looking:
                        self._the_table().erase(np.ascontiguousarray(ids[:entered]))
                for piece in pieces:
                    if piece.first == 0 and piece.segment not in self.segments:
                        self._room.discard(piece.segment)
                raise
            self._commit(ids, pieces)

    def _places_for(self, rows: int) -> Iterator[Piece]:
        """Where the next rows come to lie."""
        slot = sum(each.capacity for each in self.segments)
        tail = self.segments[-1] if self.segments else None
        if tail is not None and not tail.sealed and tail.count < tail.capacity:
            last = min(tail.capacity, tail.count + rows)
            yield Piece(tail, tail.count, last, slot - tail.capacity + tail.count)
            rows -= last - tail.count
        # A step is as long as what there is, within limits: few segments, and little room that is never used.
        step = max(_SMALLEST_STEP, min(self.snapshot.live, _LARGEST_STEP))
        while rows > 0:
            segment = self._room.allocate(max(rows, step))
            yield Piece(segment, 0, min(segment.capacity, rows), slot)
            slot += segment.capacity
            rows -= segment.capacity

    def _enter(self, given: NDArray[np.int64], entered: int, piece: Piece) -> None:
        ids = np.ascontiguousarray(given[entered : entered + piece.last - piece.first])
        with self._looking:
            position = self._the_table().insert(ids, piece.slot)
        if position >= 0:
            position += entered
            number = int(given[position])
            before = np.flatnonzero(given[:position] == number)
            raise InputInvalid(
                f"rows {before[0]:,} and {position:,} both have the id {number}"
                if len(before)
                else f"row {position:,} has the id {number}, which is in the index already",
                hint="every vector needs an id of its own; remove the old one first to replace it",
            )

    def _fill(
        self,
        source: Vectors,
        given: NDArray[np.int64] | None,
        pieces: Sequence[Piece],
        threads: int,
        progress: Progress | None,
    ) -> None:
        """Write rows behind those that are published."""
        work, step, done = backend(), source.rows_of_a_block(), 0
        for piece in pieces:
            segment = piece.segment
            for first in range(piece.first, piece.last, step):
                last = min(first + step, piece.last)
                end = done + last - first
                rows = segment.rows[first:last]
                source.write(done, end, rows[:, : self._dimensions])
                bad = work.find_not_finite(rows)
                if bad >= 0:
                    raise InputInvalid(
                        f"row {done + bad:,} (counted from 0) holds NaN or infinity in float32",
                        hint="leave such rows out, or make them again: nothing is near a vector that is not finite",
                    )
                ids = segment.ids[first:last]
                if given is None:
                    # Added afterwards: the end of the range may be beyond int64.
                    ids[:] = np.arange(last - first)
                    ids += self.next_id + done
                else:
                    ids[:] = given[done:end]
                largest = work.encode(segment, self._dimensions, self._metric, first, last, threads)
                piece.largest = max(piece.largest, largest)
                done = end
                if progress is not None:
                    progress(done, source.rows)
            if piece.last == segment.capacity:
                self._room.filled(segment)

    def _commit(self, given: NDArray[np.int64] | None, pieces: Sequence[Piece]) -> None:
        """Publish what was written."""
        automatic = self.next_id
        with self._looking:
            for piece in pieces:
                segment = piece.segment
                if given is not None:
                    segment.first_id = None
                    if piece.first == 0:
                        self.segments.append(segment)
                else:
                    if piece.first == 0:
                        segment.first_id = automatic
                        self.segments.append(segment)
                    elif segment.first_id is not None and segment.first_id + segment.count != automatic:
                        segment.first_id = None
                    if self._table is not None:
                        self._table.insert(segment.ids[piece.first : piece.last], piece.slot)
                    automatic += piece.last - piece.first
                segment.count = piece.last
                segment.largest = max(segment.largest, piece.largest)
            self.next_id = automatic if given is None else max(automatic, int(given.max()) + 1)
            self._publish()

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove rows; returns how many there were."""
        ids = np.unique(ids)
        with self.writing:
            _, number, row = self.places(ids)
            found = number >= 0
            if not found.any():
                return 0
            with self._looking:
                for each in np.unique(number[found]).tolist():
                    self.segments[each].remove(row[number == each])
                if self._table is not None:
                    self._table.erase(np.ascontiguousarray(ids[found]))
                self._publish(added=False)
            return int(found.sum())

    def merge(self, wanted: Sequence[tuple[list[Segment], bool]], threads: int) -> None:
        """Write groups of segments anew where that is asked for. The caller holds `writing`."""
        if any(rewrite for _, rewrite in wanted):
            result: list[Segment] = []
            for group, rewrite in wanted:
                result += rewritten(group, self._metric, self._room.allocate, threads) if rewrite else group
            self.replace(result)

    def replace(self, segments: Sequence[Segment]) -> None:
        """Let other segments hold the same rows. The caller holds `writing`."""
        with self._looking:
            self.segments = list(segments)
            self._publish(moved=True)

    def _publish(self, *, added: bool = True, moved: bool = False) -> None:
        """Let searches see the segments as they are now."""
        before = self.snapshot
        if moved:
            self._table = None
        self.snapshot = take(self.segments, before.epoch + moved, before.generation + (added or moved))
