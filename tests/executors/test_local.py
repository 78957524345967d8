from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aifw.executors.base import Executor
from aifw.executors.conformance import Conformance
from aifw.executors.local import LocalExecutor, start_time


class TestLocalExecutor(Conformance):
    def make(self) -> Executor:
        return LocalExecutor()


ENGINE = """
import sys, time
from pathlib import Path
from aifw.executors.conformance import Conformance
from aifw.executors.local import LocalExecutor

class Engine(Conformance):
    patience = 1.0

executor = LocalExecutor()
handle = Engine()._launch(executor, Path(sys.argv[1]), sys.argv[2])
print(handle.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("do", ["wait", "ignore"])
def test_no_worker_outlives_an_engine_that_was_killed(tmp_path: Path, do: str) -> None:
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, str(tmp_path), do], stdout=subprocess.PIPE, text=True)
    assert engine.stdout is not None
    pid = int(engine.stdout.readline())
    assert start_time(pid) is not None
    engine.kill()
    engine.communicate()
    executor = LocalExecutor()
    deadline = time.monotonic() + 60
    while executor.alive(tmp_path / "job"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (tmp_path / "job" / "result.json").exists() == (do == "wait")


def test_nothing_that_a_job_started_outlives_an_engine_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENGINE, str(tmp_path), "start_child"]
    engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert engine.stdout is not None
    engine.stdout.readline()
    suite = TestLocalExecutor()
    suite._until((tmp_path / "heartbeat").exists)
    engine.kill()
    engine.communicate()
    suite._until(lambda: not LocalExecutor().alive(tmp_path / "job"))
    suite._assert_silent(tmp_path / "heartbeat")


def test_an_interrupt_at_the_terminal_reaches_the_engine_alone(tmp_path: Path) -> None:
    suite = TestLocalExecutor()
    with suite._executor() as executor:
        handle = suite._launch(executor, tmp_path, "wait")
        assert os.getpgid(handle.pid) == handle.pid != os.getpgid(0)
        assert os.getsid(handle.pid) == handle.pid
        suite._until(lambda: suite._said(handle, "working"))
        os.kill(handle.pid, signal.SIGINT)
        executor.control(handle, {"ask": "checkpoint"})
        suite._until(lambda: suite._checkpoints(handle) != [])
        assert executor.alive(handle.folder)


def test_a_start_time_names_a_process_for_good() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_time(child.pid)
    assert started is not None
    assert start_time(child.pid) == started
    child.communicate()
    assert start_time(child.pid) is None
    assert start_time(2**22 + 5) is None


def test_a_process_with_another_start_time_is_not_ended(tmp_path: Path) -> None:
    """The id of a worker that is gone may belong to somebody else."""
    suite = TestLocalExecutor()
    with suite._executor() as executor:
        handle = suite._launch(executor, tmp_path, "wait")
        suite._until(lambda: suite._said(handle, "working"))
        executor.control(handle, {"ask": "stop"})
        other = LocalExecutor()
        other.adopt(handle.folder, handle.pid, handle.started + 1, 30)
        (ended,) = suite._ended(executor)
        assert ended.status == 4
