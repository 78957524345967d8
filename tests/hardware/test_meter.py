"""What a process tree holds at its most."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

from aifw.hardware.meter import Meter, counted, following

MIB = 1024**2
STEPS = """
import mmap, os, sys, time
def say(text):
    print(text, flush=True)
    return sys.stdin.readline()
say("idle")
block = bytearray(b"x") * (96 << 20)
say("much")
del block
say("little")
"""


def _started(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _said(process)
    return process


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _go_on(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return _said(process)


def test_the_peak_stays_when_memory_is_given_back() -> None:
    with _started(STEPS) as process:
        meter = Meter(process.pid)
        idle = meter.look()
        assert _go_on(process) == "much"
        much = meter.look()
        assert _go_on(process) == "little"
        little = meter.look()
        process.communicate("\n", timeout=30)
        gone = meter.look()
    assert idle is not None
    assert much is not None
    assert little is not None
    assert 90 * MIB < much - idle < 110 * MIB
    assert little - idle < 16 * MIB
    assert meter.peak == much
    assert gone is None
    assert meter.held == little, "who is gone held what it held when it was last seen"


BELOW = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STEPS!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print("there", flush=True)
for line in sys.stdin:
    child.stdin.write(line)
    child.stdin.flush()
    print(child.stdout.readline(), end="", flush=True)
"""


def _until(meter: Meter, above: int) -> None:
    deadline = time.monotonic() + 30
    while (meter.look() or 0) < above:
        assert time.monotonic() < deadline, f"it shows only {meter.held}"
        time.sleep(0.05)


def test_what_lies_below_counts_soon() -> None:
    with _started(BELOW) as process:
        meter = Meter(process.pid)
        alone = meter.look()
        assert alone is not None
        assert _go_on(process) == "much"
        _until(meter, alone + 90 * MIB)
        process.communicate("\n", timeout=30)


FORKED = """
import os, sys
block = bytearray(b"x") * (64 << 20)
for _ in range(4):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
print("forked", flush=True)
sys.stdin.read()
"""


def test_pages_that_processes_share_count_once() -> None:
    with _started(FORKED) as process:
        meter = Meter(process.pid)
        own = counted(f"/proc/{process.pid}/status")
        assert own is not None
        for _ in range(3):
            held = meter.look()
            assert held is not None
            assert 64 * MIB < held < own + 32 * MIB
        process.communicate(timeout=30)


def test_mapped_files_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(64 * MIB))
    meter = Meter(os.getpid())
    before = meter.look()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[offset] for offset in range(0, len(mapped), 4096)) == 0
        during = meter.look()
    assert before is not None
    assert during is not None
    assert during - before < 16 * MIB


def test_a_thread_follows_a_peak_that_nobody_looked_for() -> None:
    with following(os.getpid(), 0.005) as meter:
        before = meter.held
        block = bytearray(b"x") * (128 * MIB)
        length = len(block)
        # Long enough for a look even on a machine that is busy with other things.
        deadline = time.monotonic() + 30
        while meter.held < before + length // 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        del block
    assert meter.peak - before > 120 * MIB
    assert meter.held - before < 32 * MIB


def test_what_is_not_told_is_not_zero(tmp_path: Path) -> None:
    assert counted(str(tmp_path / "status")) is None
    for text in (
        "Name:\tkthreadd\n",
        "RssAnon:\t5 kB\n",
        "RssAnon:\tmuch kB\nRssShmem:\t1 kB\n",
        "RssAnon:\nRssShmem:\n",
    ):
        (tmp_path / "status").write_text(text)
        assert counted(str(tmp_path / "status")) is None
    (tmp_path / "status").write_text("RssAnon:\t     100 kB\nRssFile:\t7 kB\nRssShmem:\t20 kB\n")
    assert counted(str(tmp_path / "status")) == 120 * 1024
