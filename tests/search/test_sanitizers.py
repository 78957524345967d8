"""The kernel's C++ under sanitizers: programs of `kernels/checks`, which also compare every result with the definition."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from compiled import build_check

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
THREAD = ["-O1", "-g", "-fsanitize=thread"]


def _run(program: Path, *arguments: str) -> tuple[int, str]:
    """Status and output of a program that says how many searches agreed."""
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=1", "TSAN_OPTIONS": "halt_on_error=1"}
    command = [str(program), *arguments]
    # The sanitizer of GCC 12 does not start where the system spreads addresses wider than it expects.
    if (setarch := shutil.which("setarch")) and not subprocess.run([setarch, "-R", "true"], check=False).returncode:
        command = [setarch, "-R", *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_shape_reads_beside_its_memory_or_leaves_what_cpp_defines(tmp_path: Path) -> None:
    sanitize = ["-O1", "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    program = build_check("shapes", tmp_path, *WARNINGS, *sanitize)
    for seed in ("1", "2"):
        status, output = _run(program, seed, "3")
        assert status == 0, output
        assert int(re.fullmatch(r"(\d+) searches\n", output)[1]) > 5000  # type: ignore[index]


@pytest.mark.slow
def test_the_table_of_ids_is_a_map(tmp_path: Path) -> None:
    sanitize = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    status, output = _run(build_check("table", tmp_path, *WARNINGS, *sanitize, kernel=False))
    assert (status, output) == (0, "75000 operations\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_searches_beside_changes_have_no_data_race(tmp_path: Path) -> None:
    program = build_check("concurrency", tmp_path, *WARNINGS, *THREAD)
    status, output = _run(program)
    assert status == 0, output
    assert int(re.fullmatch(r"(\d+) searches\n", output)[1]) > 100  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rows_that_are_searched_too_early_would_be_seen(tmp_path: Path) -> None:
    status, output = _run(build_check("concurrency", tmp_path, *THREAD, "-DPUBLISH_EARLY"))
    assert status != 0
    assert "data race" in output or "a row was missed" in output


@pytest.mark.slow
def test_the_sanitizers_see_what_they_are_for(tmp_path: Path) -> None:
    beside = tmp_path / "beside.cpp"
    beside.write_text("int main(int n, char**) { int* p = new int[n]; int x = p[n]; delete[] p; return x; }\n")
    race = tmp_path / "race.cpp"
    race.write_text(
        "#include <thread>\nint x;\nint main() { std::thread t([] { ++x; }); ++x; t.join(); return x != 2; }\n"
    )
    for source, flag, said in [
        (beside, "-fsanitize=address", "heap-buffer-overflow"),
        (race, "-fsanitize=thread", "data race"),
    ]:
        program = tmp_path / source.stem
        compiler = shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            pytest.skip("no C++ compiler")
        subprocess.run([compiler, "-g", flag, str(source), "-o", str(program), "-pthread"], check=True)
        status, output = _run(program)
        assert status != 0
        assert said in output
