"""Pairs as rows of a batch in which the prompt stands once: prompt, chosen answer, rejected answer.

Positions of the rejected answer start again where the prompt ends, and a mask keeps it from seeing the chosen one. So both answers get the hidden
states they would get behind a prompt of their own, and the prompt is computed once. (Trees of sequences in one row: Wang and Hegde 2024,
arXiv:2410.20305, "Accelerating Direct Preference Optimization with Prefix Sharing".)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifw.models.chat import EncodedPair

if TYPE_CHECKING:
    from torch import Tensor, dtype


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch as a model takes it, and where the answers are in it.

    Attributes:
        ids: Token ids, padded; [pairs, length].
        positions: Of each token in its sequence; [pairs, length].
        mask: 0 where a token (row) sees another (column), else minus infinity; [pairs, 1, length, length].
        row: Rows of the hidden states that predict an answer's token; [answer tokens].
        column: Their places in the row; [answer tokens].
        tokens: The tokens they predict; [answer tokens].
        answer: Whose tokens they are: twice the pair, plus one for the rejected answer; [answer tokens].
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    row: Tensor
    column: Tensor
    tokens: Tensor
    answer: Tensor


def lay_rows(pairs: Sequence[EncodedPair], padding: int, device: str, dtype: dtype, multiple: int = 1) -> Rows:
    """One row a pair.

    Args:
        pairs: Each with at least one token in prompt and answers.
        padding: Token for the ends of shorter rows.
        device: Where the batch is wanted.
        dtype: Of the mask: the format attention is computed in, so that no block has to convert it.
        multiple: Length and number of answer tokens are filled up to one of it. What is added belongs to an answer of its own, behind the others.
    """
    import torch

    longest = max(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
    longest += -longest % multiple
    ids = torch.full((len(pairs), longest), padding)
    positions = torch.zeros((len(pairs), longest), dtype=torch.long)
    mask = torch.full((len(pairs), 1, longest, longest), -math.inf, dtype=dtype).triu_(1)
    row: list[int] = []
    column: list[int] = []
    tokens: list[int] = []
    answer: list[int] = []
    for index, pair in enumerate(pairs):
        prompt = len(pair.prompt)
        first, end = prompt + len(pair.chosen), prompt + len(pair.chosen) + len(pair.rejected)
        ids[index, :end] = torch.tensor([*pair.prompt, *pair.chosen, *pair.rejected])
        positions[index, :first] = torch.arange(first)
        positions[index, first:end] = torch.arange(prompt, prompt + end - first)
        mask[index, 0, first:, prompt:first] = -math.inf
        # The prompt's last token predicts the first one of both answers.
        column += [prompt - 1, *range(prompt, first - 1), prompt - 1, *range(first, end - 1)]
        row += [index] * (end - prompt)
        tokens += [*pair.chosen, *pair.rejected]
        answer += [2 * index] * len(pair.chosen) + [2 * index + 1] * len(pair.rejected)
    added = -len(tokens) % multiple
    for places in (row, column, tokens):
        places.extend([0] * added)
    answer.extend([2 * len(pairs)] * added)
    lists = [torch.tensor(each, device=device) for each in (row, column, tokens, answer)]
    return Rows(ids.to(device), positions.to(device), mask.to(device), *lists)
