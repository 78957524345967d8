"""A report as text: the newest evaluation of each resource, targets, and the newest verdict of each gate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aifw.cli import targets
from aifw.cli.charts import spark
from aifw.cli.colour import style
from aifw.cli.forecast_report import counted
from aifw.cli.measures import decision, verdict_lines
from aifw.cli.report_facts import Evaluation, Facts, Line, course, level, lines
from aifw.cli.terminal import width
from aifw.evaluation import wording
from aifw.plan.columns import aligned, columns, cut

_ROLES = {"better": "good", "worse": "error"}


def report_lines(facts: Facts) -> Iterable[str]:
    """The whole summary."""
    yield _head(facts)
    for address, evaluation in facts.latest.items():
        yield ""
        yield from _evaluation(facts, address, evaluation)
    yield from targets.lines(facts.targets)
    newest: dict[str, Any] = {}
    for each in facts.judgements:
        newest.setdefault(each.address, each)
    for address, each in newest.items():
        role = "good" if each.moved else "warn"
        said = f"{each.incumbent} → {each.candidate}" if each.moved else f"{each.incumbent} stays"
        yield ""
        yield f"{style(address, 'name')} · run {each.run}, {_minute(each.at)} · {style(said, role)} · {decision(each.verdict)}"
        yield from (f"   {line}" for line in verdict_lines(each.verdict))
    for unreadable in facts.unreadable:
        yield ""
        yield f"{style('✗', 'error')} {unreadable.address or unreadable.folder}: {unreadable.problem}"


def _head(facts: Facts) -> str:
    parts = [style(facts.name, "name"), counted(len(facts.evaluations), "evaluation")]
    if facts.judgements:
        parts.append(counted(len(facts.judgements), "verdict"))
    if facts.targets:
        met = sum(each.status == "met" for each in facts.targets)
        parts.append(f"{met} of {counted(len(facts.targets), 'target')} met")
    return " · ".join(parts)


def _minute(at: str) -> str:
    return f"{at[:16].replace('T', ' ')} UTC"


def _evaluation(facts: Facts, address: str, evaluation: Evaluation) -> Iterable[str]:
    report = evaluation.report
    subject = report["subject"]["name"] or report["subject"]["address"]
    against = f" against {report['baseline']['address']}" if report["baseline"] else ""
    when = f"run {evaluation.run}, {_minute(evaluation.at)}" if evaluation.run is not None else _minute(evaluation.at)
    yield f"{style(address, 'name')} · {subject}{against} · {counted(report['data']['items'], 'item')} · {when}"
    found = lines(report)
    yield from measure_table(found, level(report), [_trend(facts, address, line) for line in found])
    if any(line.subject.get("contended") for line in found):
        yield style("   something else wanted the machine meanwhile: what the clock says meets no requirement", "warn")


def measure_table(
    found: Sequence[Line], alpha: float, trends: Sequence[str] = (), tested: int | None = None
) -> Iterable[str]:
    """Measures with their intervals and what a comparison shows, then why some have no value.

    Args:
        found: What to show.
        alpha: What intervals leave out.
        trends: Of each measure, if they are to be shown.
        tested: How many measures p-values were adjusted for; default: those that are shown.
    """
    shown = [(line, trend) for line, trend in zip(found, trends or [""] * len(found), strict=True) if _has_value(line)]
    compared = any(line.compared is not None for line, _ in shown)
    confidence = f"{100 * (1 - alpha):.3g} %"
    head = ("   measure", "value", confidence, *(("difference", confidence, "p", "") if compared else ()))
    if any(trends):
        head = (*head, "trend")
    if shown:
        rows = [(*_row(line, compared=compared), *([trend] if any(trends) else [])) for line, trend in shown]
        first, *rest = aligned([head, *rows])
        yield style(first, "faint")
        for text, (line, _) in zip(rest, shown, strict=True):
            yield _coloured(text, line.outcome)
    tested = sum(line.p is not None for line, _ in shown) if tested is None else tested
    if tested > 1:
        yield style(f"   p adjusted for {tested} measures (Holm)", "faint")
    yield from _notes(found)


def _has_value(line: Line) -> bool:
    return line.subject["value"] is not None


def _row(line: Line, *, compared: bool) -> tuple[str, ...]:
    measure, subject, against = line.measure, line.subject, line.compared
    value = wording.value(measure, subject["value"])
    if line.baseline is not None and line.baseline["value"] is not None:
        value = f"{wording.value(measure, line.baseline['value'])} → {value}"
    if subject.get("contended"):
        value += " !"
    cells = (f"   {measure.title}", value, wording.span(measure, subject["low"], subject["high"]))
    if not compared:
        return cells
    if against is None or against["difference"] is None:
        return (*cells, "", "", "", line.outcome or "")
    difference = wording.difference(measure, against["difference"])
    ends = wording.difference_span(measure, against["low"], against["high"])
    return (*cells, difference, ends, wording.probability(line.p), line.outcome or "")


def _coloured(text: str, word: str | None) -> str:
    """Colour after aligning, so that columns keep their width."""
    if word not in _ROLES:
        return text
    before, found, after = text.rpartition(word)
    return f"{before}{style(found, _ROLES[word])}{after}"


def _trend(facts: Facts, address: str, line: Line) -> str:
    """Only over evaluations of the same items."""
    found = course(facts.evaluations, address, line.measure.name)
    same = found[-1][0].report["data"]["digest"] if found else ""
    values = [
        float(entry["value"])
        for each, entry in found
        if entry["value"] is not None and each.report["data"]["digest"] == same
    ]
    return spark(values)


def _notes(found: Sequence[Line]) -> Iterable[str]:
    """Why measures have no value, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for line in found:
        if line.subject["value"] is None:
            reasons.setdefault(str(line.subject.get("note", "not known")), []).append(line.measure.title)
    room = width()
    for reason, titles in reasons.items():
        text = f"   {', '.join(titles)}: {reason}"
        yield style(text if room is None or columns(text) <= room else cut(text, room), "faint")
