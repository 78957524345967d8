from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from aifw.models.chat import EncodedPair
from aifw.training.pair_rows import lay_rows

TOKENS = st.lists(st.integers(1, 99), min_size=1, max_size=6).map(tuple)
PAIRS = st.lists(st.builds(EncodedPair, TOKENS, TOKENS, TOKENS), min_size=1, max_size=4)


@given(PAIRS)
def test_every_answer_sees_its_prompt_and_itself_only(pairs: list[EncodedPair]) -> None:
    rows = lay_rows(pairs, 0, "cpu", torch.float32)
    for index, pair in enumerate(pairs):
        for side, answer in enumerate((pair.chosen, pair.rejected)):
            sequence = [*pair.prompt, *answer]
            begins = len(pair.prompt) + (len(pair.chosen) if side else 0)
            places = [*range(len(pair.prompt)), *range(begins, begins + len(answer))]
            assert rows.ids[index, places].tolist() == sequence
            assert rows.positions[index, places].tolist() == list(range(len(sequence)))
            for position, place in enumerate(places):
                assert (rows.mask[index, 0, place] == 0).nonzero().flatten().tolist() == places[: position + 1]


@given(PAIRS)
def test_each_token_of_an_answer_is_predicted_by_the_one_before_it(pairs: list[EncodedPair]) -> None:
    rows = lay_rows(pairs, 0, "cpu", torch.float32)
    found: dict[int, list[tuple[int, int]]] = {}
    for row, column, token, answer in zip(
        rows.row.tolist(), rows.column.tolist(), rows.tokens.tolist(), rows.answer.tolist(), strict=True
    ):
        assert row == answer // 2
        found.setdefault(answer, []).append((int(rows.ids[row, column]), token))
    for index, pair in enumerate(pairs):
        for side, answer in enumerate((pair.chosen, pair.rejected)):
            before = [pair.prompt[-1], *answer[:-1]]
            assert found[2 * index + side] == list(zip(before, answer, strict=True))


def test_shapes_are_filled_up_to_a_multiple() -> None:
    rows = lay_rows([EncodedPair((1,), (2,), (3,)), EncodedPair((4, 5), (6, 7), (8,))], 9, "cpu", torch.float32, 8)
    assert rows.ids.shape == (2, 8)
    assert rows.mask.shape == (2, 1, 8, 8)
    assert rows.answer.tolist() == [0, 1, 2, 2, 3, 4, 4, 4]
    assert len(rows.tokens) == len(rows.row) == len(rows.column) == 8


def test_rows_end_with_padding() -> None:
    rows = lay_rows([EncodedPair((1,), (2,), (3,)), EncodedPair((4, 5), (6, 7), (8,))], 9, "cpu", torch.float32)
    assert rows.ids.tolist() == [[1, 2, 3, 9, 9], [4, 5, 6, 7, 8]]
