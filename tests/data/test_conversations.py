from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from aifw.data import conversations
from aifw.data.kinds import ConversationLines, ConversationsSettings
from aifw.errors import InputInvalid
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Job
from aifw.kind import History, InputFacts, Workspace

HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))
SETTINGS = ConversationsSettings(path="talks.jsonl")


def _row(*contents: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)], **more}


def _job(folder: Path, lines: list[Any]) -> tuple[Job[ConversationsSettings], list[str]]:
    notes: list[str] = []
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "talks.jsonl").write_text(text)
    job = Job(
        SETTINGS,
        out=folder / "out",
        root=folder,
        outputs=("conversations",),
        report=lambda name, data: notes.append(data["text"]) if name == "note" else None,
    )
    return job, notes


def test_usable_rows_are_frozen_and_described(tmp_path: Path) -> None:
    job, notes = _job(tmp_path, [_row("ab", "cde", source="kept out"), "", _row("a", "b", "c", "dd")])
    conversations.freeze(job)
    lines = (tmp_path / "out/conversations/conversations.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row.keys() for row in rows] == [{"id", "messages"}] * 2
    assert rows == sorted(rows, key=lambda row: row["id"])
    assert job.facts["conversations"] == {
        "rows": 2,
        "chars_prompt": 2.0,
        "chars_answer": 3.0,
        "chars_longest": 5,
        "rejected": {},
    }
    assert notes == []


BROKEN = {
    "not JSON": "{",
    "missing messages": {"text": "a"},
    "a message is not an object": {"messages": ["a"]},
    "a role is neither system, user nor assistant": {"messages": [{"role": "tool", "content": "a"}]},
    "a content is not text": {"messages": [{"role": "user", "content": 1}]},
    "empty message": _row(" ", "b"),
    "empty answer": _row("a", "\n"),
    "nobody is answered": {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]},
    "a content is not valid Unicode": '{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "repeated conversation": _row("a", "b", id="another"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_rows_are_named(tmp_path: Path, reason: str) -> None:
    job, notes = _job(tmp_path, [_row("a", "b"), BROKEN[reason]])
    conversations.freeze(job)
    assert notes == [f"1 of 2 rows skipped: 1 {reason}"]
    assert job.facts["conversations"]["rejected"] == {reason: 1}
    rejected = json.loads((tmp_path / "out/conversations/rejected.jsonl").read_text())
    assert rejected == {"line": 2, "reason": reason}


def test_a_file_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="holds no usable conversation: 1 missing messages"):
        conversations.freeze(_job(tmp_path, [{}])[0])
    with pytest.raises(InputInvalid, match="holds no conversation"):
        conversations.freeze(_job(tmp_path, [])[0])
    job, _ = _job(tmp_path, [])
    (tmp_path / "talks.jsonl").unlink()
    with pytest.raises(InputInvalid, match="cannot be read"):
        conversations.freeze(job)


def test_the_file_is_observed(tmp_path: Path) -> None:
    kind, workspace = ConversationLines(), Workspace(tmp_path, lambda path: path.read_text())
    with pytest.raises(InputInvalid, match="there are no conversations at"):
        kind.observe(SETTINGS, workspace)
    _job(tmp_path, [_row("a", "b")])
    seen = kind.observe(SETTINGS, workspace)
    assert seen.summary == "1 conversation"
    assert seen.facts["rows"] == 1
    _job(tmp_path, [_row("a", "b"), _row("c", "d")])
    assert kind.observe(SETTINGS, workspace).fingerprint != seen.fingerprint
    small = kind.forecast(SETTINGS, {"observation": InputFacts("t", seen.facts, True)}, HERE, History())
    large = kind.forecast(
        SETTINGS, {"observation": InputFacts("t", {"rows": 9**6, "bytes": 9**9}, True)}, HERE, History()
    )
    assert small.memory.mid < large.memory.mid
    assert small.seconds.mid < large.seconds.mid
    assert "not known yet" in kind.forecast(SETTINGS, {}, HERE, History()).basis


def test_other_files_are_refused() -> None:
    with pytest.raises(ValidationError):
        ConversationsSettings(path="talks.json")
