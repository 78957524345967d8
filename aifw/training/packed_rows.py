"""Sequences end to end in few rows, so that nothing is computed for padding.

Positions begin anew with every sequence, and a mask that is causal within each block and closed between blocks keeps it from seeing the others
of its row. (Packing with a block-diagonal mask: Krell et al. 2021, arXiv:2107.02027, "Efficient Sequence Packing without Cross-contamination".)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifw.models.conversations import EncodedConversation

if TYPE_CHECKING:
    from torch import Tensor, dtype


@dataclass(frozen=True, slots=True)
class PackedRows:
    """A batch as a model takes it, and where the answers are in it.

    Attributes:
        ids: Token ids, padded; [rows, length].
        positions: Of each token in its sequence; [rows, length].
        mask: 0 where a token sees another, else minus infinity; [rows, 1, length, length].
        row: Rows of the hidden states that predict an answer's token, sequence after sequence; [answer tokens].
        column: Their places in the row; [answer tokens].
        tokens: The tokens they predict; [answer tokens].
        count: How many of those are of answers; what follows only fills up.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    row: Tensor
    column: Tensor
    tokens: Tensor
    count: int


def first_fit(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Which sequences share a row: the longest first, each in the first row that has room for it.

    Args:
        lengths: Of the sequences.
        most: Tokens of a row; one sequence may be longer.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        fits = next((row for row, left in enumerate(room) if left >= lengths[index]), None)
        if fits is None:
            rows.append([index])
            room.append(most - lengths[index])
        else:
            rows[fits].append(index)
            room[fits] -= lengths[index]
    return rows


def evenly(lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Sequences shared out so that the parts have about as many tokens: the longest first, each to the part that has least.

    No part stays empty where there are sequences enough. (Graham 1969, longest processing time first.)
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for index in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        least = min(range(parts), key=lambda each: (loads[each], each))
        shares[least].append(index)
        loads[least] += lengths[index]
    return [share for share in shares if share]


def lay_packed(
    sequences: Sequence[EncodedConversation], padding: int, device: str, dtype: dtype, most: int, multiple: int = 1
) -> PackedRows:
    """Several sequences a row.

    Args:
        sequences: Each with at least one token before its first answer.
        padding: Token for the ends of shorter rows.
        device: Where the batch is wanted.
        dtype: Of the mask: the format attention is computed in, so that no block has to convert it.
        most: Tokens of a row; one sequence may be longer.
        multiple: Length and number of answer tokens are filled up to one of it.
    """
    import torch

    lengths = [len(sequence.ids) for sequence in sequences]
    rows = first_fit(lengths, most)
    longest = max(sum(lengths[index] for index in row) for row in rows)
    longest += -longest % multiple
    ids = torch.full((len(rows), longest), padding)
    positions = torch.zeros((len(rows), longest), dtype=torch.long)
    # Padding is a block of its own, so that no position is without something to see.
    block = torch.full((len(rows), longest), -1)
    starts: dict[int, tuple[int, int]] = {}
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            end = start + lengths[index]
            ids[number, start:end] = torch.tensor(sequences[index].ids)
            positions[number, start:end] = torch.arange(lengths[index])
            block[number, start:end] = index
            starts[index] = (number, start)
            start = end
    places: list[tuple[int, int, int]] = []
    for index, sequence in enumerate(sequences):
        number, start = starts[index]
        places += [(number, start + place - 1, sequence.ids[place]) for place in sequence.places()]
    count = len(places)
    places += [(0, 0, padding)] * (-count % multiple)
    row_of, column, tokens = torch.tensor(places, device=device).unbind(1)
    mask = torch.full((len(rows), longest, longest), -math.inf, dtype=dtype).triu_(1)
    mask.masked_fill_(block.unsqueeze(2) != block.unsqueeze(1), -math.inf)
    return PackedRows(ids.to(device), positions.to(device), mask.unsqueeze(1).to(device), row_of, column, tokens, count)
