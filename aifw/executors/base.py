"""The contract of an executor: where a job runs.

The protocol is the same everywhere. The engine writes a job folder (`job.json`), the executor starts a worker on it and holds the
writing end of its standard input; the worker appends to `events.jsonl`, fills `out/`, and ends with `result.json`. Closing standard
input, or losing the engine, makes the worker save a checkpoint and exit. With several ranks only rank 0 writes `out/`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an executor can do.

    Attributes:
        shares_files: The worker sees the same files as the engine, so that nothing has to be pushed or collected.
        adopts: A worker can be found again after the engine died.
        limits_memory: The executor itself ends a job that exceeds its memory.
        isolates: A job has processes of its own: it can be ended at once with all it started, and its crash is its own.
    """

    shares_files: bool
    adopts: bool
    limits_memory: bool = False
    isolates: bool = True


@dataclass(slots=True)
class Handle:
    """A worker that was started.

    Attributes:
        folder: Of the job.
        pid: Process id where it runs, if it has one.
        started: Start time in the operating system's own unit; together with the pid it names the process for good.
    """

    folder: Path
    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended.

    Attributes:
        handle: The worker.
        status: Exit status, or the negative number of the signal that ended it.
        peak_memory: Bytes.
        cpu_seconds: User and system time of the worker and the processes it waited for.
    """

    handle: Handle
    status: int
    peak_memory: int
    cpu_seconds: float


class Executor(ABC):
    """Where jobs run. An entry point in the group `aifw.executors` names a subclass."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    def push(self, artifacts: Collection[Path]) -> None:  # noqa: B027 - most executors share files
        """Bring artifacts to where jobs run. Nothing to do where files are shared."""

    @abstractmethod
    def launch(self, folder: Path, environment: Mapping[str, str]) -> Handle:
        """Start a worker on a job folder."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ended]:
        """Wait until a worker ends, at most so long; returns all that have ended."""

    @abstractmethod
    def control(self, handle: Handle, message: Mapping[str, Any]) -> None:
        """Send a message to a worker: `{"ask": "stop"}`, `checkpoint` or `shrink`."""

    @abstractmethod
    def end(self, handle: Handle) -> None:
        """End a worker and everything it started, at once."""

    @abstractmethod
    def alive(self, folder: Path) -> bool:
        """Whether a worker still runs on a job folder, also one that another engine started."""

    @abstractmethod
    def adopt(self, folder: Path, pid: int | None, started: int | None, seconds: float) -> None:
        """Wait for a worker whose engine died; end it if it is not gone in time."""

    def collect(self, handle: Handle) -> None:  # noqa: B027 - most executors share files
        """Bring results back. Nothing to do where files are shared."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; workers that still run are asked to stop by this."""
