"""The job of kind `feedback`: freeze what is usable, name what is not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from aifw.data.database import Sorter, snapshot
from aifw.data.events import BrokenRow, Event, check, encode, listed, parse_line
from aifw.data.kinds import FeedbackSettings
from aifw.errors import InputInvalid
from aifw.job import Job

_REPORT_EVERY = 2_000
_LONGEST_LINE = 8 * 1024**2

Row = tuple[int, dict[str, Any] | str]
"""Position from 1 (line of a file, row of a table by id), and the raw row or the reason it could not be read."""


def freeze(job: Job[FeedbackSettings]) -> None:
    """Write `events.jsonl` and `rejected.jsonl` of output `events`.

    Raises:
        InputInvalid: The source cannot be read, is empty, or has no usable row.
    """
    settings = job.settings
    path = settings.path(job.root)
    if not path.is_file():
        raise InputInvalid(f"there is no feedback at {path}", hint="`aifw feedback import` makes a database")
    folder = job.output("events")
    rejected: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    times: list[str] = []
    size = 0
    with (
        _rows(settings, path) as rows,
        closing(Sorter(job.out.parent)) as sorter,
        (folder / "events.jsonl").open("w", encoding="utf-8", newline="\n") as events_file,
        (folder / "rejected.jsonl").open("w", encoding="utf-8", newline="\n") as rejected_file,
    ):
        for count, (position, identifier, found) in enumerate(_sorted_events(rows, sorter), 1):
            if isinstance(found, str):
                rejected[found] += 1
                rejected_file.write(encode({"id": identifier, "position": position, "reason": found}) + "\n")
            else:
                line = encode(found)
                size += len(line.encode()) + 1
                events_file.write(line + "\n")
                kinds[found["kind"]] += 1
                sorter.count("conversation", found["conversation"])
                sorter.count("rater", found["rater"])
                times = [min([*times[:1], found["time"]]), max([*times[1:], found["time"]])]
            if count % _REPORT_EVERY == 0:
                job.progress(count, unit="row")
                job.obey()
        conversations, raters = sorter.counted("conversation"), sorter.counted("rater")
    usable = sum(kinds.values())
    if not usable:
        raise InputInvalid(
            f"{path} holds no usable feedback: {listed(rejected)}" if rejected else f"{path} holds no feedback",
            hint="`aifw feedback stats` counts what is there; its help lists the columns of each kind",
        )
    if rejected:
        job.note(f"{sum(rejected.values()):,} of {usable + sum(rejected.values()):,} rows skipped: {listed(rejected)}")
    for name, value in (
        ("rows", usable),
        ("conversations", conversations),
        ("raters", raters),
        ("kinds", dict(sorted(kinds.items()))),
        ("bytes", size),
        ("first", times[0]),
        ("last", times[1]),
        ("rejected", dict(sorted(rejected.items()))),
    ):
        job.fact(name, value, "events")


@contextmanager
def _rows(settings: FeedbackSettings, path: Path) -> Iterator[Iterator[Row]]:
    if settings.is_database:
        with snapshot(path, settings.table) as rows:
            yield rows
    else:
        yield read_lines(path)


def read_lines(path: Path) -> Iterator[Row]:
    """Read a file of JSON lines in bounded memory; blank lines are skipped.

    Raises:
        InputInvalid: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    while (more := file.readline(_LONGEST_LINE)) and not more.endswith(b"\n"):
                        pass
                    yield number, "line longer than 8 MiB"
                elif line.strip():
                    try:
                        yield number, parse_line(line)
                    except BrokenRow as broken:
                        yield number, str(broken)
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}") from error


def _sorted_events(rows: Iterable[Row], sorter: Sorter) -> Iterator[tuple[int, str | None, Event | str]]:
    """Broken rows as they come, then the accepted ones by id; of several with one id, the first counts."""
    for position, raw in rows:
        if isinstance(raw, str):
            yield position, None, raw
            continue
        try:
            event = check(raw)
        except BrokenRow as broken:
            yield position, _printable(raw.get("id")), str(broken)
            continue
        sorter.add(event["id"], position, encode(event))
    former: tuple[str, str] | None = None
    for identifier, position, text in sorter.rows():
        if former is not None and former[0] == identifier:
            yield position, identifier, "repeated row" if former[1] == text else "id used again with other content"
            continue
        former = (identifier, text)
        yield position, identifier, json.loads(text)


def _printable(identifier: object) -> str | None:
    return identifier.encode(errors="replace").decode()[:200] if isinstance(identifier, str) else None
