"""Values and differences of measures as people read them, in the measure's own unit."""

from __future__ import annotations

import math

from aifw.evaluation.measures import Measure, Unit
from aifw.units import format_bytes, format_seconds

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def value(measure: Measure, number: float | None) -> str:
    """A value: `0.683`, `71 ms`, `1.2 GiB`; a dash where there is none."""
    return NOTHING if number is None else in_unit(measure.unit, number)


def in_unit(unit: Unit, number: float) -> str:
    """The same by unit."""
    sign, size = (MINUS if number < 0 else ""), abs(number)
    if unit == "seconds":
        if size >= 9.95:
            return sign + format_seconds(size)
        return f"{sign}{size:.2f} s" if size >= 0.995 else f"{sign}{plain(1000 * size)} ms"
    if unit == "bytes":
        return sign + format_bytes(size)
    if unit == "dollars":
        return f"{sign}${size:,.2f}" if size >= 0.1 or not size else f"{sign}${size:.2g}"
    if unit == "joules":
        return f"{sign}{plain(size)} J"
    if unit in {"tokens_per_second", "items_per_second"}:
        return f"{sign}{plain(size)}/s"
    return sign + (f"{size:.3f}" if unit == "share" else plain(size))


def plain(size: float) -> str:
    """A number that is not negative, with three digits that matter or as many as it has before the point."""
    if size == 0 or (size == int(size) and size < 1000):
        return f"{size:.0f}"
    if size < 0.001:
        return f"{size:.1e}"
    if size >= 1e7:
        return f"{size:.3g}"
    return f"{size:,.{max(0, 2 - math.floor(math.log10(size)))}f}"


def difference(measure: Measure, number: float | None, *, unit: bool = True) -> str:
    """A difference with its sign, of shares in points: `+6.9 points`, `+12 ms`.

    Args:
        measure: What differs.
        number: After minus before.
        unit: Say `points`; other units are always said.
    """
    if number is None:
        return NOTHING
    if measure.unit == "share":
        size = f"{100 * abs(number):.1f}" + (" points" if unit else "")
    else:
        size = in_unit(measure.unit, abs(number))
    return f"{MINUS if number < 0 else '+'}{size}"


def span(measure: Measure, low: float | None, high: float | None) -> str:
    """Both ends of an interval of a value; nothing where there is none."""
    return "" if low is None or high is None else f"{value(measure, low)} … {value(measure, high)}"


def difference_span(measure: Measure, low: float | None, high: float | None) -> str:
    """Both ends of an interval of a difference; nothing where there is none."""
    if low is None or high is None:
        return ""
    return f"{difference(measure, low, unit=False)} … {difference(measure, high, unit=False)}"


def probability(number: float | None) -> str:
    """A p-value: two digits, or that it is tiny; nothing where there is none."""
    return "" if number is None else "< 0.0001" if number < 0.0001 else f"{number:.2g}"
