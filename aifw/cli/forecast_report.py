"""Forecast against actual as text: a row for memory and one for time of each job, then how good each kind's forecasts were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log2
from pathlib import Path

from aifw.cli.colour import style
from aifw.cli.terminal import is_terminal
from aifw.plan.columns import aligned, byte_range, time_range
from aifw.plan.score import Compared, Score, Summary, by_kind, overall
from aifw.units import format_bytes, format_seconds

_MINUS = "\N{MINUS SIGN}"
_STRIP = 13
"""Characters of the picture of a forecast: from half of its middle to twice as much."""
_LEGEND = (
    "off: how far the middle of a forecast was from what was measured, + if too much; below, medians; stated: without earlier runs.",
    "above worker: the same of memory above an idle worker; where a job has next to none, all of it counts instead.",
)


def report_lines(base: Path, scores: Sequence[Score], limit: int) -> Iterable[str]:
    """The whole report.

    Args:
        base: The folder that holds the states.
        scores: At least one job.
        limit: Most jobs to list.
    """
    states = len({each.state for each in scores})
    yield f"{counted(len(scores), 'job')} in {counted(states, 'state')} · {base}"
    yield ""
    worst = sorted(scores, key=lambda each: -each.badness)[:limit]
    head = ("   worst first", "", "forecast", "measured", "off", "above worker", "")
    rows = [row for each in worst for row in _job_rows(each, several=states > 1)]
    first, *lines = aligned([head, *rows])
    yield style(first, "faint")
    yield from lines
    if len(scores) > limit:
        yield style(f"   … and {counted(len(scores) - limit, 'better one')} (-n lists more)", "faint")
    yield from _kind_lines(scores)
    yield ""
    yield from (style(line, "faint") for line in _LEGEND)


def _job_rows(each: Score, *, several: bool) -> Iterable[tuple[str, ...]]:

    names = [f"   {f'{each.state}/' if several else ''}{each.address}", f"   {each.kind} on {each.device}"]
    if each.memory is not None:
        forecast = f"{format_bytes(each.memory.forecast.mid)} ({byte_range(each.memory.forecast)})"
        measured = ("≥ " if each.exceeded else "") + format_bytes(each.memory.measured)
        above = signed(each.memory.error_above_worker)
        yield (names.pop(0), "memory", forecast, measured, signed(each.memory.error), above, _verdict(each.memory))
    if each.seconds is not None:
        forecast = f"{format_seconds(each.seconds.forecast.mid)} ({time_range(each.seconds.forecast)})"
        measured = format_seconds(each.seconds.measured)
        yield (names.pop(0), "time", forecast, measured, signed(each.seconds.error), "", _verdict(each.seconds))
    if len(names) == 1 and (each.memory is not None or each.seconds is not None):
        yield (names.pop(0), "time", "ended: too much memory" if each.exceeded else "of a part only", "", "", "", "")


def _verdict(compared: Compared) -> str:
    """Where in its range the measurement lies: drawn on a terminal, in words where it lies outside."""
    words = ""
    if compared.over_high:
        words = style(f"{percent(compared.over_high)} above high", "warn")
    elif compared.in_range is False:
        words = "below low"
    return f"{strip(compared)}  {words}".rstrip() if is_terminal() else words


def strip(compared: Compared) -> str:
    """A forecast and what was measured on a line from half of the middle to twice as much, on a logarithmic scale."""
    mid = compared.forecast.mid
    if mid <= 0:
        return " " * _STRIP

    def place(value: float) -> int:
        return round((log2(value / mid) + 1) / 2 * (_STRIP - 1)) if value > 0 else -1

    low, high = max(0, place(compared.forecast.low)), min(_STRIP - 1, place(compared.forecast.high))
    cells = ["─" if low <= index <= high else " " for index in range(_STRIP)]
    cells[_STRIP // 2] = "┼" if low < high else "│"
    measured = place(compared.measured)
    if measured < 0:
        cells[0] = "◂"
    elif measured >= _STRIP:
        cells[-1] = "▸"
    else:
        cells[measured] = "●"
    return "".join(cells)


def _kind_lines(scores: Sequence[Score]) -> Iterable[str]:

    kinds = {**by_kind(scores), "all": overall(scores)}
    if len(kinds) == 2:
        del kinds["all"]
    for index, what in enumerate(("memory", "time")):
        summaries = {kind: pair[index] for kind, pair in kinds.items() if pair[index].jobs}
        if not summaries:
            continue
        tolerance = percent(next(iter(summaries.values())).tolerance)
        off = ("off above worker", "off in all") if what == "memory" else ("off",)
        head = (f"   {what}", "jobs", *off, "stated off", f"within {tolerance}", "in range", "above high")
        first, *lines = aligned([head, *(_kind_row(kind, each, what) for kind, each in summaries.items())])
        yield ""
        yield style(first, "faint")
        yield from lines


def _kind_row(kind: str, each: Summary, what: str) -> tuple[str, ...]:
    over = percent(each.over_high)
    if each.over_high:
        over += f", by at most {percent(each.most_over_high)}"
    errors = [each.median_error, each.median_error_total] if what == "memory" else [each.median_error]
    return (
        f"   {kind}",
        f"{each.jobs:,}",
        *map(percent, errors),
        percent(each.median_error_stated),
        percent(each.within),
        percent(each.in_range),
        over,
    )


def percent(share: float | None) -> str:
    """A share for people; nothing for one that is not known."""
    return "" if share is None else f"{100 * share:.0f} %" if share >= 0.0095 or not share else f"{100 * share:.1g} %"


def signed(share: float | None) -> str:
    """A deviation with its sign; nothing for one that is not known."""
    if share is None:
        return ""
    size = f"{100 * abs(share):.0f} %"
    return size if size == "0 %" else f"{_MINUS if share < 0 else '+'}{size}"


def counted(count: int, what: str) -> str:
    """A number of things: `2 jobs`."""
    return f"{count:,} {what}{'s' * (count != 1)}"
