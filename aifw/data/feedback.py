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
from aifw.data.observation import ANSWERS
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
    with (
        open_rows(settings, path) as rows,
        closing(Sorter(job.out.parent)) as sorter,
        (folder / "events.jsonl").open("w", encoding="utf-8", newline="\n") as events_file,
        (folder / "rejected.jsonl").open("w", encoding="utf-8", newline="\n") as rejected_file,
    ):
        census = _Census(sorter)
        for count, (position, identifier, found) in enumerate(_sorted_events(rows, sorter), 1):
            if isinstance(found, str):
                rejected[found] += 1
                rejected_file.write(encode({"id": identifier, "position": position, "reason": found}) + "\n")
            else:
                line = encode(found) + "\n"
                events_file.write(line)
                census.add(found, len(line.encode()))
            if count % _REPORT_EVERY == 0:
                job.progress(count, unit="row")
                job.obey()
        if not census.rows:
            raise InputInvalid(
                f"{path} holds no usable feedback: {listed(rejected)}" if rejected else f"{path} holds no feedback",
                hint="`aifw feedback import --help` lists the columns each kind needs",
            )
        for name, value in census.facts().items():
            job.fact(name, value, "events")
    job.fact("rejected", dict(sorted(rejected.items())), "events")
    if rejected:
        total = rejected.total()
        job.note(f"{total:,} of {census.rows + total:,} rows skipped: {listed(rejected)}")


class _Census:
    """Counts what the facts say, in bounded memory: names are counted in the sorter's temporary file."""

    def __init__(self, sorter: Sorter) -> None:
        self._sorter = sorter
        self._kinds: Counter[str] = Counter()
        self._bytes = self._prompt = self._answer = self._answers = 0
        self._first, self._last = "9", ""

    @property
    def rows(self) -> int:
        return self._kinds.total()

    def add(self, event: Event, size: int) -> None:
        self._kinds[event["kind"]] += 1
        self._bytes += size
        self._prompt += len(event["prompt"]) + sum(len(turn["content"]) for turn in event.get("turns", ()))
        for column in ANSWERS:
            if column in event:
                self._answers += 1
                self._answer += len(event[column])
        self._first, self._last = min(self._first, event["time"]), max(self._last, event["time"])
        self._sorter.count("conversation", event["conversation"])
        self._sorter.count("rater", event["rater"])

    def facts(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "conversations": self._sorter.counted("conversation"),
            "raters": self._sorter.counted("rater"),
            "kinds": dict(sorted(self._kinds.items())),
            "bytes": self._bytes,
            "chars_prompt": round(self._prompt / self.rows, 1),
            "chars_answer": round(self._answer / self._answers, 1),
            "first": self._first,
            "last": self._last,
        }


@contextmanager
def open_rows(settings: FeedbackSettings, path: Path) -> Iterator[Iterator[Row]]:
    """The raw rows of a source; those of a database as they are at one instant."""
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


def accepted(rows: Iterable[Row], scratch: Path, rejected: Counter[str]) -> Iterator[Event]:
    """Usable events by id, each id once; the others are counted by reason.

    Args:
        rows: As `open_rows` gives them.
        scratch: Folder for a temporary file.
        rejected: Counts the others.
    """
    with closing(Sorter(scratch)) as sorter:
        for _, _, found in _sorted_events(rows, sorter):
            if isinstance(found, str):
                rejected[found] += 1
            else:
                yield found


def _printable(identifier: object) -> str | None:
    return identifier.encode(errors="replace").decode()[:200] if isinstance(identifier, str) else None
