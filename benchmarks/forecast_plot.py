"""A picture of forecasts against what was measured: SVG, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

SIDE, EDGE = 560, 60
TICKS = (100e6, 200e6, 500e6, 1e9, 2e9, 5e9)
COLOURS = {"held-out": "#c0392b", "fresh": "#d68910", "fit": "#2c6fbb"}


def draw(rows: Sequence[Mapping[str, Any]]) -> str:
    """Measured to the right, forecast upwards, both above an idle worker and on logarithmic scales; runs that nothing was fitted to are filled."""
    values = [row[name] for row in rows for name in ("job", "low", "high")]
    low, high = log10(min(values)) - 0.05, log10(max(values)) + 0.05

    def place(value: float) -> float:
        return (log10(value) - low) / (high - low) * SIDE

    def x(value: float) -> str:
        return f"{EDGE + place(value):.1f}"

    def y(value: float) -> str:
        return f"{EDGE + SIDE - place(value):.1f}"

    least, most = 10**low, 10**high
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE + 2 * EDGE}" height="{SIDE + 2 * EDGE}" '
            'font-family="sans-serif" font-size="12" fill="#333">'
        ),
        f'<rect width="{SIDE + 2 * EDGE}" height="{SIDE + 2 * EDGE}" fill="white"/>',
        (
            f'<polygon points="{x(least)},{y(least * 1.1)} {x(most / 1.1)},{y(most)} {x(most)},{y(most)} {x(most)},{y(most / 1.1)} '
            f'{x(least * 1.1)},{y(least)} {x(least)},{y(least)}" fill="#e8eef7"/>'
        ),
        f'<line x1="{x(least)}" y1="{y(least)}" x2="{x(most)}" y2="{y(most)}" stroke="#8aa"/>',
    ]
    for tick in TICKS:
        if least < tick < most:
            label = f"{tick / 1e9:g} GB" if tick >= 1e9 else f"{tick / 1e6:g} MB"
            lines += [
                f'<line x1="{x(tick)}" y1="{y(least)}" x2="{x(tick)}" y2="{y(most)}" stroke="#eee"/>',
                f'<line x1="{x(least)}" y1="{y(tick)}" x2="{x(most)}" y2="{y(tick)}" stroke="#eee"/>',
                f'<text x="{x(tick)}" y="{EDGE + SIDE + 18}" text-anchor="middle">{label}</text>',
                f'<text x="{EDGE - 6}" y="{y(tick)}" text-anchor="end" dominant-baseline="middle">{label}</text>',
            ]
    for row in rows:
        colour = COLOURS[row["part"]]
        lines += [
            f'<line x1="{x(row["job"])}" y1="{y(row["low"])}" x2="{x(row["job"])}" y2="{y(row["high"])}" stroke="{colour}" stroke-opacity="0.45"/>',
            (
                f'<circle cx="{x(row["job"])}" cy="{y(row["mid"])}" r="4" fill="{"white" if row["part"] == "fit" else colour}" stroke="{colour}">'
                f"<title>{row['run']}</title></circle>"
            ),
        ]
    middle = EDGE + SIDE / 2
    lines += [
        f'<text x="{middle}" y="{EDGE + SIDE + 42}" text-anchor="middle">measured peak above an idle worker</text>',
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">forecast, with its range</text>',
        f'<text x="{EDGE}" y="{EDGE - 24}">filled: held out (red) and fresh (orange); open: constants were fitted to it; the band is 10 % either way</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
