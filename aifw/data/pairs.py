"""From judgements to preference pairs, and how sure they make us.

Every judgement is a vote on a pair of answers to one prompt in one context. A vote says one answer is better with a reliability p:

| vote                                                         | p                                       |
|--------------------------------------------------------------|-----------------------------------------|
| correction: what the rater wrote against what was answered   | 0.90                                    |
| comparison                                                   | 0.80                                    |
| stars: one rater gave one answer m more stars                | 0.55 + 0.10 m                           |
| stars: the means of different raters differ by m, at least 1 | 0.50 + 0.10 m                           |
| thumbs: one rater, one up and one down                       | 0.75                                    |
| thumbs: up from one rater, down from another                 | 0.65                                    |
| comparison: a tie                                            | takes 0.65 away from whichever leads    |

Votes are taken as independent, so their log-odds add up; the confidence of a pair is the logistic function of the sum. Raters who
agree make it rise, raters who contradict each other make it fall, and votes that cancel out leave no pair. Only the last judgement of a
rater on the same thing counts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from aifw.data.events import Event, encode
from aifw.data.near_duplicates import normalised, stable_hash

Source = Literal["comparison", "correction", "thumbs", "stars", "simulated"]

_CORRECTION, _COMPARISON, _TIE = 0.90, 0.80, 0.65
_THUMBS_ONE_RATER, _THUMBS_TWO_RATERS = 0.75, 0.65
_STARS_ONE_RATER, _STARS_TWO_RATERS, _STARS_STEP, _MOST = 0.55, 0.50, 0.10, 0.95

SIMULATED_CONFIDENCE = 0.55
"""Nobody judged them: barely more than a coin."""

Messages = tuple[tuple[str, str], ...]
"""(role, content) of every message up to and including the prompt."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, the preferred one first.

    Attributes:
        conversations: By name, every one it was found in.
        confidence: 0.5 to 1.
    """

    id: str
    conversations: tuple[str, ...]
    messages: Messages
    chosen: str
    rejected: str
    confidence: float
    source: Source

    @property
    def context(self) -> str:
        """Everything the answer was an answer to, as one text."""
        return _context(self.messages)

    @property
    def opening(self) -> str:
        """The first message of the user, normalised: what decides the side of a split."""
        return _opening(self.messages)

    def row(self, group: str) -> dict[str, Any]:
        """The pair as a line of `pairs.jsonl`."""
        return {
            "id": self.id,
            "group": group,
            "prompt": [{"role": role, "content": content} for role, content in self.messages],
            "chosen": self.chosen,
            "rejected": self.rejected,
            "confidence": self.confidence,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class GoodAnswer:
    """An answer somebody liked. Simulated pairs are made of these."""

    conversation: str
    messages: Messages
    answer: str

    @property
    def context(self) -> str:
        """Everything it was an answer to, as one text."""
        return _context(self.messages)

    @property
    def opening(self) -> str:
        """The first message of the user, normalised."""
        return _opening(self.messages)

    def against(self, name: str, other: str) -> Pair:
        """A simulated pair of that id, with `other` as the worse answer."""
        return Pair(name, (self.conversation,), self.messages, self.answer, other, SIMULATED_CONFIDENCE, "simulated")


def _context(messages: Messages) -> str:
    return "\n".join(content for _, content in messages)


def _opening(messages: Messages) -> str:
    return normalised(next(content for role, content in messages if role == "user"))


@dataclass
class Votes:
    """Votes on one pair of answers; positive log-odds speak for the first.

    Attributes:
        total: Sum of log-odds.
        ties: Comparisons that ended in a tie.
        strongest: For each side the strongest single vote and where it came from.
    """

    total: float = 0.0
    ties: int = 0
    strongest: dict[bool, tuple[float, Source]] = field(default_factory=dict)
    conversations: set[str] = field(default_factory=set)

    def vote(self, reliability: float, first: bool, source: Source, conversation: str) -> None:
        """Count one vote."""
        weight = _log_odds(reliability)
        self.total += weight if first else -weight
        self.strongest[first] = max(self.strongest.get(first, (0.0, source)), (weight, source))
        self.conversations.add(conversation)


@dataclass
class Judged:
    """What the events say.

    Attributes:
        pairs: By id.
        good: Liked answers, by conversation and text.
        events: Used events by kind.
        lost: What became of judgements that made no pair, by reason.
    """

    pairs: list[Pair]
    good: list[GoodAnswer]
    events: Counter[str]
    lost: Counter[str]


def judge(events: Iterable[Event]) -> Judged:
    """Turn events into pairs.

    Args:
        events: Sorted by id.
    """
    counts: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    votes: defaultdict[tuple[Messages, str, str], Votes] = defaultdict(Votes)
    good: dict[GoodAnswer, None] = {}
    latest: dict[tuple[Any, ...], Event] = {}
    for event in events:
        counts[event["kind"]] += 1
        answers = sorted((event["answer_a"], event["answer_b"])) if event["kind"] == "comparison" else [event["answer"]]
        subject = (event["kind"], event["conversation"], event["rater"], _messages(event), *answers)
        former = latest.get(subject)
        if former is not None:
            lost["judged again later by the same rater"] += 1
        if former is None or (event["time"], event["id"]) > (former["time"], former["id"]):
            latest[subject] = event
    single: defaultdict[tuple[str, str, Messages], dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for event in latest.values():
        messages, conversation = _messages(event), event["conversation"]
        if event["kind"] == "comparison":
            _count_comparison(votes, event)
            if event["preferred"] != "tie":
                good[GoodAnswer(conversation, messages, event["answer_" + event["preferred"]].strip())] = None
        elif event["kind"] == "correction":
            _count(votes, messages, event["corrected"], event["answer"], _CORRECTION, "correction", conversation)
            good[GoodAnswer(conversation, messages, event["corrected"].strip())] = None
        else:
            value = event["stars"] if event["kind"] == "stars" else 1 if event["thumb"] == "up" else -1
            single[event["kind"], conversation, messages][event["answer"].strip()][event["rater"]] = value
    for (kind, conversation, messages), ratings in sorted(single.items()):
        found, unused, liked = _thumbs(ratings) if kind == "thumbs" else _stars(ratings)
        lost.update(unused)
        good.update((GoodAnswer(conversation, messages, answer), None) for answer in liked)
        source: Source = "thumbs" if kind == "thumbs" else "stars"
        for better, worse, reliability in found:
            _count(votes, messages, better, worse, reliability, source, conversation)
    pairs = list(_decide(votes, lost))
    by_text = sorted(good, key=lambda each: (each.conversation, each.messages, each.answer))
    return Judged(sorted(pairs, key=lambda pair: pair.id), by_text, counts, lost)


def _messages(event: Event) -> Messages:
    turns = tuple((turn["role"], turn["content"].strip()) for turn in event.get("turns", ()))
    return (*turns, ("user", event["prompt"].strip()))


def _log_odds(reliability: float) -> float:
    return math.log(reliability / (1 - reliability))


def _count(
    votes: defaultdict[tuple[Messages, str, str], Votes],
    messages: Messages,
    better: str,
    worse: str,
    reliability: float,
    source: Source,
    conversation: str,
) -> None:
    better, worse = better.strip(), worse.strip()
    first, second = sorted((better, worse))
    votes[messages, first, second].vote(reliability, better == first, source, conversation)


def _count_comparison(votes: defaultdict[tuple[Messages, str, str], Votes], event: Event) -> None:
    messages, conversation = _messages(event), event["conversation"]
    if event["preferred"] == "tie":
        first, second = sorted((event["answer_a"].strip(), event["answer_b"].strip()))
        votes[messages, first, second].ties += 1
        votes[messages, first, second].conversations.add(conversation)
        return
    other = "b" if event["preferred"] == "a" else "a"
    better, worse = event["answer_" + event["preferred"]], event["answer_" + other]
    _count(votes, messages, better, worse, _COMPARISON, "comparison", conversation)


Ratings = dict[str, dict[str, int]]
"""Answer, then rater, then value."""

Found = tuple[list[tuple[str, str, float]], Counter[str], list[str]]
"""(better, worse, reliability of one vote); what was lost; liked answers."""


def _thumbs(ratings: Ratings) -> Found:
    """Pair liked with disliked answers, each used at least once, without making every combination."""
    balance = {answer: sum(by_rater.values()) for answer, by_rater in ratings.items()}
    liked = sorted(answer for answer, value in balance.items() if value > 0)
    disliked = sorted(answer for answer, value in balance.items() if value < 0)
    lost: Counter[str] = Counter()
    lost["as many thumbs up as down"] += len(balance) - len(liked) - len(disliked)
    if not liked or not disliked:
        lost["thumb without its opposite"] += len(liked) + len(disliked)
        return [], +lost, liked
    found: list[tuple[str, str, float]] = []
    for turn in range(max(len(liked), len(disliked))):
        better, worse = liked[turn % len(liked)], disliked[turn % len(disliked)]
        ups, downs = ratings[better], ratings[worse]
        same = [rater for rater in ups if ups[rater] > 0 > downs.get(rater, 0)]
        found.extend((better, worse, _THUMBS_ONE_RATER) for _ in same)
        if not same:
            found.append((better, worse, _THUMBS_TWO_RATERS))
    return found, +lost, liked


def _stars(ratings: Ratings) -> Found:
    """Pair the best with the worst, then the next inwards."""
    mean = {answer: sum(by_rater.values()) / len(by_rater) for answer, by_rater in ratings.items()}
    order = sorted(mean, key=lambda answer: (-mean[answer], answer))
    lost: Counter[str] = Counter()
    if len(order) == 1:
        lost["stars without another answer"] += 1
    elif len(order) % 2:
        lost["stars in the middle"] += 1
    found: list[tuple[str, str, float]] = []
    for better, worse in zip(order[: len(order) // 2], reversed(order), strict=False):
        margin = mean[better] - mean[worse]
        both = sorted(set(ratings[better]) & set(ratings[worse]))
        if margin < 1:
            lost["stars less than one apart"] += 1
        elif both:
            for rater in both:
                step = ratings[better][rater] - ratings[worse][rater]
                reliability = min(_MOST, _STARS_ONE_RATER + _STARS_STEP * abs(step))
                if step:
                    found.append((better, worse, reliability) if step > 0 else (worse, better, reliability))
        else:
            found.append((better, worse, _STARS_TWO_RATERS + _STARS_STEP * margin))
    return found, lost, [answer for answer in order if mean[answer] >= 4]


def _decide(votes: defaultdict[tuple[Messages, str, str], Votes], lost: Counter[str]) -> Iterator[Pair]:
    for (messages, first, second), counted in votes.items():
        if first == second:
            lost["both answers are the same"] += 1
            continue
        strength = abs(counted.total) - counted.ties * _log_odds(_TIE)
        if strength <= 1e-9:
            lost["tie" if counted.ties else "raters contradict each other"] += 1
            continue
        for_first = counted.total > 0
        chosen, rejected = (first, second) if for_first else (second, first)
        yield Pair(
            id=f"{stable_hash(encode(messages), first, second):016x}",
            conversations=tuple(sorted(counted.conversations)),
            messages=messages,
            chosen=chosen,
            rejected=rejected,
            confidence=round(1 / (1 + math.exp(-strength)), 4),
            source=counted.strongest[for_first][1],
        )
