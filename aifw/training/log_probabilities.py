"""Log-probabilities of given tokens from hidden states, without all logits at once.

The gradient of log p(token) by the hidden state h is W[token] - sum over words of p(word) W[word]. It is computed in the forward pass, where the
probabilities are at hand, and scaled in the backward pass: so the logits of a chunk are made once and dropped. Where the output layer is
trained as well, they are made again in the backward pass instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from aifw.models.memory_training import ANSWER_LOGITS

if TYPE_CHECKING:
    from torch import Tensor


def token_log_probabilities(hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
    """Natural logarithms of the probabilities of tokens.

    Args:
        hidden: Last hidden states at the positions that predict them; [tokens, hidden].
        weight: Of the output layer, which has no bias; [vocabulary, hidden].
        tokens: Ids; [tokens].

    Returns:
        [tokens] in fp32.
    """
    if weight.requires_grad and torch.is_grad_enabled():
        size = max(1, ANSWER_LOGITS // len(weight))
        chunks = zip(torch.split(hidden, size), torch.split(tokens, size), strict=True)
        return torch.cat([checkpoint(_plain, chunk, weight, some, use_reentrant=False) for chunk, some in chunks])
    wanted = torch.is_grad_enabled() and hidden.requires_grad
    found: Tensor = _Function.apply(hidden, weight, tokens, wanted)  # type: ignore[no-untyped-call]
    return found


def _plain(hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
    logits = (hidden @ weight.T).float()
    return logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - logits.logsumexp(1)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, tokens: Tensor, wanted: bool) -> Tensor:
        found = torch.empty(len(tokens), dtype=torch.float32, device=hidden.device)
        slopes = torch.empty_like(hidden) if wanted else None
        size = max(1, ANSWER_LOGITS // len(weight))
        for first in range(0, len(tokens), size):
            chunk = slice(first, first + size)
            column = tokens[chunk].unsqueeze(1)
            # One tensor of the size of the logits: everything is done in it, and it is gone before the next.
            logits = (hidden[chunk].to(weight.dtype) @ weight.T).float()
            highest = logits.amax(1, keepdim=True)
            chosen = logits.gather(1, column) - highest
            total = logits.sub_(highest).exp_().sum(1, keepdim=True)
            found[chunk] = (chosen - total.log()).squeeze(1)
            if slopes is not None:
                error = logits.div_(total)
                error.scatter_add_(1, column, torch.full_like(column, -1, dtype=error.dtype))
                slopes[chunk] = -(error.to(weight.dtype) @ weight)
                del error
            del logits
        ctx.save_for_backward(slopes)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        (slopes,) = ctx.saved_tensors
        return slopes * gradients[0].unsqueeze(1).to(slopes.dtype), None, None, None
