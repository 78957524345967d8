"""Continuing a text: what is taken, where it ends, and what reaches the reader as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aifw.errors import InputInvalid, UsageError
from aifw.models.answer import TorchDecoder, ends_of_turn, generate, next_tokens, open_decoder
from aifw.models.load import load
from aifw.models.tiny import write_tiny_model

ASKED = [{"role": "user", "content": "Hello"}]


class Counting:
    """A decoder to which the token after each is the next number."""

    tokenizer: Any = None
    context = 10

    def forget(self) -> None:
        self.text: list[int] = []

    def read(self, tokens: Sequence[int]) -> Any:
        self.text.extend(tokens)
        logits = np.zeros(20, dtype=np.float32)
        logits[self.text[-1] + 1] = 2.0
        return logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", seed=1).path


def test_most_probable_tokens_until_one_ends_it() -> None:
    decoder = Counting()
    assert list(next_tokens(decoder, [1, 2], 3)) == [3, 4, 5]
    assert decoder.text == [1, 2, 3, 4]
    assert list(next_tokens(decoder, [1, 2], 30, ends=frozenset({5}))) == [3, 4, 5]


def test_the_window_ends_it() -> None:
    assert len(list(next_tokens(Counting(), [1, 2, 3], 30))) == 7
    with pytest.raises(InputInvalid, match="the prompt has 10 tokens, the model's window 10"):
        list(next_tokens(Counting(), [1] * 10, 5))


def test_temperature_draws_by_probability() -> None:
    drawn = [next(next_tokens(Counting(), [1], 1, temperature=1.0, seed=seed)) for seed in range(400)]
    expected = float(np.exp(2) / (np.exp(2) + 19))
    assert abs(drawn.count(2) / 400 - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5
    assert len(set(drawn)) > 10
    cold = [next(next_tokens(Counting(), [1], 1, temperature=0.05, seed=seed)) for seed in range(50)]
    assert set(cold) == {2}


def test_the_same_as_transformers(folder: Path) -> None:
    model = load(folder)
    prompt = [5, 6, 7, 8]
    import torch

    wanted = model.module.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, 4:].tolist()
    assert list(next_tokens(TorchDecoder(model), prompt, 12)) == wanted


def test_an_answer_piece_by_piece(folder: Path) -> None:
    pieces: list[str] = []
    answer = generate(folder, ASKED, max_tokens=20, temperature=1.0, seed=3, tell=pieces.append)
    assert "".join(pieces) == answer.text
    assert len(pieces) > 1
    assert answer == generate(folder, ASKED, max_tokens=20, temperature=1.0, seed=3)
    assert answer.tokens != generate(folder, ASKED, max_tokens=20, temperature=1.0, seed=4).tokens
    assert answer.stopped == "end" or len(answer.tokens) == 20


def test_the_end_of_a_turn(folder: Path) -> None:
    assert ends_of_turn(folder, load(folder).tokenizer) == {2}


def test_a_tokenizer_without_a_template(tmp_path: Path) -> None:
    plain = write_tiny_model(tmp_path / "plain", template=None).path
    notes: list[str] = []
    answer = generate(plain, ASKED, max_tokens=2, note=notes.append)
    assert answer.prompt_tokens == len("Hello\n\n")
    assert notes == ["the tokenizer has no chat template; the prompt is given to the model as it is"]


def test_what_cannot_be_answered(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="the model's window 256"):
        generate(folder, [{"role": "user", "content": "long " * 60}])
    with pytest.raises(UsageError):
        generate(folder, ASKED, max_tokens=0)
    with pytest.raises(InputInvalid):
        open_decoder(tmp_path)
