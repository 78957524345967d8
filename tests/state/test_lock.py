from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.errors import ExitStatus, LockHeld
from aifw.state.lock import exclusive, holder

HOLD = """
import sys
from pathlib import Path
from aifw.state.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

Start = Callable[..., subprocess.Popen[str]]


def held_by_another(python: Start, path: Path) -> subprocess.Popen[str]:
    process = python(HOLD, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_held_lock_names_the_process_that_holds_it(tmp_path: Path, python: Start) -> None:
    path = tmp_path / "state" / "lock"
    process = held_by_another(python, path)
    assert holder(path) == process.pid
    with pytest.raises(LockHeld, match=rf"pid {process.pid}\b") as caught, exclusive(path):
        pass
    assert caught.value.exit_status is ExitStatus.STALE_OR_LOCKED
    assert caught.value.hint
    process.communicate("done\n")
    assert holder(path) is None
    with exclusive(path):
        assert holder(path) == os.getpid()


def test_a_lock_dies_with_its_process(tmp_path: Path, python: Start) -> None:
    path = tmp_path / "lock"
    process = held_by_another(python, path)
    process.kill()
    process.communicate()
    assert holder(path) is None
    with exclusive(path):
        pass


def test_a_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), exclusive(path):
        raise ZeroDivisionError
    with exclusive(path):
        pass


def test_nobody_holds_a_lock_that_was_never_taken(tmp_path: Path) -> None:
    assert holder(tmp_path / "lock") is None
    assert not (tmp_path / "lock").exists()


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path):
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=False
        )
    try:
        with exclusive(path):
            assert holder(path) == os.getpid()
    finally:
        child.communicate()


def test_who_asks_for_the_holder_never_keeps_another_from_taking_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            holder(path)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(200):
            with exclusive(path):
                pass
    finally:
        done.set()
        asking.join()
