"""Text in columns: how wide it is on a terminal, cutting and wrapping it, and ranges in one unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aifw.kind import Estimate
from aifw.units import format_bytes, format_seconds

_TO = "\N{EN DASH}"


def columns(text: str) -> int:
    """Terminal columns a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(character) in {"Mn", "Me", "Cf"} else 2 if east_asian_width(character) in "WF" else 1
        for character in text
    )


def padded(text: str, width: int) -> str:
    """Fill up with blanks."""
    return text + " " * (width - columns(text))


def cut(text: str, width: int) -> str:
    """Shorten to a width, with an ellipsis where something was left out."""
    if columns(text) <= width:
        return text
    kept = ""
    for character in text:
        if columns(kept) + columns(character) > width - 1:
            break
        kept += character
    return f"{kept.rstrip()}…" if width > 0 else ""


def wrapped(text: str, width: int) -> list[str]:
    """Break at blanks into lines of at most a width; a longer word gets a line of its own."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and columns(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line or not lines else lines


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Width of each column of a table."""
    return [max(map(columns, cells)) for cells in zip(*rows, strict=True)]


def aligned(rows: Sequence[Sequence[str]], gap: str = "   ") -> Iterator[str]:
    """Rows as lines with aligned columns, the last as it is."""
    if not rows:
        return
    wide = widths(rows)
    for row in rows:
        yield gap.join([padded(cell, width) for cell, width in zip(row, wide, strict=True)]).rstrip()


def byte_range(estimate: Estimate) -> str:
    """Low and high of a size in one unit where they share it."""
    return joined(format_bytes(estimate.low), format_bytes(estimate.high))


def parts_of(parts: Mapping[str, float]) -> str:
    """What a size is made of, the largest first; what takes nothing, such as weights that stay in their file, is left out."""
    largest = sorted(parts.items(), key=lambda part: (-part[1], part[0]))
    return " · ".join(f"{name} {format_bytes(size)}" for name, size in largest if size >= 1)


def time_range(estimate: Estimate) -> str:
    """Low and high of a duration in the unit of the high."""
    if estimate.high < 0.95:
        return joined(format_seconds(estimate.low), format_seconds(estimate.high))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if estimate.high >= 1.5 * size or size == 1:
            return joined(_number(estimate.low / size, unit), _number(estimate.high / size, unit))
    raise AssertionError  # pragma: no cover - seconds take the rest


def about(seconds: float) -> str:
    """One duration as time ranges print it: `33 min`."""
    return time_range(Estimate.exact(seconds))


def _number(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if value < 9.5 and round(value, 1) != round(value) else f"{value:.0f} {unit}"


def joined(low: str, high: str) -> str:
    """Two quantities as a range, the unit once if it is the same."""
    if low == high:
        return high
    number, _, unit = low.rpartition(" ")
    return f"{number}{_TO}{high}" if unit == high.rpartition(" ")[2] else f"{low}{_TO}{high}"
