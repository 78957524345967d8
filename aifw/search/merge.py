"""Joining small segments, so that an index that is saved after every few rows does not become many files.

The rule, applied when an index is saved: of segments below 128 MiB, one is joined with those behind it while it has less than twice
their rows. So each row is written anew about as often as the index doubles, and there are never more small segments than that. A small
segment of which more than half was removed is written anew without those rows; one of which all was removed is dropped. Larger ones
are left as they are: `Index.compact` joins everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from aifw.search.backend import backend
from aifw.search.segment import BLOCK_ROWS, Segment, bytes_of_a_row
from aifw.search.vectors import BLOCK_BYTES

SMALL_BYTES = 128 << 20


def groups(segments: Sequence[Segment]) -> list[tuple[list[Segment], bool]]:
    """Which segments to join, in order; with each group whether it has to be written anew."""
    found: list[tuple[list[Segment], bool]] = []
    for segment in reversed(segments):
        if not segment.live:
            continue
        small = segment.count * bytes_of_a_row(segment.dimensions) < SMALL_BYTES
        behind = found[-1][0] if found else []
        if small and behind and _small(behind) and segment.live < 2 * sum(each.live for each in behind):
            found[-1] = ([segment, *behind], True)
        else:
            found.append(([segment], small and 2 * segment.removed > segment.count))
    dropped = sum(len(group) for group, _ in found) < len(segments)
    found.reverse()
    # An empty group that is to be written anew is how a dropped segment takes effect.
    return [*found, ([], True)] if dropped else found


def _small(group: Sequence[Segment]) -> bool:
    return all(each.count * bytes_of_a_row(each.dimensions) < SMALL_BYTES for each in group)


def rewritten(group: Sequence[Segment], metric: int, allocate: Callable[[int], Segment], threads: int) -> list[Segment]:
    """The rows of some segments that were not removed, in order, in as few segments as `allocate` gives."""
    left = sum(each.live for each in group)
    result: list[Segment] = []
    for segment in group:
        rows = segment.live_rows()
        step = max(BLOCK_ROWS, BLOCK_BYTES // (4 * segment.dimensions))
        done = 0
        while done < len(rows):
            if not result or result[-1].count == result[-1].capacity:
                result.append(allocate(left))
                result[-1].sealed = True
            target = result[-1]
            first = target.count
            last = min(first + step, first + len(rows) - done, target.capacity)
            some = rows[done : done + last - first]
            target.rows[first:last] = segment.rows[some]
            target.ids[first:last] = segment.ids[some]
            largest = backend().encode(target, target.dimensions, metric, first, last, threads)
            target.largest = max(target.largest, largest)
            target.count = last
            done += last - first
            left -= last - first
    if all(each.first_id is not None for each in group):
        for target in result:
            ids = target.ids[: target.count]
            if bool((np.diff(ids) == 1).all()):
                target.first_id = int(ids[0])
    return result
