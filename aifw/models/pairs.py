"""Preference pairs as training and scoring take them: read, chosen, tokenised, with a count of what could not be used."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aifw.errors import InputInvalid
from aifw.models.chat import EncodedPair, Message, encode_pair

_TEXTS = ("id", "group", "chosen", "rejected")


class Identified(Protocol):
    """What has a name of its own."""

    @property
    def id(self) -> str:
        """The name."""


Row = TypeVar("Row", bound=Identified)


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference.

    Attributes:
        group: Cluster of conversations it belongs to.
    """

    id: str
    group: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str


@dataclass
class Encoded:
    """Pairs as token ids.

    Attributes:
        pairs: Those that can be used, in the order they were given.
        tokens: The same, tokenised.
        dropped: How many could not be used, by reason.
        cut: How many prompts and answers were shortened.
    """

    pairs: list[Pair] = field(default_factory=list)
    tokens: list[EncodedPair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)

    def notes(self) -> Iterator[str]:
        """What the user should know, a sentence each."""
        for reason, count in sorted(self.dropped.items()):
            yield f"{count} pairs not used: {reason}"
        for what, count in sorted(self.cut.items()):
            yield f"{count} {what} shortened to the limit"


def read_pairs(folder: Path) -> list[Pair]:
    """Read a `PreferencePairs` folder.

    Raises:
        InputInvalid: A row is broken; it is named.
    """
    return [
        Pair(row["id"], row["group"], tuple(row["prompt"]), row["chosen"], row["rejected"]) for row in read_rows(folder)
    ]


def read_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a `PreferencePairs` folder, one after the other, with whatever else they say.

    Raises:
        InputInvalid: A row is broken; it is named.
    """
    path = folder / "pairs.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    checked = row | {"prompt": _prompt(row)} | {name: str(row[name]) for name in _TEXTS}
                except (ValueError, KeyError, TypeError) as error:
                    raise InputInvalid(f"{path}:{number}: not a preference pair: {error!r}") from error
                yield checked
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid(f"{path} cannot be read: {error}") from error


def _prompt(row: Any) -> list[dict[str, str]]:
    prompt = [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in row["prompt"]]
    if not prompt:
        raise ValueError("the prompt is empty")
    return prompt


def choose(pairs: Iterable[Row], most: int | None) -> list[Row]:
    """At most that many pairs (or whatever has an id), by the hash of their id: the same ones whatever else there is, in the order of their id."""
    ordered = sorted(pairs, key=lambda pair: pair.id)
    if most is None or len(ordered) <= most:
        return ordered
    ranked = sorted(ordered, key=lambda pair: hashlib.sha256(pair.id.encode()).digest())
    return sorted(ranked[:most], key=lambda pair: pair.id)


def encode(
    pairs: Iterable[Pair], tokenizer: Any, *, max_prompt: int, max_answer: int, context: int, keep_equal: bool
) -> Encoded:
    """Tokenise pairs and count what had to be dropped or cut.

    Args:
        pairs: To tokenise.
        tokenizer: Of the model.
        max_prompt: Tokens; longer prompts lose their beginning.
        max_answer: Tokens; longer answers lose their end.
        context: Most positions of the model. A prompt is cut further where prompt and answer would exceed it.
        keep_equal: Whether pairs of equal answers are of use: as ties to an evaluation, not to training.
    """
    encoded = Encoded()
    max_answer = min(max_answer, max(1, context - 1))
    for pair in pairs:
        tokens = encode_pair(
            tokenizer, pair.prompt, pair.chosen, pair.rejected, max_prompt=max_prompt, max_answer=max_answer
        )
        room = context - max(len(tokens.chosen), len(tokens.rejected))
        if len(tokens.prompt) > room:
            tokens = EncodedPair(tokens.prompt[-room:], tokens.chosen, tokens.rejected, True, tokens.cut_answers)
        if not (tokens.prompt and tokens.chosen and tokens.rejected):
            encoded.dropped["prompt or answer without a token"] += 1
        elif tokens.chosen == tokens.rejected and not keep_equal:
            encoded.dropped["both answers are the same"] += 1
        else:
            encoded.pairs.append(pair)
            encoded.tokens.append(tokens)
            encoded.cut["prompts"] += tokens.cut_prompt
            encoded.cut["answers"] += tokens.cut_answers
    encoded.cut += Counter()
    return encoded
