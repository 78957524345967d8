"""A report as one page of HTML. What comes from data is escaped; items are shown only where they changed the most."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from aifw.cli import charts
from aifw.cli.measures import decision, verdict_lines, words
from aifw.cli.page import figure, page, table
from aifw.cli.report_details import details
from aifw.cli.report_facts import Evaluation, Facts, Judgement, Line, course, level, lines
from aifw.cli.targets import value_text
from aifw.errors import AifwError
from aifw.evaluation import wording
from aifw.evaluation.report import items_of
from aifw.units import format_bytes

if TYPE_CHECKING:
    from aifw.evaluation.measures import Measure
    from aifw.evaluation.targets import Tracked

_MOST_ITEMS = 30
_MOST_TEXT = 80
_MOST_POINTS = 60
_MOST_TRENDS = 60
_MOST_VERDICTS = 100
_MOST_JOBS = 30
_MOST_LISTED = 200


def render(facts: Facts) -> str:
    """The page."""
    parts = [
        ("measures", "Measures", _measures(facts)),
        ("targets", "Targets", _targets(facts.targets)),
        ("trend", "Trend over runs", _trends(facts)),
        ("details", "In detail", _details(facts)),
        ("items", "Items that changed the most", _items(facts)),
        ("verdicts", "Verdicts", _verdicts(facts.judgements)),
        ("forecasts", "Forecast against actual", _forecasts(facts)),
        ("evaluations", "Every evaluation", _evaluations(facts)),
    ]
    written = [(anchor, title, body) for anchor, title, lines in parts if (body := list(lines))]
    title = f"{facts.name}: report"
    body = [f"<h1>{escape(facts.name)}</h1>", f"<p>{_about(facts)}</p>"]
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name, _ in written)
    body.append(f"<nav>{links}</nav>")
    for anchor, name, content in written:
        body += [f'<section id="{anchor}">', f"<h2>{name}</h2>", *content, "</section>"]
    return page(title, body)


def _about(facts: Facts) -> str:
    if not facts.evaluations:
        return "Nothing was evaluated yet."
    first, last = facts.evaluations[0].at[:10], facts.evaluations[-1].at[:10]
    days = f"on {first}" if first == last else f"from {first} to {last}"
    count = len(facts.evaluations)
    return f"{count:,} evaluation{'s' * (count != 1)} {days} (UTC)"


# The newest evaluation of each resource


def _measures(facts: Facts) -> Iterable[str]:
    for address, evaluation in facts.latest.items():
        yield f"<h3>{escape(address)}</h3>"
        yield f"<p>{_subject(evaluation)}</p>"
        if any(line.subject.get("contended") for line in lines(evaluation.report)):
            yield (
                '<p class="warn">Something else wanted the machine meanwhile: what the clock says is marked and meets no'
                " requirement.</p>"
            )
        yield from _measure_table(evaluation)
        yield from _left_out(evaluation.report["data"])


def _subject(evaluation: Evaluation) -> str:
    report = evaluation.report
    data = report["data"]
    parts = [_named(report["subject"])]
    if report["baseline"]:
        parts.append(f"against {_named(report['baseline'])}")
    groups = f" in {data['groups']:,} groups" if data["groups"] != data["items"] else ""
    parts.append(f"on {data['items']:,} items{groups} of {_named(data)}")
    run = f"run {evaluation.run}, " if evaluation.run is not None else ""
    return f"{' '.join(parts)} · {run}{_minute(evaluation.at)}"


def _named(what: Mapping[str, Any]) -> str:
    digest = f" <span class=faint>@{escape(what['digest'][:6])}</span>" if what["digest"] else ""
    return f"<b>{escape(what['name'] or what['address'])}</b>{digest}"


def _minute(at: str) -> str:
    return f"{escape(at[:16].replace('T', ' '))} UTC"


def _measure_table(evaluation: Evaluation) -> Iterable[str]:
    found = lines(evaluation.report)
    with_baseline = evaluation.report["baseline"] is not None
    confidence = f"{100 * (1 - level(evaluation.report)):.3g} %"
    head = ["measure", *(['<th class="left">shown</th>', "baseline"] if with_baseline else []), "subject", confidence]
    if with_baseline:
        head += ["difference", confidence, '<th aria-label="picture"></th>', "p"]
    head.append('<th class="left">items</th>')
    yield from table(head, (_measure_row(line, with_baseline=with_baseline) for line in found))
    tested = sum(line.p is not None for line in found)
    if tested > 1:
        yield f"<p>p adjusted for {tested} measures (Holm). Shares differ in points.</p>"
    yield from _methods(found)


def _measure_row(line: Line, *, with_baseline: bool) -> list[str]:
    measure, subject = line.measure, line.subject
    marked = ' <span class="warn" title="under contention">!</span>' if subject.get("contended") else ""
    value = wording.value(measure, subject["value"]) + marked
    ends = wording.span(measure, subject["low"], subject["high"])
    items = f'<td class="faint wrap">{escape(_rests_on(line))}</td>'
    if not with_baseline:
        return [escape(measure.title), value, ends, items]
    before = wording.value(measure, None if line.baseline is None else line.baseline["value"])
    against, role = line.compared, line.outcome if line.outcome in {"better", "worse"} else "faint"
    word = f'<td class="left {role}">{line.outcome or ""}</td>'
    if against is None or against["difference"] is None:
        return [escape(measure.title), word, before, value, ends, "", "", "<td></td>", "", items]
    low, middle, high = (float(against[key]) for key in ("low", "difference", "high"))
    picture = charts.difference(low, middle, high, max(abs(low), abs(high), abs(middle)) * 1.05, str(role))
    return [
        escape(measure.title),
        word,
        before,
        value,
        ends,
        wording.difference(measure, middle, unit=False),
        wording.difference_span(measure, low, high),
        f"<td>{picture}</td>",
        wording.probability(line.p),
        items,
    ]


def _rests_on(line: Line) -> str:
    subject, against = line.subject, line.compared
    parts = [str(each["note"]) for each in (subject, against or {}) if each.get("note")]
    parts = list(dict.fromkeys(parts))
    if subject["value"] is not None:
        parts.append(f"{subject['n']:,}")
    if subject.get("contended"):
        parts.append("under contention")
    elif against is not None and against.get("detectable") is not None and line.outcome == "inconclusive":
        parts.append(f"could have shown {wording.difference(line.measure, abs(against['detectable']))[1:]}")
    return ", ".join(parts)


def _methods(found: Sequence[Line]) -> Iterable[str]:
    """What intervals and tests rest on, measures of one method together."""
    methods: dict[str, list[str]] = {}
    for line in found:
        if line.subject["value"] is not None:
            parts = [str(line.subject["method"])]
            if line.compared is not None and line.compared["difference"] is not None:
                parts.append(str(line.compared["method"]))
            methods.setdefault("; ".join(parts), []).append(line.measure.title)
    if methods:
        yield "<details><summary>How intervals and p were computed</summary><ul>"
        yield from (f"<li>{escape(', '.join(titles))}: {escape(method)}</li>" for method, titles in methods.items())
        yield "</ul></details>"


def _left_out(data: Mapping[str, Any]) -> Iterable[str]:
    parts = [f"{count:,} dropped ({escape(words(why))})" for why, count in data["dropped"].items() if count]
    parts += [f"{count:,} cut ({escape(words(what))})" for what, count in data["cut"].items() if count]
    if parts:
        yield f"<p>Of the items {', '.join(parts)}.</p>"


# Targets


def _targets(targets: Sequence[Tracked]) -> Iterable[str]:
    if not targets:
        return
    rows = []
    for each in targets:
        wanted = f"at {'least' if each.better == 'higher' else 'most'} {value_text(each, each.value)}"
        ends = ""
        if each.low is not None and each.high is not None:
            ends = f"{value_text(each, each.low)} … {value_text(each, each.high)}"
        role = {"met": "met", "not met": "missed"}.get(each.status, "faint")
        rows.append(
            [
                f'<td class="wrap">{escape(each.description or each.name)}</td>',
                wanted,
                value_text(each, each.measured),
                ends,
                f'<td class="left">{charts.spark([point.value for point in each.trend])}</td>',
                f'<td class="left {role}">{each.status}</td>',
                f'<td class="faint wrap">{escape(each.note)}</td>',
            ]
        )
    left = [f'<th class="left">{name}</th>' for name in ("trend", "status", "")]
    yield from table(["target", "wanted", "measured", "95 %", *left], rows)


# Trends


def _trends(facts: Facts) -> Iterable[str]:
    drawn = left = 0
    for address, evaluation in facts.latest.items():
        if sum(each.address == address for each in facts.evaluations) < 2:
            continue
        pictures = []
        for line in lines(evaluation.report):
            points = _points(course(facts.evaluations, address, line.measure.name))
            if sum(each.value is not None for each in points) < 2:
                continue
            if drawn >= _MOST_TRENDS:
                left += 1
                continue
            drawn += 1
            picture = charts.trend(points, _shown(line), f"{line.measure.title} over runs")
            pictures.append(figure(picture, _direction(line)))
        if pictures:
            yield f"<h3>{escape(address)}</h3>"
            yield f'<div class="pictures small">{"".join(pictures)}</div>'
    if drawn:
        yield (
            "<p>Bars and bands are intervals. A line is broken where the items changed; a hollow mark was measured under contention."
            f"{f' {left} more measures are not drawn.' if left else ''}</p>"
        )


def _shown(line: Line) -> charts.Shown:
    def shown(value: float) -> str:
        return wording.value(line.measure, value)

    return shown


def _direction(line: Line) -> str:
    better = {"higher": ", higher is better", "lower": ", lower is better", "neither": ""}[line.measure.better]
    return f"{escape(line.measure.title)}{better}"


def _points(found: Sequence[tuple[Evaluation, Mapping[str, Any]]]) -> list[charts.Point]:
    points = []
    before = None
    for each, entry in found[-_MOST_POINTS:]:
        data = each.report["data"]["digest"]
        subject = each.report["subject"]
        run = f"run {each.run}, " if each.run is not None else ""
        mark = f"run {each.run}" if each.run is not None else each.at[:10]
        label = (
            f"{each.at[:10]} {each.at[11:16]} UTC, {run}{subject['name'] or subject['address']}@{subject['digest'][:4]}"
        )
        points.append(
            charts.Point(
                mark,
                label,
                entry["value"],
                entry["low"],
                entry["high"],
                apart=before is not None and data != before,
                doubtful=bool(entry.get("contended")),
            )
        )
        before = data
    return points


# Suites in detail, and items


def _details(facts: Facts) -> Iterable[str]:
    for address, evaluation in facts.latest.items():
        for name, suite in evaluation.report["suites"].items():
            body = list(details(suite))
            if body:
                yield f"<h3>{escape(address)}: {escape(words(name))}</h3>"
                yield from ('<div class="flow">', *(f"<div>{block}</div>" for block in body), "</div>")


def _items(facts: Facts) -> Iterable[str]:
    for address, evaluation in facts.latest.items():
        main = _main_measures(evaluation)
        try:
            changes = _changes(evaluation, main)
        except AifwError as error:
            yield f'<p class="warn">{escape(address)}: {escape(error.message)}</p>'
            continue
        for suite, measure in main.items():
            yield f"<h3>{escape(address)}: {escape(measure.title)}</h3>"
            yield from _changed(measure, *changes[suite])


def _main_measures(evaluation: Evaluation) -> dict[str, Measure]:
    """By suite, the first measure whose values of both sides items have."""
    found: dict[str, Measure] = {}
    for line in lines(evaluation.report):
        has_items = line.measure.form in {"outcome", "mean"} and line.compared is not None
        if has_items and line.subject["value"] is not None:
            found.setdefault(line.suite, line.measure)
    return found


@dataclass(frozen=True, slots=True)
class _Change:
    """One item whose value changed."""

    item: str
    group: str
    before: float
    after: float

    @property
    def size(self) -> float:
        return self.after - self.before


def _changes(evaluation: Evaluation, main: Mapping[str, Measure]) -> dict[str, tuple[int, int, list[_Change]]]:
    """By suite how many items went up, how many down, and those that changed the most."""
    if not main:
        return {}
    changes: dict[str, list[_Change]] = {suite: [] for suite in main}
    for item in items_of(evaluation.folder, evaluation.report, main):
        name = main[item["suite"]].name
        before, after = item.get("baseline_values", {}).get(name), item["subject_values"].get(name)
        if before is not None and after is not None and before != after:
            changes[item["suite"]].append(_Change(str(item["id"]), str(item["group"]), before, after))
    return {
        suite: (
            (up := sum(each.size > 0 for each in found)),
            len(found) - up,
            heapq.nsmallest(_MOST_ITEMS, found, key=lambda each: (-abs(each.size), each.item)),
        )
        for suite, found in changes.items()
    }


def _changed(measure: Measure, up: int, down: int, most: Sequence[_Change]) -> Iterable[str]:
    yield f"<p>{up:,} items higher than the baseline, {down:,} lower.</p>"
    if most:
        yield "<details><summary>Items</summary>"
        yield from table(
            ["item", '<th class="left">group</th>', "baseline", "subject", "difference"],
            (
                [
                    f'<td class="wrap">{escape(each.item[:_MOST_TEXT])}</td>',
                    f'<td class="wrap">{escape(each.group[:_MOST_TEXT])}</td>',
                    wording.value(measure, each.before),
                    wording.value(measure, each.after),
                    wording.difference(measure, each.size, unit=False),
                ]
                for each in most
            ),
        )
        yield "</details>"


# Verdicts, forecasts, surroundings


def _verdicts(judgements: Sequence[Judgement]) -> Iterable[str]:
    for each in judgements[:_MOST_VERDICTS]:
        alias = escape(str(each.verdict.get("alias", "the alias")))
        became = (
            f"{alias} moved from {escape(each.incumbent)} to {escape(each.candidate)}"
            if each.moved
            else f"{alias} stayed {escape(each.incumbent)}, not {escape(each.candidate)}"
        )
        yield f'<article class="{"better" if each.moved else "worse" if each.verdict.get("decision") == "worse" else ""}">'
        yield f"<b>{escape(decision(each.verdict))}</b> · {became}"
        yield f"<p>{escape(each.address)} · run {each.run} · {_minute(each.at)}</p>"
        told = [escape(line) for line in verdict_lines(each.verdict)]
        if told:
            yield f"<p>{'<br>'.join(told)}</p>"
        yield "</article>"
    if len(judgements) > _MOST_VERDICTS:
        yield f"<p>… and {len(judgements) - _MOST_VERDICTS:,} older ones</p>"


def _forecasts(facts: Facts) -> Iterable[str]:
    if facts.scores:
        from aifw.cli.forecast_page import sections

        yield from sections(facts.scores, _MOST_JOBS)


def _evaluations(facts: Facts) -> Iterable[str]:
    for unreadable in facts.unreadable:
        yield f'<p class="warn">{escape(unreadable.address or str(unreadable.folder))}: {escape(unreadable.problem)}</p>'
    if not facts.evaluations:
        return
    head = ["evaluation", "time (UTC)", "run", *(f'<th class="left">{each}</th>' for each in _SURROUNDINGS), "items"]
    rows = []
    for each in reversed(facts.evaluations[-_MOST_LISTED:]):
        environment = each.report["environment"]
        rows.append(
            [
                escape(each.address),
                escape(each.at[:16].replace("T", " ")),
                "" if each.run is None else str(each.run),
                *(f'<td class="left">{told(environment)}</td>' for told in _SURROUNDINGS.values()),
                f"{each.report['data']['items']:,}",
            ]
        )
    yield from table(head, rows)
    newest = facts.evaluations[-1].report["environment"]
    packages = ", ".join(f"{escape(name)} {escape(version)}" for name, version in newest["packages"].items())
    yield f"<p>Packages of the newest: {packages or 'none that numbers depend on'}.</p>"


def _machine(environment: Mapping[str, Any]) -> str:
    hardware = environment["hardware"]
    memory = format_bytes(hardware["memory"])
    return f"{escape(hardware['processor'])}, {hardware['cores']} cores, {memory}; {environment['threads']} threads on {escape(environment['device'])}"


def _code(environment: Mapping[str, Any]) -> str:
    return f"aifw {escape(environment['aifw'])}, Python {escape(environment['python'])}, seed {environment['seed']}"


def _waited(environment: Mapping[str, Any]) -> str:
    contention = environment["contention"]
    before, after = (
        wording.NOTHING if contention[when]["cpu"] is None else f"{contention[when]['cpu']:.1f} %"
        for when in ("before", "after")
    )
    return f"{before} → {after}" + (' <span class="warn">contended</span>' if contention["contended"] else "")


def _spec(environment: Mapping[str, Any]) -> str:
    return escape(str(environment["spec"] or "")[:12])


_SURROUNDINGS = {
    "waited for a processor": _waited,
    "machine": _machine,
    "code": _code,
    "spec": _spec,
}
