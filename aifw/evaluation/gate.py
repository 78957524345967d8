"""Whether evidence meets what is required of it. Pure: what it says follows from its arguments.

better           shown better than the incumbent: its p-value, adjusted over all measures of the gate that must be better (Holm 1979),
                 is at most alpha, and the interval of the difference lies on the good side
not_worse_by     shown to be worse by less than the margin: the whole interval of the difference lies above minus the margin
at_most          the whole interval of the candidate's value lies there; of what was observed once, the value
at_least         the same

Alpha is what is left for this look at the held-out set (`aifw.statistics.spending`): tests and intervals of differences are made at it.
It is two-sided, so a wrong `better` and a wrong `worse` share it. Intervals of bounds are those of the report: a bound says what is
acceptable, and claims nothing about a difference. What was measured while others used the machine shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from aifw.errors import InputInvalid
from aifw.evaluation.comparison import as_entry
from aifw.evaluation.guards import Alarm, look_at
from aifw.evaluation.measures import Measure, named, suite_of
from aifw.evaluation.requirements import Requirement
from aifw.statistics import Comparison, Decision, holm, spending
from aifw.units import format_bytes, format_seconds

Entry = Mapping[str, Any]
Side = Literal["subject", "baseline"]


class Findings(Protocol):
    """What a gate asks of evidence."""

    def entry(self, side: Side, measure: str) -> Entry | None:
        """What was measured: `value`, `low`, `high`, `n`, perhaps `note` and `contended`; None if it was not."""

    def why_not_compared(self, measure: str) -> str:
        """Why the two sides cannot be compared by a measure they both have, or nothing."""

    def compare(self, measure: str, alpha: float) -> Comparison:
        """Both sides item by item; second minus first is subject minus baseline.

        Raises:
            InputInvalid: They are not about the same items.
        """

    def measures(self) -> Sequence[str]:
        """What the subject was measured by."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a gate says.

    Attributes:
        decision: In one word.
        promote: All that is required is met, and no guard gave the alarm.
        metrics: One mapping for each requirement, as a verdict keeps it.
        guards: What guards saw.
        alpha: Of this look; 0 if none was left.
        spent: What this look and those before it may have spent.
        text: For people.
    """

    decision: Decision
    promote: bool
    alpha: float
    spent: float
    text: str
    metrics: tuple[dict[str, Any], ...] = ()
    guards: tuple[Alarm, ...] = ()


def judge(
    findings: Findings,
    require: Mapping[str, Requirement],
    guards: Mapping[str, Requirement | None],
    *,
    alpha: float,
    look: int,
    looks: int,
) -> Judgement:
    """Judge a candidate.

    Args:
        findings: Evidence about candidate (subject) and incumbent (baseline).
        require: By measure.
        guards: As `guards.guards_of` gives them.
        alpha: Accepted probability of a wrong claim over all planned looks.
        look: Number of this look, from 1.
        looks: How many are planned.

    Raises:
        InputInvalid: The evidence lacks a measure that is required, or its two sides are not about the same items.
    """
    level, spent = spending.available(look, alpha, looks), spending.spent(look, alpha, looks)
    if level <= 0:
        text = (
            f"held: alpha is used up: this is look {look:,} at this held-out set, and {100 * alpha:.3g} % were to last for "
            f"{looks:,}; a new held-out set is needed"
        )
        return Judgement("inconclusive", promote=False, alpha=0.0, spent=spent, text=text)
    asked = [_asked(name, wanted, findings, level) for name, wanted in require.items()]
    adjusted = holm(
        {each.measure.name: each.result.p for each in asked if each.wanted.better and each.result is not None}
    )
    metrics = tuple(_metric(each, adjusted.get(each.measure.name), level) for each in asked)
    alarms = tuple(look_at(guards, findings.entry))
    raised = [alarm for alarm in alarms if not alarm.met]
    met = all(metric["met"] for metric in metrics)
    decision = overall([metric["decision"] for metric in metrics], met=met)
    if raised and met:
        # Nothing follows from evidence that may have been had by other means.
        decision = "inconclusive"
    promote = met and not raised
    said = [*(metric["text"] for metric in metrics), *(f"guard: {alarm.text}" for alarm in raised)]
    text = f"{'' if promote else 'held: '}{decision.replace('_', ' ')} ({'; '.join(said)})"
    return Judgement(decision, promote, level, spent, text, metrics, alarms)


def overall(decisions: Sequence[Decision], *, met: bool) -> Decision:
    """One word for several: the worst where the requirements are not met, the best where they are."""
    if met:
        return "better" if "better" in decisions else "not_worse"
    return "worse" if "worse" in decisions else "inconclusive"


@dataclass
class _Asked:
    """A requirement and what the evidence has on it."""

    measure: Measure
    wanted: Requirement
    ours: Entry
    theirs: Entry | None
    result: Comparison | None = None
    notes: list[str] = field(default_factory=list)


def _asked(name: str, wanted: Requirement, findings: Findings, level: float) -> _Asked:
    ours, theirs = findings.entry("subject", name), findings.entry("baseline", name)
    if ours is None:
        measured = findings.measures()
        shown = ", ".join(measured[:12]) + (", ..." if len(measured) > 12 else "")
        raise InputInvalid(
            f"`{name}` is required, and the evaluation does not measure it",
            hint=f"add suite `{suite_of(name)}` to the evaluation, or require something it has: {shown or 'nothing'}",
        )
    asked = _Asked(named(name), wanted, ours, theirs)
    if not wanted.better and wanted.not_worse_by is None:
        return asked
    if theirs is None:
        raise InputInvalid(
            f"`{name}` is required to be compared with the incumbent's, which was not measured",
            hint="evaluate with a `baseline` that has the same measures",
        )
    note = _why_nothing(ours) or _why_nothing(theirs)
    if not note and asked.measure.form != "observed":
        note = findings.why_not_compared(name)
        if not note:
            asked.result = findings.compare(name, level)
    if note:
        asked.notes.append(note)
    return asked


def _why_nothing(entry: Entry) -> str:
    if entry.get("value") is None:
        return str(entry.get("note") or "not known")
    return "measured while others used the machine" if entry.get("contended") else ""


def _metric(asked: _Asked, adjusted: float | None, level: float) -> dict[str, Any]:
    """A requirement judged, as a verdict keeps it."""
    wanted, parts = asked.wanted, []
    if wanted.better:
        parts.append(_better(asked, adjusted, level))
    if wanted.not_worse_by is not None:
        parts.append(_not_worse(asked, wanted.not_worse_by, level))
    if wanted.at_most is not None or wanted.at_least is not None:
        parts.append(_bounded(asked))
    met = all(part in {"better", "not_worse"} for part in parts)
    if wanted.better and parts[0] != "better":
        met = False
    decision = overall(parts, met=met)
    found = {
        "metric": asked.measure.name,
        "unit": asked.measure.unit,
        "required": _required(wanted),
        "decision": decision,
        "met": met,
        "value": asked.ours.get("value"),
        **_numbers(asked.result, asked),
        "p_adjusted": adjusted,
    }
    return {**found, "text": _sentence(asked, found, level)}


def _better(asked: _Asked, adjusted: float | None, level: float) -> Decision:
    if asked.result is None or adjusted is None:
        return "inconclusive"
    low, high = _oriented(asked)
    if adjusted <= level and low > 0:
        return "better"
    return "worse" if adjusted <= level and high < 0 else "inconclusive"


def _not_worse(asked: _Asked, margin: float, level: float) -> Decision:
    if asked.notes:
        return "inconclusive"
    if asked.result is None:
        # Observed once on each side: there is a difference, and nothing to say how much of it is chance.
        assert asked.theirs is not None
        before, after = float(asked.theirs["value"]), float(asked.ours["value"])
        lost = after - before if asked.measure.better == "lower" else before - after
        return "not_worse" if lost <= _points(asked, margin, before) else "worse"
    low, high = _oriented(asked)
    if asked.result.p <= level and low > 0:
        return "better"
    if low >= -_points(asked, margin, asked.result.before):
        return "not_worse"
    return "worse" if asked.result.p <= level and high < 0 else "inconclusive"


def _points(asked: _Asked, margin: float, before: float) -> float:
    return margin if asked.measure.unit == "share" else margin * abs(before)


def _oriented(asked: _Asked) -> tuple[float, float]:
    """Interval of the difference, positive where the candidate is better."""
    assert asked.result is not None
    low, high = asked.result.low, asked.result.high
    return (-high, -low) if asked.measure.better == "lower" else (low, high)


def _bounded(asked: _Asked) -> Decision:
    entry = asked.ours
    note = _why_nothing(entry)
    if not note and asked.measure.form != "observed" and entry.get("low") is None:
        note = str(entry.get("note") or "it has no interval")
    if note:
        if note not in asked.notes:
            asked.notes.append(note)
        return "inconclusive"
    value = float(entry["value"])
    low, high = (
        (value, value) if asked.measure.form == "observed" else (min(value, entry["low"]), max(value, entry["high"]))
    )
    least = -math.inf if asked.wanted.at_least is None else asked.wanted.at_least
    most = math.inf if asked.wanted.at_most is None else asked.wanted.at_most
    if least <= low and high <= most:
        return "not_worse"
    return "worse" if low > most or high < least else "inconclusive"


def _required(wanted: Requirement) -> Any:
    bounds = {
        name: value
        for name, value in (
            ("not_worse_by", wanted.not_worse_by),
            ("at_most", wanted.at_most),
            ("at_least", wanted.at_least),
        )
        if value is not None
    }
    return "better" if wanted.better and not bounds else bounds


def _numbers(result: Comparison | None, asked: _Asked) -> dict[str, Any]:
    if result is not None:
        return as_entry(result)
    entry = asked.ours
    return {
        "before": asked.theirs.get("value") if asked.theirs is not None else None,
        "after": entry.get("value"),
        "n": entry.get("n"),
        **({"interval": [entry["low"], entry["high"]]} if entry.get("low") is not None else {}),
        "method": entry.get("method"),
        **({"note": "; ".join(asked.notes)} if asked.notes else {}),
    }


# In words


def _sentence(asked: _Asked, metric: Mapping[str, Any], level: float) -> str:
    """`preference accuracy 0.614 → 0.683, +6.9 points, 99 % +3.1 … +10.6, n 311, p 0.0004`."""
    measure, result, wanted = asked.measure, asked.result, asked.wanted
    parts = []
    if result is not None:
        parts += _compared_words(measure, result, level)
        if not metric["met"] and metric["decision"] == "inconclusive":
            parts += _would_help(measure, result)
    elif wanted.better or wanted.not_worse_by is not None:
        parts.append(f"{measure.title} {_arrow(measure, asked)}")
    else:
        parts.append(f"{measure.title} {_value(measure, asked.ours.get('value'))}")
    if wanted.at_most is not None or wanted.at_least is not None:
        entry = asked.ours
        if entry.get("low") is not None and measure.form != "observed":
            parts.append(f"95 % {_value(measure, entry['low'])} … {_value(measure, entry['high'])}")
        for words, bound in (("at most", wanted.at_most), ("at least", wanted.at_least)):
            if bound is not None:
                parts.append(f"required {words} {_value(measure, bound)}")
    return ", ".join([*parts, *asked.notes])


def _arrow(measure: Measure, asked: _Asked) -> str:
    before = asked.theirs.get("value") if asked.theirs is not None else None
    return f"{_value(measure, before)} → {_value(measure, asked.ours.get('value'))}"


def _compared_words(measure: Measure, result: Comparison, level: float) -> list[str]:
    return [
        f"{measure.title} {_value(measure, result.before)} → {_value(measure, result.after)}",
        f"{_change(measure, result.difference)}{' points' if measure.unit == 'share' else ''}",
        f"{_percent(1 - level)} {_change(measure, result.low)} … {_change(measure, result.high)}",
        f"n {result.n:,}",
        f"p {result.p:.2g}" if result.p >= 0.0001 else "p < 0.0001",
    ]


def _would_help(measure: Measure, result: Comparison) -> list[str]:
    parts = []
    if result.detectable is not None:
        points = " points" if measure.unit == "share" else ""
        parts.append(f"could have shown {_change(measure, abs(result.detectable)).lstrip('+')}{points}")
    gain = -result.difference if measure.better == "lower" else result.difference
    if result.needed is not None and gain > 0 and result.needed > result.n:
        parts.append(f"about {_round(result.needed):,} items would show this difference")
    return parts


def _percent(share: float) -> str:
    """`95 %`, `99.97 %`: as many digits as it takes to tell it from certainty."""
    digits = max(0, 1 - math.floor(math.log10(max(1e-9, 100 * (1 - share))))) if share > 0.9 else 0
    return f"{100 * share:.{digits}f}".rstrip("0").rstrip(".") + " %" if digits else f"{100 * share:.0f} %"


def _value(measure: Measure, value: Any) -> str:
    if value is None:
        return "unknown"
    if measure.unit == "share":
        return f"{value:.3f}"
    if measure.unit == "seconds":
        return format_seconds(value)
    if measure.unit == "bytes":
        return format_bytes(value)
    return f"${value:.4g}" if measure.unit == "dollars" else f"{value:.4g}"


def _change(measure: Measure, value: float) -> str:
    if measure.unit == "share":
        return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")
    sign = "\N{MINUS SIGN}" if value < 0 else "+"
    return f"{sign}{_value(measure, abs(value))}"


def _round(count: int) -> int:
    """Two significant digits, upwards."""
    factor = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // factor) * factor
