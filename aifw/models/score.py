"""How probable answers are under a language model.

The log-probability of an answer is the sum over its tokens of log p(token | prompt, earlier tokens), the turn's end included;
divided by their number it is the per-token form. Logits are computed at the positions of answers only, and what all sequences of
a batch begin with (a system prompt, or the whole prompt of a pair) is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aifw.models.chat import EncodedPair
from aifw.models.load import LanguageModel
from aifw.models.memory_inference import BATCH_LOGITS, BATCH_TOKENS


class Scorer(Protocol):
    """A model that scores answers, of whatever library."""

    @property
    def vocabulary(self) -> int:
        """Number of logits."""

    def score_rows(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
        """Sum of log-probabilities of each answer given its prompt, natural logarithm, computed as one batch."""


@dataclass(frozen=True, slots=True)
class PairScore:
    """Log-probabilities of both answers of a pair, summed over their tokens (natural logarithm)."""

    chosen: float
    rejected: float
    chosen_tokens: int
    rejected_tokens: int

    @property
    def margin_per_token(self) -> float:
        """How much more probable a token of the chosen answer is on average than one of the rejected answer."""
        return self.chosen / self.chosen_tokens - self.rejected / self.rejected_tokens

    @property
    def margin(self) -> float:
        """Difference of the sums."""
        return self.chosen - self.rejected


def _silent(_done: int) -> None:
    pass


def score_pairs(
    model: Scorer, pairs: Sequence[EncodedPair], progress: Callable[[int], None] = _silent
) -> list[PairScore]:
    """Score both answers of every pair.

    Args:
        model: A loaded model.
        pairs: Each with at least one token in prompt and answers.
        progress: Called with the number of pairs done; it may raise to stop.

    Returns:
        Scores in the order of `pairs`.
    """
    order = sorted(range(len(pairs)), key=lambda index: (_length(pairs[index]), index))
    found: dict[int, PairScore] = {}
    vocabulary = model.vocabulary
    batch: list[int] = []
    for index in order:
        if batch and not _fits([*batch, index], pairs, vocabulary):
            found.update(_score_batch(model, batch, pairs))
            progress(len(found))
            batch = []
        batch.append(index)
    if batch:
        found.update(_score_batch(model, batch, pairs))
        progress(len(found))
    return [found[index] for index in range(len(pairs))]


def _length(pair: EncodedPair) -> int:
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _fits(batch: list[int], pairs: Sequence[EncodedPair], vocabulary: int) -> bool:
    longest = max(_length(pairs[index]) for index in batch)
    kept = longest - min(len(pairs[index].prompt) for index in batch) + 1
    rows = 2 * len(batch)
    return rows * longest <= BATCH_TOKENS and rows * kept * vocabulary <= BATCH_LOGITS


def _score_batch(model: Scorer, batch: list[int], pairs: Sequence[EncodedPair]) -> dict[int, PairScore]:
    rows = [(pairs[i].prompt, answer) for i in batch for answer in (pairs[i].chosen, pairs[i].rejected)]
    sums = model.score_rows(rows)
    return {
        index: PairScore(sums[2 * k], sums[2 * k + 1], len(pairs[index].chosen), len(pairs[index].rejected))
        for k, index in enumerate(batch)
    }


def score_rows(model: LanguageModel, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    """Sum of log-probabilities of each answer given its prompt, computed as one batch.

    Args:
        model: A loaded model.
        rows: Prompt and answer as token ids; neither may be empty.
    """
    import torch

    sequences = [[*prompt, *answer] for prompt, answer in rows]
    shared = _shared(rows)
    longest = max(len(sequence) for sequence in sequences)
    padding = model.tokenizer.pad_token_id
    ids = torch.tensor(
        [sequence + [padding] * (longest - len(sequence)) for sequence in sequences], device=model.device
    )
    # Logits at position t belong to the token at t + 1, so the first ones needed stand at the end of the shortest prompt.
    start = min(len(prompt) for prompt, _ in rows) - 1
    with torch.inference_mode():
        logits = _logits(model.module, ids, shared, start)[:, :-1].float()
        targets = ids[:, start + 1 :]
        scores = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        positions = torch.arange(start + 1, longest, device=model.device)
        begins = torch.tensor([len(prompt) for prompt, _ in rows], device=model.device).unsqueeze(1)
        ends = torch.tensor([len(sequence) for sequence in sequences], device=model.device).unsqueeze(1)
        inside = (positions >= begins) & (positions < ends)
        sums = torch.where(inside, scores, 0.0).cpu().double().sum(1)
    return [float(value) for value in sums]


def _shared(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> int:
    """How many tokens all prompts begin with, less one so that something remains before each answer."""
    prompts = [tuple(prompt) for prompt, _ in rows]
    first, last = min(prompts), max(prompts)
    same = 0
    for left, right in zip(first, last, strict=False):
        if left != right:
            break
        same += 1
    return min(same, min(map(len, prompts)) - 1)


def _logits(module: Any, ids: Any, shared: int, start: int) -> Any:
    """Logits from position `start` on. Padding stands at the end, where causal attention never looks back from an answer."""
    keep = ids.shape[1] - start
    if shared < 8:
        return module(input_ids=ids, use_cache=False, logits_to_keep=keep).logits[:, -keep:]
    cache = module(input_ids=ids[:1, :shared], use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(ids.shape[0])
    output = module(input_ids=ids[:, shared:], past_key_values=cache, use_cache=True, logits_to_keep=keep)
    return output.logits[:, -keep:]
