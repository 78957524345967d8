"""How probable the learnt tokens of conversations are under a model that is being trained, with gradients, and with little arithmetic.

As in `aifw.training.policy`, each short way is tried on the model itself before it is taken: the output layer at the positions that predict learnt
tokens only, and several conversations in one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from aifw.models.conversations import EncodedConversation
from aifw.models.load import LanguageModel
from aifw.models.memory_training import HALF_MULTIPLE
from aifw.training.log_probabilities import token_log_probabilities
from aifw.training.packed_rows import lay_packed
from aifw.training.policy import LEAK, TOLERANCE, has_plain_head, tried
from aifw.training.sft_kinds import ROW_TOKENS

if TYPE_CHECKING:
    from torch import Tensor

_TRIED_TOKENS = 64
"""Learnt ones of a conversation, when the output layer is tried: all logits of the conversation are there at once up to the last of them."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A model to be trained.

    Attributes:
        module: A causal language model of transformers, with or without an adapter in it.
        padding: Token for the ends of shorter rows.
        device: Where it is.
        precision: Format of the arithmetic.
        plain: Whether log-probabilities follow from hidden states and the weight of the output layer alone.
        packs: Whether several conversations may share a row as well.
    """

    module: Any
    padding: int
    device: str
    precision: str
    plain: bool = False
    packs: bool = False

    @classmethod
    def of(cls, model: LanguageModel, sequences: Sequence[EncodedConversation], *, packing: bool) -> Likelihood:
        """The shortest way that is right.

        Args:
            model: Loaded, in evaluation mode.
            sequences: What is to be learnt; the ways are compared on the longest ones.
            packing: Whether rows may be shared at all.
        """
        whole = cls(model.module, model.tokenizer.pad_token_id, model.device, model.precision)
        if not has_plain_head(model.module):
            return whole
        longest, *others = sorted(sequences, key=lambda each: -len(each.ids))[:2]
        plain = replace(whole, plain=True)
        begun = _begun(longest)
        if not _agree(whole, plain, [begun]):
            return whole
        if not packing:
            return plain
        packed = replace(plain, packs=True)
        before = others[0] if others else longest
        right = _agree(plain, packed, [before, longest]) and not _leaks(packed, before, longest)
        return packed if right else plain

    def log_probabilities(self, sequences: Sequence[EncodedConversation]) -> Tensor:
        """Natural logarithms of the probabilities of the learnt tokens, sequence after sequence; [tokens] in fp32."""
        family = self.device.partition(":")[0]
        with torch.autocast(family, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self._packed(sequences) if self.packs else self._apart(sequences)

    def _packed(self, sequences: Sequence[EncodedConversation]) -> Tensor:
        half = self.precision == "bf16"
        rows = lay_packed(
            sequences,
            self.padding,
            self.device,
            torch.bfloat16 if half else torch.float32,
            ROW_TOKENS,
            HALF_MULTIPLE if half else 1,
        )
        states = self.module.base_model(
            input_ids=rows.ids, attention_mask=rows.mask, position_ids=rows.positions, use_cache=False
        ).last_hidden_state[rows.row, rows.column]
        return token_log_probabilities(states, self.module.get_output_embeddings().weight, rows.tokens)[: rows.count]

    def _apart(self, sequences: Sequence[EncodedConversation]) -> Tensor:
        """A row for each sequence."""
        longest = max(len(sequence.ids) for sequence in sequences)
        ids = torch.full((len(sequences), longest), self.padding)
        there = torch.zeros((len(sequences), longest), dtype=torch.long)
        learnt = torch.zeros((len(sequences), longest), dtype=torch.bool)
        for index, sequence in enumerate(sequences):
            ids[index, : len(sequence.ids)] = torch.tensor(sequence.ids)
            there[index, : len(sequence.ids)] = 1
            learnt[index, sequence.places()] = True
        ids, there, learnt = (each.to(self.device) for each in (ids, there, learnt))
        rows, columns = learnt.nonzero(as_tuple=True)
        if self.plain:
            output = self.module.base_model(input_ids=ids, attention_mask=there, use_cache=False)
            states = output.last_hidden_state[rows, columns - 1]
            return token_log_probabilities(states, self.module.get_output_embeddings().weight, ids[rows, columns])
        logits = self.module(input_ids=ids, attention_mask=there, use_cache=False).logits[rows, columns - 1].float()
        scores: Tensor = logits.gather(1, ids[rows, columns].unsqueeze(1)).squeeze(1) - logits.logsumexp(1)
        return scores


def _begun(sequence: EncodedConversation) -> EncodedConversation:
    """A sequence up to some of its learnt tokens."""
    last = sequence.places()[:_TRIED_TOKENS][-1] + 1
    return EncodedConversation(sequence.ids[:last], tuple((b, min(e, last)) for b, e in sequence.answers if b < last))


def _agree(one: Likelihood, other: Likelihood, sequences: Sequence[EncodedConversation]) -> bool:
    def asked() -> bool:
        difference = one.log_probabilities(sequences) - other.log_probabilities(sequences)
        return float(difference.abs().mean()) <= TOLERANCE[one.precision]

    return tried(asked, otherwise=False)


def _leaks(way: Likelihood, before: EncodedConversation, sequence: EncodedConversation) -> bool:
    """Whether what a sequence gets depends on the one before it in its row."""
    changed = EncodedConversation((before.ids[-1],) * len(before.ids), before.answers)

    def asked() -> bool:
        difference = way.log_probabilities([before, sequence]) - way.log_probabilities([changed, sequence])
        return float(difference[before.learnt :].abs().mean()) > LEAK

    return tried(asked, otherwise=True)
