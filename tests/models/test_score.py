from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aifw.errors import InputInvalid
from aifw.models import score
from aifw.models.chat import EncodedPair, encode_pair, has_template, render
from aifw.models.load import LanguageModel, load, load_tokenizer
from aifw.models.pairs import Pair, choose, encode, read_pairs
from aifw.models.score import score_pairs, score_rows
from aifw.models.tiny import write_tiny_model

USER = [{"role": "user", "content": "why?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(write_tiny_model(tmp_path_factory.mktemp("tiny") / "model").path)


def _one_by_one(model: LanguageModel, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
    """The definition, with nothing shared, batched or left out."""
    with torch.no_grad():
        scores = model.module(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
    return sum(scores[len(prompt) - 1 + k, token].item() for k, token in enumerate(answer))


def _pairs(model: LanguageModel, texts: list[tuple[str, str, str]]) -> list[EncodedPair]:
    return [
        encode_pair(model.tokenizer, [{"role": "user", "content": p}], c, r, max_prompt=200, max_answer=100)
        for p, c, r in texts
    ]


TEXTS = [("why?", "because", "no"), ("how long is this prompt?", "a", "long enough"), ("x", "yes yes yes", "y" * 60)]


def test_scores_are_what_the_definition_gives(model: LanguageModel) -> None:
    pairs = _pairs(model, TEXTS)
    for pair, found in zip(pairs, score_pairs(model, pairs), strict=True):
        assert found.chosen == pytest.approx(_one_by_one(model, pair.prompt, pair.chosen), abs=1e-4)
        assert found.rejected == pytest.approx(_one_by_one(model, pair.prompt, pair.rejected), abs=1e-4)
        assert (found.chosen_tokens, found.rejected_tokens) == (len(pair.chosen), len(pair.rejected))


@pytest.mark.parametrize(
    "rows",
    [
        [((5,), (6, 7)), ((9, 8), (4,))],
        [((5, 6), (7,)), ((5, 6), (8, 9, 10))],
        [((7,), (7,))],
        [(tuple(range(3, 40)), (50, 51)), (tuple(range(3, 30)), tuple(range(60, 90)))],
    ],
    ids=["nothing shared", "one prompt", "a single token each", "a long beginning shared"],
)
def test_rows_of_any_shape(model: LanguageModel, rows: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    expected = [_one_by_one(model, prompt, answer) for prompt, answer in rows]
    assert score_rows(model, rows) == pytest.approx(expected, abs=1e-4)


def test_batches_change_nothing(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = _pairs(model, TEXTS * 4)
    told: list[int] = []
    together = score_pairs(model, pairs, told.append)
    monkeypatch.setattr(score, "BATCH_TOKENS", 1)
    apart = score_pairs(model, pairs, told.append)
    assert told[0] == 12
    assert told[1:] == list(range(1, 13))
    for left, right in zip(together, apart, strict=True):
        assert left.chosen == pytest.approx(right.chosen, abs=1e-4)


def test_no_batch_holds_more_than_its_bounds(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "BATCH_TOKENS", 600)
    sizes: list[int] = []
    real = model.module.forward

    def watched(*args: object, **inputs: object) -> object:
        ids = inputs["input_ids"]
        assert isinstance(ids, torch.Tensor)
        sizes.append(ids.numel())
        return real(*args, **inputs)

    monkeypatch.setattr(model.module, "forward", watched)
    score_pairs(model, _pairs(model, TEXTS * 4))
    assert max(sizes) <= 600
    assert len(sizes) > 2


def test_an_answer_is_tokenised_where_generation_begins(model: LanguageModel) -> None:
    before, answer = render(model.tokenizer, USER, "because")
    assert before.endswith("<|im_start|>assistant\n")
    assert answer == "because<|im_end|>"
    pair = encode_pair(model.tokenizer, USER, "because", "no", max_prompt=99, max_answer=99)
    assert model.tokenizer.decode(pair.prompt + pair.chosen) == before + answer


def test_without_a_template_messages_are_joined(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tiny_model(tmp_path / "m", template=None).path)
    assert not has_template(tokenizer)
    assert render(tokenizer, USER, "because") == ("why?\n\n", "because<|im_end|>")


def test_a_template_that_refuses_is_named(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m", template="{{ raise_exception('no systems') }}").path
    with pytest.raises(InputInvalid, match="refuses a conversation of system, assistant: no systems"):
        render(load_tokenizer(path), [{"role": "system", "content": "x"}], "y")


def test_prompts_lose_their_beginning_and_answers_their_end(model: LanguageModel) -> None:
    whole = encode_pair(model.tokenizer, USER, "because", "no", max_prompt=99, max_answer=99)
    cut = encode_pair(model.tokenizer, USER, "because", "no", max_prompt=5, max_answer=4)
    assert cut.prompt == whole.prompt[-5:]
    assert cut.chosen == whole.chosen[:4]
    assert (cut.cut_prompt, cut.cut_answers) == (True, 1)
    assert (whole.cut_prompt, whole.cut_answers) == (False, 0)


def _pair(name: str, chosen: str = "yes", rejected: str = "no") -> Pair:
    return Pair(name, name, tuple(USER), chosen, rejected)


def test_pairs_that_cannot_be_used_are_counted(model: LanguageModel) -> None:
    pairs = [_pair("a"), _pair("same", "no", "no"), _pair("long", "y" * 300, "no")]
    for keep_equal, left in ((False, ["a", "long"]), (True, ["a", "same", "long"])):
        found = encode(
            pairs, model.tokenizer, max_prompt=99, max_answer=99, context=model.context, keep_equal=keep_equal
        )
        assert [pair.id for pair in found.pairs] == left
        assert found.cut == {"answers": 1}
    strict = encode(pairs, model.tokenizer, max_prompt=99, max_answer=99, context=model.context, keep_equal=False)
    assert list(strict.notes()) == ["1 pairs not used: both answers are the same", "1 answers shortened to the limit"]


def test_prompt_and_answer_fit_the_window(model: LanguageModel) -> None:
    found = encode(
        [_pair("a", "y" * 40, "no")], model.tokenizer, max_prompt=99, max_answer=30, context=40, keep_equal=False
    )
    (tokens,) = found.tokens
    assert len(tokens.prompt) + len(tokens.chosen) == 40
    assert len(tokens.chosen) == 30


def test_choice_of_pairs_is_stable() -> None:
    pairs = [_pair(f"p{number}") for number in range(50)]
    some = choose(pairs, 10)
    assert [pair.id for pair in some] == sorted(pair.id for pair in some)
    assert choose(reversed(pairs), 10) == some
    kept = {pair.id for pair in choose([*pairs, *(_pair(f"q{number}") for number in range(5))], 10)}
    assert len(kept & {pair.id for pair in some}) >= 5
    assert len(choose(pairs, None)) == 50


@pytest.mark.parametrize("line", ["{", "{}", '{"id": "a", "group": "g", "prompt": [], "chosen": "x", "rejected": "y"}'])
def test_a_broken_row_is_named(tmp_path: Path, line: str) -> None:
    good = '{"id": "a", "group": "g", "prompt": [{"role": "user", "content": "x"}], "chosen": "x", "rejected": "y"}'
    (tmp_path / "pairs.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(InputInvalid, match=r"pairs\.jsonl:2: not a preference pair"):
        read_pairs(tmp_path)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="no tokenizer"):
        load(tmp_path)
    write_tiny_model(tmp_path / "m")
    (tmp_path / "m/model.safetensors").unlink()
    with pytest.raises(InputInvalid, match="no model that can be read"):
        load(tmp_path / "m")
