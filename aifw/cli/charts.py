"""Pictures of measurements as SVG. Colours are those of the page they stand in; everything that comes from data is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Shown = Callable[[float], str]

SERIES = ("var(--subject)", "var(--baseline)")
"""Colours of the subject and of the baseline."""
_DASHES = ("", ' stroke-dasharray="5 3"')
_WIDTH, _HEIGHT = 400.0, 200.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 12.0, 30.0


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation in a trend.

    Attributes:
        mark: When, in a word, for the axis.
        label: When and what, for whoever points at it.
        value: What was measured, or None.
        low: Lower end of its interval, or None.
        high: Upper end.
        apart: Not to be compared with the one before: other items.
        doubtful: Measured under contention.
    """

    mark: str
    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    apart: bool = False
    doubtful: bool = False


class Frame:
    """A field with two linear axes.

    Args:
        across: Least and largest value from left to right.
        up: The same upwards.
        width: Of the whole picture.
        height: Of the whole picture.
    """

    def __init__(
        self, across: tuple[float, float], up: tuple[float, float], width: float = _WIDTH, height: float = _HEIGHT
    ) -> None:
        self.across, self.up, self.width, self.height = across, up, width, height

    def x(self, value: float) -> float:
        """Place of a value from the left."""
        low, high = self.across
        return _LEFT + (value - low) / ((high - low) or 1.0) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Place of a value from the top."""
        low, high = self.up
        return self.height - _BOTTOM - (value - low) / ((high - low) or 1.0) * (self.height - _TOP - _BOTTOM)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """Path through points."""
        return "".join(f"{'ML'[place > 0]}{self.x(x):.1f} {self.y(y):.1f}" for place, (x, y) in enumerate(points))

    def marks_up(self, values: Iterable[float], shown: Shown) -> Iterable[str]:
        """Lines across with their values."""
        for value in values:
            y = self.y(value)
            yield f'<path d="M{_LEFT} {y:.1f}H{self.width - _RIGHT}" stroke="var(--line)"/>'
            yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(shown(value))}</text>'

    def marks_across(self, marks: Iterable[tuple[float, str]]) -> Iterable[str]:
        """Values below the field."""
        for value, text in marks:
            x = self.x(value)
            anchor = "start" if x < _LEFT + 30 else "end" if x > self.width - _RIGHT - 30 else "middle"
            yield f'<text x="{x:.1f}" y="{self.height - 10:.1f}" text-anchor="{anchor}">{escape(text)}</text>'

    def picture(self, parts: Iterable[str], words: str) -> str:
        """The whole."""
        return (
            f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" width="{self.width:.0f}" role="img"'
            f' aria-label="{escape(words)}" fill="none">{"".join(parts)}</svg>'
        )


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round values from low to high, at most so many."""
    if not high > low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10, 20) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def trend(points: Sequence[Point], shown: Shown, words: str) -> str:
    """Values with their intervals, in the order in which they were measured.

    Args:
        points: At least one with a value.
        shown: Words of a value.
        words: What it is, for those who do not see it.
    """
    there = [each for each in points if each.value is not None]
    numbers = [number for each in there for number in (each.low, each.value, each.high) if number is not None]
    low, high = min(numbers), max(numbers)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    frame = Frame((-0.4, len(points) - 0.6), (low - room, high + room), width=310, height=150)
    parts = list(frame.marks_up(ticks(low - room, high + room, 5), shown))
    for line in _unbroken(points):
        ends = [(x, each.low, each.high) for x, each in line if each.low is not None and each.high is not None]
        if len(ends) > 1:
            around = [(float(x), float(low or 0)) for x, low, _ in ends]
            around += [(float(x), float(high or 0)) for x, _, high in reversed(ends)]
            parts.append(f'<path d="{frame.path(around)}Z" fill="{SERIES[0]}" fill-opacity=".12"/>')
        parts.append(
            f'<path d="{frame.path((x, each.value or 0.0) for x, each in line)}" stroke="{SERIES[0]}" stroke-width="2"/>'
        )
    for x, each in enumerate(points):
        if each.value is None:
            continue
        place, y = frame.x(x), frame.y(each.value)
        parts.append(f"<g><title>{escape(each.label)}: {escape(_told(each, shown))}</title>")
        if each.low is not None and each.high is not None:
            parts.append(
                f'<path d="M{place:.1f} {frame.y(each.low):.1f}V{frame.y(each.high):.1f}" stroke="{SERIES[0]}" stroke-opacity=".6"/>'
            )
        fill = "var(--back)" if each.doubtful else SERIES[0]
        parts.append(f'<circle cx="{place:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{SERIES[0]}"/></g>')
    parts += frame.marks_across([(0.0, points[0].mark), (len(points) - 1.0, points[-1].mark)][: len(points)])
    return frame.picture(parts, words)


def _told(each: Point, shown: Shown) -> str:
    text = shown(each.value if each.value is not None else math.nan)
    if each.low is not None and each.high is not None:
        text += f" ({shown(each.low)} … {shown(each.high)})"
    return text + (", under contention" if each.doubtful else "")


def _unbroken(points: Sequence[Point]) -> list[list[tuple[int, Point]]]:
    """Stretches of points that can be compared with each other."""
    lines: list[list[tuple[int, Point]]] = [[]]
    for place, each in enumerate(points):
        if each.apart:
            lines.append([])
        if each.value is not None:
            lines[-1].append((place, each))
    return [line for line in lines if line]


def reliability(series: Mapping[str, Sequence[Mapping[str, float]]], words: str) -> str:
    """Accuracy over confidence: on the diagonal a model is as often right as it says.

    Args:
        series: By name of the side, bins with `confidence`, `accuracy` and `n`.
        words: What it is, for those who do not see it.
    """
    frame = Frame((0, 1), (0, 1), width=320, height=300)
    marks = [0, 0.25, 0.5, 0.75, 1]
    parts = list(frame.marks_up(marks, lambda each: f"{each:.2f}"))
    parts += frame.marks_across([(each, f"{each:.2f}") for each in marks])
    parts.append(f'<path d="{frame.path([(0, 0), (1, 1)])}" stroke="var(--faint)" stroke-dasharray="4 4"/>')
    for (name, bins), colour, dash in zip(series.items(), SERIES, _DASHES, strict=False):
        line = frame.path((each["confidence"], each["accuracy"]) for each in bins)
        parts.append(f'<path d="{line}" stroke="{colour}" stroke-width="1.5"{dash}/>')
        most = max((each["n"] for each in bins), default=1) or 1
        for each in bins:
            told = f"{name}: confidence {each['confidence']:.3f}, right {each['accuracy']:.3f}, {each['n']:,.0f} items"
            parts.append(
                f'<circle cx="{frame.x(each["confidence"]):.1f}" cy="{frame.y(each["accuracy"]):.1f}" fill="{colour}" fill-opacity=".75"'
                f' r="{2 + 3 * math.sqrt(each["n"] / most):.1f}"><title>{escape(told)}</title></circle>'
            )
    return frame.picture(parts, words)


def histogram(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    shown: Shown,
    words: str,
    *,
    logarithmic: bool = False,
    marks: Mapping[str, float] | None = None,
) -> str:
    """Shares of items by value, one outline for each side.

    Args:
        series: By name of the side, edges (one more than counts, ascending) and counts.
        shown: Words of a value.
        words: What it is, for those who do not see it.
        logarithmic: Values are spread by their ratio; edges must be above 0.
        marks: Values to draw a line at, by name, such as percentiles.
    """

    def place(value: float) -> float:
        return math.log10(max(value, 1e-12)) if logarithmic else value

    edges = [place(edge) for ends, _ in series.values() for edge in ends]
    densities = {name: _density([place(each) for each in ends], counts) for name, (ends, counts) in series.items()}
    tallest = max((height for heights in densities.values() for height in heights), default=1.0) or 1.0
    low, high = min(edges), max(edges)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    # The names of marks stand above the outlines.
    frame = Frame((low, high), (0, tallest * (1.1 + 0.14 * len(marks or {}))))
    parts = [f'<path d="M{_LEFT} {frame.y(0):.1f}H{frame.width - _RIGHT}" stroke="var(--line)"/>']
    for (name, (ends, _)), colour, dash in zip(series.items(), SERIES, _DASHES, strict=False):
        steps = [(place(ends[0]), 0.0)]
        for left, right, height in zip(ends, ends[1:], densities[name], strict=False):
            steps += [(place(left), height), (place(right), height)]
        steps.append((place(ends[-1]), 0.0))
        parts.append(
            f'<path d="{frame.path(steps)}" stroke="{colour}" stroke-width="1.5"{dash} fill="{colour}" fill-opacity=".14"/>'
        )
    for row, (name, value) in enumerate((marks or {}).items()):
        x = frame.x(min(max(place(value), low), high))
        side = ("end", x - 3) if x > frame.width * 0.68 else ("start", x + 3)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{frame.y(0):.1f}" stroke="var(--faint)" stroke-dasharray="3 3"/>')
        parts.append(
            f'<text x="{side[1]:.1f}" y="{_TOP + 10 + 14 * row:.1f}" text-anchor="{side[0]}">{escape(name)} {escape(shown(value))}</text>'
        )
    across = [low + share * (high - low) for share in (0, 0.5, 1)]
    parts += frame.marks_across([(each, shown(10**each if logarithmic else each)) for each in across])
    return frame.picture(parts, words)


def _density(edges: Sequence[float], counts: Sequence[float]) -> list[float]:
    """Share of the items per width."""
    total = sum(counts) or 1.0
    return [
        count / total / ((right - left) or 1.0) for left, right, count in zip(edges, edges[1:], counts, strict=False)
    ]


def curve(series: Mapping[str, Sequence[tuple[float, float]]], words: str) -> str:
    """Shares over shares, such as risk over coverage."""
    highest = max((y for points in series.values() for _, y in points), default=1.0) or 1.0
    frame = Frame((0, 1), (0, highest * 1.05))
    parts = list(frame.marks_up(ticks(0, highest * 1.05), lambda each: f"{each:.2g}"))
    parts += frame.marks_across([(each, f"{each:.2f}") for each in (0, 0.5, 1)])
    for points, colour, dash in zip(series.values(), SERIES, _DASHES, strict=False):
        parts.append(f'<path d="{frame.path(points)}" stroke="{colour}" stroke-width="2"{dash}/>')
    return frame.picture(parts, words)


def difference(low: float, middle: float, high: float, extent: float, role: str) -> str:
    """An interval of a difference beside zero, small enough for a row of a table.

    Args:
        low: Lower end.
        middle: The difference.
        high: Upper end.
        extent: What reaches to the edge.
        role: Class that gives the colour.
    """
    width, height, half = 120, 16, 54

    def x(value: float) -> float:
        return width / 2 + max(-1.0, min(1.0, value / (extent or 1.0))) * half

    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" class="{role}" aria-hidden="true">'
        f'<path d="M{width / 2} 0V{height}" stroke="var(--line)"/>'
        f'<path d="M{x(low):.1f} 8H{x(high):.1f}" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{x(middle):.1f}" cy="8" r="3.5" fill="currentColor"/></svg>'
    )


def bars(shares: Mapping[str, float], words: str) -> str:
    """A bar for each name, with its share of the whole."""
    width, row = 400.0, 22.0
    most = max(shares.values(), default=1.0) or 1.0
    parts = []
    for place, (name, share) in enumerate(shares.items()):
        y = place * row
        short = name if len(name) <= 18 else f"{name[:17]}…"
        parts.append(f'<text x="130" y="{y + 15:.0f}" text-anchor="end">{escape(short)}</text>')
        parts.append(f'<rect x="136" y="{y + 4:.0f}" width="{share / most * 200:.1f}" height="14" fill="{SERIES[0]}"/>')
        parts.append(f'<text x="{140 + share / most * 200:.1f}" y="{y + 15:.0f}">{100 * share:.1f} %</text>')
    height = max(1, len(shares)) * row
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg>"
    )


def legend(names: Iterable[str]) -> str:
    """Which line is whose."""
    return " &ensp; ".join(
        f'<svg width="26" height="10" aria-hidden="true"><path d="M1 5H25" stroke="{colour}" stroke-width="3"{dash}/></svg> {escape(name)}'
        for name, colour, dash in zip(names, SERIES, _DASHES, strict=False)
    )


SPARKS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float], most: int = 12) -> str:
    """A trend in one line of text; nothing below two values."""
    shown = values[-most:]
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    if high == low:
        return SPARKS[3] * len(shown)
    return "".join(SPARKS[round((value - low) / (high - low) * (len(SPARKS) - 1))] for value in shown)
