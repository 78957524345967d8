from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from aifw.boundary import boundary
for name in sys.argv[1:]:
    boundary(name)
    print(name, flush=True)
"""


def reach(*names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIFW_")}
    return subprocess.run(
        [sys.executable, "-c", CODE, *names], env={**clean, **environment}, capture_output=True, text=True, check=False
    )


def test_a_boundary_does_nothing_by_itself() -> None:
    done = reach("a", "b", "a")
    assert (done.returncode, done.stdout.split()) == (0, ["a", "b", "a"])


@pytest.mark.parametrize(
    ("at", "before"), [("a", []), ("b", ["a"]), ("a:1", []), ("a:2", ["a", "b"]), ("a:3", ["a", "b", "a", "c"])]
)
def test_a_process_is_killed_where_it_is_told_to(at: str, before: list[str]) -> None:
    done = reach("a", "b", "a", "c", "a", AIFW_CRASH_AT=at)
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, before)


@pytest.mark.parametrize("at", ["d", "b:2", "ab", ""])
def test_a_boundary_that_is_not_reached_kills_nobody(at: str) -> None:
    assert reach("a", "b", "a", AIFW_CRASH_AT=at).returncode == 0


def test_what_was_reached_is_written_down_also_the_last_before_a_crash(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reach("a", "b", "c", AIFW_CRASH_AT="b", AIFW_BOUNDARY_LOG=str(log))
    assert log.read_text().split() == ["a", "b"]
    reach("c", AIFW_BOUNDARY_LOG=str(log))
    assert log.read_text().split() == ["a", "b", "c"]


def test_every_boundary_in_the_code_has_a_name_of_its_own() -> None:
    import re

    package = Path(__file__).parents[1] / "aifw"
    found = [
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"^\s+boundary\(\"([^\"]+)\"\)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(found) > 10
    assert sorted(found) == sorted(set(found))
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in found)
