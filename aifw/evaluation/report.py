"""One evaluation as it is kept: `report.json` with every measure and what it rests on, `items.jsonl` with a row per item and suite.

Both carry their digests, so that whoever decides by them, or compares two of them, sees when one was cut off or edited.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

from aifw.errors import InputInvalid
from aifw.evaluation.comparison import Side, comparisons_of, measures_of, observed_entry
from aifw.evaluation.measures import named, suite_of
from aifw.evaluation.schema import PACKAGED, VERSION
from aifw.evaluation.suites import Row, find
from aifw.statistics import sketch

REPORT, ITEMS = "report.json", "items.jsonl"

SideName = Literal["subject", "baseline"]
Rows = Mapping[str, tuple[Sequence[Row], Sequence[Row] | None]]
Observed = Mapping[str, tuple[Mapping[str, float | None], Mapping[str, float | None] | None]]

TIMED = frozenset({"latency", "throughput", "search"})
"""Suites whose numbers are those of the clock, so that a busy machine changes them."""

_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """An evaluation, read and checked.

    Attributes:
        report: Content of `report.json`.
        items: Rows of `items.jsonl`, ordered by suite and id.
    """

    report: dict[str, Any]
    items: list[dict[str, Any]]


def build(
    *,
    subject: Mapping[str, str],
    baseline: Mapping[str, str] | None,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    rows: Rows,
    environment: Mapping[str, Any],
    observed: Observed | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure, compare, and put it all together.

    Args:
        subject: `address`, `digest` and `name` of what was measured.
        baseline: The same of what it is compared with, or None.
        data: `address`, `digest` and `name` of the items, with `dropped` and `cut` where there is something to say.
        settings: What the numbers depend on.
        rows: By suite, the rows of the subject and those of the baseline (None without one).
        environment: What `Environment.end` gives.
        observed: By suite, measures that no row holds, such as the peak memory, of the subject and of the baseline.
        alpha: Intervals cover `1 - alpha`.
        seed: Of the bootstrap.

    Returns:
        Content of `report.json` and of `items.jsonl`.

    Raises:
        InputInvalid: Rows cannot be used, or the two sides are not about the same items.
    """
    contended = bool(environment["contention"]["contended"])
    items: list[dict[str, Any]] = []
    suites: dict[str, Any] = {}
    for name in sorted({*rows, *(observed or {})}):
        sides = _sides(name, rows.get(name, ((), None)), subject, baseline)
        found = _suite(sides, (observed or {}).get(name, ({}, None)), name, alpha, seed)
        suites[name] = _marked(found) if contended and name in TIMED else found
        if "subject" in sides:
            items += _item_lines(name, sides)
    groups = {item["id"]: item["group"] for item in _counted(items)}
    lines = list(map(_line, items))
    report = {
        "version": VERSION,
        "items_digest": _digest_of(lines),
        "subject": dict(subject),
        "baseline": None if baseline is None else dict(baseline),
        "data": {
            "dropped": {},
            "cut": {},
            **data,
            "items": len(groups),
            "groups": len(set(groups.values())),
            "sketch": sketch.sketch(groups),
        },
        "settings": {**settings, "alpha": alpha},
        "suites": suites,
        "environment": dict(environment),
    }
    return {**report, "digest": digest(report)}, items


def _sides(
    name: str,
    rows: tuple[Sequence[Row], Sequence[Row] | None],
    subject: Mapping[str, str],
    baseline: Mapping[str, str] | None,
) -> dict[SideName, Side]:
    found: dict[SideName, Side] = {}
    if rows[0] or rows[1]:
        found["subject"] = Side(find(name), rows[0], subject["address"])
        if rows[1] is not None and baseline is not None:
            found["baseline"] = Side(find(name), rows[1], baseline["address"])
    return found


def _suite(
    sides: Mapping[SideName, Side],
    observed: tuple[Mapping[str, float | None], Mapping[str, float | None] | None],
    name: str,
    alpha: float,
    seed: int,
) -> dict[str, Any]:
    found: dict[str, Any] = {"details": {}}
    which: tuple[SideName, SideName] = ("subject", "baseline")
    for side, extra in zip(which, observed, strict=True):
        if side not in sides and extra is None:
            continue
        rows = sides.get(side)
        entries = {} if rows is None else measures_of(rows, alpha=alpha, seed=seed)
        for measure, value in (extra or {}).items():
            assert suite_of(measure) == name, f"suite {name} has no measure {measure}"
            count, note = (0, "") if rows is None else (len(rows.ids), rows.note(measure))
            entries[measure] = observed_entry(value, count, note)
        found[side] = entries
        found["details"][side] = {} if rows is None else _plain(rows.details)
    if len(sides) == 2:
        found["compared"] = comparisons_of(sides["baseline"], sides["subject"], alpha=alpha, seed=seed)
    return found


def _marked(suite: dict[str, Any]) -> dict[str, Any]:
    """A suite whose every number says that it was measured under contention."""
    return {
        key: {name: {**entry, "contended": True} for name, entry in part.items()} if key != "details" else part
        for key, part in suite.items()
    }


def _item_lines(name: str, sides: Mapping[SideName, Side]) -> Iterable[dict[str, Any]]:
    subject, baseline = sides["subject"], sides.get("baseline")
    for place, (item, group) in enumerate(zip(subject.ids, subject.groups, strict=True)):
        line = {"suite": name, "id": item, "group": group}
        line |= _of_side("subject", subject, place)
        if baseline is not None:
            line |= _of_side("baseline", baseline, place)
        yield line


def _of_side(name: SideName, side: Side, place: int) -> dict[str, Any]:
    fields = {key: value for key, value in side.rows[place].items() if key not in {"id", "group"}}
    return {name: fields, f"{name}_values": side.values[place]}


def _plain(value: Any) -> Any:
    """A value as JSON has it; what is not a finite number is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _counted(items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Rows that say which item they are of, or all where none does: a row of a whole run, or of one more request, is no further item."""
    return [item for item in items if item["subject"].get("item_digest")] or items


def _line(item: Mapping[str, Any]) -> str:
    try:
        return json.dumps(item, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise InputInvalid(f"item {item['id']!r} of suite {item['suite']} has a field that is not a number") from error


def _digest_of(lines: Iterable[str]) -> str:
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode())
    return found.hexdigest()


def digest(report: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of a report without its own digest."""
    rest = {key: value for key, value in report.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(folder: Path, report: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> None:
    """Write both files into a folder that is there."""
    with (folder / ITEMS).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(map(_line, items))
    text = json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")


# Reading


def read_report(folder: Path) -> dict[str, Any]:
    """Read `report.json` and see that it is whole and as it was written. The items are not looked at.

    Raises:
        InputInvalid: It is not.
    """
    path = folder / REPORT
    try:
        report = json.loads(path.read_bytes(), parse_constant=_no_number)
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}", hint="an evaluation is a folder") from error
    except ValueError as error:
        raise InputInvalid(f"{path} is no JSON or was cut off: {error}", hint=_AGAIN) from error
    if not isinstance(report, dict) or report.get("version") != VERSION:
        found = report.get("version") if isinstance(report, dict) else None
        raise InputInvalid(f"{path} has version {found!r}, expected {VERSION}", hint=_AGAIN)
    if report.get("digest") != digest(report):
        raise InputInvalid(f"{path} was edited: its content does not match its digest", hint=_AGAIN)
    _see_form(path, report)
    return report


def read(folder: Path) -> Evidence:
    """Read an evaluation and see that report and items are whole and belong together.

    Args:
        folder: With `report.json` and `items.jsonl`.

    Raises:
        InputInvalid: Something was cut off or edited, an item is there twice, or the items do not give what the report says.
    """
    report = read_report(folder)
    items = list(items_of(folder, report))
    _see_items(folder / ITEMS, report, items)
    return Evidence(report, items)


def items_of(
    folder: Path, report: Mapping[str, Any], suites: Collection[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of `items.jsonl` one after the other, so that a hundred thousand take no memory.

    Args:
        folder: Of an evaluation.
        report: Content of its `report.json`.
        suites: Only rows of these; default: all.

    Raises:
        InputInvalid: The file was cut off or edited.
    """
    path = folder / ITEMS
    left_out = tuple(
        f'"suite": "{name}"}}\n'.encode() for name in report["suites"] if suites is not None and name not in suites
    )
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != report["items_digest"]:
                raise InputInvalid(f"{path} was cut off or edited: its content does not match the report", hint=_AGAIN)
            file.seek(0)
            for number, line in enumerate(file, 1):
                # Keys are sorted, so the suite stands at the end, and what nobody asked for need not be parsed.
                if not (left_out and line.endswith(left_out)):
                    yield _item(path, number, line)
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}", hint=_AGAIN) from error


def _item(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        item: dict[str, Any] = _DECODER.decode(line.decode())
        _ = [item[key] for key in ("suite", "id", "group", "subject", "subject_values")]
    except (ValueError, KeyError, TypeError) as error:
        raise InputInvalid(f"line {number} of {path} is no item: {error!r}", hint=_AGAIN) from error
    return item


_AGAIN = "measure again, or take it from where it was made"


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _see_form(path: Path, report: Mapping[str, Any]) -> None:
    import jsonschema

    validator = jsonschema.Draft7Validator(json.loads(PACKAGED.read_bytes()))
    error = next(iter(validator.iter_errors(report)), None)
    if error is not None:
        where = ".".join(map(str, error.absolute_path)) or "at its top"
        message = error.message if len(error.message) <= 160 else f"{error.message[:157]}..."
        raise InputInvalid(
            f"{path} is not of the form of a report, {where}: {message}", hint="see `aifw schema --of report`"
        )


def _see_items(path: Path, report: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
    keys = [(item["suite"], item["id"]) for item in items]
    for first, second in pairwise(keys):
        if first == second:
            raise InputInvalid(f"{path} has item {first[1]!r} of suite {first[0]} twice", hint=_AGAIN)
        if first > second:
            raise InputInvalid(f"{path} is out of order at item {second[1]!r} of suite {second[0]}", hint=_AGAIN)
    count = len({item["id"] for item in _counted(items)})
    if count != report["data"]["items"]:
        raise InputInvalid(f"{path} has {count:,} items, the report says {report['data']['items']:,}", hint=_AGAIN)
    for name, suite in report["suites"].items():
        own = [item for item in items if item["suite"] == name]
        for side in ("subject", "baseline"):
            for measure, entry in suite.get(side, {}).items():
                _see_mean(path, name, side, measure, entry, own)


def _see_mean(
    path: Path, suite: str, side: str, measure: str, entry: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
) -> None:
    """See that a mean is that of the items."""
    try:
        form = named(measure).form
    except KeyError as error:
        raise InputInvalid(f"{path}: suite {suite} has no measure {measure}", hint="it is of another aifw") from error
    if form not in {"outcome", "mean"} or entry["value"] is None:
        return
    values = [item[f"{side}_values"][measure] for item in items if measure in item.get(f"{side}_values", {})]
    mean = math.fsum(values) / len(values) if values else math.nan
    if not abs(mean - entry["value"]) <= _SAME * max(1.0, abs(entry["value"])):
        raise InputInvalid(
            f"{path}: the items do not give the {measure} of the {side} that the report says", hint=_AGAIN
        )


def rows_of(evidence: Evidence, suite: str, side: SideName) -> list[Row]:
    """Rows of one suite and side as the suite takes them; none if the evaluation does not have them."""
    return [
        {**item[side], "id": item["id"], "group": item["group"]}
        for item in evidence.items
        if item["suite"] == suite and side in item
    ]
