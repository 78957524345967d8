"""Runs inside a control group whose memory is really limited to what their forecast allows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memory_of import Watched

VERSION_1 = Path("/sys/fs/cgroup/memory")
VERSION_2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Limited:
    """What became of a run under a limit.

    Attributes:
        limit: Bytes.
        finished: It did its work.
        killed: The system ended processes of the group for want of memory.
        pushed: How often the limit was reached, so that cached files had to make room.
        peak: Most bytes of anonymous and shared memory seen.
    """

    limit: int
    finished: bool
    killed: bool
    pushed: int
    peak: int


def why_not() -> str | None:
    """Why no group can be made here, or None."""
    root = VERSION_1 if VERSION_1.is_dir() else VERSION_2
    if not os.access(root, os.W_OK):
        return f"{root} cannot be written; this needs a memory control group of one's own"
    return None


@contextmanager
def _group(limit: int) -> Iterator[Path]:
    first = VERSION_1.is_dir()
    folder = (VERSION_1 if first else VERSION_2) / f"aifw-forecast-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        (folder / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
        yield folder
    finally:
        for _ in range(50):
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def limited(run: Callable[[Path], Watched], limit: int) -> Limited:
    """Do a run in a group of its own.

    Args:
        run: Given the group's folder.
        limit: Bytes that the group may hold: anonymous and shared memory, and cached files, which make room.
    """
    with _group(limit) as folder:
        found = run(folder)
        if VERSION_1.is_dir():
            pushed = int((folder / "memory.failcnt").read_text())
            words = (folder / "memory.oom_control").read_text().split()
            killed = int(words[words.index("oom_kill") + 1]) > 0 if "oom_kill" in words else found.code == -9
        else:
            events = dict(line.split() for line in (folder / "memory.events").read_text().splitlines())
            pushed, killed = int(events["max"]), int(events["oom_kill"]) > 0
    return Limited(limit, bool(found.result.get("done")) and found.code == 0, killed, pushed, found.peak)
