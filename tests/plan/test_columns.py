"""Text in columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.kind import Estimate
from aifw.plan.columns import aligned, byte_range, columns, cut, joined, padded, time_range, wrapped

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), max_size=30)


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("→", 1), ("", 0)])
def test_width_is_that_of_a_terminal(text: str, width: int) -> None:
    assert columns(text) == width


@given(TEXTS, st.integers(1, 40))
def test_a_cut_text_fits_and_is_whole_if_it_can_be(text: str, width: int) -> None:
    short = cut(text, width)
    assert columns(short) <= width
    assert (short == text) == (columns(text) <= width) or short.endswith("…")


@given(st.lists(TEXTS.filter(lambda text: text != ""), max_size=12), st.integers(4, 60))
def test_wrapping_keeps_every_word_and_fits_where_words_do(words: list[str], width: int) -> None:
    lines = wrapped(" ".join(words), width)
    assert " ".join(lines).split() == " ".join(words).split()
    for line in lines:
        assert columns(line) <= width or " " not in line


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6))
def test_columns_of_a_table_start_at_the_same_place(rows: list[tuple[str, str, str]]) -> None:
    wide = max(columns(row[0]) for row in rows)
    for row, line in zip(rows, aligned(rows), strict=True):
        assert line == line.rstrip()
        assert line.startswith(padded(row[0], wide).rstrip())


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (22 * 60, 31 * 60, "22-31 min"),
        (5.2, 6.9, "5.2-6.9 s"),
        (0.05, 0.2, "50 ms-0.2 s"),
        (40, 80, "40-80 s"),
        (3600, 7200, "1-2 h"),
        (6, 6, "6 s"),
        (2 * 86400, 3 * 86400, "2-3 d"),
    ],
)
def test_ranges_of_time_have_one_unit(low: float, high: float, shown: str) -> None:
    assert time_range(Estimate(low, (low + high) / 2, high)).replace("\N{EN DASH}", "-") == shown


def test_ranges_of_bytes_name_a_shared_unit_once() -> None:
    gib = 1024**3
    assert byte_range(Estimate(9.8 * gib, 10 * gib, 11.2 * gib)) == "9.8\N{EN DASH}11.2 GiB"
    assert byte_range(Estimate(0.5 * gib, gib, 2 * gib)) == "512 MiB\N{EN DASH}2.0 GiB"
    assert joined("3 s", "3 s") == "3 s"
