"""Sizes, durations, money and shares: parsed from what people write and printed for people."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_NUMBER = r"[+-]?(?:\d+(?:_\d+)*)(?:\.\d+)?(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"({_NUMBER})\s*([A-Za-zµ%/]*)")

_BYTES = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000 ** (power + 1) for power, prefix in enumerate("kmgtp")},
    **{f"{prefix}ib": 1024 ** (power + 1) for power, prefix in enumerate("kmgtp")},
}
_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "sec": Decimal(1),
    "m": Decimal(60),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(604800),
}
MICRO_DOLLARS = 1_000_000


def _split(text: str, wanted: str) -> tuple[Decimal, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected {wanted}, got {text!r}")
    try:
        return Decimal(match[1].replace("_", "")), match[2]
    except InvalidOperation as error:  # pragma: no cover - the pattern admits only numbers
        raise ValueError(f"expected {wanted}, got {text!r}") from error


def parse_bytes(text: str) -> int:
    """Parse a size such as `48GiB`, `1.5 GB` or `4096`.

    Returns:
        Bytes, rounded down.

    Raises:
        ValueError: Not a size, negative, or an unknown unit.
    """
    number, unit = _split(text, "a size such as 48GiB")
    factor = _BYTES.get(unit.lower())
    if factor is None:
        raise ValueError(f"unknown unit of size {unit!r}; use B, kB, MB, GB, TB or KiB, MiB, GiB, TiB")
    if number < 0:
        raise ValueError("a size cannot be negative")
    return int(number * factor)


def parse_seconds(text: str) -> float:
    """Parse a duration such as `6h`, `90 min`, `1h30m` or `250ms`.

    Returns:
        Seconds.

    Raises:
        ValueError: Not a duration, negative, or an unknown unit.
    """
    compact = text.strip().replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)([A-Za-z]+)", compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise ValueError(f"expected a duration such as 90s, 15min, 6h or 1h30m, got {text!r}")
    total = Decimal(0)
    for number, unit in parts:
        factor = _SECONDS.get(unit.lower())
        if factor is None:
            raise ValueError(f"unknown unit of time {unit!r}; use ms, s, min, h, d or w")
        total += Decimal(number) * factor
    return float(total)


def parse_money(text: str) -> int:
    """Parse an amount such as `$200`, `$0.35` or `12.50 USD`.

    Returns:
        Micro-dollars, rounded half to even.

    Raises:
        ValueError: Not an amount, negative, or another currency.
    """
    stripped = text.strip()
    number, unit = _split(stripped.removeprefix("$"), "an amount such as $200")
    if unit.upper() not in {"", "USD"} or (unit and stripped.startswith("$")):
        raise ValueError(f"expected an amount in dollars such as $200, got {text!r}")
    if number < 0:
        raise ValueError("an amount cannot be negative")
    return int((number * MICRO_DOLLARS).to_integral_value())


def parse_share(text: str) -> float:
    """Parse a share such as `25%` or `0.25`.

    Returns:
        A fraction; 1.0 is the whole.

    Raises:
        ValueError: Not a share.
    """
    number, unit = _split(text, "a share such as 25%")
    if unit not in {"", "%"}:
        raise ValueError(f"expected a share such as 25%, got {text!r}")
    return float(number / 100) if unit == "%" else float(number)


def parse_quantity(text: str) -> float:
    """Parse whatever may be wanted of a measure: `15%`, `80ms`, `6GiB`, `$200`, `5x` or `12`.

    Returns:
        A fraction, seconds, bytes, dollars, a multiple or the number itself.

    Raises:
        ValueError: None of these.
    """
    stripped = text.strip()
    try:
        if stripped.startswith("$") or stripped.upper().endswith("USD"):
            return parse_money(stripped) / MICRO_DOLLARS
        if stripped.endswith("%"):
            return parse_share(stripped)
        number, unit = _split(stripped.removesuffix("x"), "a quantity")
        if not unit:
            return float(number)
        return float(parse_bytes(stripped)) if unit.lower() in _BYTES else parse_seconds(stripped)
    except ValueError:
        raise ValueError(
            f"expected a number, or one with a unit such as 15%, 80ms, 6GiB, $200 or 5x, got {text!r}"
        ) from None


def format_bytes(size: float) -> str:
    """Print bytes in binary units with at most three significant digits: `0.4 GiB`, `312 MiB`."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit, power in (("KiB", 1), ("MiB", 2), ("GiB", 3), ("TiB", 4)):
        value = size / 1024**power
        if value < (1000 if unit == "KiB" else 100) or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "KiB" or value >= 100 else f"{value:.1f} {unit}"
        if unit in {"MiB", "GiB"} and value < 1000:
            return f"{value:.0f} {unit}"
    raise AssertionError  # pragma: no cover - TiB takes the rest


def format_seconds(seconds: float) -> str:
    """Print a duration in at most two units: `0.4 s`, `58 s`, `29 min 12 s`, `6 h 5 min`."""
    if seconds < 0.995:
        return f"{seconds * 1000:.0f} ms" if seconds < 0.0995 else f"{seconds:.1f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small_size, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {unit} {rest} {small_unit}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def format_money(micro_dollars: float) -> str:
    """Print micro-dollars as dollars and cents: `$0.00`, `$12.35`; less than a cent keeps four digits."""
    dollars = micro_dollars / MICRO_DOLLARS
    return f"${dollars:,.4f}" if 0 < dollars < 0.01 else f"${dollars:,.2f}"
