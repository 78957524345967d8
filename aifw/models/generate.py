"""Answers from a model: prompts continued batch by batch with keys and values kept, by transformers' `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aifw.models.load import LanguageModel


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer.

    Attributes:
        tokens: Ids, with the token that ended it.
        ended: It ended by itself, and not because there was no more room.
    """

    tokens: tuple[int, ...]
    ended: bool


def generate(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, temperature: float, max_new: int, seed: int
) -> list[Generated]:
    """Continue prompts, all at once.

    The random numbers are those of the seed and of this batch: the same prompts in the same order give the same answers on the same
    machine and versions. Those of the process go on as if nothing had happened.

    Args:
        model: A loaded model.
        prompts: Token ids, none empty. With `max_new` they must fit the model's context.
        temperature: What logits are divided by before sampling; 0 takes the most probable token.
        max_new: Tokens.
        seed: Of the random numbers.

    Returns:
        An answer for each prompt.
    """
    import torch
    from transformers import GenerationConfig

    longest = max(map(len, prompts))
    padding = model.tokenizer.pad_token_id
    # On the left, so that every prompt ends where its answer begins.
    ids = torch.tensor([[padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    ends = end_tokens(model)
    # Everything is said here: a model's own settings may penalise repetitions or cut probabilities.
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    how = GenerationConfig(
        **sampling,
        max_new_tokens=max_new,
        repetition_penalty=1.0,
        use_cache=True,
        pad_token_id=padding,
        eos_token_id=sorted(ends),
    )
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        whole = model.module.generate(input_ids=ids, attention_mask=mask, generation_config=how)
    return [_cut(row, ends) for row in whole[:, longest:].tolist()]


def end_tokens(model: LanguageModel) -> frozenset[int]:
    """Ids of the tokens that end an answer, as model and tokenizer state them."""
    stated = getattr(model.module.generation_config, "eos_token_id", None)
    found = [stated] if isinstance(stated, int) else list(stated or ())
    own = model.tokenizer.eos_token_id
    return frozenset([*found, *([] if own is None else [own])])


def _cut(tokens: list[int], ends: frozenset[int]) -> Generated:
    at = next((place for place, token in enumerate(tokens) if token in ends), None)
    return Generated(tuple(tokens), False) if at is None else Generated(tuple(tokens[: at + 1]), True)
