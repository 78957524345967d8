"""How probable answers are under a model that is being trained, with gradients, and with as little arithmetic as gives the same numbers.

The output layer is computed at the positions that predict answers only, and the prompt of a pair once for both of its answers. Not every
architecture allows that: some limit how far a token sees, some scale their logits, some carry a state from token to token. So the way is tried on
one pair before it is taken, and where it gives other numbers than the model itself, the model itself is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from aifw.models.chat import EncodedPair
from aifw.models.load import LanguageModel
from aifw.training.log_probabilities import token_log_probabilities
from aifw.training.pair_rows import lay_rows

if TYPE_CHECKING:
    from torch import Tensor

_TRIED_TOKENS = 32
"""Of each answer, when the ways are compared; the prompt is taken whole."""
_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""Relative difference of two ways to sum the same log-probabilities."""


@dataclass
class Policy:
    """A model to be trained.

    Attributes:
        module: A causal language model of transformers. An adapter may be put into it.
        padding: Token for the ends of shorter rows.
        device: Where it is.
        precision: Format of the arithmetic.
        shares: Whether prompts are computed once for both answers.
    """

    module: Any
    padding: int
    device: str
    precision: str
    shares: bool = False

    @classmethod
    def of(cls, model: LanguageModel, longest: EncodedPair) -> Policy:
        """A policy that takes the short way if that is right.

        Args:
            model: Loaded.
            longest: Pair of most tokens, on which the ways are compared.
        """
        tried = EncodedPair(longest.prompt, longest.chosen[:_TRIED_TOKENS], longest.rejected[:_TRIED_TOKENS])
        policy = cls(model.module, model.tokenizer.pad_token_id, model.device, model.precision)
        with torch.no_grad():
            expected = policy.log_probabilities([tried])
            policy.shares = _has_plain_head(model.module)
            if policy.shares:
                try:
                    found = policy.log_probabilities([tried])
                except (TypeError, ValueError, RuntimeError, AttributeError):
                    policy.shares = False
                else:
                    within = _TOLERANCE[model.precision]
                    policy.shares = bool(torch.allclose(found, expected, rtol=within, atol=within))
        return policy

    def log_probabilities(self, pairs: Sequence[EncodedPair]) -> Tensor:
        """Log-probabilities of chosen and rejected answers, summed over their tokens; [pairs, 2] in fp32."""
        family = self.device.partition(":")[0]
        with torch.autocast(family, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self._shared(pairs) if self.shares else self._apart(pairs)

    def _shared(self, pairs: Sequence[EncodedPair]) -> Tensor:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        rows = lay_rows(pairs, self.padding, self.device, dtype)
        states = self.module.base_model(
            input_ids=rows.ids, attention_mask=rows.mask, position_ids=rows.positions, use_cache=False
        ).last_hidden_state[rows.row, rows.column]
        scores = token_log_probabilities(states, self.module.get_output_embeddings().weight, rows.tokens)
        return scores.new_zeros(2 * len(pairs)).index_add(0, rows.answer, scores).view(-1, 2)

    def _apart(self, pairs: Sequence[EncodedPair]) -> Tensor:
        """A row for each answer, behind a prompt of its own."""
        texts = [(pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
        longest = max(len(prompt) + len(answer) for prompt, answer in texts)
        start = min(len(prompt) for prompt, _ in texts) - 1
        ids = torch.full((len(texts), longest), self.padding)
        there = torch.zeros((len(texts), longest), dtype=torch.long)
        answered = torch.zeros((len(texts), longest), dtype=torch.bool)
        for index, (prompt, answer) in enumerate(texts):
            end = len(prompt) + len(answer)
            ids[index, :end] = torch.tensor([*prompt, *answer])
            there[index, :end] = 1
            answered[index, len(prompt) : end] = True
        ids, there, answered = (each.to(self.device) for each in (ids, there, answered))
        output = self.module(input_ids=ids, attention_mask=there, use_cache=False, logits_to_keep=longest - start)
        logits = output.logits[:, start - longest : -1].float()
        targets = ids[:, start + 1 :]
        scores: Tensor = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        return scores.masked_fill(~answered[:, start + 1 :], 0.0).sum(1).view(-1, 2)


def _has_plain_head(module: Any) -> bool:
    """Whether logits are the product of hidden states and a matrix, as far as the layer itself tells."""
    head = module.get_output_embeddings()
    return type(head) is torch.nn.Linear and getattr(head, "bias", None) is None and module.base_model is not module
