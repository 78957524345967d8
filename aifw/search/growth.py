"""What has to be done to a former index so that it becomes one of other vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifw.search.index import Index
from aifw.search.stored import Manifest, Reader, rows_of_a_block

SOURCE = "source.json"
"""Beside the files of an index: which vectors it was made from."""
MOST_STALE = 0.25
"""A former index is of no use if a larger share of its rows would be removed ones: they take space and time in every search."""


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between the vectors of an index and others.

    Attributes:
        gone: Ids to remove, those of changed vectors among them.
        new: Rows to add, ascending.
        changed: How many of both are an id with another vector.
    """

    gone: NDArray[np.int64]
    new: NDArray[np.int64]
    changed: int = 0

    def __str__(self) -> str:
        counts = {
            "added": len(self.new) - self.changed,
            "changed": self.changed,
            "removed": len(self.gone) - self.changed,
        }
        return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "in another order"


def write_source(folder: Path, version: int, manifest: Manifest) -> None:
    """Note beside an index which vectors it was made from, and by which version of the kind."""
    content = {"version": version, "vectors": manifest.as_json()}
    (folder / SOURCE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_source(folder: Path, version: int) -> Manifest | None:
    """Which vectors an index was made from; None if that is not known, or it was made by another version of the kind."""
    try:
        source = json.loads((folder / SOURCE).read_bytes())
        return Manifest.read(source["vectors"]) if source["version"] == version else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def difference(index: Index, former: Manifest, vectors: Reader) -> Change | None:
    """Compare vectors with those of an index.

    Vectors to whose end others were added are recognised by digests alone. Others are compared one by one with the index's own
    copy, id for id, and not further than it takes to see that most of them changed.

    Args:
        index: As it was made.
        former: Of the vectors it was made from.
        vectors: Those it is to hold.

    Returns:
        None if it is better made anew.
    """
    if index.dimensions != vectors.dimensions or former.rows != len(index):
        return None
    grown_from = vectors.grown_from(former)
    if grown_from is not None:
        return Change(np.empty(0, np.int64), np.arange(grown_from, vectors.rows))
    return _compare(index, vectors)


def _compare(index: Index, vectors: Reader) -> Change | None:
    known = np.sort(index.ids())
    ids = vectors.ids(0, vectors.rows)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    kept = known[place] == ids
    stays = np.zeros(len(known), bool)
    stays[place[kept]] = True
    gone = known[~stays]
    stored = _rows_with_removed_ones(index)
    allowed = MOST_STALE * stored - (stored - len(index)) - len(gone)
    changed = 0
    step = rows_of_a_block(vectors.dimensions, "float32")
    for first in range(0, vectors.rows, step):
        here = first + np.flatnonzero(kept[first : first + step])
        if changed > allowed:
            return None
        if not len(here):
            continue
        now: NDArray[Any] = vectors.rows_of(here)[:]
        differ = (now.view(np.uint32) != index.vectors(ids[here]).view(np.uint32)).any(axis=1)
        kept[here[differ]] = False
        changed += int(differ.sum())
    if changed > allowed:
        return None
    new = np.flatnonzero(~kept)
    return Change(np.concatenate([gone, np.intersect1d(ids[new], known)]), new, changed)


def _rows_with_removed_ones(index: Index) -> int:
    return index.memory()["ids"] // np.dtype(np.int64).itemsize
