"""Reading the fields of a row: what a field holds, or an error that names item and field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aifw.errors import InputInvalid


def item(row: Mapping[str, Any]) -> str:
    """The item as messages name it."""
    return f"item {str(row['id'])[:60]!r}" if "id" in row else "an item"


def refused(row: Mapping[str, Any], field: str, wanted: str) -> InputInvalid:
    """The error for a field that is missing or does not hold what is wanted.

    Args:
        row: Of which item.
        field: Its name, `outer.inner` where it lies deeper.
        wanted: What it should hold, with an article.
    """
    held: Any = row
    for name in field.split("."):
        if not isinstance(held, Mapping) or name not in held:
            return InputInvalid(f"{item(row)} has no `{field}`", hint=f"`{field}` is {wanted}")
        held = held[name]
    shown = repr(held)
    return InputInvalid(
        f"`{field}` of {item(row)} is {shown if len(shown) <= 60 else shown[:57] + '...'}", hint=f"expected {wanted}"
    )


def has(row: Mapping[str, Any], field: str) -> bool:
    """Whether a field that may be left out is there; null counts as left out."""
    return row.get(field) is not None


def is_number(value: object) -> bool:
    """Whether a value is a finite number, as a double holds it. True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def number(
    row: Mapping[str, Any],
    field: str,
    wanted: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> float:
    """A finite number.

    Args:
        row: The item.
        field: Its name.
        wanted: What it is, for the message: "a duration in seconds".
        least: The smallest that is allowed.
        most: The largest.
        above: The number must be larger than this.

    Raises:
        InputInvalid: It is something else.
    """
    value = row.get(field)
    if not is_number(value) or not least <= value <= most or not value > above:  # type: ignore[operator]
        raise refused(row, field, wanted)
    return float(value)  # type: ignore[arg-type]


def whole(row: Mapping[str, Any], field: str, wanted: str, *, least: int = 0) -> int:
    """An integer of at most 63 bits; 3.0 is none.

    Raises:
        InputInvalid: It is something else, or smaller than `least`.
    """
    value = row.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 63:
        raise refused(row, field, wanted)
    return value


def text(row: Mapping[str, Any], field: str, wanted: str, *, empty: bool = False) -> str:
    """A text.

    Raises:
        InputInvalid: It is something else, or empty without `empty`.
    """
    value = row.get(field)
    if not isinstance(value, str) or not (value or empty):
        raise refused(row, field, wanted)
    return value


def truth(row: Mapping[str, Any], field: str, wanted: str) -> bool:
    """True or false; 0 and 1 are neither.

    Raises:
        InputInvalid: It is something else.
    """
    value = row.get(field)
    if not isinstance(value, bool):
        raise refused(row, field, wanted)
    return value


def listed(row: Mapping[str, Any], field: str, wanted: str, *, empty: bool = False) -> Sequence[Any]:
    """A list.

    Raises:
        InputInvalid: It is something else, or empty without `empty`.
    """
    value = row.get(field)
    if not isinstance(value, list | tuple) or not (value or empty):
        raise refused(row, field, wanted)
    return value


def numbers_by_name(row: Mapping[str, Any], field: str, wanted: str, *, least: float = -math.inf) -> dict[str, float]:
    """A mapping, not empty, from names to finite numbers.

    Raises:
        InputInvalid: It is something else; the name is in the message.
    """
    value = row.get(field)
    if not isinstance(value, Mapping) or not value:
        raise refused(row, field, wanted)
    for name, each in value.items():
        if not isinstance(name, str) or not name or not is_number(each) or each < least:
            raise InputInvalid(f"`{field}` of {item(row)} has {each!r} for {name!r}", hint=f"expected {wanted}")
    return {name: float(each) for name, each in value.items()}
