"""What suites tell beside their measures, as pictures and tables: by the form of what is told, so that a new suite needs nothing here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from aifw.cli import charts
from aifw.cli.measures import decimal, words
from aifw.cli.page import figure, table
from aifw.evaluation import wording

Sides = Mapping[str, Any]
"""By name of the side, what it tells under one key."""

_MOST_CLASSES = 30
_MOST_ROWS = 30
_MOST_TEXT = 200


def details(suite: Mapping[str, Any]) -> Iterable[str]:
    """Everything one suite tells, block by block.

    Args:
        suite: As a report has it, with `details` of the subject and, perhaps, of the baseline.
    """
    told = {side: content for side in ("subject", "baseline") if (content := suite["details"].get(side))}
    yield from _told(told, suite)


def _told(told: Mapping[str, Mapping[str, Any]], suite: Mapping[str, Any]) -> Iterable[str]:
    keys = dict.fromkeys(key for content in told.values() for key in content if key != "notes")
    numbers: dict[str, dict[str, str]] = {}
    texts: dict[str, None] = {}
    for key in keys:
        sides = {side: content[key] for side, content in told.items() if content.get(key) is not None}
        if not sides:
            continue
        if key in _PICTURES and all(_fits(key, each) for each in sides.values()):
            yield from _PICTURES[key](sides, told, suite)
        elif key == "judgements":
            yield from _judgements(sides)
        elif all(isinstance(each, Mapping | list) for each in sides.values()):
            for side, each in sides.items():
                block = "".join(_structure(f"{words(key)}{f', {side}' if len(told) > 1 else ''}", each))
                if block:
                    yield block
        elif all(_is_number(each) for each in sides.values()):
            numbers[words(key)] = {side: decimal(each) for side, each in sides.items()}
        else:
            texts |= dict.fromkeys(f"{escape(words(key))}: {_value(each)}" for each in sides.values())
    if numbers:
        names = list(told)
        head = ["", *(names if len(names) > 1 else [""])]
        rows = ([escape(key), *(each.get(side, "") for side in names)] for key, each in numbers.items())
        yield "".join(table(head, rows))
    if texts:
        yield f"<p>{'<br>'.join(texts)}</p>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits(key: str, value: Any) -> bool:
    """Whether what is told under a key has the form of its picture."""
    if key == "reliability":
        return isinstance(value, list)
    if key == "confusion":
        return isinstance(value, list | Mapping)
    return isinstance(value, Mapping)


# Pictures


def _reliability(sides: Sides, _told: Sides, _suite: Mapping[str, Any]) -> Iterable[str]:
    bins = {side: each for side, each in sides.items() if each}
    if bins:
        picture = charts.reliability(bins, "Accuracy over confidence")
        caption = f"Reliability: how often right over confidence. {charts.legend(bins)}"
        yield figure(picture, caption)


def _latency(sides: Sides, _told: Sides, suite: Mapping[str, Any]) -> Iterable[str]:
    series = {
        side: (each["seconds"], each["counts"])
        for side, each in sides.items()
        if each.get("counts") and each.get("seconds")
    }
    if not series:
        return
    percentiles = {
        name.rpartition("_")[2]: entry["value"]
        for name, entry in suite["subject"].items()
        if name.startswith("latency_p") and entry["value"] is not None
    }
    picture = charts.histogram(
        series,
        lambda each: wording.in_unit("seconds", each),
        "Distribution of latency",
        logarithmic=all(ends[0] > 0 for ends, _ in series.values()),
        marks=percentiles,
    )
    yield figure(picture, f"Distribution of latency; lines are percentiles of the subject. {charts.legend(series)}")


def _margins(sides: Sides, _told: Sides, _suite: Mapping[str, Any]) -> Iterable[str]:
    series = {side: (each["edges"], each["counts"]) for side, each in sides.items()}
    picture = charts.histogram(series, lambda each: wording.in_unit("nats", each), "Distribution of margins per token")
    caption = f"Margin per token of the chosen answer, in nats; right of 0 the item is right. {charts.legend(series)}"
    yield figure(picture, caption)


def _similarity(sides: Sides, _told: Sides, _suite: Mapping[str, Any]) -> Iterable[str]:
    series = {}
    for side, each in sides.items():
        count = len(each["counts"])
        width = (each["high"] - each["low"]) / (count or 1)
        series[side] = ([each["low"] + place * width for place in range(count + 1)], each["counts"])
    picture = charts.histogram(series, lambda each: f"{each:.2g}", "Similarity to the nearest training item")
    yield figure(picture, f"Similarity to the nearest training item. {charts.legend(series)}")


def _risk(sides: Sides, _told: Sides, _suite: Mapping[str, Any]) -> Iterable[str]:
    series = {
        side: list(zip(each["coverage"], each["risk"], strict=False))
        for side, each in sides.items()
        if each["coverage"]
    }
    if series:
        picture = charts.curve(series, "Share of wrong answers over the share answered")
        caption = (
            f"Risk against coverage: wrong among those answered, the most confident first. {charts.legend(series)}"
        )
        yield figure(picture, caption)


def _load(sides: Sides, _told: Sides, _suite: Mapping[str, Any]) -> Iterable[str]:
    for side, each in sides.items():
        total = sum(each.values()) or 1
        shares = dict(
            sorted(((name, count / total) for name, count in each.items()), key=lambda one: -one[1])[:_MOST_ROWS]
        )
        yield figure(charts.bars(shares, "Load of each expert"), f"Load of each expert, {escape(side)}")


def _confusion(sides: Sides, told: Sides, _suite: Mapping[str, Any]) -> Iterable[str]:
    for side, each in sides.items():
        content = {"labels": told[side].get("experts"), "counts": each} if isinstance(each, list) else each
        yield "".join(matrix(content, side if len(told) > 1 else ""))


def matrix(content: Mapping[str, Any], side: str) -> Iterable[str]:
    """Which class was taken for which: all of few classes, the most frequent mistakes of many.

    Args:
        content: `labels` and `counts`, or `classes` and `mistakes`.
        side: Whose, or empty if there is only one.
    """
    whose = f", {escape(side)}" if side else ""
    labels, counts = content.get("labels"), content.get("counts")
    if labels is None or counts is None:
        mistakes = content.get("mistakes") or []
        yield f"<h4>Most frequent mistakes among {content.get('classes', 'many')} classes{whose}</h4>"
        yield from _mistakes([(each["label"], each["predicted"], each["n"]) for each in mistakes])
    elif len(labels) > _MOST_CLASSES:
        wrong = [
            (label, predicted, count)
            for label, row in zip(labels, counts, strict=False)
            for predicted, count in zip(labels, row, strict=False)
            if count and label != predicted
        ]
        yield f"<h4>Most frequent mistakes among {len(labels)} classes{whose}</h4>"
        yield from _mistakes(sorted(wrong, key=lambda each: -each[2])[:_MOST_ROWS])
    else:
        yield f"<h4>Confusion: rows are what is right, columns what was said{whose}</h4>"
        rows = []
        for place, (label, row) in enumerate(zip(labels, counts, strict=False)):
            total = sum(row) or 1
            cells = [
                f'<td{" class=right" if place == column else ""} style="--share:{count / total:.3f}">{count or ""}</td>'
                for column, count in enumerate(row)
            ]
            rows.append([f"<td>{_short(label)}</td>", *cells, f'<td class="faint">{sum(row):,}</td>'])
        yield from table(["", *map(_short, labels), "all"], rows, kind="matrix")


def _short(label: object) -> str:
    text = str(label)
    return escape(text if len(text) <= 24 else f"{text[:23]}…")


def _mistakes(rows: Sequence[tuple[str, str, int]]) -> Iterable[str]:
    if rows:
        cells = ([_short(label), f'<td class="left">{_short(said)}</td>', f"{count:,}"] for label, said, count in rows)
        yield from table(["right", '<th class="left">said</th>', "items"], cells)


_PICTURES: Mapping[str, Callable[[Sides, Sides, Mapping[str, Any]], Iterable[str]]] = {
    "reliability": _reliability,
    "histogram": _latency,
    "margins": _margins,
    "similarity": _similarity,
    "risk_coverage": _risk,
    "load": _load,
    "confusion": _confusion,
}


def _judgements(sides: Sides) -> Iterable[str]:
    """Each judgement of a reflection, with its own confusion and calibration."""
    names = dict.fromkeys(name for each in sides.values() for name in each)
    for name in names:
        yield f"<h4>{escape(words(name))}</h4>"
        yield from _told({side: each[name] for side, each in sides.items() if name in each}, {"subject": {}})


# Anything else


def _structure(title: str, value: Any) -> Iterable[str]:
    """A table of what has rows, else names and values; nothing of what is empty."""
    rows = list(value.items()) if isinstance(value, Mapping) else [("", each) for each in value]
    if not rows:
        return
    yield f"<h4>{escape(title)}</h4>"
    shown, left = rows[:_MOST_ROWS], len(rows) - _MOST_ROWS
    if all(isinstance(each, Mapping) for _, each in shown):
        keys = list(dict.fromkeys(key for _, each in shown for key in each))
        named = any(name for name, _ in shown)
        head = [*([""] if named else []), *(escape(words(str(key))) for key in keys)]
        cells = ([*([_short(name)] if named else []), *(_value(each.get(key)) for key in keys)] for name, each in shown)
        yield from table(head, cells)
    elif isinstance(value, Mapping):
        yield from table(["", ""], ([_short(words(str(name))), _value(each)] for name, each in shown))
    else:
        yield f"<p>{', '.join(_value(each) for _, each in shown)}</p>"
    if left > 0:
        yield f"<p>… and {left:,} more</p>"


def _value(value: Any) -> str:
    if value is None:
        return wording.NOTHING
    if isinstance(value, Mapping):
        return " · ".join(f"{escape(words(str(key)))} {_value(each)}" for key, each in list(value.items())[:_MOST_ROWS])
    if isinstance(value, list):
        return ", ".join(map(_value, value[:_MOST_ROWS]))
    return decimal(value) if _is_number(value) else escape(str(value)[:_MOST_TEXT])
