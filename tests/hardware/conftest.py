"""Trees of /proc and /sys, grown from listings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aifw.hardware.processor.cpulist import parse_cpu_list

TREES = Path(__file__).with_name("trees")
FOLDERS = ("processors", "machines", "devices")
NUMBERS = re.compile(r"\{([0-9,-]+)\}")


def expanded(text: str) -> list[str]:
    """`cpu{0-2}` is `cpu0`, `cpu1` and `cpu2`."""
    found = NUMBERS.search(text)
    if found is None:
        return [text]
    numbers = parse_cpu_list(found[1])
    assert numbers is not None, text
    return [
        rest for number in sorted(numbers) for rest in expanded(f"{text[: found.start()]}{number}{text[found.end() :]}")
    ]


def listed(listing: Path) -> dict[str, str]:
    """Contents of files by path, from lines `path: line of the file` (or `path:line`, as grep prints them).

    A path that comes again holds another line. `{0-3}` in a path stands for as many files; in the first line of a file it makes the
    file repeat all its lines for each number.
    """
    lines: dict[str, list[str]] = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        path, _, content = line.partition(": " if ": " in line else ":")
        for each in expanded(path):
            lines.setdefault(each, []).append(content)
    return {
        path: "\n".join(line for first in expanded(contents[0]) for line in (first, *contents[1:]))
        for path, contents in lines.items()
    }


def grown(root: Path, *parts: Path | Mapping[str, str]) -> Path:
    """Writes listings, or contents by path, over each other below a root."""
    files: dict[str, str] = {}
    for part in parts:
        files.update(listed(part) if isinstance(part, Path) else part)
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n", encoding="utf-8")
    return root


def listings(machine: str) -> list[Path]:
    """What is listed of a machine, the part every test reads first."""
    found = [path for folder in FOLDERS if (path := TREES / folder / f"{machine}.txt").exists()]
    assert found, f"there is no listing of {machine}"
    return found


@pytest.fixture(scope="session")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the tree of a machine: its processors, what else it is, and its devices. Not to be changed; all tests share it."""
    grown_already: dict[str, Path] = {}

    def tree(machine: str) -> Path:
        if machine not in grown_already:
            grown_already[machine] = grown(tmp_path_factory.mktemp(machine), *listings(machine))
        return grown_already[machine]

    return tree


@pytest.fixture
def own_tree(tmp_path: Path) -> Callable[..., Path]:
    """Gives a tree that a test may damage: that of a machine with contents by path written over it, or of contents only."""

    def tree(machine: str | None = None, files: Mapping[str, str] | None = None) -> Path:
        return grown(tmp_path / "root", *(listings(machine) if machine else ()), files or {})

    return tree
