"""The apply lock: an flock, so that it dies with its process and needs no `unlock`."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aifw.errors import LockHeld
from aifw.state.artifacts import no_space_named

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.02


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock at `path`. Its descriptor is not inherited by workers.

    Raises:
        LockHeld: Another process holds it; the message has its pid.
        NoSpace: The disk is full.
    """
    with no_space_named("the lock"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor)
        with no_space_named("the lock"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int) -> None:
    # Tried more than once, because `holder` takes the lock for an instant to find out about it.
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
    raise LockHeld(
        f"another aifw is applying this spec (pid {pid})",
        hint="wait for it, or end it; the next apply goes on from there",
    )


def holder(path: Path) -> int | None:
    """Pid of the engine that holds the lock, or None."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(descriptor)
