"""Losses of preference optimisation, each a function of how much more probable the answers became than under the reference.

`chosen` and `rejected` are log p(answer | prompt) under the model less the same under the reference, one number a pair. Every function returns
one loss a pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


LEAST_SMOOTHING = 1e-3
"""Where nothing is smoothed, but the logarithm of that share is wanted."""
_DISCOPOP_TEMPERATURE = 0.05
"""As published."""


@dataclass(frozen=True, slots=True)
class Ratios:
    """What a loss is computed from.

    Attributes:
        chosen: Log-ratios of the chosen answers, summed over their tokens; [pairs].
        rejected: The same of the rejected answers.
        chosen_tokens: Lengths of the chosen answers, of the same type.
        rejected_tokens: Lengths of the rejected answers.
        beta: How strongly the model is held to the reference.
        smoothing: Share of pairs that are assumed to be swapped.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    beta: float
    smoothing: float

    @property
    def margin(self) -> Tensor:
        """Of the sums, times beta: the difference of the implicit rewards."""
        return self.beta * (self.chosen - self.rejected)

    @property
    def margin_per_token(self) -> Tensor:
        """Of the means over tokens."""
        return self.chosen / self.chosen_tokens - self.rejected / self.rejected_tokens


def sigmoid(ratios: Ratios) -> Tensor:
    """DPO as published (Rafailov et al. 2023, arXiv:2305.18290, equation 7); smoothed, its conservative form (Mitchell 2023, "A note on DPO with
    noisy preferences").
    """
    return _smoothed(ratios.margin, ratios.smoothing)


def sigmoid_norm(ratios: Ratios) -> Tensor:
    """The same of means over tokens, so that length alone gains nothing (Lambert et al. 2024, arXiv:2411.15124)."""
    return _smoothed(ratios.beta * ratios.margin_per_token, ratios.smoothing)


def robust(ratios: Ratios) -> Tensor:
    """Unbiased where a known share of pairs is swapped (Chowdhury et al. 2024, arXiv:2403.00409)."""
    clean, swapped = _softplus(-ratios.margin), _softplus(ratios.margin)
    return ((1 - ratios.smoothing) * clean - ratios.smoothing * swapped) / (1 - 2 * ratios.smoothing)


def hinge(ratios: Ratios) -> Tensor:
    """A margin of one is enough (Zhao et al. 2023, arXiv:2305.10425; against a reference: Liu et al. 2023, arXiv:2309.06657)."""
    return (1 - ratios.margin).relu()


def ipo(ratios: Ratios) -> Tensor:
    """A margin of 1 / (2 beta), no less and no more (Azar et al. 2023, arXiv:2310.12036, equation 17); per token, as TRL has it."""
    return (ratios.margin_per_token - 1 / (2 * ratios.beta)) ** 2


def exo_pair(ratios: Ratios) -> Tensor:
    """Divergence from the model to smoothed labels (Ji et al. 2024, arXiv:2402.00856, equation 16)."""
    likely, unlikely = -_softplus(-ratios.margin), -_softplus(ratios.margin)
    swapped = max(ratios.smoothing, LEAST_SMOOTHING)
    return likely.exp() * (likely - math.log1p(-swapped)) + unlikely.exp() * (unlikely - math.log(swapped))


def nca_pair(ratios: Ratios) -> Tensor:
    """Each answer for itself against noise (Chen et al. 2024, arXiv:2402.05369)."""
    chosen, rejected = ratios.beta * ratios.chosen, ratios.beta * ratios.rejected
    return _softplus(-chosen) + 0.5 * _softplus(chosen) + 0.5 * _softplus(rejected)


def bco_pair(ratios: Ratios) -> Tensor:
    """Each answer for itself: better or worse than the reference (Jung et al. 2024, arXiv:2404.04656, without the shift)."""
    return _softplus(-ratios.beta * ratios.chosen) + _softplus(ratios.beta * ratios.rejected)


def discopop(ratios: Ratios) -> Tensor:
    """Between logistic and exponential, found by a search (Lu et al. 2024, arXiv:2406.08414, equation 5)."""
    from torch.nn.functional import logsigmoid

    margin = ratios.margin
    mixed = margin / _DISCOPOP_TEMPERATURE
    return _softplus(-margin) * (-mixed).sigmoid() + (logsigmoid(mixed) - margin).exp()


def sppo_hard(ratios: Ratios) -> Tensor:
    """Self-play with certain wins (Wu et al. 2024, arXiv:2405.00675, equation 4.7)."""
    return (ratios.chosen - 0.5 / ratios.beta) ** 2 + (ratios.rejected + 0.5 / ratios.beta) ** 2


def apo_zero(ratios: Ratios) -> Tensor:
    """Chosen answers are better than what the model says (D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 7)."""
    return (-ratios.beta * ratios.chosen).sigmoid() + (ratios.beta * ratios.rejected).sigmoid()


def apo_down(ratios: Ratios) -> Tensor:
    """Chosen answers are worse than what the model says (the same, equation 8)."""
    return (ratios.beta * ratios.chosen).sigmoid() + (-ratios.margin).sigmoid()


def _smoothed(margin: Tensor, swapped: float) -> Tensor:
    if not swapped:
        return _softplus(-margin)
    return (1 - swapped) * _softplus(-margin) + swapped * _softplus(margin)


def _softplus(value: Tensor) -> Tensor:
    """log(1 + exp(value)), which is -log sigmoid(-value)."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(-value)


LOSSES: Mapping[str, Callable[[Ratios], Tensor]] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            sigmoid,
            sigmoid_norm,
            robust,
            hinge,
            ipo,
            exo_pair,
            nca_pair,
            bco_pair,
            discopop,
            sppo_hard,
            apo_zero,
            apo_down,
        )
    }
)
"""By the names of the setting `loss`, which are TRL's."""
