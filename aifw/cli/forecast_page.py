"""Forecast against actual as one page of HTML that needs nothing from outside: two pictures and every job in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from math import ceil, floor, log10

from aifw.cli.forecast_report import percent, signed
from aifw.cli.page import page
from aifw.plan.columns import byte_range, time_range
from aifw.plan.score import MEMORY_TOLERANCE, TIME_TOLERANCE, Compared, Score, Summary, by_kind, overall
from aifw.units import format_bytes, format_seconds

_SIZE = 420.0
_EDGE = 64.0
_LEAST_TICKS = 2
_MOST_TICKS = 7
_SHAPES = ("circle", "square", "diamond", "triangle")
_HUES = (212, 28, 130, 340, 265, 180, 50, 300)
"""Colours of kinds, told apart by people who see colours and by shape beside them."""
_BYTE_TICKS = [float(1024**power * factor) for power in (1, 2, 3, 4) for factor in (1, 4, 16, 64, 256)]
_SECOND_TICKS = [
    0.01,
    0.03,
    0.1,
    0.3,
    1.0,
    3.0,
    10.0,
    30.0,
    60.0,
    180.0,
    600.0,
    1800.0,
    3600.0,
    14400.0,
    43200.0,
    86400.0,
]


def render(scores: Sequence[Score]) -> str:
    """The page.

    Args:
        scores: At least one job.
    """
    count = f"{len(scores):,} job{'s' * (len(scores) != 1)}"
    head = f"<h1>Forecast against actual</h1><p>{count}, {_days([each.started[:10] for each in scores])} (UTC)</p>"
    return page("Forecast against actual", [head, *sections(scores)])


def sections(scores: Sequence[Score], most: int | None = None) -> Iterable[str]:
    """Two pictures and two tables, for this page or as part of another.

    Args:
        scores: At least one job.
        most: Jobs to list; default: all.
    """
    kinds = sorted({each.kind for each in scores})
    memory = [(each, each.memory) for each in scores if each.memory is not None]
    seconds = [(each, each.seconds) for each in scores if each.seconds is not None]
    yield '<div class="pictures">'
    yield from _picture("Memory", memory, kinds, format_bytes, _BYTE_TICKS, MEMORY_TOLERANCE)
    yield from _picture("Time", seconds, kinds, format_seconds, _SECOND_TICKS, TIME_TOLERANCE)
    yield f"</div><p>{_legend(kinds)}</p>"
    yield (
        "<p>A mark is where the middle of a forecast and what was measured meet, its line the range from low to high. On the diagonal"
        " a forecast was right; right of it too much was expected, left of it too little. The band is what is tolerated.</p>"
    )
    yield "<h3>By kind</h3>"
    yield from _kind_table(scores)
    yield (
        "<p>Errors of memory are of the part above an idle worker; where a job has next to none, of all of it. <i>Stated</i> is what"
        " kinds said of all of it before earlier runs corrected it.</p>"
    )
    yield (
        "<h3>Every job, worst first</h3>" if most is None or len(scores) <= most else f"<h3>The {most} worst jobs</h3>"
    )
    yield from _job_table(scores, most)


def _days(days: Sequence[str]) -> str:
    first, last = min(days), max(days)
    return f"from {first} to {last}" if first != last else f"on {first}"


def _colour(kinds: Sequence[str], kind: str) -> str:
    return f"hsl({_HUES[kinds.index(kind) % len(_HUES)]} 65% var(--light))"


def _mark(kinds: Sequence[str], kind: str, x: float, y: float) -> str:
    colour = _colour(kinds, kind)
    shape = _SHAPES[(kinds.index(kind) + kinds.index(kind) // len(_HUES)) % len(_SHAPES)]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" fill-opacity=".8"/>'
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "diamond": ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
        "triangle": ((0, -5.5), (5, 4), (-5, 4)),
    }[shape]
    points = " ".join(f"{x + across:.1f},{y + down:.1f}" for across, down in corners)
    return f'<polygon points="{points}" fill="{colour}" fill-opacity=".8"/>'


def _legend(kinds: Sequence[str]) -> str:
    return " &ensp; ".join(
        f'<svg width="14" height="14" aria-hidden="true">{_mark(kinds, kind, 7, 7)}</svg> {escape(kind)}'
        for kind in kinds
    )


def _picture(
    name: str,
    pairs: Sequence[tuple[Score, Compared]],
    kinds: Sequence[str],
    shown: Callable[[float], str],
    ticks: Sequence[float],
    tolerance: float,
) -> Iterable[str]:
    """Forecast across, measured upwards, both logarithmic and alike."""
    drawn = [(each, compared) for each, compared in pairs if compared.forecast.mid > 0]
    if not drawn:
        return
    values = [
        value
        for _, each in drawn
        for value in (each.forecast.low, each.forecast.mid, each.forecast.high, each.measured)
    ]
    first = floor(log10(min(value for value in values if value > 0)) * 4) / 4 - 0.05
    last = ceil(log10(max(values)) * 4) / 4 + 0.05

    def across(value: float) -> float:
        return _EDGE + (max(first, min(last, log10(value) if value > 0 else first)) - first) / (last - first) * _SIZE

    def up(value: float) -> float:
        return _SIZE + 10 + _EDGE - across(value)

    low, high = 10**first, 10**last
    width, height = _SIZE + _EDGE + 20, _SIZE + _EDGE
    yield f'<figure><svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{name}: forecast across, measured upwards">'
    more, less = 1 + tolerance, 1 - tolerance
    band = ((low, low), (low * more, low), (high, high / more), (high, high), (high * less, high), (low, low / less))
    corners = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in band)
    yield f'<polygon points="{corners}" fill="var(--band)"/>'
    for tick in _visible(ticks, low, high):
        x, y = across(tick), up(tick)
        yield f'<path d="M{x:.1f} {up(low):.1f}V{up(high):.1f}M{across(low):.1f} {y:.1f}H{across(high):.1f}" stroke="var(--line)" fill="none"/>'
        yield f'<text x="{x:.1f}" y="{up(low) + 16:.1f}" text-anchor="middle">{_short(shown(tick))}</text>'
        yield f'<text x="{_EDGE - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{_short(shown(tick))}</text>'
    yield f'<path d="M{across(low):.1f} {up(low):.1f}L{across(high):.1f} {up(high):.1f}" stroke="var(--faint)" stroke-dasharray="4 4"/>'
    for each, compared in drawn:
        y = up(compared.measured)
        yield f"<g><title>{escape(_told(each, compared, shown))}</title>"
        yield (
            f'<path d="M{across(compared.forecast.low):.1f} {y:.1f}H{across(compared.forecast.high):.1f}"'
            f' stroke="{_colour(kinds, each.kind)}" stroke-opacity=".45" stroke-width="2"/>'
        )
        yield _mark(kinds, each.kind, across(compared.forecast.mid), y)
        yield "</g>"
    yield f"</svg><figcaption>{name}: forecast across, measured upwards; band ±{percent(tolerance)}</figcaption></figure>"


def _visible(ticks: Sequence[float], low: float, high: float) -> Sequence[float]:
    """Ticks between two ends: as many as have room, and two at least."""
    found = [each for each in ticks if low <= each <= high]
    if len(found) < _LEAST_TICKS:
        return [low ** (1 - share) * high**share for share in (0.2, 0.5, 0.8)]
    return found[:: ceil(len(found) / _MOST_TICKS)]


def _short(text: str) -> str:
    """A tick without decimals that say nothing."""
    return text.replace(".0 ", " ")


def _told(each: Score, compared: Compared, shown: Callable[[float], str]) -> str:
    forecast = compared.forecast
    measured = f"{'at least ' if each.exceeded else ''}{shown(compared.measured)}"
    said = f"{shown(forecast.low)} to {shown(forecast.high)}, middle {shown(forecast.mid)}"
    return f"{each.address} ({each.kind} on {each.device}): {measured}; forecast {said}"


def _kind_table(scores: Sequence[Score]) -> Iterable[str]:
    tolerances = (percent(MEMORY_TOLERANCE), percent(TIME_TOLERANCE))
    yield '<div class="scroll"><table><tr><th>kind<th class="left"><th>jobs<th>median off<th>off in all<th>stated off'
    yield f"<th>within {tolerances[0]} / {tolerances[1]}<th>in range<th>above high<th>by at most</tr>"
    kinds = by_kind(scores)
    if len(kinds) > 1:
        kinds["all"] = overall(scores)
    for kind, (memory, seconds) in kinds.items():
        yield _kind_row(kind, "memory", memory)
        yield _kind_row("", "time", seconds)
    yield "</table></div>"


def _kind_row(kind: str, what: str, each: Summary) -> str:
    cells = [
        each.median_error,
        each.median_error_total,
        each.median_error_stated,
        each.within,
        each.in_range,
        each.over_high,
    ]
    most = percent(each.most_over_high) if each.most_over_high else ""
    return (
        f'<tr><td>{escape(kind)}<td class="left">{what}<td>{each.jobs:,}'
        + "".join(f"<td>{percent(cell)}" for cell in cells)
        + f"<td>{most}</tr>"
    )


def _job_table(scores: Sequence[Score], most: int | None) -> Iterable[str]:
    yield '<div class="scroll"><table><tr><th>job<th class="left">kind<th class="left">on<th>started (UTC)<th>memory<th>measured'
    yield "<th>off<th>above worker<th>time<th>measured<th>off</tr>"
    for each in sorted(scores, key=lambda one: -one.badness)[:most]:
        memory, seconds = each.memory, each.seconds
        cells = [
            f"<td>{escape(each.state)}/{escape(each.address)}",
            f'<td class="left">{escape(each.kind)}<td class="left">{escape(each.device)}',
            f"<td>{each.started[:16].replace('T', ' ')}",
            *_cells(
                memory, byte_range(memory.forecast) if memory is not None else "", format_bytes, ended=each.exceeded
            ),
            f"<td>{signed(memory.error_above_worker) if memory is not None else ''}",
            *_cells(seconds, time_range(seconds.forecast) if seconds is not None else "", format_seconds, ended=False),
        ]
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div>"


def _cells(compared: Compared | None, said: str, shown: Callable[[float], str], *, ended: bool) -> Iterable[str]:
    if compared is None:
        return ("<td>", "<td>", "<td>")
    over = ' class="over"' if compared.over_high else ""
    measured = ("≥ " if ended else "") + shown(compared.measured)
    return (f"<td>{said}", f"<td{over}>{measured}", f"<td>{signed(compared.error)}")
