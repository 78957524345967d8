"""How close a compressed model is to the one it was made from, on texts neither was trained on.

Both predict the same answers token by token, each given the prompt and the answer so far. With `p` the probabilities of the model as
it was, in fp32, and `q` those of the compressed one, over all tokens of all answers:

| measure | what it is |
|---|---|
| perplexity increase | exp(mean of -log q(token)) / exp(mean of -log p(token)) - 1 |
| top-1 agreement | share of positions at which both find the same token most probable |
| KL divergence | mean of the sum over the vocabulary of p log(p / q), natural logarithm (Kullback and Leibler 1951) |
| greedy agreement | both continue prompts by their most probable tokens; mean share of the continuation until they first differ |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite
from typing import TYPE_CHECKING, Any

from aifw.errors import JobError
from aifw.export.kinds import ValidateSettings
from aifw.models.answer import Decoder, TorchDecoder, next_tokens
from aifw.models.chat import EncodedPair
from aifw.models.load import LanguageModel
from aifw.models.openvino_model import OpenvinoLanguageModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POSITIONS_AT_ONCE = 64
"""Whose logits are compared in double precision at a time."""


@dataclass(frozen=True, slots=True)
class Closeness:
    """What was measured.

    Attributes:
        texts: Prompts with an answer.
        tokens: Of the answers.
        perplexity_before: Of the model as it was.
        perplexity_after: Of the compressed one.
        top1_agreement: Share.
        kl: Nats a token.
        greedy_agreement: Share.
        greedy_texts: Prompts continued.
        greedy_tokens: Tokens that the model as it was continued them by, together.
    """

    texts: int
    tokens: int
    perplexity_before: float
    perplexity_after: float
    top1_agreement: float
    kl: float
    greedy_agreement: float
    greedy_texts: int
    greedy_tokens: int

    @property
    def perplexity_increase(self) -> float:
        """Share by which perplexity grew; negative if it fell."""
        return self.perplexity_after / self.perplexity_before - 1


def measure(
    before: LanguageModel,
    after: OpenvinoLanguageModel,
    texts: Sequence[EncodedPair],
    settings: ValidateSettings,
    ends: frozenset[int],
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> Closeness:
    """Compare two models on the chosen answers of some pairs.

    Args:
        before: The model as it was, in fp32.
        after: The compressed one.
        texts: At least one.
        settings: How many prompts to continue, and by how much.
        ends: Tokens that end a continuation.
        tell: Called with what is done and all there is to do; it may raise to stop.
    """
    import numpy as np

    greedy = texts[: settings.greedy_texts]
    total = len(texts) + len(greedy)
    losses = np.zeros(2)
    same, divergence, tokens = 0, 0.0, 0
    for done, text in enumerate(texts):
        tell(done, total)
        found = _logits(before, text), after.logits([[*text.prompt, *text.chosen]], len(text.prompt) - 1)[0, :-1]
        for start in range(0, len(text.chosen), _POSITIONS_AT_ONCE):
            part = slice(start, start + _POSITIONS_AT_ONCE)
            p, q = (_log_probabilities(each[part]) for each in found)
            targets = np.asarray(text.chosen[part])[:, None]
            losses -= [float(np.take_along_axis(each, targets, -1).sum()) for each in (p, q)]
            same += int((p.argmax(-1) == q.argmax(-1)).sum())
            divergence += float((np.exp(p) * (p - q)).sum())
            tokens += len(targets)
    shares, continued = [], 0
    decoder = TorchDecoder(before)
    for done, text in enumerate(greedy, len(texts)):
        tell(done, total)
        share, length = _agreement(decoder, after, text.prompt, settings.greedy_tokens, ends)
        shares.append(share)
        continued += length
    tell(total, total)
    mean = divergence / tokens
    return Closeness(
        texts=len(texts),
        tokens=tokens,
        perplexity_before=exp(losses[0] / tokens),
        perplexity_after=exp(losses[1] / tokens),
        top1_agreement=same / tokens,
        # Rounding may take it below zero; what is no number must stay none.
        kl=max(0.0, mean) if isfinite(mean) else mean,
        greedy_agreement=sum(shares) / len(shares) if shares else 1.0,
        greedy_texts=len(greedy),
        greedy_tokens=continued,
    )


def check_limits(closeness: Closeness, settings: ValidateSettings, name: str) -> None:
    """Compare what was measured with the limits of the spec.

    Raises:
        JobError: One of them is exceeded; all that are are named.
    """
    failed = [
        f"{what} {format(measured, form)}, {word} {format(limit, form)} wanted"
        for what, measured, limit, word, form in (
            ("perplexity increase", closeness.perplexity_increase, settings.max_perplexity_increase, "at most", "+.2%"),
            ("top-1 agreement", closeness.top1_agreement, settings.min_top1_agreement, "at least", ".4f"),
            ("KL divergence", closeness.kl, settings.max_kl, "at most", ".3g"),
            ("greedy agreement", closeness.greedy_agreement, settings.min_greedy_agreement, "at least", ".4f"),
        )
        if limit is not None and not (measured <= limit if word == "at most" else measured >= limit)
    ]
    if failed:
        raise JobError(
            f"{name} is further from the model it was made from than `validate` allows: {'; '.join(failed)}"
            f" (measured on {closeness.tokens:,} tokens of {closeness.texts:,} texts)",
            hint="use a finer `precision` or `group_size`, or raise the limit",
        )


def as_document(closeness: Closeness, settings: ValidateSettings, data: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in `validation.json`.

    Args:
        closeness: As measured.
        settings: With the limits.
        data: Where the texts come from.
    """
    return {
        "version": 1,
        "data": dict(data),
        "texts": closeness.texts,
        "tokens": closeness.tokens,
        "perplexity": {
            "before": closeness.perplexity_before,
            "after": closeness.perplexity_after,
            "increase": closeness.perplexity_increase,
            "limit": settings.max_perplexity_increase,
        },
        "top1_agreement": {"value": closeness.top1_agreement, "limit": settings.min_top1_agreement},
        "kl": {"value": closeness.kl, "limit": settings.max_kl},
        "greedy_agreement": {
            "value": closeness.greedy_agreement,
            "limit": settings.min_greedy_agreement,
            "texts": closeness.greedy_texts,
            "tokens": closeness.greedy_tokens,
        },
    }


def _logits(model: LanguageModel, text: EncodedPair) -> NDArray[Any]:
    """Logits of a model of torch at the positions of an answer."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([[*text.prompt, *text.chosen]], device=model.device)
        keep = len(text.chosen) + 1
        found: NDArray[Any] = (
            model.module(input_ids=ids, use_cache=False, logits_to_keep=keep).logits[0, :-1].float().cpu().numpy()
        )
    return found[-len(text.chosen) :]


def _log_probabilities(logits: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    exact = logits.astype(np.float64)
    exact -= exact.max(-1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
    return exact


def _agreement(
    before: Decoder, after: Decoder, prompt: Sequence[int], most: int, ends: frozenset[int]
) -> tuple[float, int]:
    """Share of a continuation until the other one differs, and its length."""
    wanted = list(next_tokens(before, prompt, most, ends=ends))
    found = list(next_tokens(after, prompt, most, ends=ends))
    same = next((index for index, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), None)
    if same is None:
        same = min(len(wanted), len(found))
    return same / max(1, len(wanted)), len(wanted)
