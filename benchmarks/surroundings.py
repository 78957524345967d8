"""Where a benchmark ran: machine, versions, load. Without it a figure means nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory and kernel."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
    }


def load() -> list[float]:
    """Load averages of 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def versions() -> dict[str, str]:
    """Python, SQLite and the packages that planning uses."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in ("aifw", "pydantic", "pydantic-core", "PyYAML", "click"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def packages(names: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def peer(folder: Path, name: str) -> tuple[str, str] | None:
    """The program of a peer in its own environment and its version, or None if it is not installed there."""
    program = folder.absolute() / "bin" / name
    if not program.is_file():
        return None
    script = f"from importlib.metadata import version; print(version({name!r}))"
    found = subprocess.run([program.parent / "python", "-c", script], capture_output=True, text=True, check=False)
    return os.fspath(program), found.stdout.strip() or "unknown version"


def console_script() -> list[str]:
    """The `aifw` that pip installed for this interpreter, or `python -m aifw` if there is none."""
    program = Path(sys.executable).parent / "aifw"
    return [os.fspath(program)] if program.is_file() else [sys.executable, "-m", "aifw"]


def described(found: Mapping[str, Any]) -> str:
    """Surroundings in a few lines for people."""
    computer = found["machine"]
    return "\n".join(
        [
            f"{computer['cpu']}, {computer['cores']} cores, {computer['memory'] / 1024**3:.1f} GiB, Linux {computer['kernel']}",
            ", ".join(f"{name} {text}" for name, text in found["versions"].items()),
            f"{found['threads']} thread a process; load before {found['load_before']}, after {found['load_after']}",
        ]
    )
