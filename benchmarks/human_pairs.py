"""Human preferences from `preferences/hh-rlhf-harmless-test.jsonl.gz`, as conversations with two answers."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

DATA = Path(os.environ.get("AIFW_DATA", Path(__file__).resolve().parent.parent.parent / "shared/data"))

Messages = list[dict[str, str]]


def read() -> Iterator[tuple[Messages, str, str]]:
    """Messages, the chosen and the rejected answer of each pair whose two dialogues differ in the last answer only."""
    path = DATA / "preferences/hh-rlhf-harmless-test.jsonl.gz"
    if not path.exists():
        raise SystemExit(f"{path} is not there; AIFW_DATA names the folder that holds it")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            better, worse = turns(row["chosen"]), turns(row["rejected"])
            if better is None or worse is None or better[0] != worse[0] or better[1] == worse[1]:
                continue
            if better[1] and worse[1]:
                yield better[0], better[1], worse[1]


def turns(text: str) -> tuple[Messages, str] | None:
    """Messages before the last answer, and that answer; None where it does not end with an answer to a user."""
    messages: Messages = []
    for part in text.split("\n\n"):
        for mark, role in (("Human:", "user"), ("Assistant:", "assistant")):
            if part.startswith(mark):
                messages.append({"role": role, "content": part.removeprefix(mark).strip()})
                break
        else:
            if messages:
                messages[-1]["content"] += "\n\n" + part
    if len(messages) < 2 or messages[-1]["role"] != "assistant" or messages[-2]["role"] != "user":
        return None
    if not all(message["content"] for message in messages[:-1]):
        return None
    return messages[:-1], messages[-1]["content"].strip()
