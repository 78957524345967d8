"""Quantities: what people write is read, what is printed is short, and nonsense is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.units import (
    format_bytes,
    format_money,
    format_seconds,
    parse_bytes,
    parse_money,
    parse_seconds,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("48GiB", 48 * 1024**3),
        ("48 gib", 48 * 1024**3),
        ("500 MB", 500_000_000),
        ("1.5kB", 1500),
        ("4096", 4096),
        ("1_000 B", 1000),
        ("2e3", 2000),
        ("0.3 B", 0),
        ("1PiB", 1024**5),
        (" 1 TiB ", 1024**4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "48 Gib iB", "-1 GiB", "1 XB", "1,5 GB", "0x10", "nan", "inf", "1__0", "1%"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|unit"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6h", 21600.0),
        ("90 min", 5400.0),
        ("1h30m", 5400.0),
        ("1 h 30 min", 5400.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("2d", 172800.0),
        ("1W", 604800.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "-1h", "1h-", "1 year", "1h 30", "1:30", "1e3s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|unit"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "micro_dollars"),
    [
        ("$200", 200_000_000),
        ("$0.35", 350_000),
        ("12.50 USD", 12_500_000),
        ("3", 3_000_000),
        ("$ 1", 1_000_000),
        ("0.0000005", 0),
    ],
)
def test_money(text: str, micro_dollars: int) -> None:
    assert parse_money(text) == micro_dollars


@pytest.mark.parametrize("text", ["", "$", "€5", "5 EUR", "$5 USD", "-$5", "$-5", "1/2"])
def test_no_money(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount"):
        parse_money(text)


@pytest.mark.parametrize(("text", "share"), [("25%", 0.25), ("0.25", 0.25), ("100 %", 1.0), ("0", 0.0), ("150%", 1.5)])
def test_shares(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "%", "a quarter", "25 percent", "1/4"])
def test_no_shares(text: str) -> None:
    with pytest.raises(ValueError, match="share"):
        parse_share(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (2048, "2 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (312 * 1024**2, "312 MiB"),
        (0.4 * 1024**3, "410 MiB"),
        (11.2 * 1024**3, "11.2 GiB"),
        (48 * 1024**3, "48.0 GiB"),
        (187 * 1024**3, "187 GiB"),
        (3000 * 1024**4, "3000 TiB"),
    ],
)
def test_printed_sizes(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.02, "20 ms"),
        (0.4, "0.4 s"),
        (5.83, "5.8 s"),
        (58, "58 s"),
        (59.7, "1 min"),
        (1752, "29 min 12 s"),
        (21900, "6 h 5 min"),
        (86400, "1 d"),
        (90000, "1 d 1 h"),
    ],
)
def test_printed_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("micro_dollars", "text"), [(0, "$0.00"), (12_350_000, "$12.35"), (1234, "$0.0012"), (1_500_000_000, "$1,500.00")]
)
def test_printed_money(micro_dollars: int, text: str) -> None:
    assert format_money(micro_dollars) == text


@given(st.integers(min_value=0, max_value=2**60))
def test_bytes_as_a_number_are_read_as_they_are(size: int) -> None:
    assert parse_bytes(str(size)) == parse_bytes(f"{size} B") == size


@given(st.floats(min_value=0, max_value=2**52))
def test_printed_sizes_read_back_are_close(size: float) -> None:
    text = format_bytes(size)
    assert abs(parse_bytes(text) - size) <= max(0.5 * size / 10, 1024)
    assert len(re.sub(r"\D", "", text)) <= 4


@given(st.floats(min_value=0.001, max_value=1e8))
def test_printed_durations_read_back_are_close(seconds: float) -> None:
    assert abs(parse_seconds(format_seconds(seconds)) - seconds) <= max(
        0.0006 if seconds < 0.0995 else 0.0501, 0.03 * seconds
    )


@given(st.decimals(min_value=0, max_value=10**9, places=2))
def test_money_is_exact_to_the_cent(dollars: object) -> None:
    assert parse_money(f"${dollars}") == parse_money(format_money(parse_money(f"${dollars}")).replace(",", ""))


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_bytes, parse_seconds, parse_money, parse_share):
        try:
            found = parse(text)
        except ValueError:
            continue
        assert found >= 0 or parse is parse_share
