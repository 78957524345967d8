"""Processes that are asked something and may crash, hang or print what they like.

The child writes one JSON object a line to what was its standard output, through `answers`; everything libraries print goes to its
standard error instead. `{"now": ...}` says what it is about to do.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

_MOST_LINE = 1 << 20
_SHOWN_BYTES = 4096
_SHOWN_CHARACTERS = 300

Hear = Callable[[Mapping[str, Any]], None]


def converse(
    module: str, arguments: Sequence[str], seconds: float, hear: Hear, environment: Mapping[str, str] | None = None
) -> str:
    """Run `python -P -m MODULE` and hear its answers as they come.

    Args:
        module: What to run.
        arguments: Of its command line.
        seconds: After that it is killed, with everything it started.
        hear: Gets each answer.
        environment: What to set beside the present environment.

    Returns:
        Why it did not end well, or nothing.
    """
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            return f"no process could be started: {error.strerror or error}"
        assert process.stdout is not None
        with process.stdout as pipe:
            try:
                garbage, in_time = _listen(pipe.fileno(), deadline, hear)
                if in_time:
                    try:
                        process.wait(max(0.1, deadline - time.monotonic()))
                    except subprocess.TimeoutExpired:
                        in_time = False
            finally:
                _kill(process)
        if not in_time:
            return f"gave no answer within {seconds:.0f} s"
        if process.returncode < 0:
            return f"crashed: {_signal(-process.returncode)}"
        if process.returncode > 0:
            return f"failed: {_last_words(errors.fileno()) or f'exit status {process.returncode}'}"
        return f"printed what is no answer: {garbage}" if garbage else ""


def answers() -> Callable[[Mapping[str, Any]], None]:
    """In the child: give it a way to answer that libraries cannot write into.

    Returns:
        Call it with each answer.
    """
    descriptor = os.dup(1)
    os.dup2(2, 1)

    def answer(line: Mapping[str, Any]) -> None:
        left = (json.dumps(line) + "\n").encode()
        while left:
            left = left[os.write(descriptor, left) :]

    return answer


def _listen(descriptor: int, deadline: float, hear: Hear) -> tuple[str, bool]:
    """Hear answers until the end. Returns the first line that is none, and whether the end came in time."""
    garbage, begun = "", b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        part = os.read(descriptor, 1 << 16)
        *lines, begun = (begun + part).split(b"\n")
        # What is left at the end is a line without its end: the child died in it.
        for line in lines if len(begun) <= _MOST_LINE else [*lines, begun]:
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError):
                answer = None
            if isinstance(answer, dict):
                hear(answer)
            elif line.strip():
                garbage = garbage or repr(line[:80].decode(errors="replace"))
        if len(begun) > _MOST_LINE:
            begun = b""
        if not part:
            return garbage, True
    return garbage, False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and what it started. Until it is waited for, its id stands for its group and for nothing else."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, _SHOWN_BYTES, max(0, size - _SHOWN_BYTES)).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_SHOWN_CHARACTERS] if lines else ""
