"""Held-out items as runs take them: read, chosen, and tokenised for a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid
from aifw.models.conversations import read_conversations
from aifw.models.pairs import Encoded, Pair, choose, encode, read_pairs


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What models are measured on.

    Attributes:
        name: As a user knows it.
        pairs: The items. Without rejected answers both are the same.
        preferences: Whether they have rejected answers.
    """

    name: str
    pairs: list[Pair]
    preferences: bool

    def digests(self) -> dict[str, str]:
        """What each item says, by its id, so that one that changed under the same id is noticed."""
        return {pair.id: digest(pair) for pair in self.pairs}


@dataclass(frozen=True, slots=True)
class Items:
    """Held-out items as one model reads them.

    Attributes:
        encoded: Those that the model can use.
        preferences: Whether they have rejected answers.
        context: Most positions of the model.
    """

    encoded: Encoded
    preferences: bool
    context: int

    def identified(self, position: int) -> dict[str, Any]:
        """The fields of a row that say which item it is."""
        pair = self.encoded.pairs[position]
        return {"id": pair.id, "group": pair.group, "item_digest": digest(pair)}

    def prompts(self, most: int | None, new: int) -> list[tuple[int, ...]]:
        """Prompts that leave room for an answer; longer ones lose their beginning.

        Args:
            most: How many; which ones is decided by the hash of their id.
            new: Tokens of the answer.
        """
        room = max(1, self.context - new)
        return [self.encoded.tokens[position].prompt[-room:] for position in self.chosen(most)]

    def chosen(self, most: int | None) -> list[int]:
        """Positions of the items that are used where not all are."""
        wanted = {pair.id for pair in choose(self.encoded.pairs, most)}
        return [position for position, pair in enumerate(self.encoded.pairs) if pair.id in wanted]


def digest(pair: Pair) -> str:
    """sha256 of the prompt and the answers, shortened to 128 bits."""
    text = json.dumps([[*map(dict, pair.prompt)], pair.chosen, pair.rejected], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_held_out(folder: Path, name: str, most: int | None) -> HeldOut:
    """Read a folder of `PreferencePairs`, or the last answers of one of `Conversations`.

    Args:
        folder: Where it is.
        name: As a user knows it.
        most: Most items; which ones is decided by the hash of their id.

    Raises:
        InputInvalid: A row is broken; it is named. Or two have the same id.
    """
    preferences = not (folder / "conversations.jsonl").exists()
    pairs = read_pairs(folder) if preferences else _last_answers(folder)
    if len({pair.id for pair in pairs}) != len(pairs):
        raise InputInvalid(f"{name} has two items of the same id", hint="make the data set anew")
    return HeldOut(name, choose(pairs, most), preferences)


def _last_answers(folder: Path) -> list[Pair]:
    found = []
    for conversation in read_conversations(folder):
        last = max(place for place, each in enumerate(conversation.messages) if each["role"] == "assistant")
        answer = conversation.messages[last]["content"]
        found.append(Pair(conversation.id, conversation.id, conversation.messages[:last], answer, answer))
    return found


def read_as(held_out: HeldOut, tokenizer: Any, context: int, *, max_prompt: int, max_answer: int) -> Items:
    """Tokenise items for a model.

    Raises:
        InputInvalid: None of them can be used.
    """
    encoded = encode(
        held_out.pairs, tokenizer, max_prompt=max_prompt, max_answer=max_answer, context=context, keep_equal=True
    )
    if not encoded.pairs:
        raise InputInvalid(
            f"none of the {len(held_out.pairs)} items of {held_out.name} can be used",
            hint="; ".join(encoded.notes()) or "the data set is empty",
        )
    return Items(encoded, held_out.preferences, context)


def same_items(one: Items, other: Items) -> None:
    """See that two models can use the same items.

    Raises:
        InputInvalid: They cannot.
    """
    used: list[set[str]] = [{pair.id for pair in items.encoded.pairs} for items in (one, other)]
    if used[0] != used[1]:
        raise InputInvalid("the two models cannot use the same items: their tokenizers or windows differ too much")


def identified(items: Items, positions: Sequence[int]) -> list[dict[str, Any]]:
    """The identifying fields of the rows of some items."""
    return [items.identified(position) for position in positions]
