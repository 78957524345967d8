from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from aifw.models.conversations import EncodedConversation
from aifw.training.packed_rows import evenly, first_fit, lay_packed


@st.composite
def sequences(draw: st.DrawFn) -> EncodedConversation:
    ids = tuple(draw(st.lists(st.integers(1, 99), min_size=2, max_size=8)))
    begin = draw(st.integers(1, len(ids) - 1))
    return EncodedConversation(ids, ((begin, draw(st.integers(begin + 1, len(ids)))),))


SEQUENCES = st.lists(sequences(), min_size=1, max_size=6)


@given(SEQUENCES, st.integers(1, 20), st.sampled_from([1, 4]))
def test_every_sequence_sees_itself_only(found: list[EncodedConversation], most: int, multiple: int) -> None:
    rows = lay_packed(found, 0, "cpu", torch.float32, most, multiple)
    assert rows.ids.shape[1] % multiple == 0
    seen = []
    for row in range(len(rows.ids)):
        start, length = 0, rows.ids.shape[1]
        while start < length:
            visible = [(rows.mask[row, 0, place] == 0).nonzero().flatten().tolist() for place in range(start, length)]
            end = start + 1
            while end < length and visible[end - start] == list(range(start, end + 1)):
                end += 1
            assert all(visible[place - start] == list(range(start, place + 1)) for place in range(start, end))
            seen.append((rows.ids[row, start:end].tolist(), rows.positions[row, start:end].tolist()))
            start = end
    laid = [(list(each.ids), list(range(len(each.ids)))) for each in found]
    padding = [entry for entry in seen if not any(entry[0])]
    assert sorted(entry for entry in seen if any(entry[0])) == sorted(laid)
    assert len(padding) <= len(rows.ids)


@given(SEQUENCES, st.integers(1, 20), st.sampled_from([1, 4]))
def test_each_learnt_token_is_predicted_by_the_one_before_it(
    found: list[EncodedConversation], most: int, multiple: int
) -> None:
    rows = lay_packed(found, 0, "cpu", torch.float32, most, multiple)
    expected = [(each.ids[place - 1], each.ids[place], place - 1) for each in found for place in each.places()]
    assert rows.count == len(expected)
    assert len(rows.tokens) % multiple == 0
    laid = [
        (int(rows.ids[row, column]), token, int(rows.positions[row, column]))
        for row, column, token in zip(rows.row.tolist(), rows.column.tolist(), rows.tokens.tolist(), strict=True)
    ]
    assert laid[: rows.count] == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 60))
def test_rows_are_filled_but_not_overfull(lengths: list[int], most: int) -> None:
    rows = first_fit(lengths, most)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in row) for row in rows]
    assert all(total <= most or len(row) == 1 for row, total in zip(rows, sums, strict=True))
    # First fit leaves no two rows that would fit in one.
    assert sum(2 * total <= most for total in sums) <= 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 10))
def test_shares_are_even(lengths: list[int], parts: int) -> None:
    shares = evenly(lengths, parts)
    assert sorted(index for share in shares for index in share) == list(range(len(lengths)))
    assert len(shares) == min(parts, len(lengths))
    sums = [sum(lengths[index] for index in share) for share in shares]
    assert max(sums) <= sum(lengths) / parts + max(lengths)
