"""Conversations as supervised fine-tuning takes them: read, chosen, tokenised, with the places of the answers that are learnt.

Every answer is tokenised apart from what stands before it, as in `aifw.models.chat`. Where a template writes a conversation on from turn to turn,
one sequence holds all of it and every answer in it is learnt; where a template writes earlier turns differently later (some leave out
what a model thought), each answer becomes a sequence of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid
from aifw.models.chat import Message, has_template, render
from aifw.models.pairs import read_pairs


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, of which answers are learnt.

    Attributes:
        every_answer: All turns of the assistant are learnt, else the last one.
    """

    id: str
    messages: tuple[Message, ...]
    every_answer: bool


@dataclass(frozen=True, slots=True)
class EncodedConversation:
    """Token ids, and where the answers are.

    Attributes:
        ids: Of the whole sequence.
        answers: Beginning and end of each answer in it; none begins at 0.
    """

    ids: tuple[int, ...]
    answers: tuple[tuple[int, int], ...]

    @property
    def learnt(self) -> int:
        """Number of tokens that are learnt."""
        return sum(end - begin for begin, end in self.answers)

    def places(self) -> list[int]:
        """Positions of the tokens that are learnt, in order."""
        return [place for begin, end in self.answers for place in range(begin, end)]


@dataclass
class EncodedConversations:
    """Conversations as token ids.

    Attributes:
        conversations: How many can be used.
        sequences: What is learnt of them.
        dropped: How many could not be used, by reason.
        cut: How many sequences were shortened.
        template: False if the tokenizer has no chat template.
    """

    conversations: int = 0
    sequences: list[EncodedConversation] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    template: bool = True

    def notes(self) -> Iterator[str]:
        """What the user should know, a sentence each."""
        if not self.template:
            yield "the model has no chat template: messages are joined by blank lines"
        for reason, count in sorted(self.dropped.items()):
            yield f"{count} conversations not used: {reason}"
        if self.cut:
            yield f"{self.cut} conversations shortened to the limit"


def read_conversations(folder: Path) -> list[Conversation]:
    """Read a folder of `Conversations`, or the chosen answers of one of `PreferencePairs`.

    Raises:
        InputInvalid: A row is broken; it is named.
    """
    path = folder / "conversations.jsonl"
    if not path.exists():
        return [
            Conversation(pair.id, (*pair.prompt, {"role": "assistant", "content": pair.chosen}), every_answer=False)
            for pair in read_pairs(folder)
        ]
    found = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    messages = tuple(
                        {"role": str(each["role"]), "content": str(each["content"])} for each in row["messages"]
                    )
                    found.append(Conversation(str(row["id"]), messages, every_answer=True))
                except (ValueError, KeyError, TypeError) as error:
                    raise InputInvalid(f"{path}:{number}: not a conversation: {error!r}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid(f"{path} cannot be read: {error}") from error
    return found


def encode_conversations(conversations: Iterable[Conversation], tokenizer: Any, *, window: int) -> EncodedConversations:
    """Tokenise conversations and count what had to be dropped or cut.

    Args:
        conversations: To tokenise.
        tokenizer: Of the model.
        window: Most tokens of a sequence; longer ones lose their end, and those with no answer left are not used.

    Raises:
        InputInvalid: The template refuses the messages.
    """
    encoded = EncodedConversations(template=has_template(tokenizer))
    for conversation in conversations:
        turns = [
            place
            for place, message in enumerate(conversation.messages)
            if message["role"] == "assistant" and place and message["content"].strip()
        ]
        if not conversation.every_answer:
            turns = [place for place in turns if place == len(conversation.messages) - 1]
        if not turns:
            encoded.dropped["its answer is empty"] += 1
            continue
        whole = _sequences(tokenizer, conversation.messages, turns)
        kept = [sequence for each in whole if (sequence := _within(each, window)).learnt]
        if not kept:
            encoded.dropped[f"no answer begins within {window} tokens"] += 1
            continue
        encoded.conversations += 1
        encoded.cut += any(len(each.ids) > window for each in whole)
        encoded.sequences += kept
    return encoded


def _sequences(tokenizer: Any, messages: Sequence[Message], turns: Sequence[int]) -> list[EncodedConversation]:
    texts = [render(tokenizer, messages[:turn], messages[turn]["content"]) for turn in turns]
    goes_on = all(later[0].startswith(before + answer) for (before, answer), later in pairwise(texts))
    if not goes_on:
        return [_sequence(tokenizer, [text]) for text in texts]
    done = ""
    pieces = []
    for before, answer in texts:
        pieces.append((before[len(done) :], answer))
        done = before + answer
    return [_sequence(tokenizer, pieces)]


def _sequence(tokenizer: Any, pieces: Sequence[tuple[str, str]]) -> EncodedConversation:
    """One sequence of what stands before each answer, and the answer."""
    bos = tokenizer.bos_token_id
    ids: list[int] = [] if has_template(tokenizer) or bos is None else [bos]
    answers = []
    for before, answer in pieces:
        ids += tokenizer(before, add_special_tokens=False)["input_ids"]
        begin = len(ids)
        ids += tokenizer(answer, add_special_tokens=False)["input_ids"]
        answers.append((begin, len(ids)))
    return EncodedConversation(tuple(ids), tuple(span for span in answers if span[0]))


def _within(sequence: EncodedConversation, window: int) -> EncodedConversation:
    answers = tuple((begin, min(end, window)) for begin, end in sequence.answers if begin < window)
    return EncodedConversation(sequence.ids[:window], answers)
