"""A plan for people: a table that fits the terminal, or everything about one step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aifw.hardware.machine import Machine
from aifw.plan.columns import about, byte_range, columns, cut, joined, padded, time_range, widths, wrapped
from aifw.plan.model import Action, Plan, Step
from aifw.units import format_bytes, format_money

MARKS = {
    Action.CREATE: ("+", "good"),
    Action.UPDATE: ("~", "warn"),
    Action.REPLACE: ("±", "warn"),
    Action.RESUME: ("»", "warn"),
    Action.MAYBE: ("?", "accent"),
    Action.REUSE: ("=", "faint"),
    Action.HELD: ("!", "warn"),
    Action.FORGET: ("-", "warn"),
    Action.DELETE: ("-", "error"),
}
"""What stands before a row, and its role for colouring."""

_TALLY = (
    (Action.CREATE, "{} to create"),
    (Action.UPDATE, "{} to update"),
    (Action.REPLACE, "{} to replace"),
    (Action.RESUME, "{} to resume"),
    (Action.MAYBE, "{} maybe"),
    (Action.FORGET, "{} to forget"),
    (Action.DELETE, "{} to delete"),
    (Action.HELD, "{} held"),
    (Action.REUSE, "{} unchanged"),
)
_HEAD = ("address", "action", "on", "memory", "time", "because")
MOST_UNCHANGED = 6
"""Unchanged resources listed before they are only counted."""
_FORMAT = re.compile(r"\b(?:fp32|fp16|bf16|int8|int4)\b")
_LEAST_BECAUSE = 26
_LEAST_WIDTH = 24
_SPARE = (2, 3, 4)
"""Columns that a narrow terminal does without, first to go first."""

Style = Callable[[str, str], str]
"""Takes a text and its role, and returns it coloured or as it is."""


def plain(text: str, _role: str) -> str:
    """No colour."""
    return text


def render(
    plan: Plan,
    *,
    machine: Machine | None = None,
    width: int | None = None,
    style: Style = plain,
    most_unchanged: int | None = MOST_UNCHANGED,
) -> str:
    """The table of a plan, its totals and its tally.

    Args:
        plan: What to show.
        machine: Described in the first line, if given.
        width: Columns of the terminal; None does not wrap or cut anything.
        style: Colours a text by its role.
        most_unchanged: If more resources are unchanged, they are only counted; None lists all.
    """
    parts = [_first_line(plan, machine, width, style)]
    rows, left_out = _rows(plan, most_unchanged)
    hint = " (--all shows them)" if most_unchanged else ""
    if rows:
        parts.append("\n".join(_table(rows, width, style, left_out, hint)))
    parts.append("\n".join(_last_lines(plan, width, style)))
    return "\n\n".join(parts) + "\n"


def describe(machine: Machine) -> str:
    """A machine in a few words: `laptop: 62.3 GiB pool, 14 cores, Intel GPU 8086:7D55`."""
    detected = [each.what for each in machine.detected]
    return f"{machine.name}: " + ", ".join([f"{format_bytes(machine.memory.pool)} pool", _cores(machine), *detected])


def _cores(machine: Machine) -> str:
    layout = machine.cpu.layout
    if layout is not None and len({*layout.kinds.values()}) > 1:
        from aifw.hardware.placement import places

        threads = {place.column: place.threads for place in places(machine)}
        if "efficient_cores" in threads:
            return f"{threads['performance_cores']}P+{threads['efficient_cores']}E"
    return f"{machine.cpu.cores} core{'s' * (machine.cpu.cores != 1)}"


def where(step: Step) -> str:
    """Where a step computes, and in which number format where its forecast notes one: `iGPU bf16`."""
    label = step.placement.label if step.placement is not None else step.device
    formats = set(_FORMAT.findall(step.forecast.note)) if label and step.forecast is not None else set()
    return f"{label} {formats.pop()}" if len(formats) == 1 else label


def tally(plan: Plan) -> str:
    """How many of each action: `3 to update, 2 maybe, 2 unchanged`."""
    counts = dict.fromkeys(Action, 0)
    for step in plan.steps:
        counts[step.action] += 1
    found = [text.format(f"{counts[action]:,}") for action, text in _TALLY if counts[action]]
    if plan.aliases:
        found.append(f"{len(plan.aliases)} alias{'es' * (len(plan.aliases) != 1)} to set")
    return ", ".join(found) or "the spec has no resources"


def because(step: Step) -> str:
    """Every reason of a step and what its forecast notes, in one line."""
    note = step.forecast.note if step.forecast is not None else ""
    return "; ".join([*(reason.text for reason in step.reasons), *([note] if note else [])])


@dataclass(frozen=True, slots=True)
class _Row:
    mark: str
    role: str
    cells: tuple[str, str, str, str, str]
    because: str


def _rows(plan: Plan, most_unchanged: int | None) -> tuple[list[_Row], int]:
    unchanged = sum(step.action is Action.REUSE for step in plan.steps)
    collapsed = most_unchanged is not None and unchanged > most_unchanged
    rows = [_row(step) for step in plan.steps if not (collapsed and step.action is Action.REUSE)]
    rows.extend(
        _Row("+", "good", (f"@{change.name}", "set", "", "", ""), f"starts as {change.initial}")
        for change in plan.aliases
    )
    return rows, unchanged if collapsed else 0


def _row(step: Step) -> _Row:
    mark, role = MARKS[step.action]
    forecast = step.forecast
    memory = byte_range(forecast.memory) if forecast is not None else ""
    seconds = time_range(forecast.seconds) if forecast is not None else ""
    return _Row(mark, role, (step.address, step.action.value, where(step), memory, seconds), because(step))


def _first_line(plan: Plan, machine: Machine | None, width: int | None, style: Style) -> str:
    facts = [
        *([f"spec {plan.spec[:6]}"] if plan.spec else []),
        f"state #{plan.serial}",
        describe(machine) if machine is not None else plan.machine,
    ]
    if plan.targets:
        facts.append(f"only {', '.join(plan.targets)}")
    line = f" · {' · '.join(facts)}"
    if width is not None:
        line = cut(line, max(0, width - columns(plan.name)))
    return style(plan.name, "name") + style(line, "faint")


def _table(rows: Sequence[_Row], width: int | None, style: Style, left_out: int, hint: str) -> Iterable[str]:
    # Columns nobody needs here are left out; what does not fit beside the table goes below its row.
    used = [index for index in range(5) if any(row.cells[index] for row in rows)]
    for spare in (None, *_SPARE):
        used = [index for index in used if index != spare]
        wide = widths([[_HEAD[index] for index in used], *([row.cells[index] for index in used] for row in rows)])
        room = None if width is None else width - 3 - sum(wide) - 3 * len(wide)
        if room is None or room >= -3:
            break
    beside = room is None or room >= _LEAST_BECAUSE
    head = [padded(_HEAD[index], size) for index, size in zip(used, wide, strict=True)]
    line = "   " + "   ".join([*head, *([_HEAD[5]] if beside and any(row.because for row in rows) else [])])
    yield style(_fit(line.rstrip(), width), "faint")
    for row in rows:
        cells = [padded(row.cells[index], size) for index, size in zip(used, wide, strict=True)]
        start = f" {row.mark} " + "   ".join(cells)
        if not beside:
            yield style(_fit(start.rstrip(), width), row.role)
            assert width is not None
            for text in wrapped(row.because, max(_LEAST_WIDTH, width - 7)) if row.because else ():
                yield style(f"       {text}", "faint")
            continue
        reason = [row.because] if room is None else wrapped(row.because, room)
        yield f"{style(start, row.role)}   {reason[0]}".rstrip() if reason[0] else style(start.rstrip(), row.role)
        for text in reason[1:]:
            yield " " * (columns(start) + 3) + text
    if left_out:
        yield style(_fit(f" = {left_out:,} unchanged{hint}", width), "faint")


def _fit(line: str, width: int | None) -> str:
    return line if width is None else cut(line, width)


def _last_lines(plan: Plan, width: int | None, style: Style) -> Iterable[str]:
    for warning in plan.warnings:
        for index, line in enumerate(wrapped(warning, width - 9) if width is not None else [warning]):
            yield style("warning: " if index == 0 else "         ", "warn") + line
    totals = plan.totals
    if totals.memory:
        peak = f"Peak {format_bytes(totals.memory)} of {format_bytes(totals.budget)} at {totals.memory_at}"
        facts = [peak, _duration(plan), _cost(plan)]
        if width is None or columns(" · ".join(facts)) <= width:
            yield " · ".join(facts)
        else:
            for fact in facts:
                yield from wrapped(fact, width)
    counted = tally(plan)
    text = f"Nothing to do: {counted}." if plan.empty else f"{counted[:1].upper()}{counted[1:]}."
    yield from [text] if width is None else wrapped(text, width)


def _duration(plan: Plan) -> str:
    totals = plan.totals
    low, mid, high = about(totals.seconds_low), about(totals.seconds_mid), about(totals.seconds_high)
    return f"about {mid}" if low == high else f"about {mid} ({joined(low, high)})"


def _cost(plan: Plan) -> str:
    totals = plan.totals
    return joined(format_money(totals.cost_low), format_money(totals.cost_high))
