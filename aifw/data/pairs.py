"""From judgements to preference pairs. How sure a pair makes us is the business of `aifw.data.confidence`.

Everything here looks at the events of one context at a time, a context being the messages that were answered: two judgements that have
anything to do with each other share it. So feedback of any size can be handed over context by context.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aifw.data.confidence import (
    COMPARISON,
    CORRECTION,
    PLAIN,
    SIMULATED_CONFIDENCE,
    THUMBS_ONE_RATER,
    THUMBS_TWO_RATERS,
    TIE,
    Belief,
    Source,
    Vote,
    log_odds,
    stars_of_different_raters,
    stars_of_one_rater,
)
from aifw.data.events import Event, encode
from aifw.data.near_duplicates import normalised, stable_hash

Messages = tuple[tuple[str, str], ...]
"""(role, content) of every message up to and including the prompt."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, the preferred one first.

    Attributes:
        conversations: By name, every one it was found in.
        confidence: 0.5 to 1.
        age: Seconds from its newest judgement to the newest event of the data.
    """

    id: str
    conversations: tuple[str, ...]
    messages: Messages
    chosen: str
    rejected: str
    confidence: float
    source: Source
    age: float = 0.0

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
class Ballot:
    """Everything said of one pair of answers."""

    votes: list[Vote] = field(default_factory=list)
    ties: list[str] = field(default_factory=list)
    """Times of comparisons that ended in a tie."""
    conversations: set[str] = field(default_factory=set)


Subject = tuple[Messages, str, str]
"""Messages, and the two answers in the order of their texts."""

Ballots = defaultdict[Subject, Ballot]


@dataclass
class Collected:
    """What events say, before it is decided what to believe.

    Attributes:
        good: Liked answers, in the order they were met.
        events: Used events by kind.
        lost: What became of judgements that make no vote, by reason.
    """

    ballots: Ballots = field(default_factory=lambda: defaultdict(Ballot))
    good: dict[GoodAnswer, None] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)


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


def judge(events: Iterable[Event], belief: Belief = PLAIN) -> Judged:
    """Turn events into pairs.

    Args:
        events: Sorted by id; all events of each context that occurs.
        belief: What is known of raters, and how fast judgements age.
    """
    said = collect(events)
    pairs = list(_decide(said.ballots, belief, said.lost))
    good = sorted(said.good, key=lambda each: (each.conversation, each.messages, each.answer))
    return Judged(sorted(pairs, key=lambda pair: pair.id), good, said.events, said.lost)


def collect(events: Iterable[Event]) -> Collected:
    """Turn events into votes.

    Args:
        events: Sorted by id; all events of each context that occurs.
    """
    said = Collected()
    latest: dict[tuple[Any, ...], Event] = {}
    found_in: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
    for event in events:
        said.events[event["kind"]] += 1
        subject = _subject(event)
        found_in[subject].add(event["conversation"])
        former = latest.get(subject)
        if former is not None:
            said.lost["judged again later by the same rater"] += 1
        if former is None or (event["time"], event["id"]) > (former["time"], former["id"]):
            latest[subject] = event
    single: defaultdict[tuple[str, str, Messages], Ratings] = defaultdict(lambda: defaultdict(dict))
    for subject, event in latest.items():
        messages, conversation = messages_of(event), event["conversation"]
        if event["kind"] == "comparison":
            _compare(said, event, found_in[subject])
        elif event["kind"] == "correction":
            corrected = event["corrected"].strip()
            _vote(said, messages, found_in[subject], corrected, event["answer"], CORRECTION, "correction", [event])
            said.good[GoodAnswer(conversation, messages, corrected)] = None
        else:
            single[event["kind"], conversation, messages][event["answer"].strip()][event["rater"]] = event
    for (kind, conversation, messages), ratings in sorted(single.items(), key=lambda at: at[0]):
        source: Source = "thumbs" if kind == "thumbs" else "stars"
        found, unused, liked = _thumbs(ratings) if kind == "thumbs" else _stars(ratings)
        said.lost.update(unused)
        said.good.update((GoodAnswer(conversation, messages, answer), None) for answer in liked)
        for better, worse, reliability, made_of in found:
            _vote(said, messages, {conversation}, better, worse, reliability, source, made_of)
    return said


def _subject(event: Event) -> tuple[Any, ...]:
    """What a rater has one word on: the last counts.

    A comparison or a correction says the same in whichever conversation it is made; thumbs and stars are paired within one.
    """
    kind = event["kind"]
    names = ("answer_a", "answer_b") if kind == "comparison" else ("answer",)
    answers = sorted(event[name].strip() for name in names)
    within = "" if kind in {"comparison", "correction"} else event["conversation"]
    return (kind, within, event["rater"], messages_of(event), *answers)


def messages_of(event: Event) -> Messages:
    """What was answered."""
    turns = tuple((turn["role"], turn["content"].strip()) for turn in event.get("turns", ()))
    return (*turns, ("user", event["prompt"].strip()))


def _vote(
    said: Collected,
    messages: Messages,
    conversations: set[str],
    better: str,
    worse: str,
    reliability: float,
    source: Source,
    made_of: list[Event],
) -> None:
    better, worse = better.strip(), worse.strip()
    first, second = sorted((better, worse))
    ballot = said.ballots[messages, first, second]
    raters = tuple(sorted({event["rater"] for event in made_of}))
    ballot.votes.append(Vote(reliability, better == first, source, raters, min(event["time"] for event in made_of)))
    ballot.conversations |= conversations


def _compare(said: Collected, event: Event, conversations: set[str]) -> None:
    messages, conversation = messages_of(event), event["conversation"]
    if event["preferred"] == "tie":
        first, second = sorted((event["answer_a"].strip(), event["answer_b"].strip()))
        ballot = said.ballots[messages, first, second]
        ballot.ties.append(event["time"])
        ballot.conversations |= conversations
        return
    better = event["answer_" + event["preferred"]]
    worse = event["answer_" + ("b" if event["preferred"] == "a" else "a")]
    _vote(said, messages, conversations, better, worse, COMPARISON, "comparison", [event])
    said.good[GoodAnswer(conversation, messages, better.strip())] = None


Ratings = dict[str, dict[str, Event]]
"""Answer, then rater, then the event."""

Found = tuple[list[tuple[str, str, float, list[Event]]], Counter[str], list[str]]
"""(better, worse, reliability of one vote, what it is made of); what was lost; liked answers."""


def _thumbs(ratings: Ratings) -> Found:
    """Pair liked with disliked answers, each used at least once, without making every combination."""
    thumbs = {
        answer: {rater: 1 if event["thumb"] == "up" else -1 for rater, event in by_rater.items()}
        for answer, by_rater in ratings.items()
    }
    balance = {answer: sum(by_rater.values()) for answer, by_rater in thumbs.items()}
    liked = sorted(answer for answer, value in balance.items() if value > 0)
    disliked = sorted(answer for answer, value in balance.items() if value < 0)
    lost: Counter[str] = Counter()
    lost["as many thumbs up as down"] += len(balance) - len(liked) - len(disliked)
    if not liked or not disliked:
        lost["thumb without its opposite"] += len(liked) + len(disliked)
        return [], +lost, liked
    found: list[tuple[str, str, float, list[Event]]] = []
    for turn in range(max(len(liked), len(disliked))):
        better, worse = liked[turn % len(liked)], disliked[turn % len(disliked)]
        ups, downs = thumbs[better], thumbs[worse]
        same = [rater for rater in ups if ups[rater] > 0 > downs.get(rater, 0)]
        found.extend(
            (better, worse, THUMBS_ONE_RATER, [ratings[better][rater], ratings[worse][rater]]) for rater in same
        )
        if not same:
            made_of = [ratings[better][rater] for rater in ups if ups[rater] > 0]
            made_of += [ratings[worse][rater] for rater in downs if downs[rater] < 0]
            found.append((better, worse, THUMBS_TWO_RATERS, made_of))
    return found, +lost, liked


def _stars(ratings: Ratings) -> Found:
    """Pair the best with the worst, then the next inwards."""
    mean = {answer: sum(each["stars"] for each in by.values()) / len(by) for answer, by in ratings.items()}
    order = sorted(mean, key=lambda answer: (-mean[answer], answer))
    lost: Counter[str] = Counter()
    if len(order) == 1:
        lost["stars without another answer"] += 1
    elif len(order) % 2:
        lost["stars in the middle"] += 1
    found: list[tuple[str, str, float, list[Event]]] = []
    for better, worse in zip(order[: len(order) // 2], reversed(order), strict=False):
        margin = mean[better] - mean[worse]
        both = sorted(set(ratings[better]) & set(ratings[worse]))
        if margin < 1:
            lost["stars less than one apart"] += 1
        elif both:
            for rater in both:
                made_of = [ratings[better][rater], ratings[worse][rater]]
                step = made_of[0]["stars"] - made_of[1]["stars"]
                if step:
                    first, second = (better, worse) if step > 0 else (worse, better)
                    found.append((first, second, stars_of_one_rater(abs(step)), made_of))
        else:
            made_of = [*ratings[better].values(), *ratings[worse].values()]
            found.append((better, worse, stars_of_different_raters(margin), made_of))
    return found, lost, [answer for answer in order if mean[answer] >= 4]


def _decide(ballots: Ballots, belief: Belief, lost: Counter[str]) -> Iterator[Pair]:
    for (messages, first, second), ballot in ballots.items():
        if first == second:
            lost["both answers are the same"] += 1
            continue
        weighed = [(belief.weight(vote), vote) for vote in ballot.votes]
        total = sum(weight if vote.for_first else -weight for weight, vote in weighed)
        taken = sum(log_odds(TIE) * belief.freshness(time) for time in ballot.ties)
        strength = abs(total) - taken
        heaviest = max((weight for weight, _ in weighed), default=0.0)
        if strength <= 1e-9 * heaviest or not heaviest:
            lost[_why_undecided(ballot)] += 1
            continue
        for_first = total > 0
        chosen, rejected = (first, second) if for_first else (second, first)
        leading = [(weight, vote.source) for weight, vote in weighed if vote.for_first == for_first]
        yield Pair(
            id=f"{stable_hash(encode(messages), first, second):016x}",
            conversations=tuple(sorted(ballot.conversations)),
            messages=messages,
            chosen=chosen,
            rejected=rejected,
            confidence=round(1 / (1 + math.exp(-strength)), 4),
            source=max(leading)[1],
            age=min(belief.age(vote.time) for vote in ballot.votes),
        )


def _why_undecided(ballot: Ballot) -> str:
    if ballot.ties:
        return "tie"
    sides = {vote.for_first for vote in ballot.votes}
    return "raters contradict each other" if len(sides) > 1 else "raters no better than chance"
