"""What a search sees of an index at one instant, and sets of its ids.

A snapshot never changes, so that a search needs no lock: rows that are added later lie behind its counts, and only the masks are
shared, in which a removal clears bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aifw.search.backend import Entry
from aifw.search.segment import BLOCK_ROWS, Segment, mask_of

Masks = tuple[NDArray[np.uint16] | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Segments with the number of rows that are complete. A row's slot is its number within its segment plus the segment's base.

    Attributes:
        bases: First slot of each segment.
        first_ids: First id of each segment if all ids are automatic, else None. Ascending, for automatic ids ascend.
        epoch: Changes when rows move to other slots.
        generation: Changes then and when rows are added.
    """

    segments: tuple[Segment, ...]
    counts: NDArray[np.int64]
    masks: Masks
    largest: tuple[float, ...]
    bases: NDArray[np.int64]
    first_ids: NDArray[np.int64] | None
    live: int
    epoch: int
    generation: int

    def entries(self, allow: Masks | None = None, deny: Masks | None = None) -> list[Entry]:
        """What the kernel reads."""
        found: list[Entry] = []
        for number, segment in enumerate(self.segments):
            count = int(self.counts[number])
            words = -(-count // BLOCK_ROWS)
            mask = self.masks[number]
            mask = None if mask is None else mask[:words]
            for masks, invert in ((allow, False), (deny, True)):
                if masks is None:
                    continue
                wanted = masks[number]
                if wanted is None:
                    # None of its rows is in the set.
                    if not invert:
                        break
                    continue
                bits = ~wanted[:words] if invert else wanted[:words]
                mask = bits if mask is None else mask & bits
            else:
                found.append((segment, count, mask, self.largest[number]))
        return found

    def automatic(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slots of ids where all ids are automatic; -1 where there is no such row."""
        assert self.first_ids is not None
        if not len(self.segments):
            return np.full(len(ids), -1)
        number = np.searchsorted(self.first_ids, ids, side="right") - 1
        row = ids - self.first_ids[number]
        slots: NDArray[np.int64] = self.bases[number] + row
        slots[(number < 0) | (row >= self.counts[number])] = -1
        return slots

    def places(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of the segment and of the row of each slot; the segment is -1 where no row can be found."""
        if not len(self.segments):
            return np.full(len(slots), -1), np.zeros(len(slots), np.int64)
        number = np.searchsorted(self.bases, slots, side="right") - 1
        number[slots < 0] = -1
        row = slots - self.bases[number]
        number[row >= self.counts[number]] = -1
        for each, mask in enumerate(self.masks):
            if mask is not None:
                here = np.flatnonzero(number == each)
                gone = here[mask[row[here] // BLOCK_ROWS] >> (row[here] % BLOCK_ROWS).astype(np.uint16) & 1 == 0]
                number[gone] = -1
        return number, row

    def live_rows(self, number: int) -> NDArray[np.int64]:
        """Rows of a segment that were not removed."""
        return self.segments[number].live_rows(int(self.counts[number]))

    def masks_of(self, slots: NDArray[np.int64]) -> Masks:
        """The rows in some slots, as a mask for each segment that has any."""
        number, row = self.places(slots)
        found: list[NDArray[np.uint16] | None] = []
        for each, segment in enumerate(self.segments):
            rows = row[number == each]
            found.append(mask_of(rows, segment.capacity) if len(rows) else None)
        return tuple(found)


def take(segments: Sequence[Segment], epoch: int, generation: int) -> Snapshot:
    """A snapshot of segments as they are now."""
    capacities = np.array([0, *(each.capacity for each in segments)], np.int64)
    first_ids = [each.first_id for each in segments if each.first_id is not None]
    return Snapshot(
        tuple(segments),
        np.array([each.count for each in segments], np.int64),
        tuple(each.mask for each in segments),
        tuple(each.largest for each in segments),
        np.cumsum(capacities)[:-1],
        np.array(first_ids, np.int64) if len(first_ids) == len(segments) else None,
        sum(each.live for each in segments),
        epoch,
        generation,
    )


Find = Callable[[Snapshot, NDArray[np.int64]], NDArray[np.int64] | None]
"""Slots of ids in a snapshot, -1 where there is none; None if rows have moved since the snapshot."""


class Selection:
    """A set of ids that searches are restricted to, or that they leave out; made by `Index.selection`.

    It may be used for any number of searches, at once and after the index changed: ids that are not in the index count for nothing
    until they are added. Their rows are looked up once, and again after rows were added or moved.
    """

    def __init__(self, ids: NDArray[np.int64], owner: object, find: Find) -> None:
        self.owner = owner
        self._ids = ids
        self._find = find
        self._found: tuple[int, Masks] | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def masks(self, snapshot: Snapshot) -> Masks | None:
        """The rows of a snapshot that are in the set; None if rows have moved since."""
        found = self._found
        if found is None or found[0] != snapshot.generation:
            slots = self._find(snapshot, self._ids)
            if slots is None:
                return None
            found = (snapshot.generation, snapshot.masks_of(slots))
            self._found = found
        return found[1]
