"""What a process tree holds at its most, found out by looking often enough.

What counts is anonymous and shared memory, as in `aifw.hardware.pool`, and what a GPU or NPU without memory of its own holds of the
machine's. The kernel keeps a peak (`VmHWM`), but that one counts mapped files too, so it says nothing about memory that would be
missing elsewhere. A look at one process reads two counters of the kernel (`RssAnon` and `RssShmem` of /proc/PID/status, see
filesystems/proc.rst) and takes some microseconds however much the process holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aifw.hardware.pool import descendants, held_by_devices, held_by_tree

_ROOT = Path("/")
_CHILDREN_EVERY = 0.25
"""Seconds between two looks for processes below and for devices in use: these cost as much as fifty looks at the counters."""
_EXACT_EVERY = 0.5
_EXACT_SHARE = 0.05
"""Most of a processor that looks at exact shares may take: each walks over every page of every process."""


class Meter:
    """Follows one process and all below it.

    The growth of the process itself shows at every look. Processes below it share pages with it and with each other, so that only
    their exact shares add up; these are looked at twice a second, and less often where that takes long.

    Args:
        process: Its id.
        root: Where `proc` is.

    Attributes:
        held: Bytes at the last look that saw it.
        peak: The most of all looks.
    """

    def __init__(self, process: int, root: Path = _ROOT) -> None:
        self.held = 0
        self.peak = 0
        self._process = process
        self._root = root
        self._status = f"{root}/proc/{process}/status"
        self._below = False
        self._children_due = 0.0
        self._exact_due = 0.0
        self._beside = 0
        self._devices = 0

    def look(self) -> int | None:
        """Look now.

        Returns:
            Bytes the tree holds, or None if the process is gone or may not be looked at.
        """
        own = counted(self._status)
        if own is None:
            return None
        now = time.monotonic()
        if now >= self._children_due:
            below = descendants(self._process, self._root)
            self._below = bool(below)
            self._devices = held_by_devices((self._process, *below), self._root)
            self._children_due = now + _CHILDREN_EVERY
        if not self._below:
            self._beside = 0
        elif now >= self._exact_due:
            together = held_by_tree(self._process, self._root)
            self._beside = (together if together is not None else own) - own
            self._exact_due = now + max(_EXACT_EVERY, (time.monotonic() - now) / _EXACT_SHARE)
        self.held = max(0, own + self._beside + self._devices)
        self.peak = max(self.peak, self.held)
        return self.held


@contextmanager
def following(process: int, seconds: float) -> Iterator[Meter]:
    """Look at a process tree every so many seconds from a thread of its own, and once more at the end.

    Code that keeps the interpreter lock for long delays the looks.
    """
    meter = Meter(process)
    over = threading.Event()

    def follow() -> None:
        while not over.wait(seconds):
            meter.look()

    meter.look()
    thread = threading.Thread(target=follow, name="memory meter", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        over.set()
        thread.join()
        meter.look()


def counted(status: str) -> int | None:
    """Bytes of resident anonymous and shared memory in a process's `status` file, or None if they are not told."""
    try:
        with open(status, "rb", buffering=0) as file:  # noqa: PTH123 - a hundred times a second
            text = file.read(8192)
        return 1024 * (_kilobytes(text, b"RssAnon:") + _kilobytes(text, b"RssShmem:"))
    except (OSError, ValueError):
        return None


def _kilobytes(text: bytes, name: bytes) -> int:
    start = text.index(name) + len(name)
    return int(text[start : text.index(b"kB", start)])
