"""The data card: what the pairs are, what was lost and why, and whether surface features give the choice away."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aifw.data.kinds import PreferencesSettings
from aifw.data.near_duplicates import stable_hash
from aifw.data.pairs import Pair
from aifw.data.split import Split
from aifw.data.surface import Accuracy, Item, bag_of_words, longer_wins

_EXAMPLES = 3
_BINS = (0.5, 0.6, 0.7, 0.8, 0.9)


def describe(pairs: Sequence[Pair], found: Split) -> dict[str, Any]:
    """Counts, mean lengths and the length of the longest in characters of the pairs of one output; its facts."""
    count = max(1, len(pairs))
    return {
        "rows": len(pairs),
        "groups": len({found.group_of(pair) for pair in pairs}),
        "simulated": sum(pair.source == "simulated" for pair in pairs),
        "chars_prompt": round(sum(len(pair.context) for pair in pairs) / count, 1),
        "chars_chosen": round(sum(len(pair.chosen) for pair in pairs) / count, 1),
        "chars_rejected": round(sum(len(pair.rejected) for pair in pairs) / count, 1),
        "chars_longest": max(
            (len(pair.context) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs), default=0
        ),
    }


def make(
    settings: PreferencesSettings, events: Mapping[str, int], lost: Mapping[str, int], found: Split
) -> dict[str, Any]:
    """The card as JSON."""
    everything = [*found.train, *found.heldout]
    real = [pair for pair in everything if pair.source != "simulated"]
    items = [Item(found.group_of(pair), pair.chosen, pair.rejected) for pair in real]
    words = bag_of_words(items)
    examples = sorted(found.train, key=lambda pair: stable_hash("example", pair.id))
    return {
        "settings": {
            name: getattr(settings, name)
            for name in ("heldout", "min_confidence", "simulate", "max_pairs", "near_duplicates")
        },
        "events": dict(sorted(events.items())),
        "train": describe(found.train, found),
        "heldout": describe(found.heldout, found),
        "sources": dict(sorted(Counter(pair.source for pair in everything).items())),
        "lost": dict(sorted(lost.items(), key=lambda at: (-at[1], at[0]))),
        "largest_cluster": found.largest,
        "confidence": {
            f"{low:.1f}": sum(
                low <= pair.confidence < low + 0.1 or pair.confidence == low + 0.1 == 1.0 for pair in real
            )
            for low in _BINS
        },
        "guessing": {
            "longer_wins": asdict(longer_wins(items)) if items else None,
            "bag_of_words": asdict(words) if words else None,
        },
        "examples": [pair.row(found.group_of(pair)) for pair in examples[:_EXAMPLES]],
    }


def write(card: Mapping[str, Any], folder: Path) -> None:
    """Write `card.json` and `card.md`."""
    (folder / "card.json").write_text(json.dumps(card, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(_markdown(card), encoding="utf-8")


def _markdown(card: Mapping[str, Any]) -> str:
    lines = ["# Preference pairs", ""]
    lines += _table(
        ("", "train", "held out"),
        [
            (label, f"{card['train'][name]:,}", f"{card['heldout'][name]:,}")
            for label, name in (
                ("pairs", "rows"),
                ("clusters of conversations", "groups"),
                ("simulated", "simulated"),
                ("characters a prompt", "chars_prompt"),
                ("characters a chosen answer", "chars_chosen"),
                ("characters a rejected answer", "chars_rejected"),
            )
        ],
    )
    lines += ["", "## Where they come from", ""]
    kinds = [*dict.fromkeys([*card["events"], *card["sources"]])]
    lines += _table(
        ("kind", "events", "pairs"),
        [(kind, f"{card['events'].get(kind, 0):,}", f"{card['sources'].get(kind, 0):,}") for kind in kinds],
    )
    lines += ["", "## What was lost, and why", ""]
    lines += _table(
        ("reason", "count"), [(reason, f"{count:,}") for reason, count in card["lost"].items()] or [("nothing", "0")]
    )
    lines += ["", f"The largest cluster has {card['largest_cluster']:,} conversations.", "", "## Confidence", ""]
    lines += _table(("from", "pairs"), [(low, f"{count:,}") for low, count in card["confidence"].items()])
    lines += [
        "",
        "## Can the choice be guessed from the surface?",
        "",
        "One half means no. Real pairs of both sides; intervals are 95 % and allow for pairs of one cluster going together.",
        "",
    ]
    guessing = card["guessing"]
    lines += _table(
        ("guess", "right"),
        [
            ("the longer answer wins", _interval(guessing["longer_wins"])),
            ("logistic regression on words, cross-validated by cluster", _interval(guessing["bag_of_words"])),
        ],
    )
    lines += ["", "## Examples", ""]
    for row in card["examples"]:
        lines += [f"**{message['role']}:** {_inline(message['content'])}  " for message in row["prompt"]]
        lines += [
            f"**chosen:** {_inline(row['chosen'])}  ",
            f"**rejected:** {_inline(row['rejected'])}  ",
            f"({row['source']}, confidence {row['confidence']:.2f})",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _inline(text: str) -> str:
    return " ".join(text.split())


def _interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "too few clusters to say"
    known = Accuracy(**found)
    return f"{known.value:.3f} ({known.low:.3f} to {known.high:.3f}, n {known.items:,})"
