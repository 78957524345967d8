"""Targets against what was measured. Pure: how far a stack is from what was wanted follows from its reports.

met             the whole interval is on the wanted side of the value; of what has no interval, the value is
not met         the whole interval is on the other side
inconclusive    the interval holds the value, or it was measured while others used the machine
not measured    nothing measures it, or nothing has yet
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from aifw.evaluation.measures import named
from aifw.formula import Range, parse

Status = Literal["met", "not met", "inconclusive", "not measured"]
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached.

    Attributes:
        value: In the unit of the measure.
        measure: Name of what is measured, or None where there is a formula.
        formula: Over names of entries, or None.
        of: What measures it, or empty.
    """

    name: str
    value: float
    better: Literal["higher", "lower"]
    measure: str | None = None
    formula: str | None = None
    of: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of what measures a target.

    Attributes:
        at: UTC.
        run: Number of the run, or None.
        entries: By name `value`, and where known `low`, `high`, `n`, `contended`; see `entries_of`.
    """

    at: str
    run: int | None
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Point:
    """What one run gave."""

    at: str
    run: int | None
    value: float
    low: float | None
    high: float | None
    contended: bool = False


@dataclass(frozen=True, slots=True)
class Tracked:
    """A target and how it stands.

    Attributes:
        measured: The latest value, or None.
        low: Lower end of its interval, or None where it has none.
        high: Upper end.
        unit: Of the measure, empty where it is not known.
        trend: Every value so far, the oldest first.
        note: Why there is no value, or what to know about it.
    """

    name: str
    description: str
    what: str
    of: str
    better: Literal["higher", "lower"]
    value: float
    status: Status
    measured: float | None
    low: float | None
    high: float | None
    unit: str
    trend: tuple[Point, ...]
    note: str

    def as_json(self) -> dict[str, Any]:
        """As verbs print it with `--json`."""
        return asdict(self)


def track(goal: Goal, history: Sequence[Measurement]) -> Tracked:
    """See how a target stands.

    Args:
        goal: The target.
        history: What measured it, the oldest first.
    """
    points = [point for each in history if (point := _point(goal, each)) is not None]
    latest = _point(goal, history[-1]) if history else None
    status, note = _status(goal, history, latest)
    return Tracked(
        name=goal.name,
        description=goal.description,
        what=goal.measure or goal.formula or "",
        of=goal.of,
        better=goal.better,
        value=goal.value,
        status=status,
        measured=latest.value if latest is not None else None,
        low=latest.low if latest is not None else None,
        high=latest.high if latest is not None else None,
        unit=_unit(goal),
        trend=tuple(points),
        note=note,
    )


def entries_of(report: Mapping[str, Any]) -> dict[str, Entry]:
    """Entries of a report by name: measures, `baseline_NAME`, and `difference_NAME` of the paired comparison."""
    found: dict[str, Entry] = {}
    for suite in report.get("suites", {}).values():
        found.update(suite.get("subject", {}))
        found.update({f"baseline_{name}": entry for name, entry in suite.get("baseline", {}).items()})
        for name, entry in suite.get("compared", {}).items():
            found[f"difference_{name}"] = {**entry, "value": entry.get("difference")}
    return found


def entries_of_facts(facts: Mapping[str, Any]) -> dict[str, Entry]:
    """Entries of what an output states about itself: numbers without intervals."""
    return {
        name: {"value": value}
        for name, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _point(goal: Goal, measurement: Measurement) -> Point | None:
    names = (goal.measure,) if goal.measure is not None else parse(goal.formula or "").names
    entries = {name: measurement.entries.get(str(name)) for name in names}
    ranges: dict[str, Range] = {}
    exact = True
    for name, entry in entries.items():
        if entry is None or entry.get("value") is None:
            return None
        value, low, high = float(entry["value"]), entry.get("low"), entry.get("high")
        exact = exact and low is None
        ranges[str(name)] = Range(value, value if low is None else low, value if high is None else high)
    found = ranges[goal.measure] if goal.measure is not None else parse(goal.formula or "")(ranges)
    if found is None:
        return None
    contended = any(bool(entry and entry.get("contended")) for entry in entries.values())
    low, high = (None, None) if exact else (found.low, found.high)
    return Point(measurement.at, measurement.run, found.value, low, high, contended)


def _status(goal: Goal, history: Sequence[Measurement], latest: Point | None) -> tuple[Status, str]:
    if not goal.of:
        return "not measured", "nothing in this spec measures it"
    if not history:
        return "not measured", f"{goal.of} has not run yet"
    if latest is None:
        return "not measured", "; ".join(_missing(goal, history[-1]))
    if latest.contended:
        return "inconclusive", "measured while others used the machine"
    low, high = (latest.value if end is None else end for end in (latest.low, latest.high))
    if goal.better == "lower":
        low, high, wanted = -high, -low, -goal.value
    else:
        wanted = goal.value
    if low >= wanted:
        return "met", ""
    return ("not met", "") if high < wanted else ("inconclusive", "the interval holds the target")


def _missing(goal: Goal, latest: Measurement) -> Iterator[str]:
    names = (goal.measure or "",) if goal.measure is not None else parse(goal.formula or "").names
    lacking = False
    for name in names:
        entry = latest.entries.get(name)
        if entry is None or entry.get("value") is None:
            lacking = True
            note = entry.get("note") if entry is not None else None
            yield f"{name}: {note}" if note else f"{goal.of} does not measure {name}"
    if not lacking:
        yield "the formula is not defined for what was measured"


def _unit(goal: Goal) -> str:
    try:
        return named(goal.measure).unit if goal.measure is not None else ""
    except KeyError:
        return ""
