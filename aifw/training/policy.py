"""How probable answers are under a model that is being trained, with gradients, and with as little arithmetic as gives the same numbers.

The output layer is computed at the positions that predict answers only, and the prompt of a pair once for both of its answers. Not every
architecture allows that: some scale their logits, some limit how far a token sees, some carry a state from token to token. So each short way is
tried on a pair before it is taken, and where it gives other numbers than the model itself, the next longer one is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from aifw.errors import JobError
from aifw.models.chat import EncodedPair
from aifw.models.load import LanguageModel
from aifw.models.memory_training import HALF_MULTIPLE
from aifw.training.flexible_attention import attending, blocks_seen, has_flexible_attention
from aifw.training.log_probabilities import token_log_probabilities
from aifw.training.pair_rows import lay_rows

if TYPE_CHECKING:
    from torch import Tensor

_TRIED_TOKENS = 32
"""Of each answer, when the output layer is tried: all logits of those are there at once."""
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""Of the mean log-probability of a token, between two ways to compute it."""
_GRADIENT_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Of a gradient, as a share of its length."""
LEAK = 1e-3
"""The same between two runs of one way of which one has another chosen answer: what the rejected one gets must not depend on it."""
_CHANGES_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier_scale")
"""Settings by which architectures change what comes out of their output layer."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A model to be trained.

    Attributes:
        module: A causal language model of transformers, with or without an adapter in it.
        padding: Token for the ends of shorter rows.
        device: Where it is.
        precision: Format of the arithmetic.
        plain: Whether log-probabilities follow from hidden states and the weight of the output layer alone.
        shares: Whether prompts are computed once for both answers as well.
        flexible: Whether attention over shared prompts passes over blocks that nothing sees, instead of taking a mask.
    """

    module: Any
    padding: int
    device: str
    precision: str
    plain: bool = False
    shares: bool = False
    flexible: bool = False

    @classmethod
    def of(cls, model: LanguageModel, longest: EncodedPair) -> Policy:
        """A policy that takes the shortest way that is right.

        Args:
            model: Loaded, in evaluation mode.
            longest: Pair with the longest sequence, on which the ways are compared.
        """
        whole = cls(model.module, model.tokenizer.pad_token_id, model.device, model.precision)
        if not has_plain_head(model.module):
            return whole
        begun = EncodedPair(longest.prompt, longest.chosen[:_TRIED_TOKENS], longest.rejected[:_TRIED_TOKENS])
        plain = replace(whole, plain=True)
        if not _agree(whole, plain, begun):
            return whole
        shared = replace(plain, shares=True)
        if not _agree(plain, shared, longest) or _leaks(shared, longest):
            return plain
        flexible = replace(shared, flexible=True)
        return flexible if has_flexible_attention(model.device) and _same_gradient(shared, flexible, begun) else shared

    def compile(self, longest: EncodedPair) -> None:
        """Have the model compiled.

        Args:
            longest: Pair on which what comes out is compared with what the model says as it is.

        Raises:
            JobError: It cannot be compiled, or says something else then.
        """
        with torch.no_grad():
            before = self.log_probabilities([longest])
            self.module.base_model.compile(dynamic=True)
            try:
                moved = _per_token((self.log_probabilities([longest]) - before).abs(), longest)
            except Exception as error:  # The compiler raises what it likes, a missing C++ compiler included.
                raise JobError(
                    f"torch.compile does not take this model here: {error}", hint="leave out `compile`"
                ) from error
        if not moved <= TOLERANCE[self.precision]:
            raise JobError(
                f"compiled, the model gives other probabilities: a token's logarithm moves by {moved:.2g}",
                hint="leave out `compile`",
            )

    def log_probabilities(self, pairs: Sequence[EncodedPair]) -> Tensor:
        """Log-probabilities of chosen and rejected answers, summed over their tokens; [pairs, 2] in fp32."""
        family = self.device.partition(":")[0]
        with torch.autocast(family, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self._shared(pairs) if self.shares else self._apart(pairs)

    def _shared(self, pairs: Sequence[EncodedPair]) -> Tensor:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        rows = lay_rows(pairs, self.padding, self.device, dtype, 1 if dtype is torch.float32 else HALF_MULTIPLE)
        mask = blocks_seen(pairs, rows.ids.shape[1], self.device) if self.flexible else rows.mask
        with attending(self.module) if self.flexible else nullcontext():
            output = self.module.base_model(
                input_ids=rows.ids, attention_mask=mask, position_ids=rows.positions, use_cache=False
            )
        states = output.last_hidden_state[rows.row, rows.column]
        scores = token_log_probabilities(states, self.module.get_output_embeddings().weight, rows.tokens)
        return scores.new_zeros(2 * len(pairs) + 1).index_add(0, rows.answer, scores)[:-1].view(-1, 2)

    def _apart(self, pairs: Sequence[EncodedPair]) -> Tensor:
        """A row for each answer, behind a prompt of its own."""
        texts = [(pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
        longest = max(len(prompt) + len(answer) for prompt, answer in texts)
        ids = torch.full((len(texts), longest), self.padding)
        there = torch.zeros((len(texts), longest), dtype=torch.long)
        answered = torch.zeros((len(texts), longest), dtype=torch.bool)
        for index, (prompt, answer) in enumerate(texts):
            end = len(prompt) + len(answer)
            ids[index, :end] = torch.tensor([*prompt, *answer])
            there[index, :end] = 1
            answered[index, len(prompt) : end] = True
        ids, there, answered = (each.to(self.device) for each in (ids, there, answered))
        rows, columns = answered.nonzero(as_tuple=True)
        if self.plain:
            output = self.module.base_model(input_ids=ids, attention_mask=there, use_cache=False)
            states = output.last_hidden_state[rows, columns - 1]
            scores = token_log_probabilities(states, self.module.get_output_embeddings().weight, ids[rows, columns])
        else:
            logits = self.module(input_ids=ids, attention_mask=there, use_cache=False).logits[rows, columns - 1].float()
            scores = logits.gather(1, ids[rows, columns].unsqueeze(1)).squeeze(1) - logits.logsumexp(1)
        return scores.new_zeros(len(texts)).index_add(0, rows, scores).view(-1, 2)


def _agree(one: Policy, other: Policy, pair: EncodedPair) -> bool:
    def asked() -> bool:
        difference = (one.log_probabilities([pair]) - other.log_probabilities([pair])).abs()
        return _per_token(difference, pair) <= TOLERANCE[one.precision]

    return tried(asked, otherwise=False)


def _same_gradient(one: Policy, other: Policy, pair: EncodedPair) -> bool:
    """Whether two ways give the same log-probabilities and the same gradient of a matrix of the first block."""
    weight = next(each for each in one.module.base_model.parameters() if each.dim() == 2 and each.is_floating_point())

    def gradient(policy: Policy) -> Tensor:
        wanted = weight.requires_grad
        weight.requires_grad_(True)
        try:
            with torch.enable_grad():
                (found,) = torch.autograd.grad(policy.log_probabilities([pair]).sum(), weight)
                return cast("Tensor", found.float())
        finally:
            weight.requires_grad_(wanted)

    def asked() -> bool:
        first, second = gradient(one), gradient(other)
        return bool((first - second).norm() <= _GRADIENT_TOLERANCE[one.precision] * first.norm())

    return _agree(one, other, pair) and tried(asked, otherwise=False)


def _leaks(policy: Policy, pair: EncodedPair) -> bool:
    """Whether the score of the rejected answer depends on the chosen one."""
    changed = EncodedPair(pair.prompt, (pair.chosen[-1],) * len(pair.chosen), pair.rejected)

    def asked() -> bool:
        found = policy.log_probabilities([pair]) - policy.log_probabilities([changed])
        return float(found[0, 1].abs()) / len(pair.rejected) > LEAK

    return tried(asked, otherwise=True)


def _per_token(difference: Tensor, pair: EncodedPair) -> float:
    return max(float(difference[0, 0]) / len(pair.chosen), float(difference[0, 1]) / len(pair.rejected))


def tried(asked: Callable[[], bool], *, otherwise: bool) -> bool:
    """An answer, or what is assumed of an architecture that does not take what it is given."""
    with torch.no_grad():
        try:
            return asked()
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError):
            return otherwise


def has_plain_head(module: Any) -> bool:
    """Whether logits are the product of hidden states and a matrix, as far as layer and configuration tell."""
    head, settings = module.get_output_embeddings(), module.config.get_text_config()
    if type(head) is not torch.nn.Linear or getattr(head, "bias", None) is not None or module.base_model is module:
        return False
    return all(getattr(settings, name, None) in {None, 0, 1} for name in _CHANGES_LOGITS)
