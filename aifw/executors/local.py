"""Jobs as child processes of the engine.

A lock file in the job folder is locked before the worker exists and passed to it, so that there is no instant at which a worker
lives unnoticed: whoever can take the lock knows that the worker is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aifw.errors import StateError
from aifw.executors.base import Capabilities, Ended, Executor, Handle

LOCK = "worker.lock"
_LAST_WAIT = 10.0
LOCK_VARIABLE = "AIFW_WORKER_LOCK"


class LocalExecutor(Executor):
    """Runs each job in a process of its own on this machine."""

    name = "local"
    capabilities = Capabilities(shares_files=True, adopts=True)

    def __init__(self) -> None:
        self._processes: dict[int, tuple[Handle, subprocess.Popen[bytes], int]] = {}

    def launch(self, folder: Path, environment: Mapping[str, str]) -> Handle:
        """Start a worker in a session of its own, so that a Ctrl-C reaches the engine alone."""
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "aifw.run.worker", os.fspath(folder)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment, LOCK_VARIABLE: str(lock)},
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        finally:
            os.close(lock)
        handle = Handle(folder, process.pid, start_time(process.pid) or 0)
        self._processes[process.pid] = (handle, process, os.pidfd_open(process.pid))
        return handle

    def wait(self, seconds: float) -> list[Ended]:
        """Wait on the processes' descriptors."""
        poll = select.poll()
        pids = {}
        for pid, (_, _, descriptor) in self._processes.items():
            poll.register(descriptor, select.POLLIN)
            pids[descriptor] = pid
        return [self._reap(pids[descriptor]) for descriptor, _ in poll.poll(seconds * 1000)]

    def _reap(self, pid: int) -> Ended:
        handle, process, descriptor = self._processes.pop(pid)
        # What it started may live on. Until it is waited for, its id stands for its group and for nothing else.
        _kill_group(pid)
        _, status, usage = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code
        os.close(descriptor)
        _close_quietly(process)
        return Ended(handle, code, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)

    def control(self, handle: Handle, message: Mapping[str, Any]) -> None:
        """Write a line to the worker's standard input."""
        _, process, _ = self._processes[handle.pid]
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            # It ended meanwhile; `wait` will say so.
            return

    def end(self, handle: Handle) -> None:
        """Kill the worker's process group."""
        _kill_group(handle.pid)

    def alive(self, folder: Path) -> bool:
        """Try to take the worker's lock."""
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    def adopt(self, folder: Path, pid: int | None, started: int | None, seconds: float) -> None:
        """Wait for the lock to be free, then kill what is left of the process group."""
        deadline = time.monotonic() + seconds
        while self.alive(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not self.alive(folder):
            return
        if pid is None:
            pid, started = _written_pid(folder)
        if pid is not None and start_time(pid) == started:
            _kill_group(pid)
        deadline = time.monotonic() + _LAST_WAIT
        while self.alive(folder):
            if time.monotonic() > deadline:
                raise StateError(
                    f"a process that is not known any more still works in {folder}",
                    hint=f"`fuser {folder / LOCK}` names it; end it and try again",
                )
            time.sleep(0.02)

    def close(self) -> None:
        """Close every worker's standard input, which asks it to stop, and wait for none."""
        for _, process, descriptor in self._processes.values():
            _close_quietly(process)
            os.close(descriptor)
            process.returncode = 0
        self._processes.clear()


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), or None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def _written_pid(folder: Path) -> tuple[int | None, int | None]:
    """What the worker itself wrote, for an engine that died before it could journal the pid."""
    try:
        found = json.loads((folder / "worker.json").read_bytes())
        return int(found["pid"]), int(found["started"])
    except (OSError, ValueError, KeyError):
        return None, None


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _close_quietly(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.close()
    except BrokenPipeError:
        return
