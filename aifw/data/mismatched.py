"""Pairs for a start with little feedback: the answer to this question against a liked answer to another one. Nobody judged them."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from aifw.data.near_duplicates import stable_hash
from aifw.data.pair_table import SALT, Columns, Likeness, PairTable
from aifw.data.pairs import GoodAnswer, Messages, Pair
from aifw.data.split import Split, is_heldout


@dataclass(frozen=True, slots=True)
class Liked:
    """A liked answer, and the numbers of its context and answer in a table."""

    good: GoodAnswer
    context: int
    answer: int


class LikedSample:
    """Liked answers whose conversation is not held out; of many those with the smallest hash, so that any number streams.

    Args:
        wanted: Pairs that are to be made.
        share: Held out.
    """

    def __init__(self, wanted: int, share: float) -> None:
        self._most = 4 * wanted + 1000 if wanted else 0
        self._share = share
        self._kept: list[tuple[int, str, Messages, str, GoodAnswer]] = []

    def add(self, good: Iterable[GoodAnswer]) -> None:
        """Look at some more."""
        if not self._most:
            return
        for each in good:
            if is_heldout(each.opening, self._share):
                continue
            # The heap's first is the one to go next, so the hash is turned round. Messages that differ in their roles alone share it.
            entry = (-stable_hash(SALT, each.context, each.answer), each.conversation, each.messages, each.answer, each)
            if len(self._kept) < self._most:
                heapq.heappush(self._kept, entry)
            else:
                heapq.heappushpop(self._kept, entry)

    def within(self, table: PairTable) -> list[Liked]:
        """What was kept, by hash; its texts are added to the table, to be compared with the others there."""
        ordered = sorted(self._kept, key=lambda entry: (-entry[0], *entry[1:4]))
        return [
            Liked(good, table.contexts.number(good.context), table.answers.number(good.answer)) for *_, good in ordered
        ]


def simulated_at_most(real: int, share: float) -> int:
    """Most simulated pairs beside so many real ones, so that they are at most that share of both."""
    return int(real * share / (1 - share) + 1e-9)


def simulate(
    liked: list[Liked],
    columns: Columns,
    found: Split,
    likeness: Likeness,
    count: int,
    sealed: tuple[Collection[int], Collection[int]] = ((), ()),
) -> list[Pair]:
    """Make pairs from liked answers alone.

    Uses nothing that is held out or sealed, or close to it. Of a few candidates the rejected answer is the one nearest in length, so that length
    does not give the choice away.

    Returns:
        At most `count` pairs by id; fewer if there are not enough liked answers.
    """
    context_of, answer_of = likeness.contexts.roots, likeness.answers.roots
    taken = set(found.group[found.heldout].tolist())
    contexts = {*sealed[0], *context_of[columns.context[found.heldout]].tolist()}
    answers = {*sealed[1], *answer_of[columns.chosen[found.heldout]].tolist()}
    answers |= set(answer_of[columns.rejected[found.heldout]].tolist())
    usable = [
        (each.good, int(context_of[each.context]), int(answer_of[each.answer]))
        for each in liked
        if found.cluster_of(each.good.conversation) not in taken
        and int(context_of[each.context]) not in contexts
        and int(answer_of[each.answer]) not in answers
    ]
    if not count:
        return []
    made: dict[str, Pair] = {}
    size = len(usable)
    for shift in range(1, min(size, 20 + count // max(1, size))):
        for position, (each, context, answer) in enumerate(usable):
            if len(made) >= count:
                return sorted(made.values(), key=lambda pair: pair.id)
            candidates = [usable[(position + shift + step * step) % size] for step in range(8)]
            fitting = [
                other.answer
                for other, other_context, other_answer in candidates
                if other_context != context and other_answer != answer and other.conversation != each.conversation
            ]
            if fitting:
                worse = min(fitting, key=lambda text: (abs(len(text) - len(each.answer)), text))
                name = f"simulated-{stable_hash(each.context, each.answer, worse):016x}"
                made.setdefault(name, each.against(name, worse))
    return sorted(made.values(), key=lambda pair: pair.id)
