"""What every executor has to do, as tests that its author runs with pytest:

    from aifw.executors.conformance import Conformance

    class TestMine(Conformance):
        def make(self):
            return MyExecutor()

Each test launches real workers (`python -m aifw.run.worker`) on jobs of a kind that is made for this and announced to them through
`PYTHONPATH`, as the package of a third party would announce one. What the executor's `capabilities` do not claim is skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal
from unittest import SkipTest

from aifw.errors import InputInvalid
from aifw.executors.base import Ended, Executor, Handle
from aifw.job import Job
from aifw.kind import ArtifactKind, Output
from aifw.settings import Settings

DONE, FAILED, STOPPED = 0, 3, 4
"""Exit statuses of a worker."""
VARIABLE = "AIFW_CONFORMANCE"
_DISTRIBUTION = "aifw_conformance-1.0.dist-info"
_ENTRY = "[aifw.kinds]\naifw_conformance = aifw.executors.conformance:Conforming\n"
_METADATA = "Metadata-Version: 2.1\nName: aifw-conformance\nVersion: 1.0\n"
_HEARTBEAT_SECONDS = 0.05
_HEARTBEAT = """
import sys, time
while True:
    with open(sys.argv[1], "a") as file:
        file.write(".")
    time.sleep(float(sys.argv[2]))
"""


class Said(Output):
    """A folder with `text.txt`."""

    name = "text"


class ConformingSettings(Settings):
    """Settings of the kind the tests launch."""

    do: Literal["write", "fail", "die", "wait", "ignore", "start_child", "leave_child"]
    """Write a text; fail with a reason; die of a signal; work until asked to stop; never look at what is asked; start a process
    and wait; start a process and die."""


class Conforming(ArtifactKind[ConformingSettings]):
    """Does what a test of an executor needs."""

    name = "aifw_conformance"
    section = "stages"
    settings = ConformingSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"said": Said}
    run = "aifw.executors.conformance:work"


def work(job: Job[ConformingSettings]) -> None:
    """What a job of the kind does."""
    do = job.settings.do
    if do == "fail":
        raise InputInvalid("told to fail")
    if do in {"start_child", "leave_child"}:
        _start_child(job.root / "heartbeat")
    if do in {"die", "leave_child"}:
        os.kill(os.getpid(), signal.SIGKILL)
    job.note("working")
    if do == "ignore":
        while True:
            time.sleep(_HEARTBEAT_SECONDS)
    if do != "write":
        _until_asked(job)
    (job.output("said") / "text.txt").write_text(os.environ.get(VARIABLE, ""), encoding="utf-8")


def _start_child(heartbeat: Path) -> None:
    command = [sys.executable, "-c", _HEARTBEAT, os.fspath(heartbeat), str(_HEARTBEAT_SECONDS)]
    subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while not heartbeat.exists():
        time.sleep(_HEARTBEAT_SECONDS)


def _until_asked(job: Job[ConformingSettings]) -> None:
    step = 0
    while True:
        asked = job.control()
        if asked.shrink:
            asked.shrink = False
            job.note("shrunk")
        if asked.checkpoint or asked.stop:
            step += 1
            with job.checkpoint(step) as folder:
                (folder / "step").write_text(str(step), encoding="utf-8")
        job.obey()
        time.sleep(_HEARTBEAT_SECONDS)


class Conformance:
    """The tests. Subclass it under a name that pytest collects, and say how to make the executor.

    Attributes:
        patience: Seconds until something that has to happen counts as not happening.
    """

    patience: ClassVar[float] = 60.0

    def make(self) -> Executor:
        """A new executor, as an engine of its own would have."""
        raise NotImplementedError

    # Running

    def test_a_job_leaves_its_result_and_ends_with_status_0(self, tmp_path: Path) -> None:
        """Result, output, exit status, and who it was."""
        with self._executor() as executor:
            handle = self._launch(executor, tmp_path, "write")
            (ended,) = self._ended(executor)
            assert (ended.handle.folder, ended.handle.pid) == (handle.folder, handle.pid)
            assert ended.status == DONE
            executor.collect(ended.handle)
            assert self._result(handle)["status"] == "done"
            assert (handle.folder / "out" / "said" / "text.txt").is_file()
            assert not executor.alive(handle.folder)
            if executor.capabilities.isolates:
                assert ended.peak_memory > 1024**2
                assert ended.cpu_seconds > 0

    def test_the_environment_reaches_the_job(self, tmp_path: Path) -> None:
        """Thread counts and offline switches are handed over this way."""
        with self._executor() as executor:
            self._needs(executor.capabilities.isolates, "jobs share the environment of their engine")
            handle = self._launch(executor, tmp_path, "write", **{VARIABLE: "a value = with blanks"})
            (ended,) = self._ended(executor)
            executor.collect(ended.handle)
            assert (handle.folder / "out" / "said" / "text.txt").read_text(encoding="utf-8") == "a value = with blanks"

    def test_a_job_that_fails_says_why(self, tmp_path: Path) -> None:
        """A failure has a result, too."""
        with self._executor() as executor:
            handle = self._launch(executor, tmp_path, "fail")
            (ended,) = self._ended(executor)
            assert ended.status == FAILED
            executor.collect(ended.handle)
            assert self._result(handle)["error"]["message"] == "told to fail"

    def test_a_job_that_dies_of_a_signal_is_told_by_its_negative_number(self, tmp_path: Path) -> None:
        """And leaves no result."""
        with self._executor() as executor:
            self._needs(executor.capabilities.isolates, "a job that dies takes its engine along")
            handle = self._launch(executor, tmp_path, "die")
            (ended,) = self._ended(executor)
            assert ended.status == -signal.SIGKILL
            executor.collect(ended.handle)
            assert not (handle.folder / "result.json").exists()
            assert not executor.alive(handle.folder)

    def test_waiting_returns_when_its_time_is_over(self, tmp_path: Path) -> None:
        """With nothing to report, whether a job runs or none."""
        with self._executor() as executor:
            assert executor.wait(0.01) == []
            self._launch(executor, tmp_path, "wait")
            assert executor.wait(0.01) == []

    def test_two_jobs_run_at_once_and_end_apart(self, tmp_path: Path) -> None:
        """What is asked of one is not asked of the other."""
        with self._executor() as executor:
            one = self._launch(executor, tmp_path / "one", "wait")
            two = self._launch(executor, tmp_path / "two", "wait")
            assert one.pid != two.pid
            self._until(lambda: self._said(one, "working") and self._said(two, "working"))
            executor.control(two, {"ask": "stop"})
            assert [ended.handle.pid for ended in self._ended(executor)] == [two.pid]
            assert executor.alive(one.folder)
            assert not executor.alive(two.folder)
            executor.control(one, {"ask": "stop"})
            assert [ended.handle.pid for ended in self._ended(executor)] == [one.pid]

    # Asking

    def test_a_job_that_is_asked_to_stop_saves_its_state_first(self, tmp_path: Path) -> None:
        """Also if it is asked before it has begun to listen."""
        with self._executor() as executor:
            handle = self._launch(executor, tmp_path, "wait")
            executor.control(handle, {"ask": "stop"})
            (ended,) = self._ended(executor)
            assert ended.status == STOPPED
            executor.collect(ended.handle)
            assert self._result(handle)["status"] == "stopped"
            assert self._checkpoints(handle) == ["step-000000001"]

    def test_a_job_hears_everything_it_is_asked_and_goes_on(self, tmp_path: Path) -> None:
        """A checkpoint and a smaller batch, one after the other."""
        with self._executor() as executor:
            handle = self._launch(executor, tmp_path, "wait")
            executor.control(handle, {"ask": "checkpoint"})
            self._until(lambda: self._checkpoints(handle) == ["step-000000001"])
            executor.control(handle, {"ask": "shrink"})
            self._until(lambda: self._said(handle, "shrunk"))
            assert executor.alive(handle.folder)
            executor.control(handle, {"ask": "stop"})
            (ended,) = self._ended(executor)
            assert ended.status == STOPPED
            assert self._checkpoints(handle) == ["step-000000002"]

    def test_asking_or_ending_a_job_that_is_over_is_no_error(self, tmp_path: Path) -> None:
        """The engine learns of an end only by waiting."""
        with self._executor() as executor:
            handle = self._launch(executor, tmp_path, "write")
            self._until(lambda: (handle.folder / "result.json").exists() and not executor.alive(handle.folder))
            executor.control(handle, {"ask": "stop"})
            executor.end(handle)
            (ended,) = self._ended(executor)
            assert ended.status == DONE

    def test_a_job_stops_when_its_engine_lets_go(self, tmp_path: Path) -> None:
        """The end of the pipe is a request to stop, so that no job outlives its engine."""
        with self._executor() as executor:
            handle = self._launch(executor, tmp_path, "wait")
            self._until(lambda: self._said(handle, "working"))
            executor.close()
            self._until((handle.folder / "result.json").exists)
            assert self._result(handle)["status"] == "stopped"
            assert self._checkpoints(handle) == ["step-000000001"]

    # Ending

    def test_a_job_that_listens_to_nothing_can_be_ended(self, tmp_path: Path) -> None:
        """At once, and without a result."""
        with self._executor() as executor:
            self._needs(executor.capabilities.isolates, "a thread cannot be ended")
            handle = self._launch(executor, tmp_path, "ignore")
            self._until(lambda: self._said(handle, "working"))
            executor.control(handle, {"ask": "stop"})
            executor.end(handle)
            (ended,) = self._ended(executor)
            assert ended.status == -signal.SIGKILL
            assert not (handle.folder / "result.json").exists()
            assert not executor.alive(handle.folder)

    def test_ending_a_job_ends_what_it_started(self, tmp_path: Path) -> None:
        """Data loaders and compilers are processes, too."""
        with self._executor() as executor:
            self._needs(executor.capabilities.isolates, "a thread cannot be ended")
            handle = self._launch(executor, tmp_path, "start_child")
            self._until(lambda: self._said(handle, "working"))
            executor.end(handle)
            (ended,) = self._ended(executor)
            assert ended.status == -signal.SIGKILL
            self._assert_silent(tmp_path / "heartbeat")

    def test_a_job_that_dies_takes_along_what_it_started(self, tmp_path: Path) -> None:
        """Otherwise memory stays in use that the engine believes to be free."""
        with self._executor() as executor:
            self._needs(executor.capabilities.isolates, "a job that dies takes its engine along")
            self._launch(executor, tmp_path, "leave_child")
            (ended,) = self._ended(executor)
            assert ended.status == -signal.SIGKILL
            self._assert_silent(tmp_path / "heartbeat")

    # Finding again

    def test_only_a_job_that_runs_is_alive(self, tmp_path: Path) -> None:
        """Not a folder without a job, and not one whose job is over."""
        with self._executor() as executor:
            assert not executor.alive(tmp_path)
            assert not executor.alive(tmp_path / "nowhere")
            handle = self._launch(executor, tmp_path, "wait")
            assert executor.alive(handle.folder)
            executor.control(handle, {"ask": "stop"})
            self._ended(executor)
            assert not executor.alive(handle.folder)

    def test_another_engine_sees_that_a_job_is_alive(self, tmp_path: Path) -> None:
        """From the instant it was launched."""
        with self._executor() as executor, self._executor() as another:
            self._needs(executor.capabilities.adopts, "jobs cannot be found again")
            handle = self._launch(executor, tmp_path, "wait")
            assert another.alive(handle.folder)
            executor.control(handle, {"ask": "stop"})
            self._ended(executor)
            assert not another.alive(handle.folder)

    def test_a_job_whose_engine_is_gone_may_finish(self, tmp_path: Path) -> None:
        """Adopting waits for it, so that what it saves is whole."""
        with self._executor() as executor, self._executor() as another:
            self._needs(executor.capabilities.adopts, "jobs cannot be found again")
            handle = self._launch(executor, tmp_path, "wait")
            self._until(lambda: self._said(handle, "working"))
            executor.close()
            another.adopt(handle.folder, handle.pid, handle.started, self.patience)
            assert not another.alive(handle.folder)
            assert self._result(handle)["status"] == "stopped"

    def test_a_job_that_goes_on_without_its_engine_is_ended(self, tmp_path: Path) -> None:
        """With what was journalled of its process, or without."""
        for known in (True, False):
            with self._executor() as executor, self._executor() as another:
                self._needs(executor.capabilities.adopts, "jobs cannot be found again")
                handle = self._launch(executor, tmp_path / f"known-{known}", "ignore")
                self._until(lambda handle=handle: self._said(handle, "working"))  # type: ignore[misc]
                pid, started = (handle.pid, handle.started) if known else (None, None)
                another.adopt(handle.folder, pid, started, 0.1)
                assert not another.alive(handle.folder)
                (ended,) = self._ended(executor)
                assert ended.status == -signal.SIGKILL

    def test_adopting_what_is_over_does_nothing(self, tmp_path: Path) -> None:
        """Its process id may belong to somebody else by now."""
        with self._executor() as executor:
            self._needs(executor.capabilities.adopts, "jobs cannot be found again")
            bystander = self._launch(executor, tmp_path / "bystander", "wait")
            handle = self._launch(executor, tmp_path / "over", "write")
            self._ended(executor)
            executor.adopt(handle.folder, bystander.pid, handle.started, 0.1)
            executor.adopt(tmp_path / "nowhere", bystander.pid, None, 0.1)
            assert executor.alive(bystander.folder)

    # What the tests are made of

    @contextmanager
    def _executor(self) -> Iterator[Executor]:
        executor = self.make()
        try:
            yield executor
        finally:
            executor.close()

    def _needs(self, claimed: bool, why: str) -> None:
        if not claimed:
            raise SkipTest(why)

    def _launch(self, executor: Executor, root: Path, do: str, **environment: str) -> Handle:
        """Write a job folder as the engine does, and launch it."""
        announced = root / "site" / _DISTRIBUTION
        announced.mkdir(parents=True)
        (announced / "METADATA").write_text(_METADATA, encoding="utf-8")
        (announced / "entry_points.txt").write_text(_ENTRY, encoding="utf-8")
        folder = root / "job"
        folder.mkdir()
        order = {
            "id": "1-1-stages.conforming",
            "address": "stages.conforming",
            "kind": Conforming.name,
            "verb": "run",
            "settings": {"do": do},
            "root": os.fspath(root.absolute()),
            "key": "0" * 64,
            "cache": os.fspath(root.absolute() / "cache"),
            "checkpoints": os.fspath(root.absolute() / "checkpoints"),
        }
        (folder / "job.json").write_text(json.dumps(order), encoding="utf-8")
        search = os.pathsep.join(filter(None, [os.fspath(announced.parent), os.environ.get("PYTHONPATH")]))
        return executor.launch(folder, {"PYTHONPATH": search, "AIFW_GRACE_SECONDS": str(self.patience), **environment})

    def _ended(self, executor: Executor) -> list[Ended]:
        """Wait until at least one job has ended."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if ended := executor.wait(1.0):
                return ended
        raise AssertionError(f"no job ended within {self.patience:.0f} s")

    def _until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.patience
        while not happened():
            assert time.monotonic() < deadline, f"it did not happen within {self.patience:.0f} s"
            time.sleep(0.02)

    def _assert_silent(self, heartbeat: Path) -> None:
        """A process that was ended writes no more: of two looks, one that lies many heartbeats later sees nothing new."""
        self._until(heartbeat.exists)
        before = heartbeat.stat().st_size
        time.sleep(20 * _HEARTBEAT_SECONDS)
        assert heartbeat.stat().st_size == before, "a process that the job started is still there"

    def _said(self, handle: Handle, text: str) -> bool:
        try:
            lines = (handle.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return any(f'"{text}"' in line for line in lines)

    def _result(self, handle: Handle) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((handle.folder / "result.json").read_bytes())
        return found

    def _checkpoints(self, handle: Handle) -> list[str]:
        return sorted(path.name for path in (handle.folder.parent / "checkpoints").glob("step-*"))
