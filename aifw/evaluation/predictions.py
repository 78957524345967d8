"""Rows that somebody else made: frozen by kind `predictions`, and read by `evaluate`.

A line is a row as the suite takes it: `id`, optionally `group`, and the fields the suite's module documents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifw.data.events import BrokenRow, encode, parse_line
from aifw.errors import InputInvalid
from aifw.evaluation.kinds import PredictionsSettings
from aifw.evaluation.suites import Row, Suite, find
from aifw.job import Input, Job
from aifw.models.pairs import choose

ROWS = "predictions.jsonl"
_REPORT_EVERY = 2_000

_QUESTIONS = ("question", "prompt", "query", "input")
_IDENTIFYING: Mapping[str, tuple[str, ...]] = {
    "classification": ("label",),
    "language_model": ("references",),
    "rag": ("references", "supporting", "answerable"),
    "retrieval": ("judgements", "k"),
    "routing": ("label", "quality"),
    "search": ("exact",),
}
"""By suite, fields that say what an item asks for, and not what was answered."""
_JUDGEMENTS = ("retrieve", "relevance", "support", "utility")


def freeze(job: Job[PredictionsSettings]) -> None:
    """Write the output `predictions`.

    Raises:
        InputInvalid: The file cannot be read, is empty, or a row is not one of the suite; its line and field are named.
    """
    settings = job.settings
    path = job.root / Path(settings.path).expanduser()
    suite = find(settings.suite)
    rows: dict[str, dict[str, Any]] = {}
    lines: dict[str, int] = {}
    for number, row in _read(path):
        if number % _REPORT_EVERY == 0:
            job.progress(number, unit="row")
            job.obey()
        _checked(path, number, row, suite)
        name = row["id"]
        if name in rows:
            raise InputInvalid(
                f"{path}:{number}: item {name[:60]!r} is there twice, first in line {lines[name]}",
                hint="every row needs an `id` of its own",
            )
        row.setdefault("item_digest", item_digest(settings.suite, row))
        rows[name], lines[name] = row, number
    if not rows:
        raise InputInvalid(f"{path} holds no row", hint="a line is a JSON object with `id` and the fields of the suite")
    with (job.output("predictions") / ROWS).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(encode(rows[name]) + "\n" for name in sorted(rows))
    job.fact("rows", len(rows))
    job.fact("suite", settings.suite)
    job.fact("provenance", f"{len(rows):,} predictions in {path.name}")


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield number, parse_line(line)
                    except BrokenRow as reason:
                        raise InputInvalid(f"{path}:{number}: {reason}", hint="a line is a JSON object") from None
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}") from error


def _checked(path: Path, number: int, row: Mapping[str, Any], suite: Suite) -> None:
    for field in ("id", "group", "item_digest"):
        value = row.get(field)
        if (field == "id" or field in row) and not (isinstance(value, str) and value):
            raise InputInvalid(
                f"{path}:{number}: `{field}` is {value!r}"
                if field in row
                else f"{path}:{number}: there is no `{field}`",
                hint=f"`{field}` is a text" + (" that no two rows share" if field == "id" else ""),
            )
    try:
        suite.check(row)
    except InputInvalid as error:
        raise InputInvalid(f"{path}:{number}: {error.message}", hint=error.hint) from error


def item_digest(suite: str, row: Row) -> str:
    """What says which item a row is of, apart from what was answered: the question where there is one, and what would be right."""
    fields = {name: row[name] for name in (*_QUESTIONS, *_IDENTIFYING.get(suite, ())) if name in row}
    if suite == "reflection":
        fields |= {name: row[name]["label"] for name in _JUDGEMENTS if row.get(name) is not None}
    text = json.dumps(fields, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# Reading


@dataclass(frozen=True, slots=True)
class Brought:
    """Rows as `evaluate` takes them.

    Attributes:
        suite: What they are rows of.
        rows: Sorted by id.
    """

    suite: str
    rows: Sequence[Row]

    def digest(self) -> str:
        """What the items are, whoever answered them: sha256 of their ids and what each asks for."""
        items = [[row["id"], row.get("item_digest", "")] for row in self.rows]
        return hashlib.sha256(json.dumps(items, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Identified:
    id: str


def is_predictions(source: Input) -> bool:
    """Whether an input holds predictions, and not a model."""
    return (source.path / ROWS).is_file()


def read_predictions(source: Input, most: int | None = None) -> Brought:
    """Read an output of kind `predictions`, or of another job that makes one.

    Args:
        source: The input.
        most: Most rows; which ones is decided by the hash of their id.

    Raises:
        InputInvalid: It does not say which suite it is of, or a row is broken; it is named.
    """
    name = str(source.facts.get("suite", ""))
    try:
        suite = find(name)
    except KeyError:
        raise InputInvalid(
            f"{source.address} does not say which suite its rows are of", hint="its fact `suite` names one"
        ) from None
    path = source.path / ROWS
    rows: dict[str, Row] = {}
    for number, row in _read(path):
        _checked(path, number, row, suite)
        if row["id"] in rows:
            raise InputInvalid(f"{path}:{number}: item {row['id'][:60]!r} is there twice")
        rows[row["id"]] = {"item_digest": item_digest(name, row), **row}
    if not rows:
        raise InputInvalid(f"{source.address} has no row")
    return Brought(name, [rows[each.id] for each in choose([_Identified(name) for name in rows], most)])
