"""Pairs without repetitions, and a split that never leaks and never moves.

The side of an item is a hash of the first message of its conversation, so it depends on the item alone: however much feedback is
added, an item that was held out is never trained on, and the other way round. Conversations that share a nearly identical prompt or
answer form a cluster; where a cluster has items on both sides, held-out wins and its training items are dropped and counted. (To give
a whole cluster the side of one member would lose less, but items would move when two clusters grow together.)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from aifw.data.near_duplicates import Clusters, stable_hash
from aifw.data.pair_table import SALT, Columns, Likeness, Names, Numbers, Rows


@dataclass(frozen=True)
class Split:
    """Pairs on two sides that share no cluster.

    Attributes:
        train: Positions in the table, by id.
        heldout: As `train`.
        group: For every pair of the table the name of its cluster, as a number; 0 for those that were dropped before.
        conversations: Hashes of all conversations, ascending.
        group_of_conversation: Their clusters.
        largest: How many conversations the largest cluster has.
    """

    train: Rows
    heldout: Rows
    group: Names
    conversations: Names
    group_of_conversation: Names
    largest: int

    def cluster_of(self, conversation: str) -> int:
        """Name of the cluster of a conversation; one without a pair is a cluster of its own."""
        name = stable_hash(conversation)
        at = int(np.searchsorted(self.conversations, np.uint64(name)))
        if at < len(self.conversations) and int(self.conversations[at]) == name:
            return int(self.group_of_conversation[at])
        return name


def without_repetitions(columns: Columns, likeness: Likeness, heldout: float, lost: Counter[str]) -> Rows:
    """Keep of pairs that say nearly the same the one we are surest of; drop those that say the opposite of a surer one.

    One that is held out goes before any that is not, however sure we are: what was held out once must not be trained on because
    confidence changed.

    Args:
        columns: Of all pairs.
        likeness: Among their texts.
        heldout: Share.
        lost: Counts what is dropped.

    Returns:
        Positions, ascending.
    """
    context = likeness.contexts.roots[columns.context]
    chosen, rejected = likeness.answers.roots[columns.chosen], likeness.answers.roots[columns.rejected]
    low, high = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
    train = columns.opening >= limit(heldout)
    order = np.lexsort((columns.id, -columns.confidence, train, high, low, context))
    first = np.ones(len(order), bool)
    first[1:] = False
    for column in (context, low, high):
        first[1:] |= column[order[1:]] != column[order[:-1]]
    surest = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))] if len(order) else order
    opposite = ~first & (chosen[order] != chosen[surest])
    held = opposite & train[order] & ~train[surest]
    lost["opposite of a held-out pair"] += int(held.sum())
    lost["opposite of a surer pair"] += int((opposite & ~held).sum())
    lost["near-duplicate of another pair"] += int((~first & ~opposite).sum())
    return np.sort(order[first])


def limit(share: float) -> np.uint64:
    """An item is held out if the hash of its opening is below this."""
    return np.uint64(min(math.ceil(share * 2**64), 2**64 - 1))


def is_heldout(opening: str, share: float) -> bool:
    """Which side a conversation is on, by its normalised first message."""
    return stable_hash(SALT, opening) < int(limit(share))


def split(columns: Columns, kept: Rows, likeness: Likeness, heldout: float, lost: Counter[str]) -> Split:
    """Put every pair on its side, and drop from train what is close to held-out.

    Args:
        columns: Of all pairs.
        kept: Positions of those that count.
        likeness: Among their texts.
        heldout: Share.
        lost: Counts what is dropped.
    """
    place = np.full(len(columns.id), -1, np.int64)
    place[kept] = np.arange(len(kept))
    linked = place[columns.link_pair] >= 0
    link_place, link_name = place[columns.link_pair][linked], columns.link_name[linked]
    clusters = Clusters(len(kept))
    everyone = np.arange(len(kept))
    answers = likeness.answers.roots
    _join(clusters, link_place, link_name)
    _join(clusters, everyone, likeness.contexts.roots[columns.context[kept]])
    _join(
        clusters,
        np.concatenate([everyone, everyone]),
        np.concatenate([answers[columns.chosen[kept]], answers[columns.rejected[kept]]]),
    )
    roots = clusters.roots()
    held = columns.opening[kept] < limit(heldout)
    close = ~held & np.isin(roots, roots[held])
    lost["close to a held-out item"] += int(close.sum())
    smallest = np.full(len(kept), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, roots[link_place], link_name)
    group = np.zeros(len(columns.id), np.uint64)
    group[kept] = smallest[roots]
    names, at = np.unique(link_name, return_index=True)
    return Split(
        by_id(columns, kept[~held & ~close]),
        by_id(columns, kept[held]),
        group,
        names,
        smallest[roots[link_place[at]]],
        _largest(roots[link_place[at]]),
    )


def by_id(columns: Columns, rows: Rows) -> Rows:
    """Positions in the order of the pairs' ids."""
    return rows[np.argsort(columns.id[rows], kind="stable")]


def at_most(found: Split, columns: Columns, most: int | None, lost: Counter[str]) -> Split:
    """Drop training pairs above `most`; which ones is decided by hash, so that few change as feedback grows."""
    if most is None or len(found.train) <= most:
        return found
    lost["more than max_pairs"] += len(found.train) - most
    drawn = np.array([stable_hash(SALT, f"{number:016x}") for number in columns.id[found.train].tolist()], np.uint64)
    kept = found.train[np.argsort(drawn, kind="stable")[:most]]
    return replace(found, train=by_id(columns, kept))


def _join(clusters: Clusters, members: Rows, keys: npt.NDArray[np.generic]) -> None:
    """Make one cluster of all members with the same key."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    for one, other in zip(members[order[same]].tolist(), members[order[same + 1]].tolist(), strict=True):
        clusters.join(one, other)


def _largest(roots: Numbers) -> int:
    return int(np.bincount(roots).max()) if len(roots) else 0
