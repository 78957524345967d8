"""`aifw apply`: what is said, asked and returned."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

Golden = Callable[..., None]

SLOW = """
stages:
  long: {kind: toy, text: x, steps: 60, pause: 0.1}
"""
CLOUD = """
storage:
  s: {kind: toy_cloud, path: FOLDER/world.json, witness: FOLDER/witness}
"""


def test_plain_output_of_a_first_apply(shell: Any, golden: Golden) -> None:
    golden("apply_first", shell.aifw("apply").out, measured=True)


def test_second_apply_has_nothing_to_do(shell: Any, golden: Golden) -> None:
    shell.aifw("apply")
    golden("apply_nothing", shell.aifw("apply").out)


def test_a_failure_names_its_cause_its_log_and_what_was_not_started(shell: Any, golden: Golden) -> None:
    shell.write(
        "stages:\n  a: {kind: toy, text: hello}\n  bad: {kind: toy, sources: [a], fail: error, steps: 1}\n"
        "  after: {kind: toy, sources: [bad]}\n"
    )
    golden("apply_failure", shell.aifw("apply", status=1).out, measured=True)


def test_a_crash_shows_the_tail_of_its_log(shell: Any) -> None:
    shell.write("stages:\n  bad: {kind: toy, fail: crash}\n")
    out = shell.aifw("apply", status=1).out
    assert "│ ZeroDivisionError: division by zero" in out
    assert "log: aifw logs stages.bad" in out
    assert "1 failed, 0 done. Nothing else was touched." in out


def test_a_gate_that_says_no_exits_with_5_once(shell: Any) -> None:
    shell.write(
        "stages:\n  a: {kind: toy, text: hello}\n  b: {kind: toy, text: x}\n"
        "  g: {kind: toy_gate, candidate: b, baseline: '@best', alias: best}\naliases: {best: {initial: a}}\n"
    )
    out = shell.aifw("apply", status=5).out
    assert "✗ stages.g   held: not longer" in out
    assert "best stays a@" in out
    assert "not longer" in shell.aifw("apply", status=0).out


def test_json_prints_the_events_of_the_run_and_nothing_else(shell: Any) -> None:
    events = [json.loads(line) for line in shell.aifw("apply", "--json").out.splitlines()]
    kept = [json.loads(line) for line in (shell.folder / ".aifw/tested/runs/1/events.jsonl").read_text().splitlines()]
    assert [event for event in events if event["event"] != "memory"] == kept
    assert kept[-1]["event"] == "run.finished"
    assert shell.aifw("apply", "--json").out == ""


def test_deleting_is_refused_where_nobody_can_be_asked(shell: Any) -> None:
    shell.write(CLOUD)
    shell.aifw("apply")
    shell.write("stages:\n  a: {kind: toy}\n")
    assert "--allow-delete" in shell.aifw("apply", status=4).err
    ended = shell.aifw("apply", "--allow-delete", status=4)
    assert "deletes storage.s" in ended.err
    assert "`--yes` agrees to it" in ended.err
    assert (shell.folder / "world.json").exists()
    out = shell.aifw("apply", "--allow-delete", "--yes").out
    assert "✓ storage.s   deleted" in out
    assert not (shell.folder / "world.json").exists()


def test_a_saved_plan_is_applied_alone_and_refused_once_it_is_stale(shell: Any) -> None:
    (shell.folder / "plans").mkdir()
    shell.aifw("plan", "--set", "stages.a.text=bye", "-o", "plans/next.aifwplan")
    assert "5 done" not in shell.aifw("apply", "plans/next.aifwplan").err
    texts = {path.read_text() for path in (shell.folder / ".aifw/artifacts").glob("*/*/text/text.txt")}
    assert " worldbye" in texts
    shell.aifw("apply")
    err = shell.aifw("apply", "plans/next.aifwplan", status=6).err
    assert "make a new plan and review it" in err


def test_a_saved_plan_takes_no_other_values(shell: Any) -> None:
    shell.aifw("plan", "-o", "next.aifwplan")
    for more in (("--set", "stages.a.text=bye"), ("-f", "spec.yaml"), ("--target", "a"), ("--replace", "a")):
        assert "a saved plan is applied as it is" in shell.aifw("apply", "next.aifwplan", *more, status=64).err


def test_what_is_no_plan_file_is_named_as_such(shell: Any) -> None:
    (shell.folder / "no.aifwplan").write_text("nothing")
    assert "is not a plan file" in shell.aifw("apply", "no.aifwplan", status=64).err


def test_a_target_limits_what_is_done(shell: Any) -> None:
    out = shell.aifw("apply", "--target", "b").out
    assert "✓ stages.b" in out
    assert "stages.p" not in out


def test_interruption_stops_cleanly_and_the_next_apply_goes_on(shell: Any) -> None:
    shell.write(SLOW)
    process = shell.start("apply")
    _wait_for(lambda: any((shell.folder / ".aifw/tested/checkpoints").glob("*/step-*")))
    process.send_signal(signal.SIGINT)
    out, err = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == 130, err
    assert "stopping: stages.long saves its state" in out
    assert "■ stages.long   stopped, saved at step" in out
    assert "`aifw apply` goes on from there." in out
    out = shell.aifw("apply", "--set", "stages.long.pause=0").out
    assert "goes on from step" in out
    assert "✓ stages.long" in out


def test_progress_on_a_terminal(shell: Any) -> None:
    """On a terminal the running job is redrawn with its step and metrics; what stays is the same as in a pipe."""
    shell.write("stages:\n  a: {kind: toy, text: x, steps: 20, pause: 0.1}\n  b: {kind: toy, sources: [a]}\n")
    status, text = _in_terminal(shell, "apply")
    assert status == 0, text
    assert "◐ stages.a" in text or "◓ stages.a" in text
    assert "/20 · loss" in text
    assert "left" in text
    assert "waits for stages.a" in text
    assert "pool" in text
    assert "✓\x1b[0m stages.a" in text
    assert "Done in" in text


def test_no_color_is_obeyed_on_a_terminal(shell: Any) -> None:
    status, text = _in_terminal(shell, "plan", NO_COLOR="1")
    assert status == 0
    assert "\x1b[3" not in text
    assert "stages.a" in text


@pytest.mark.parametrize(("answer", "status", "there"), [("y\n", 0, False), ("n\n", 4, True)])
def test_a_person_is_asked_before_something_is_deleted(shell: Any, answer: str, status: int, there: bool) -> None:
    shell.write(CLOUD)
    shell.aifw("apply")
    shell.write("policy: {allow_delete: true}\nstages:\n  a: {kind: toy}\n")
    found, text = _in_terminal(shell, "apply", answer=answer)
    assert "This plan deletes storage.s. Go on? [y/N]" in text
    assert found == status, text
    assert (shell.folder / "world.json").exists() == there


def _wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _in_terminal(shell: Any, *arguments: str, answer: str | None = None, **environment: str) -> tuple[int, str]:
    """Run the command with a terminal of its own; returns its status and everything it drew."""
    own, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aifw", *arguments],
        cwd=shell.folder,
        env={**shell.environment, "COLUMNS": "100", "LINES": "40", **environment},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    text = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([own], [], [], 0.2)
        if ready:
            try:
                chunk = os.read(own, 65_536)
            except OSError:
                break
            if not chunk:
                break
            text += chunk
        if answer is not None and b"[y/N]" in text:
            os.write(own, answer.encode())
            answer = None
    os.close(own)
    return process.wait(timeout=30), text.decode(errors="replace")


def test_the_reader_of_a_pipe_may_go_away(shell: Any) -> None:
    reader, writer = os.pipe()
    process = shell.start("plan", stdout=writer)
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Traceback" not in err


def test_an_apply_whose_reader_goes_away_finishes_its_work(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy, steps: 3, pause: 0.1}\n  b: {kind: toy, sources: [a]}\n")
    process = shell.start("apply")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert "Nothing to do: 2 unchanged." in shell.aifw("plan").out
