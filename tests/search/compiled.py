"""Compiling the kernel's sources apart from the installed extension, with the flags that the build gives each file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "kernels"


def level_flags() -> dict[str, list[str]]:
    """Flags of each instruction set's file, from the build."""
    text = (SOURCES / "CMakeLists.txt").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {"scalar": ["-march=x86-64"]}
    for name, value in re.findall(r"^set\((avx\w+)_flags (.*)\)$", text, re.MULTILINE):
        words = value.split()
        found[name] = [*found["avx512"], *words[1:]] if words[0] == "${avx512_flags}" else words
    return found


def compiler() -> str:
    """A C++ compiler. Skips the test where there is none, or none of these instruction sets."""
    if sysconfig.get_platform() != "linux-x86_64":
        pytest.skip("instruction sets of x86-64")
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler")
    return found


def compile_object(source: Path, target: Path, *flags: str) -> Path:
    """Compile one file. Skips the test if the compiler does not know a flag."""
    command = [compiler(), "-std=c++17", "-ffp-contract=off", "-fPIC", "-I", str(SOURCES), *flags, "-c", str(source)]
    done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True, check=False)
    if done.returncode and "unrecognized command" in done.stderr:
        pytest.skip(f"the compiler does not know one of {' '.join(flags)}")
    assert done.returncode == 0, done.stderr
    return target


def build_check(name: str, folder: Path, *flags: str, kernel: bool = True) -> Path:
    """A program of `kernels/checks`, with all of the kernel in it or only what it includes, compiled with these flags too."""
    levels = level_flags()
    macros = [f"-DAIFW_HAS_{level.upper()}" for level in levels if level != "scalar"]
    with ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(
                compile_object,
                source,
                folder / f"{source.stem}.o",
                *flags,
                *(levels.get(source.stem) or ["-march=x86-64"]),
                *(macros if source.stem == "dispatch" else []),
            )
            for source in [*(sorted(SOURCES.glob("*.cpp")) if kernel else []), SOURCES / "checks" / f"{name}.cpp"]
        ]
        objects = [str(each.result()) for each in waiting]
    program = folder / name
    subprocess.run([compiler(), *flags, *objects, "-o", str(program), "-pthread"], check=True)
    return program
