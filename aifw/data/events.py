"""One event of user feedback: the documented columns, and what makes a row usable.

| column       | for                        | meaning                                                             |
|--------------|----------------------------|---------------------------------------------------------------------|
| id           | every kind                 | unique name of the event                                            |
| kind         | every kind                 | thumbs, comparison, correction or stars                             |
| conversation | every kind                 | what belongs together: events of one conversation are never split   |
| rater        | every kind                 | who judged                                                          |
| time         | every kind                 | ISO 8601; without an offset it counts as UTC                        |
| prompt       | every kind                 | the message that was answered                                       |
| turns        | optional                   | earlier messages: a list of `{"role": ..., "content": ...}`         |
| model        | optional                   | what answered                                                       |
| answer       | thumbs, correction, stars  | the answer that was judged                                          |
| thumb        | thumbs                     | up or down                                                          |
| answer_a     | comparison                 | the answer shown first                                              |
| answer_b     | comparison                 | the answer shown second                                             |
| preferred    | comparison                 | a, b or tie                                                         |
| corrected    | correction                 | what the rater wrote instead of `answer`                            |
| stars        | stars                      | 1 to 5                                                              |

The same columns are the table `feedback` of a SQLite database, where `turns` is JSON text, and the keys of a JSON line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid

COLUMNS = (
    "id", "kind", "conversation", "rater", "time", "prompt", "turns", "model",
    "answer", "thumb", "answer_a", "answer_b", "preferred", "corrected", "stars",
)  # fmt: skip
REQUIRED = ("id", "kind", "conversation", "rater", "time", "prompt")
KINDS: dict[str, tuple[str, ...]] = {
    "thumbs": ("answer", "thumb"),
    "comparison": ("answer_a", "answer_b", "preferred"),
    "correction": ("answer", "corrected"),
    "stars": ("answer", "stars"),
}
ROLES = ("system", "user", "assistant")

Event = dict[str, Any]
"""An accepted row: only the columns that are set, in the order of `COLUMNS`; `turns` is a list, `stars` a number."""


class BrokenRow(ValueError):
    """A row cannot be used; the message is the reason, the same for all rows broken in this way."""


def parse_line(line: bytes) -> dict[str, Any]:
    """Read one JSON line.

    Raises:
        BrokenRow: Not UTF-8, not JSON, or not an object.
    """
    try:
        row = json.loads(line.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise BrokenRow("not UTF-8") from None
    except (ValueError, RecursionError):
        raise BrokenRow("not JSON") from None
    if not isinstance(row, dict):
        raise BrokenRow("not a JSON object")
    return row


def check(row: Mapping[str, Any]) -> Event:
    """Check a row and bring it into canonical form; fields that are not documented are left out.

    Raises:
        BrokenRow: The reason it cannot be used.
    """
    event = {column: row[column] for column in COLUMNS if row.get(column) is not None}
    for column in REQUIRED:
        event[column] = _text(event, column, identifier=column in {"id", "conversation", "rater"})
    wanted = KINDS.get(event["kind"])
    if wanted is None:
        raise BrokenRow("unknown kind")
    for column in wanted:
        if column != "stars":
            event[column] = _text(event, column)
    for others in KINDS.values():
        for column in others:
            if column not in wanted:
                event.pop(column, None)
    event["time"] = _time(event["time"])
    if "model" in event:
        event["model"] = _text(event, "model")
    if "turns" in event:
        event["turns"] = _turns(event["turns"])
        if not event["turns"]:
            del event["turns"]
    _check_judgement(event)
    return event


def _check_judgement(event: Event) -> None:
    kind = event["kind"]
    if kind == "thumbs" and event["thumb"] not in {"up", "down"}:
        raise BrokenRow("thumb is neither up nor down")
    if kind == "comparison":
        if event["preferred"] not in {"a", "b", "tie"}:
            raise BrokenRow("preferred is neither a, b nor tie")
        if event["answer_a"].strip() == event["answer_b"].strip():
            raise BrokenRow("both answers are the same")
    if kind == "correction" and event["answer"].strip() == event["corrected"].strip():
        raise BrokenRow("the correction changes nothing")
    if kind == "stars":
        event["stars"] = _stars(event.get("stars"))


def _text(event: Event, column: str, *, identifier: bool = False) -> str:
    if column not in event:
        raise BrokenRow(f"missing {column}")
    value = event[column]
    if identifier and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BrokenRow(f"{column} is not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BrokenRow(f"{column} is not valid Unicode") from None
    if not value.strip():
        raise BrokenRow(f"empty {column}")
    return value


def _stars(value: object) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        raise BrokenRow("missing stars")
    if isinstance(value, bool) or not isinstance(value, int):
        raise BrokenRow("stars is not a whole number")
    if not 1 <= value <= 5:
        raise BrokenRow("stars out of range 1 to 5")
    return value


def _time(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BrokenRow("time is not ISO 8601") from None
    return (
        moment.replace(tzinfo=None).isoformat(timespec="seconds" if moment.microsecond == 0 else "microseconds") + "Z"
    )


def _turns(value: object) -> list[dict[str, str]]:
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise BrokenRow("turns is not JSON") from None
    if not isinstance(value, list):
        raise BrokenRow("turns is not a list")
    turns = []
    for turn in value:
        if not isinstance(turn, dict) or set(turn) != {"role", "content"} or turn["role"] not in ROLES:
            raise BrokenRow("turns holds something else than role and content")
        turns.append({"role": turn["role"], "content": _text(turn, "content")})
    return turns


def _no_constant(name: str) -> None:
    raise ValueError(name)


def encode(value: object) -> str:
    """One line of JSON without white space, keys in the order given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def as_columns(event: Event) -> dict[str, Any]:
    """The event as a row of the table: every column, `turns` as JSON text."""
    row = {column: event.get(column) for column in COLUMNS}
    if row["turns"] is not None:
        row["turns"] = encode(row["turns"])
    return row


def read_events(folder: Path) -> Iterator[Event]:
    """The events of a `FeedbackEvents` output, by id.

    Raises:
        InputInvalid: A line is no event; it is named. The job of kind `feedback` writes none of these.
    """
    path = folder / "events.jsonl"
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield check(parse_line(line))
            except BrokenRow as broken:
                raise InputInvalid(f"{path}:{number} is no event: {broken}") from broken


def listed(reasons: Mapping[str, int]) -> str:
    """`3 empty answer, 1 not JSON`: most frequent first."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda at: (-at[1], at[0])))
