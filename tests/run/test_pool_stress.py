"""Memory is taken from outside while three jobs run: nobody is killed, everybody finishes, and nothing stays reserved.

Once against the memory of the whole machine, which others use as well: the process that takes memory follows what can be had, so that
what others do does not matter, and the reserve lies near it, so that little has to be taken. And once within a memory control group
whose limit the kernel enforces, the engine inside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aifw.hardware import pool
from aifw.run import ledger

MIB = 1024**2
HOLD = 96 * MIB
FORECAST = round((HOLD + 40 * MIB) * 1.1)
"""The high of what `toy_heavy` forecasts for that."""
CHUNK = 16 * MIB

# Takes memory until as much is left as the file says: closely, and again and again.
HOG = f"""
import sys, time
from pathlib import Path
from aifw.hardware.pool import available
blocks = []
print("ready", flush=True)
while True:
    try:
        left, most = map(int, Path(sys.argv[1]).read_text().split())
    except (OSError, ValueError):
        left, most = 1 << 60, 0
    there = available()
    if there > left + {CHUNK} and len(blocks) * {CHUNK} < most:
        blocks.append(bytearray(b"x") * {CHUNK})
    elif there < left - {CHUNK} and blocks:
        blocks.pop()
    else:
        time.sleep(0.02)
"""

JOBS = """
hardware: {memory: {reserve: RESERVE, patience: 120s}, threads: 3}
stages:
  a: {kind: toy_heavy, text: a, hold: HOLD, steps: 10, until: FOLDER/done}
  b: {kind: toy_heavy, text: b, hold: HOLD, steps: 10, until: FOLDER/done}
  c: {kind: toy_heavy, text: c, hold: HOLD, steps: 10, until: FOLDER/done}
"""


class Stress:
    """A run, and a process that takes memory beside it."""

    def __init__(self, stack: Any, inside: Path | None = None) -> None:
        self.stack = stack
        self.inside = inside
        self.wish = stack.folder / "wish"
        self.engine: subprocess.Popen[bytes] | None = None

    @contextmanager
    def hog(self) -> Iterator[None]:
        environment = self.stack.environment()
        command = _within(self.inside, [sys.executable, "-c", HOG, str(self.wish)])
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline()
                yield
                assert process.poll() is None, "the process that takes memory was killed"
            finally:
                process.kill()
                process.communicate()

    def take_until(self, left: int, most: int) -> None:
        """Let it take memory until so much is left."""
        temporary = self.wish.with_suffix(".new")
        temporary.write_text(f"{left} {most}")
        temporary.rename(self.wish)

    def give_back(self) -> None:
        self.take_until(1 << 60, 0)

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("drive.py"))]
        self.engine = subprocess.Popen(
            _within(self.inside, [*command, str(self.stack.spec), str(self.stack.state), "--hasty"]),
            env=self.stack.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def events(self) -> list[dict[str, Any]]:
        path = self.stack.name_folder / "runs" / "1" / "events.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def names(self) -> list[str]:
        return [event["event"] for event in self.events()]

    def until(self, happened: Any, what: str, seconds: float = 100) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert self.engine is not None
            if self.engine.poll() is not None or time.monotonic() > deadline:
                self.engine.kill()
                out, err = self.engine.communicate()
                quiet = {"job.progress", "job.checkpoint"}
                told = [event for event in self.events() if event["event"] not in quiet]
                raise AssertionError(f"{what} did not happen: {told} {out!r} {err.decode()}")
            time.sleep(0.05)

    def finish(self) -> dict[str, Any]:
        assert self.engine is not None
        try:
            out, err = self.engine.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            self.engine.kill()
            self.engine.communicate()
            raise AssertionError(f"it did not finish: {self.names()[-20:]}") from None
        assert out, err.decode()
        found: dict[str, Any] = json.loads(out)
        return found


def _within(group: Path | None, command: list[str]) -> list[str]:
    if group is None:
        return command
    enter = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"
    return [sys.executable, "-c", enter, str(group / "cgroup.procs"), *command]


def squeeze(stress: Stress, left: int, most: int) -> dict[str, Any]:
    """Take memory while three jobs run until one pauses, then give it back; returns what the engine said in the end."""
    with stress.hog():
        stress.start()
        stress.until(lambda: stress.names().count("job.checkpoint") >= 6, "three jobs that work")
        stress.take_until(left, most)
        stress.until(lambda: "job.paused" in stress.names(), "a pause")
        stress.give_back()
        (stress.stack.folder / "done").touch()
        return stress.finish()


def check(stress: Stress, result: dict[str, Any]) -> None:
    """All finished, everything was said, nobody was killed, nothing stays reserved."""
    assert result["results"] == {"stages.a": "done", "stages.b": "done", "stages.c": "done"}, result
    events = stress.events()
    names = {event["event"] for event in events}
    assert names >= {"pool.pressure", "job.paused"}
    assert not names & {"job.failed", "job.over_limit", "job.stopped"}
    levels = [event["level"] for event in events if event["event"] == "pool.pressure"]
    assert set(levels) & {"shrink", "pause"}
    order = [event["event"] for event in events]
    assert order.index("pool.pressure") < order.index("job.paused")
    paused = next(event for event in events if event["event"] == "job.paused")
    again = [event for event in events if event["event"] == "job.started" and event["resumed_from"] is not None]
    assert paused["address"] in {event["address"] for event in again}
    assert paused["checkpoint"] in {event["resumed_from"] for event in again}
    # What the engine reserved it released, each once, by what it told of starts and ends.
    reserved = ledger.Ledger()
    for event in events:
        if event["event"] == "job.started":
            reserved = reserved.reserved(event["address"], {"memory": round(event["forecast"]["memory"]["high"])})
        elif event["event"] in {"job.finished", "job.paused"}:
            reserved = reserved.released(event["address"])
    assert reserved == ledger.Ledger()
    stress.stack.wait_for_workers()


def test_memory_taken_from_outside_by_others_on_the_machine(stack: Any) -> None:
    spare = 512 * MIB
    there = pool.available()
    reserve = there - 3 * FORECAST - spare
    if reserve < 256 * MIB:
        pytest.skip(f"only {there // MIB} MiB of memory can be had here")
    stress = Stress(stack)
    stack.write(JOBS.replace("RESERVE", str(reserve)).replace("HOLD", str(HOLD)))
    try:
        result = squeeze(stress, reserve - 64 * MIB, there // 2)
    except AssertionError:
        stack.wait_for_workers()
        taken = there - pool.available()
        if taken > spare // 2:
            pytest.skip(
                f"others took {taken // MIB} MiB of this machine's memory meanwhile, and what was to be seen needs it"
            )
        raise
    check(stress, result)
    events = stress.events()
    before = events[: next(index for index, event in enumerate(events) if event["event"] == "job.paused")]
    if not any(event.get("level") == "pause" for event in before):
        # So near the edge of the reserve, with so little taken beyond it, jobs are asked for less before anybody has to pause.
        assert {event["address"] for event in before if event["event"] == "job.shrink_asked"} != set()
        assert any("shrunk to" in event["text"] for event in before if event["event"] == "job.note")


# Within a control group


def _parents() -> list[Path]:
    """Memory control groups this process is in or below, innermost first, with the files that limit a group below them."""
    found: list[Path] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for top in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            if "memory" in controllers.split(",") if top.endswith("memory") else not controllers:
                inner = Path(top + path)
                found += [each for each in (inner, *inner.parents) if each.is_relative_to(top)]
    return found


@pytest.fixture
def limited() -> Iterator[Path]:
    """A control group with 640 MiB of memory and no swap."""
    limit, tried = 640 * MIB, []
    for parent in _parents():
        group = parent / f"aifw-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            tried.append(f"{parent}: {error.strerror}")
            continue
        files = [group / "memory.limit_in_bytes", group / "memory.max"]
        try:
            file = next((each for each in files if each.exists()), None)
            if file is None:
                tried.append(f"{parent}: its groups limit no memory")
                continue
            file.write_text(str(limit))
            for swap, value in (("memory.memsw.limit_in_bytes", str(limit)), ("memory.swap.max", "0")):
                if (group / swap).exists():
                    (group / swap).write_text(value)
            inside = _within(group, [sys.executable, "-c", "pass"])
            if subprocess.run(inside, check=False, capture_output=True).returncode != 0:
                tried.append(f"{parent}: no process can be moved into its groups")
                continue
            yield group
            return
        except OSError as error:
            tried.append(f"{parent}: {error.strerror}")
        finally:
            _remove(group)
    pytest.skip(f"no memory control group can be made here: {'; '.join(tried) or 'there is none'}")


def _remove(group: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            group.rmdir()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{group} is in use: {(group / 'cgroup.procs').read_text().split()}"
            time.sleep(0.1)


def _killed_by_the_kernel(group: Path) -> int:
    for name in ("memory.oom_control", "memory.events"):
        path = group / name
        if path.exists():
            counts = dict(line.split() for line in path.read_text().splitlines())
            if "oom_kill" in counts:
                return int(counts["oom_kill"])
    return 0


def test_memory_taken_within_a_limit_that_the_kernel_enforces(stack: Any, limited: Path) -> None:
    stress = Stress(stack, limited)
    stack.write(JOBS.replace("RESERVE", "96MiB").replace("HOLD", str(HOLD // 2)))
    check(stress, squeeze(stress, 40 * MIB, 2**30))
    assert _killed_by_the_kernel(limited) == 0


def test_a_job_that_takes_more_than_there_is_is_ended_by_the_engine_and_not_by_the_kernel(
    stack: Any, limited: Path
) -> None:
    stress = Stress(stack, limited)
    # Step by step, as training does; what is read at once in one piece is another matter.
    stack.write(
        "hardware: {memory: {reserve: 96MiB}}\n"
        "stages:\n  greedy: {kind: toy_heavy, text: x, hold: 16MiB, grow: 16MiB, steps: 200, pause: 0.05}\n"
    )
    stress.start()
    assert stress.engine is not None
    stress.engine.communicate(timeout=100)
    events = stress.events()
    over = next(event for event in events if event["event"] == "job.over_limit")
    assert over["limit"] == 256 * MIB
    assert over["used"] > over["limit"]
    failed = next(event for event in events if event["event"] == "job.failed")
    assert failed["error"]["code"] == "AIFW311"
    assert failed["error"]["message"].startswith("out of memory limit at step ")
    assert failed["checkpoint"] >= 1
    assert _killed_by_the_kernel(limited) == 0


READ = """
import os, sys
with open(sys.argv[1], "wb") as file:
    for _ in range(300):
        file.write(os.urandom(2**20))
    os.fsync(file.fileno())
for _ in range(3):
    with open(sys.argv[1], "rb", buffering=0) as file:
        while file.read(2**20):
            pass
"""


def test_a_page_cache_that_fills_the_group_is_no_shortage(stack: Any, limited: Path) -> None:
    stress = Stress(stack, limited)
    # Read again and again, as a data set is in training: the kernel counts such pages as active, and gives them back all the same.
    subprocess.run(_within(limited, [sys.executable, "-c", READ, str(stack.folder / "data")]), check=True)
    stack.write(
        "hardware: {memory: {reserve: 96MiB, patience: 20s}}\n"
        "stages:\n  a: {kind: toy_heavy, text: x, hold: 240MiB, steps: 10}\n"
    )
    stress.start()
    assert stress.finish()["results"] == {"stages.a": "done"}
    assert not [event for event in stress.events() if event["event"].startswith("pool.")]
    assert _killed_by_the_kernel(limited) == 0
