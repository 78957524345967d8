"""Jobs as threads of the engine's own process, for tests of what stands above executors: nothing is forked, and a test decides
what a job does and when it ends.

    executor = FakeExecutor(lambda folder, environment, asked: perform(folder, asked))

runs the real worker's code (`aifw.run.worker.perform`) without its process; any other function can play a job that fails, hangs
until it is asked to stop, or leaves whatever a test needs.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any

from aifw.executors.base import Capabilities, Ended, Executor, Handle
from aifw.job import Control

Work = Callable[[Path, Mapping[str, str], Control], int]
"""Does the job in a folder and returns its exit status. It has to look at what it is asked, since a thread cannot be ended."""

_ABOVE_EVERY_PID = 2**22 + 1
_numbers = count(_ABOVE_EVERY_PID)


@dataclass
class _Running:
    handle: Handle
    asked: Control = field(default_factory=Control)
    ended: bool = False


class FakeExecutor(Executor):
    """Runs each job in a thread.

    Args:
        work: What a job does.
    """

    name = "fake"
    capabilities = Capabilities(shares_files=True, adopts=False, isolates=False)

    def __init__(self, work: Work) -> None:
        self._work = work
        self._running: dict[int, _Running] = {}
        self._ended: list[Ended] = []
        self._changed = threading.Condition()

    def launch(self, folder: Path, environment: Mapping[str, str]) -> Handle:
        """Start a thread. The handle's process id is one that no process can have."""
        handle = Handle(folder, next(_numbers), 0)
        running = _Running(handle)
        with self._changed:
            self._running[handle.pid] = running
        threading.Thread(target=self._run, args=(running, dict(environment)), daemon=True).start()
        return handle

    def _run(self, running: _Running, environment: Mapping[str, str]) -> None:
        folder = running.handle.folder
        try:
            status = self._work(folder, environment, running.asked)
        # This is the top of a job, as the worker's is: whatever it raises, an exit too, ends the job and not the test, and is told
        # in its log. A thread that ended otherwise would leave an engine waiting for it.
        except BaseException:  # noqa: BLE001
            with (folder / "log").open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            status = 1
        with self._changed:
            if running.ended:
                # A process that was killed would not have come so far.
                (folder / "result.json").unlink(missing_ok=True)
                status = -SIGKILL
            del self._running[running.handle.pid]
            self._ended.append(Ended(running.handle, status, 0, 0.0))
            self._changed.notify_all()

    def wait(self, seconds: float) -> list[Ended]:
        """Wait until a thread has returned."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended, seconds)
            ended, self._ended = self._ended, []
        return ended

    def control(self, handle: Handle, message: Mapping[str, Any]) -> None:
        """Set what is asked."""
        with self._changed:
            running = self._running.get(handle.pid)
            if running is not None and message.get("ask") in {"stop", "checkpoint", "shrink"}:
                setattr(running.asked, message["ask"], True)

    def end(self, handle: Handle) -> None:
        """Ask the thread to stop, and count it as killed, without a result, once it has."""
        with self._changed:
            running = self._running.get(handle.pid)
            if running is not None:
                running.ended = running.asked.stop = True

    def alive(self, folder: Path) -> bool:
        """Whether a thread of this executor works on the folder."""
        with self._changed:
            return any(running.handle.folder == folder for running in self._running.values())

    def adopt(self, folder: Path, pid: int | None, started: int | None, seconds: float) -> None:
        """Nothing to do: threads die with their engine."""

    def close(self) -> None:
        """Ask every thread to stop."""
        with self._changed:
            for running in self._running.values():
                running.asked.stop = True
