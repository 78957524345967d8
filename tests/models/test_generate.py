import pytest
import torch

from aifw.models.chat import answer_text, encode_pair, encode_prompt
from aifw.models.generate import end_tokens, generate
from aifw.models.load import load, load_tokenizer
from aifw.models.tiny import write_tiny_model

PROMPTS = ["why?", "how long is a much longer prompt?", "x"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_tiny_model(tmp_path_factory.mktemp("tiny") / "model").path)


def encoded(model, text):
    return encode_prompt(model.tokenizer, [{"role": "user", "content": text}], max_prompt=100)


def by_definition(model, prompt, count):
    """The most probable token again and again, with nothing batched, padded or kept."""
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(int(model.module(torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] in end_tokens(model):
            break
    return tuple(tokens[len(prompt) :])


def test_at_temperature_zero_a_batch_gives_what_the_definition_gives(model):
    prompts = [encoded(model, text) for text in PROMPTS]
    found = generate(model, prompts, temperature=0, max_new=12, seed=1)
    for prompt, answer in zip(prompts, found, strict=True):
        assert answer.tokens == by_definition(model, prompt, 12)


def test_the_seed_decides_and_nothing_else_is_touched(model):
    prompts = [encoded(model, text) for text in PROMPTS]
    before = torch.get_rng_state()
    one = generate(model, prompts, temperature=1.0, max_new=10, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert generate(model, prompts, temperature=1.0, max_new=10, seed=5) == one
    assert generate(model, prompts, temperature=1.0, max_new=10, seed=6) != one
    torch.set_rng_state(before)


def test_samples_follow_the_probabilities_of_their_temperature(model):
    prompt = encoded(model, "why?")
    with torch.no_grad():
        logits = model.module(torch.tensor([prompt])).logits[0, -1].double()
    for temperature in (0.4, 1.5):
        expected = (logits / temperature).softmax(-1)
        drawn = [
            each.tokens[0] for each in generate(model, [prompt] * 3000, temperature=temperature, max_new=1, seed=3)
        ]
        top = expected.topk(3)
        for share, token in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            # Four standard errors of a share of 3,000 draws.
            assert drawn.count(token) / 3000 == pytest.approx(share, abs=4 * (share * (1 - share) / 3000) ** 0.5)


def test_an_answer_ends_with_its_end_token_and_says_so(model):
    prompts = [encoded(model, f"{number}?") for number in range(64)]
    found = generate(model, prompts, temperature=3.0, max_new=60, seed=2)
    ends = end_tokens(model)
    assert {each.ended for each in found} == {True, False}
    for each in found:
        assert each.ended == (each.tokens[-1] in ends)
        assert not set(each.tokens[:-1]) & ends
        assert len(each.tokens) == 60 or each.ended
        assert "<|im_end|>" not in answer_text(model.tokenizer, each.tokens)


def test_prompts_are_tokenised_as_for_training(model, tmp_path):
    plain = load_tokenizer(write_tiny_model(tmp_path / "plain", template=None).path)
    for tokenizer in (model.tokenizer, plain):
        for content in ("why?", "  a\n\nb  "):
            prompt = [{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]
            pair = encode_pair(tokenizer, prompt, "yes", "no", max_prompt=60, max_answer=20)
            assert encode_prompt(tokenizer, prompt, max_prompt=60) == pair.prompt
            assert answer_text(tokenizer, pair.chosen) == "yes"
