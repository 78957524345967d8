"""`aifw status`: from the state alone, also while an apply runs."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

SLOW = "stages:\n  a: {kind: toy}\n  long: {kind: toy, text: x, sources: [a], steps: 100, pause: 0.1}\n  c: {kind: toy, sources: [long]}\n"


def test_before_anything_was_applied(shell: Any) -> None:
    assert "nothing was applied yet" in shell.aifw("status").out
    document = json.loads(shell.aifw("status", "--json").out)
    assert document["resources"] == []
    assert document["last_run"] is None
    assert not (shell.folder / ".aifw").exists()


def test_aliases_resources_and_the_last_run(shell: Any) -> None:
    shell.aifw("apply")
    out = shell.aifw("status").out
    assert "@best   c@" in out
    assert "(promotion)" in out
    assert "stages.b" in out
    assert "Last run: 1, done" in out
    document = json.loads(shell.aifw("status", "--json").out)
    assert [each["address"] for each in document["resources"]] == [f"stages.{name}" for name in "abcgp"]
    assert document["aliases"][0]["name"] == "best"
    assert document["last_run"]["summary"]["results"]["stages.g"] == "moved"
    assert document["running"] is None


def test_a_broken_spec_with_a_name_is_enough(shell: Any) -> None:
    shell.aifw("apply")
    shell.write("stages:\n  a: {kind: nothing_like_that, : }\n")
    assert "Last run: 1, done" in shell.aifw("status").out
    (shell.folder / "spec.yaml").write_text("not: [a, spec")
    assert "Last run: 1, done" in shell.aifw("status").out


def test_a_running_apply_is_shown_with_its_jobs_and_is_not_disturbed(shell: Any) -> None:
    shell.write(SLOW)
    process = shell.start("apply")
    try:
        document: dict[str, Any] = {}
        deadline = time.monotonic() + 30
        while not any(job["done"] for job in (document.get("running") or {}).get("jobs", [])):
            assert time.monotonic() < deadline
            time.sleep(0.1)
            document = json.loads(shell.aifw("status", "--json").out)
        assert document["running"]["pid"] == process.pid
        assert document["running"]["waiting"] == ["stages.c"]
        (job,) = document["running"]["jobs"]
        assert job["address"] == "stages.long"
        assert job["total"] == 100
        out = shell.aifw("status").out
        assert f"Running: run 1, pid {process.pid}" in out
        assert "◐ stages.long   step" in out
        assert "· stages.c" in out
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Last run: 1, interrupted" in shell.aifw("status").out


def test_a_run_whose_engine_was_killed_is_not_shown_as_running(shell: Any) -> None:
    shell.write(SLOW)
    process = shell.start("apply")
    while not any((shell.folder / ".aifw/tested/checkpoints").glob("*/step-*")):
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while "ended without a word" not in (out := shell.aifw("status").out):
        # The worker notices that its engine is gone, and only then lets go.
        assert time.monotonic() < deadline, out
        time.sleep(0.1)
