"""`aifw show`, `aifw history`, `aifw logs`: what is remembered of resources, aliases, runs and jobs."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

from aifw.state.artifacts import MANIFEST


def test_a_resource_with_settings_artifact_inputs_and_jobs(shell: Any) -> None:
    shell.aifw("apply")
    out = shell.aifw("show", "c").out
    assert out.startswith("stages.c · toy\n")
    assert 'sources: ["b", "p.left"]' in out
    assert "sources.0: stages.b" in out
    assert "length: 12" in out
    assert "done" in out
    document = json.loads(shell.aifw("show", "stages.c", "--json").out)
    assert (Path(document["bound"]["path"]) / MANIFEST).is_file()
    assert document["inputs"]["sources.1"]["address"] == "stages.p"
    assert document["jobs"][0]["actual"]["memory"] > 0
    assert document["jobs"][0]["forecast"]["memory"]["high"] > 0


def test_an_alias_with_every_move(shell: Any) -> None:
    shell.aifw("apply")
    for name in ("best", "@best"):
        out = shell.aifw("show", name).out
        assert "promotion by run 1   longer" in out
        assert "initial by run 1" in out
        assert "`aifw rollback best` moves it back." in out
    shell.aifw("rollback", "best")
    out = shell.aifw("show", "best").out
    assert "in quarantine: rolled back from best" in out
    assert "moves it back" not in out
    document = json.loads(shell.aifw("show", "best", "--json").out)
    assert [move["cause"] for move in document["moves"]] == ["rollback", "promotion", "initial"]
    assert document["moves"][1]["verdict"]["decision"] == "better"


def test_a_resource_that_failed_and_a_name_that_is_none(shell: Any) -> None:
    shell.write("stages:\n  bad: {kind: toy, fail: error}\n")
    shell.aifw("apply", status=1)
    out = shell.aifw("show", "bad").out
    assert "stands for nothing" in out
    assert "the toy was told to fail" in out
    assert "did you mean `bad`?" in shell.aifw("show", "badd", status=64).err


def test_looking_before_anything_was_applied(shell: Any) -> None:
    for arguments in (("show", "a"), ("history",), ("logs", "a"), ("rollback", "best"), ("release", "all")):
        assert "has no state yet" in shell.aifw(*arguments, status=64).err


def test_history_lists_runs_newest_first(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy}\n")
    shell.aifw("apply")
    shell.aifw("apply", "--set", "stages.a.text=x", "--set", "stages.a.fail=error", status=1)
    rows = shell.aifw("history").out.splitlines()
    assert [row.split()[0] for row in rows] == ["run", "2", "1"]
    assert "1 failed" in rows[1]
    assert "1 done" in rows[2]
    assert len(shell.aifw("history", "-n", "1").out.splitlines()) == 2
    document = json.loads(shell.aifw("history", "--json").out)
    assert [run["state"] for run in document] == ["failed", "done"]


def test_logs_of_the_last_job_and_of_a_run(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy, fail: crash}\n")
    shell.aifw("apply", status=1)
    assert "ZeroDivisionError" in shell.aifw("logs", "a").out
    assert "about to divide" in shell.aifw("logs", "stages.a", "--run", "1").out
    err = shell.aifw("logs", "a", "--run", "7", status=64).err
    assert "had no job in run 7" in err
    assert "runs with one: 1" in err


def test_events_of_a_job_are_json_lines(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy, steps: 2}\n")
    shell.aifw("apply")
    events = [json.loads(line)["event"] for line in shell.aifw("logs", "a", "--events").out.splitlines()]
    assert events.count("checkpoint") == 2
    assert "progress" in events


def test_following_a_log_ends_with_its_job(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy, steps: 15, pause: 0.1}\n")
    process = shell.start("apply")
    while not any((shell.folder / ".aifw/tested/checkpoints").glob("*/step-*")):
        time.sleep(0.05)
    follower = shell.start("logs", "a", "--events", "--follow")
    out, err = follower.communicate(timeout=60)
    process.communicate(timeout=60)
    assert follower.returncode == 0, err
    assert [json.loads(line)["step"] for line in out.splitlines() if b'"checkpoint"' in line] == list(range(1, 16))


def test_following_can_be_interrupted(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy, steps: 100, pause: 0.1}\n")
    process = shell.start("apply")
    while not any((shell.folder / ".aifw/tested/checkpoints").glob("*/step-*")):
        time.sleep(0.05)
    follower = shell.start("logs", "a", "--events", "--follow")
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=60)
    # Only now: where the job ends first, following ends with it.
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert follower.returncode == 130
    assert b"Traceback" not in err
