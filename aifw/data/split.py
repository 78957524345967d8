"""Pairs without repetitions, and a split that never leaks and never moves.

The side of an item is a hash of the first message of its conversation, so it depends on the item alone: however much feedback is
added, an item that was held out is never trained on, and the other way round. Conversations that share a nearly identical prompt or
answer form a cluster; where a cluster has items on both sides, held-out wins and its training items are dropped and counted. (To give
a whole cluster the side of one member would lose less, but items would move when two clusters grow together.)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aifw.data.near_duplicates import Clusters, near_pairs, normalised, stable_hash
from aifw.data.pairs import GoodAnswer, Pair
from aifw.errors import JobError

SALT = "aifw held-out split"
"""Never changed: it decides which items were held out in every artifact ever made."""


class Neighbours:
    """Which of some texts are nearly the same.

    Args:
        texts: All texts that will be asked for.
        threshold: Jaccard index of their shingles.
    """

    def __init__(self, texts: Iterable[str], threshold: float) -> None:
        distinct = sorted({normalised(text) for text in texts})
        self._near: defaultdict[str, set[str]] = defaultdict(set)
        for one, other in near_pairs(distinct, threshold):
            self._near[distinct[one]].add(distinct[other])
            self._near[distinct[other]].add(distinct[one])

    def of(self, text: str) -> list[str]:
        """The normalised text itself and those near it, sorted."""
        plain = normalised(text)
        return sorted({plain, *self._near.get(plain, ())})


@dataclass(frozen=True)
class Likeness:
    """Neighbours among contexts and among answers."""

    contexts: Neighbours
    answers: Neighbours

    @classmethod
    def among(cls, pairs: Sequence[Pair], good: Sequence[GoodAnswer], threshold: float) -> Likeness:
        """Compare everything with everything."""
        answers = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
        return cls(
            Neighbours([pair.context for pair in pairs] + [each.context for each in good], threshold),
            Neighbours(answers + [each.answer for each in good], threshold),
        )


def without_repetitions(pairs: Sequence[Pair], likeness: Likeness, lost: Counter[str]) -> list[Pair]:
    """Keep of pairs that say nearly the same the one we are surest of; drop those that say the opposite of a surer one.

    Returns:
        Pairs by id.
    """
    kept: list[Pair] = []
    by_chosen: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda each: (-each.confidence, each.id)):
        near_context = set(likeness.contexts.of(pair.context))
        near_chosen = likeness.answers.of(pair.chosen)
        near_rejected = likeness.answers.of(pair.rejected)
        if _said(by_chosen, near_chosen, near_rejected, near_context):
            lost["near-duplicate of another pair"] += 1
        elif _said(by_chosen, near_rejected, near_chosen, near_context):
            lost["opposite of a surer pair"] += 1
        else:
            kept.append(pair)
            by_chosen[normalised(pair.chosen)].append(pair)
    return sorted(kept, key=lambda pair: pair.id)


def _said(by_chosen: Mapping[str, list[Pair]], chosen: list[str], rejected: list[str], contexts: set[str]) -> bool:
    return any(
        normalised(former.rejected) in rejected and normalised(former.context) in contexts
        for text in chosen
        for former in by_chosen.get(text, ())
    )


@dataclass(frozen=True)
class Split:
    """Pairs on two sides that share no cluster.

    Attributes:
        group: Name of the cluster of every conversation that has a pair.
        largest: How many conversations the largest cluster has.
    """

    train: list[Pair]
    heldout: list[Pair]
    group: dict[str, str]
    largest: int

    def group_of(self, pair: Pair) -> str:
        """Name of the cluster of a pair. A simulated pair may come from a conversation without a real one, a cluster of its own."""
        first = pair.conversations[0]
        return self.group.get(first) or f"{stable_hash(first):016x}"


def is_heldout(opening: str, share: float) -> bool:
    """Which side a conversation is on, by its normalised first message."""
    return stable_hash(SALT, opening) < share * 2**64


def split(pairs: Sequence[Pair], likeness: Likeness, heldout: float, lost: Counter[str]) -> Split:
    """Put every pair on its side, and drop from train what is close to held-out.

    Args:
        pairs: By id.
        likeness: Among the texts of these pairs.
        heldout: Share.
        lost: Counts what is dropped.
    """
    clusters = Clusters(len(pairs))
    members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for position, pair in enumerate(pairs):
        for conversation in pair.conversations:
            members["conversation", conversation].append(position)
        for text in likeness.contexts.of(pair.context):
            members["context", text].append(position)
        for text in {*likeness.answers.of(pair.chosen), *likeness.answers.of(pair.rejected)}:
            members["answer", text].append(position)
    for joined in members.values():
        for position in joined[1:]:
            clusters.join(joined[0], position)
    held = [is_heldout(pair.opening, heldout) for pair in pairs]
    with_heldout = {clusters.root(position) for position, side in enumerate(held) if side}
    conversations: defaultdict[int, set[str]] = defaultdict(set)
    for position, pair in enumerate(pairs):
        conversations[clusters.root(position)].update(pair.conversations)
    group = {
        conversation: f"{min(stable_hash(name) for name in names):016x}"
        for names in conversations.values()
        for conversation in names
    }
    train: list[Pair] = []
    for position, pair in enumerate(pairs):
        if held[position]:
            continue
        if clusters.root(position) in with_heldout:
            lost["close to a held-out item"] += 1
        else:
            train.append(pair)
    return Split(
        train,
        [pair for pair, side in zip(pairs, held, strict=True) if side],
        group,
        max(map(len, conversations.values()), default=0),
    )


def simulate(good: Sequence[GoodAnswer], found: Split, likeness: Likeness, share: float, count: int) -> list[Pair]:
    """Make pairs from liked answers alone: the answer to this question against the answer to another one.

    Uses nothing that is held out or close to it. Of a few candidates the rejected answer is the one nearest in length, so that length
    does not give the choice away.

    Returns:
        At most `count` pairs by id; fewer if there are not enough liked answers.
    """
    taken = {found.group_of(pair) for pair in found.heldout}
    contexts = {text for pair in found.heldout for text in likeness.contexts.of(pair.context)}
    answers = {
        text for pair in found.heldout for each in (pair.chosen, pair.rejected) for text in likeness.answers.of(each)
    }
    usable = [
        each
        for each in good
        if not is_heldout(each.opening, share)
        and found.group.get(each.conversation) not in taken
        and normalised(each.context) not in contexts
        and normalised(each.answer) not in answers
    ]
    usable.sort(key=lambda each: (stable_hash(SALT, each.context, each.answer), each.conversation))
    made: dict[str, Pair] = {}
    size = len(usable)
    for shift in range(1, min(size, 20 + count // max(1, size))):
        for position, each in enumerate(usable):
            if len(made) >= count:
                return sorted(made.values(), key=lambda pair: pair.id)
            near = set(likeness.contexts.of(each.context))
            candidates = [usable[(position + shift + step * step) % size] for step in range(8)]
            fitting = [
                other
                for other in candidates
                if normalised(other.context) not in near
                and other.conversation != each.conversation
                and normalised(other.answer) not in likeness.answers.of(each.answer)
            ]
            if fitting:
                other = min(fitting, key=lambda other: (abs(len(other.answer) - len(each.answer)), other.answer))
                name = f"simulated-{stable_hash(each.context, each.answer, other.answer):016x}"
                made.setdefault(name, each.against(name, other.answer))
    return sorted(made.values(), key=lambda pair: pair.id)


def check_no_leak(found: Split, threshold: float) -> None:
    """Compare the two sides once more, from their texts alone, before anything is trained on them.

    Raises:
        JobError: They share a cluster, a conversation, or a nearly identical context or answer.
    """
    sides = (found.train, found.heldout)
    conversations = [{name for pair in side for name in pair.conversations} for side in sides]
    groups = [{found.group_of(pair) for pair in side} for side in sides]
    if conversations[0] & conversations[1] or groups[0] & groups[1]:
        raise JobError("train and held-out share a conversation", hint="this is a defect of aifw; please report it")
    for what, texts in (
        ("context", [[pair.context for pair in side] for side in sides]),
        ("answer", [[text for pair in side for text in (pair.chosen, pair.rejected)] for side in sides]),
    ):
        border = len(texts[0])
        joined = [*texts[0], *texts[1]]
        for one, other in near_pairs(joined, threshold):
            if one < border <= other:
                raise JobError(
                    f"train and held-out share a nearly identical {what}: {joined[one][:80]!r} and {joined[other][:80]!r}",
                    hint="this is a defect of aifw; please report it",
                )
