"""What a body of feedback holds: counts, time range, and how far raters agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any

from aifw.data.events import Event
from aifw.data.near_duplicates import stable_hash


def summarise(events: Iterable[Event]) -> dict[str, Any]:
    """Count events.

    Returns:
        `rows`, `kinds` (rows by kind), `conversations`, `raters` (rows by rater), `first`, `last` (times), and `agreement`: by kind,
        `judgements` (pairs of raters who judged the same thing) and `agree` (how many of them say the same; stars may differ by one).
    """
    kinds: Counter[str] = Counter()
    raters: Counter[str] = Counter()
    conversations: set[int] = set()
    first = last = ""
    judged: defaultdict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
    for event in events:
        kind = event["kind"]
        kinds[kind] += 1
        raters[event["rater"]] += 1
        conversations.add(stable_hash(event["conversation"]))
        first = min(first or event["time"], event["time"])
        last = max(last, event["time"])
        found = _judgement(event)
        if found is not None:
            subject, value = found
            judged[kind, subject][event["rater"]] = value
    agreement: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (kind, _), values in judged.items():
        for one, other in combinations(values.values(), 2):
            agreement[kind][0] += 1
            agreement[kind][1] += abs(one - other) <= 1 if kind == "stars" else one == other
    return {
        "rows": kinds.total(),
        "kinds": dict(sorted(kinds.items())),
        "conversations": len(conversations),
        "raters": dict(sorted(raters.items())),
        "first": first or None,
        "last": last or None,
        "agreement": {
            kind: {"judgements": judgements, "agree": agree} for kind, (judgements, agree) in sorted(agreement.items())
        },
    }


def _judgement(event: Event) -> tuple[int, Any] | None:
    """What was judged, and how; None for corrections, which two raters never word alike."""
    kind = event["kind"]
    context = [turn["content"] for turn in event.get("turns", ())] + [event["prompt"]]
    if kind == "comparison":
        answers = sorted((event["answer_a"], event["answer_b"]))
        preferred = "tie" if event["preferred"] == "tie" else event["answer_" + event["preferred"]]
        return stable_hash(*context, *answers), preferred
    if kind in {"thumbs", "stars"}:
        return stable_hash(*context, event["answer"]), event["thumb" if kind == "thumbs" else "stars"]
    return None
