from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aifw.errors import InputInvalid
from aifw.models.chat import encode_pair
from aifw.models.conversations import Conversation, encode_conversations, read_conversations
from aifw.models.load import load_tokenizer
from aifw.models.tiny import TEMPLATE, write_tiny_model

# As templates do that leave out what a model thought once the next question is asked.
FORGETTING = TEMPLATE.replace(
    "{{ message['content'] }}",
    "{% if message['role'] == 'assistant' and not loop.last %}...{% else %}{{ message['content'] }}{% endif %}",
)


def _tokenizer(folder: Path, template: str | None = TEMPLATE) -> Any:
    return load_tokenizer(write_tiny_model(folder, template=template).path)


def _talk(*contents: str, every_answer: bool = True) -> Conversation:
    roles = ("user", "assistant")
    messages = tuple({"role": roles[place % 2], "content": content} for place, content in enumerate(contents))
    return Conversation("c", messages, every_answer)


def _learnt(tokenizer: Any, sequence: Any) -> list[str]:
    return [tokenizer.decode(sequence.ids[begin:end]) for begin, end in sequence.answers]


def test_every_answer_of_a_conversation_is_learnt_in_one_sequence(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path / "model")
    (found,) = encode_conversations([_talk("a", "b", "c", "d")], tokenizer, window=256).sequences
    assert _learnt(tokenizer, found) == ["b<|im_end|>", "d<|im_end|>"]
    assert tokenizer.decode(found.ids) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>"
    )
    assert found.learnt == len(found.places()) == 4


def test_the_answer_of_a_pair_has_the_tokens_that_preference_training_gives_it(tmp_path: Path) -> None:
    for name, template in (("chat", TEMPLATE), ("plain", None)):
        tokenizer = _tokenizer(tmp_path / name, template)
        talk = _talk("a b", "c", "d", "e f", every_answer=False)
        (found,) = encode_conversations([talk], tokenizer, window=256).sequences
        pair = encode_pair(tokenizer, talk.messages[:-1], "e f", "x", max_prompt=256, max_answer=256)
        assert found.ids == pair.prompt + pair.chosen
        assert found.answers == ((len(pair.prompt), len(found.ids)),)


@pytest.mark.parametrize("template", [FORGETTING, None])
def test_where_a_conversation_is_not_written_on_each_answer_has_a_sequence(
    tmp_path: Path, template: str | None
) -> None:
    tokenizer = _tokenizer(tmp_path / "model", template)
    encoded = encode_conversations([_talk("a", "bb", "c", "dd")], tokenizer, window=256)
    assert [_learnt(tokenizer, each) for each in encoded.sequences] == [["bb<|im_end|>"], ["dd<|im_end|>"]]
    assert encoded.conversations == 1
    assert encoded.template is (template is not None)


def test_what_does_not_fit_is_cut_or_counted(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path / "model")
    talks = [_talk("a", "b", "c", "d" * 90), _talk("a" * 90, "b"), _talk("a", " "), _talk("a", "b")]
    encoded = encode_conversations(talks, tokenizer, window=80)
    assert encoded.conversations == 2
    assert [len(each.ids) for each in encoded.sequences] == [80, 22]
    assert encoded.sequences[0].answers[1][1] == 80
    assert list(encoded.notes()) == [
        "1 conversations not used: its answer is empty",
        "1 conversations not used: no answer begins within 80 tokens",
        "1 conversations shortened to the limit",
    ]


def test_both_formats_are_read(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "pairs").mkdir()
    pair = {"id": "p", "group": "g", "prompt": messages[:1], "chosen": "b", "rejected": "c"}
    (tmp_path / "pairs/pairs.jsonl").write_text(json.dumps(pair))
    (tmp_path / "talks").mkdir()
    (tmp_path / "talks/conversations.jsonl").write_text(json.dumps({"id": "t", "messages": messages}))
    assert read_conversations(tmp_path / "pairs") == [Conversation("p", tuple(messages), every_answer=False)]
    assert read_conversations(tmp_path / "talks") == [Conversation("t", tuple(messages), every_answer=True)]
    (tmp_path / "talks/conversations.jsonl").write_text('{"id": "t"}')
    with pytest.raises(InputInvalid, match=r"conversations\.jsonl:1: not a conversation"):
        read_conversations(tmp_path / "talks")
    with pytest.raises(InputInvalid, match="cannot be read"):
        read_conversations(tmp_path)
