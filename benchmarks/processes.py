"""Child processes measured from outside: what the kernel says they used."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What one process took, with everything it started and waited for.

    Attributes:
        cpu: User and system seconds.
        wall: Seconds.
        memory: Peak resident bytes of its largest process.
        output: What it wrote to standard output and standard error.
    """

    cpu: float
    wall: float
    memory: int
    output: str


@dataclass
class Command:
    """Something to measure: a name, a command line and where it runs."""

    name: str
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    runs: int = 5
    expected: str = ""
    """Text its output must hold, so that a command that fails early is not taken for a fast one."""
    before: Callable[[], None] | None = None
    """Called before each run, and not measured."""


LAUNCHER = Path(__file__).with_name("launcher.py")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "",
    "NO_COLOR": "1",
}
"""Of every measured process: one thread, so that CPU seconds compare, and bytecode kept, as after the first use of an installation."""


def measure(command: Command) -> Usage:
    """Run a command once; its usage comes from `wait4`, so nothing has to be put into it.

    Raises:
        RuntimeError: It failed, or did not say what it should.
    """
    if command.before is not None:
        command.before()
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, "-I", "-S", LAUNCHER, str(writing), command.folder, *command.arguments],
        env={**os.environ, **ENVIRONMENT, **command.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(writing,),
        check=False,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as report:
        words = report.read().split()
    text = done.stdout.decode(errors="replace")
    code = int(words[0]) if words else done.returncode
    if code or command.expected not in text:
        raise RuntimeError(f"{command.name} in {command.folder} ended with {code}:\n{text[-2000:]}")
    return Usage(float(words[1]), float(words[2]), int(words[3]), text)


@dataclass(frozen=True)
class Measured:
    """Medians over the runs of one command, and the range of its CPU seconds."""

    cpu: float
    cpu_least: float
    cpu_most: float
    wall: float
    memory: int
    runs: int


def interleaved(commands: Sequence[Command], *, seed: int = 0) -> dict[str, Measured]:
    """Measure commands in turns, each round in another order, so that a busy minute of the machine hits all of them.

    Every command runs once more, uncounted, before the first round.
    """
    order = random.Random(seed)
    found: dict[str, list[Usage]] = {command.name: [] for command in commands}
    for command in commands:
        tell(f"  {command.name}: first run {measure(command).wall:.2f} s")
    for turn in range(max((command.runs for command in commands), default=0)):
        due = [command for command in commands if turn < command.runs]
        order.shuffle(due)
        for command in due:
            found[command.name].append(measure(command))
    return {name: _medians(usages) for name, usages in found.items() if usages}


def _medians(usages: Sequence[Usage]) -> Measured:
    cpu = [usage.cpu for usage in usages]
    return Measured(
        statistics.median(cpu),
        min(cpu),
        max(cpu),
        statistics.median(usage.wall for usage in usages),
        round(statistics.median(usage.memory for usage in usages)),
        len(usages),
    )


def tell(text: str) -> None:
    """Say how far the benchmark is, beside its result."""
    print(text, file=sys.stderr, flush=True)
