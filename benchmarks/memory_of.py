"""The memory of a process and everything it starts, looked at from outside every few milliseconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAUSE_SECONDS = 0.002


@dataclass
class Watched:
    """What was seen.

    Attributes:
        peak: Most bytes of anonymous and shared memory (`RssAnon + RssShmem`) of the tree at one time; mapped files are apart.
        files: Most bytes of mapped files in memory.
        phases: The peak of each phase, by the word the process wrote at its beginning.
        result: What it wrote in the end.
        samples: How often it was looked at.
    """

    peak: int = 0
    files: int = 0
    phases: dict[str, int] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    samples: int = 0
    code: int = 0
    output: str = ""


def watch(command: Sequence[str], *, environment: dict[str, str] | None = None, group: Path | None = None) -> Watched:
    """Run a command, give it a pipe to write phases to as its last argument, and look at its memory.

    Args:
        command: To run; the number of the pipe's descriptor is added to it.
        environment: Added to this process's.
        group: Folder of a control group the process is put in before it becomes the command.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    found = Watched()
    enter = [] if group is None else ["sh", "-c", 'echo $$ > "$0" && exec "$@"', os.fspath(group / "cgroup.procs")]
    process = subprocess.Popen(
        [*enter, *command, str(writing)],
        pass_fds=(writing,),
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    os.close(writing)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    phase, text, output = "start", b"", b""
    while process.poll() is None:
        anonymous, files = tree_memory(process.pid)
        found.samples += 1
        found.peak = max(found.peak, anonymous)
        found.files = max(found.files, files)
        found.phases[phase] = max(found.phases.get(phase, 0), anonymous)
        text += _read(reading)
        output += _read(process.stdout.fileno())
        *lines, text = text.split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                found.result = json.loads(line)
            else:
                phase = line.decode()
        time.sleep(PAUSE_SECONDS)
    for line in (text + _read(reading)).split(b"\n"):
        if line.startswith(b"{"):
            found.result = json.loads(line)
    found.output = (output + _read(process.stdout.fileno())).decode(errors="replace")
    found.code = process.wait()
    os.close(reading)
    process.stdout.close()
    return found


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


def tree_memory(pid: int) -> tuple[int, int]:
    """Bytes of anonymous and shared memory, and of mapped files, of a process and its descendants; zero if it is gone."""
    anonymous = files = 0
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        try:
            for line in Path(f"/proc/{each}/status").read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    anonymous += int(line.split()[1]) * 1024
                elif line.startswith("RssFile:"):
                    files += int(line.split()[1]) * 1024
            waiting += [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
        except (OSError, ValueError, IndexError):
            continue
    return anonymous, files


if __name__ == "__main__":
    seen = watch(sys.argv[1:])
    print(seen)
