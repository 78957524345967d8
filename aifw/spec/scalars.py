"""Scalars of the YAML 1.2 core schema: what an editor reads, and what PyYAML by itself does not."""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

_NUMBER = re.compile(
    r"(?P<integer>[-+]?[0-9]+)"
    r"|0o(?P<octal>[0-7]+)"
    r"|0x(?P<hexadecimal>[0-9a-fA-F]+)"
    r"|(?P<real>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<sign>[-+]?)\.(?:inf|Inf|INF)"
    r"|(?P<nan>\.(?:nan|NaN|NAN))"
)
_WORDS: dict[str, Scalar] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_NUMBER_STARTS = frozenset("0123456789+-.")
_MOST_DIGITS = 4000


def resolve(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar.

    `1e-4` is a number, `017` is 17, `0o17` is 15, `no` and `on` are strings, `1_000` is a string.

    Raises:
        ValueError: A whole number of more than 4,000 digits.
    """
    if text[:1] not in _NUMBER_STARTS:
        return _WORDS.get(text, text)
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    if len(text) > _MOST_DIGITS:
        raise ValueError("a number of more than 4,000 digits")
    form = match.lastgroup
    if form == "integer":
        return int(text)
    if form == "octal":
        return int(match["octal"], 8)
    if form == "hexadecimal":
        return int(match["hexadecimal"], 16)
    if form == "real":
        return float(text)
    if form == "nan":
        return float("nan")
    return float("-inf") if match["sign"] == "-" else float("inf")
