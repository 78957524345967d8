"""From messages to tokens and back: the one place where a chat template is applied.

A tokenizer without a template is of a model that was taught no roles: its messages are joined by blank lines, and an answer ends with the
token that ends a text. An answer is tokenised apart from its prompt, exactly where generation would begin, and ends with the token that ends a turn. So
training, scoring and generating see the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aifw.errors import InputInvalid

Message = Mapping[str, str]


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    chat_template: Any
    eos_token: str | None
    bos_token_id: int | None

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        """Tokenise."""

    def apply_chat_template(
        self, conversation: Sequence[Message], *, tokenize: bool, add_generation_prompt: bool
    ) -> Any:
        """Render messages as text."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> Any:
        """Text of token ids."""


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of a prompt and two answers to it.

    Attributes:
        cut_prompt: True if the prompt lost its beginning.
        cut_answers: How many answers lost their end.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    cut_prompt: bool = False
    cut_answers: int = 0


def has_template(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer knows how its model was taught to see roles; where not, messages are joined by blank lines."""
    return bool(tokenizer.chat_template)


def render(tokenizer: Tokenizer, prompt: Sequence[Message], answer: str) -> tuple[str, str]:
    """The text before an answer and the text of the answer.

    Raises:
        InputInvalid: The template refuses the messages.
    """
    if not has_template(tokenizer):
        before = "".join(message["content"].strip() + "\n\n" for message in prompt)
        return before, answer + (tokenizer.eos_token or "")
    turn = [*prompt, {"role": "assistant", "content": answer}]
    try:
        before = str(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True))
        whole = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=False))
    except Exception as error:  # A template is a program of its own and raises what it likes.
        roles = ", ".join(message.get("role", "?") for message in turn)
        raise InputInvalid(f"the model's chat template refuses a conversation of {roles}: {error}") from error
    if whole.startswith(before):
        # A template may end a turn with a line break; a model stops before it.
        return before, whole[len(before) :].rstrip()
    return before, answer + (tokenizer.eos_token or "")


def encode_pair(
    tokenizer: Tokenizer,
    prompt: Sequence[Message],
    chosen: str,
    rejected: str,
    *,
    max_prompt: int,
    max_answer: int,
) -> EncodedPair:
    """Tokenise a prompt and two answers.

    Args:
        tokenizer: Of the model.
        prompt: Messages, the last one of the user.
        chosen: The better answer.
        rejected: The other one.
        max_prompt: Longer prompts lose their beginning.
        max_answer: Longer answers lose their end.

    Raises:
        InputInvalid: The template refuses the messages.
    """
    _, better = render(tokenizer, prompt, chosen)
    before, worse = render(tokenizer, prompt, rejected)
    before_ids = _prompt_ids(tokenizer, before)
    better_ids, worse_ids = _ids(tokenizer, better), _ids(tokenizer, worse)
    return EncodedPair(
        prompt=tuple(before_ids[-max_prompt:]),
        chosen=tuple(better_ids[:max_answer]),
        rejected=tuple(worse_ids[:max_answer]),
        cut_prompt=len(before_ids) > max_prompt,
        cut_answers=(len(better_ids) > max_answer) + (len(worse_ids) > max_answer),
    )


def encode_prompt(tokenizer: Tokenizer, prompt: Sequence[Message], *, max_prompt: int) -> tuple[int, ...]:
    """Tokenise what stands before an answer, just as `encode_pair` does; longer prompts lose their beginning.

    Raises:
        InputInvalid: The template refuses the messages.
    """
    before, _ = render(tokenizer, prompt, "-")
    return tuple(_prompt_ids(tokenizer, before)[-max_prompt:])


def answer_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of an answer, without the tokens that end a turn."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _prompt_ids(tokenizer: Tokenizer, before: str) -> list[int]:
    ids = _ids(tokenizer, before)
    if not has_template(tokenizer) and tokenizer.bos_token_id is not None:
        return [tokenizer.bos_token_id, *ids]
    return ids


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
