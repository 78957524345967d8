"""The job of kind `conversations`: a file of conversations as it was when it was read, checked row by row.

A line is `{"messages": [{"role": "system" | "user" | "assistant", "content": "..."}, ...]}`, the format of chat data sets everywhere. Other keys
are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from aifw.data.events import ROLES, BrokenRow, encode, listed, parse_line
from aifw.data.kinds import ConversationsSettings
from aifw.data.near_duplicates import stable_hash
from aifw.errors import InputInvalid
from aifw.job import Job

_REPORT_EVERY = 2_000


def freeze(job: Job[ConversationsSettings]) -> None:
    """Write `conversations.jsonl` and `rejected.jsonl` of output `conversations`.

    Raises:
        InputInvalid: The file cannot be read, is empty, or has no usable row.
    """
    path = job.root / Path(job.settings.path).expanduser()
    folder = job.output("conversations")
    kept: dict[str, list[dict[str, str]]] = {}
    rejected: Counter[str] = Counter()
    try:
        with path.open("rb") as file, (folder / "rejected.jsonl").open("w", encoding="utf-8", newline="\n") as broken:
            for number, line in enumerate(file, 1):
                if number % _REPORT_EVERY == 0:
                    job.progress(number, unit="row")
                    job.obey()
                if not line.strip():
                    continue
                try:
                    messages = check(parse_line(line))
                    identifier = f"{stable_hash(encode(messages)):016x}"
                    if identifier in kept:
                        raise BrokenRow("repeated conversation")
                    kept[identifier] = messages
                except BrokenRow as reason:
                    rejected[str(reason)] += 1
                    broken.write(encode({"line": number, "reason": str(reason)}) + "\n")
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}") from error
    if not kept:
        raise InputInvalid(
            f"{path} holds no usable conversation: {listed(rejected)}" if rejected else f"{path} holds no conversation",
            hint='a line is {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
        )
    with (folder / "conversations.jsonl").open("w", encoding="utf-8", newline="\n") as written:
        for identifier in sorted(kept):
            written.write(json.dumps({"id": identifier, "messages": kept[identifier]}, ensure_ascii=False) + "\n")
    for name, value in describe(list(kept.values())).items():
        job.fact(name, value)
    job.fact("rejected", dict(sorted(rejected.items())))
    if rejected:
        total = rejected.total()
        job.note(f"{total:,} of {len(kept) + total:,} rows skipped: {listed(rejected)}")


def check(row: dict[str, Any]) -> list[dict[str, str]]:
    """The messages of a row.

    Raises:
        BrokenRow: It cannot be used.
    """
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BrokenRow("missing messages")
    found: list[dict[str, str]] = []
    for message in messages:
        if not isinstance(message, dict):
            raise BrokenRow("a message is not an object")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise BrokenRow("a role is neither system, user nor assistant")
        if not isinstance(content, str):
            raise BrokenRow("a content is not text")
        if not content.strip():
            raise BrokenRow("empty answer" if role == "assistant" else "empty message")
        try:
            content.encode()
        except UnicodeEncodeError:
            raise BrokenRow("a content is not valid Unicode") from None
        found.append({"role": role, "content": content})
    if not any(message["role"] == "assistant" for message in found[1:]):
        raise BrokenRow("nobody is answered")
    return found


def describe(conversations: list[list[dict[str, str]]]) -> dict[str, Any]:
    """Rows, mean characters of what is and of what is not the assistant's, and characters of the longest."""
    answered = [sum(len(each["content"]) for each in row if each["role"] == "assistant") for row in conversations]
    whole = [sum(len(each["content"]) for each in row) for row in conversations]
    count = max(1, len(conversations))
    return {
        "rows": len(conversations),
        "chars_prompt": round((sum(whole) - sum(answered)) / count, 1),
        "chars_answer": round(sum(answered) / count, 1),
        "chars_longest": max(whole, default=0),
    }
