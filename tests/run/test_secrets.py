"""A secret is used, and nothing that is written holds it."""

from __future__ import annotations

import json
from typing import Any

CANARY = "canary-5f1c0e7a9b"


def files_with(stack: Any, text: str) -> list[str]:
    return [
        str(path.relative_to(stack.folder))
        for path in stack.folder.rglob("*")
        if path.is_file() and path.name != "secret.txt" and text.encode() in path.read_bytes()
    ]


def test_no_file_holds_a_secret(stack: Any) -> None:
    (stack.folder / "secret.txt").write_text(f"{CANARY}\n")
    stack.write("""
stages:
  by_file: {kind: toy, text: a, token: {file: FOLDER/secret.txt}}
  by_name: {kind: toy, text: b, token: {env: TOY_TOKEN}}
  fails: {kind: toy, text: c, token: {env: TOY_TOKEN}, fail: crash}
  missing: {kind: toy, text: d, token: {env: TOY_TOKEN_THAT_IS_NOT_SET}}
""")
    result = stack.apply(TOY_TOKEN=CANARY)
    assert result["results"]["stages.by_file"] == result["results"]["stages.by_name"] == "done"
    assert "TOY_TOKEN_THAT_IS_NOT_SET is not set" in result["errors"]["stages.missing"]["message"]
    events = [json.loads(line) for line in (stack.name_folder / "runs/1/events.jsonl").read_text().splitlines()]
    facts = next(
        e["outputs"]["text"] for e in events if e["event"] == "job.finished" and e["address"] == "stages.by_name"
    )
    assert facts["token_length"] == len(CANARY), "the job did see it"
    assert files_with(stack, "TOY_TOKEN"), "the search does find what is written"
    assert files_with(stack, CANARY) == []
    assert CANARY not in json.dumps(result)


def test_a_secret_written_into_the_spec_is_refused(stack: Any) -> None:
    stack.write(f"stages:\n  a: {{kind: toy, token: {CANARY}}}\n")
    result = stack.apply()
    assert result["status"] == 3
    assert not stack.state.exists()
