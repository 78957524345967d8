from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.spec.scalars import resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("+12", 12),
        ("-0", 0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.5e+2", -50.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_core_schema(text: str, value: object) -> None:
    resolved = resolve(text)
    assert resolved == value
    assert type(resolved) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "yes",
        "on",
        "off",
        "y",
        "n",
        "tRUE",
        "nULL",
        "1_000",
        "0b1",
        "1:30",
        "2001-01-01",
        "0o8",
        "-0o7",
        "0x",
        "1e",
        ".",
        "-",
        "=",
        "<<",
        "48GiB",
        "25%",
    ],
)
def test_text_that_older_yaml_reads_as_something_else(text: str) -> None:
    assert resolve(text) == text


def test_not_a_number() -> None:
    value = resolve(".nan")
    assert isinstance(value, float)
    assert math.isnan(value)


def test_a_number_too_long_to_convert() -> None:
    with pytest.raises(ValueError, match="digits"):
        resolve("9" * 4001)


@given(st.integers())
def test_whole_numbers(number: int) -> None:
    assert resolve(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_as_python_prints_them(number: float) -> None:
    assert resolve(repr(number)) == number


@given(st.text())
def test_anything_else_is_itself(text: str) -> None:
    value = resolve(text)
    if isinstance(value, str):
        assert value == text
    elif isinstance(value, bool) or value is None:
        assert text.lower() in {"true", "false", "null", "~", ""}
    else:
        assert re.fullmatch(r"[-+0-9.eExoa-fA-FinINF]+|\.(nan|NaN|NAN)", text)
