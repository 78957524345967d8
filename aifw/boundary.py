"""The instants at which a crash is most dangerous, by name, so that tests can crash at each.

`AIFW_CRASH_AT=job.intended` kills the process that reaches the boundary of that name, `job.intended:2` the second time it is
reached; `AIFW_BOUNDARY_LOG=FILE` appends the name of each boundary as it is reached. Without them a boundary costs a comparison.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_crash_at, _, _occurrence = os.environ.get("AIFW_CRASH_AT", "").partition(":")
_log = os.environ.get("AIFW_BOUNDARY_LOG")
_reached: Counter[str] = Counter()


def boundary(name: str) -> None:
    """Mark an instant between two durable steps."""
    if not _crash_at and _log is None:
        return
    _reached[name] += 1
    if _log is not None:
        descriptor = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{name}\n".encode())
        os.close(descriptor)
    if name == _crash_at and _reached[name] == int(_occurrence or 1):
        os.kill(os.getpid(), signal.SIGKILL)
