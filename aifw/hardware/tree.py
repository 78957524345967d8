"""Reading a tree of /proc and /sys, of this machine or captured, so that whatever lies there gives a value or a reason.

A hostile tree may hold pipes nobody writes to, directories where files belong, endless files, loops of symbolic links and bytes that
are no text; on a healthy one files vanish between being listed and being read, and some may be read by the administrator only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

LARGEST = 1 << 23
"""Bytes of the longest files that are read: /proc/cpuinfo of a machine with thousands of processors."""
MOST_REASONS = 12
_USUAL = 1 << 16
_NUMBER = re.compile(r"-?[0-9]{1,20}")


class Look(NamedTuple):
    """What came of looking at a file.

    Attributes:
        text: What it holds, or nothing.
        problem: Why it could not be read, to be put behind its name, or empty.
        missing: Whether it does not exist, which often is an answer.
    """

    text: str
    problem: str = ""
    missing: bool = False


class Number(NamedTuple):
    """What came of reading a number.

    Attributes:
        value: The number, or None.
        why: Why there is none, in a sentence with the file's name, or empty.
        missing: Whether the file does not exist.
    """

    value: int | None
    why: str = ""
    missing: bool = False


class Tree:
    """The files below a root. Paths are relative to it; reasons name them as the machine they describe would.

    Args:
        root: Where `proc`, `sys` and `dev` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self._top = f"{root}".rstrip("/")

    def look(self, path: str, most: int = _USUAL) -> Look:
        """Read a file."""
        return look(f"{self._top}/{path}", most)

    def text(self, path: str) -> str:
        """What a file holds without white space around it, or nothing; only where it makes no difference why there is nothing."""
        return self.look(path).text.strip()

    def number(self, path: str, least: int, most: int) -> Number:
        """Read a number that lies between two bounds, both included."""
        found = self.look(path)
        if found.problem:
            return Number(None, f"/{path} {found.problem}", found.missing)
        return number(found.text, f"/{path}", least, most)

    def names(self, folder: str, pattern: str) -> tuple[tuple[str, ...], str]:
        """The names in a folder that match a regular expression, numbers in numeric order, and why there are none, or nothing."""
        matches = re.compile(pattern).fullmatch
        try:
            found = [name for name in os.listdir(f"{self._top}/{folder}") if matches(name)]  # noqa: PTH208  # several times faster
        except (OSError, ValueError) as error:
            return (), f"/{folder} {_problem(error)}"
        return tuple(sorted(found, key=_natural)), ""


class Reasons:
    """Collects why something is unknown; of many alike only the first ones are kept and the others counted."""

    def __init__(self) -> None:
        self._kept: dict[str, None] = {}
        self._more = 0

    def add(self, *reasons: str) -> None:
        """Add reasons; empty ones and repetitions are passed over."""
        for reason in reasons:
            if not reason or reason in self._kept:
                continue
            if len(self._kept) < MOST_REASONS:
                self._kept[reason] = None
            else:
                self._more += 1

    def known(self, number: Number) -> int | None:
        """The value of a number; the reason is kept where there is none, unless the file just does not exist."""
        if not number.missing:
            self.add(number.why)
        return number.value

    def needed(self, number: Number) -> int | None:
        """The value of a number that should be there; the reason is kept where there is none."""
        self.add(number.why)
        return number.value

    def all(self) -> tuple[str, ...]:
        """The reasons in the order they were added."""
        return (*self._kept, f"and {self._more} more of this sort") if self._more else (*self._kept,)


def look(path: str, most: int = _USUAL) -> Look:
    """Read a file by its full path, at most `most` bytes of it. Bytes that are no text are escaped as in the names of files."""
    try:
        return Look(read_bytes(path, most).decode("utf-8", errors="surrogateescape"))
    except (OSError, ValueError) as error:
        return Look("", _problem(error), isinstance(error, (FileNotFoundError, NotADirectoryError)))


def read_bytes(path: str, most: int, position: int | None = None) -> bytes:
    """Read at most `most` bytes of a file, from a position where one is given.

    The plain calls: `Path.read_text` takes several times as long, and a machine may have hundreds of processors.

    Raises:
        OSError: It cannot be read.
        ValueError: The path holds what no path can hold.
    """
    # A hostile tree may hold a pipe nobody writes to.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if position is not None:
            return os.pread(file, most, position)
        found = part = os.read(file, most)
        # The kernel hands out long files of /proc a page at a time.
        while part and len(found) < most:
            part = os.read(file, most - len(found))
            found += part
        return found
    finally:
        os.close(file)


def number(text: str, name: str, least: int, most: int) -> Number:
    """Read a number from a text that came from the file or field of that name."""
    words = text.strip()
    if not words:
        return Number(None, f"{name} is empty")
    if not _NUMBER.fullmatch(words):
        return Number(None, f"{name} holds {shown(words)}, which is no number")
    value = int(words)
    if not least <= value <= most:
        return Number(None, f"{name} says {value}, which cannot be")
    return Number(value)


def shown(text: str) -> str:
    """A text of unknown origin for a message: in quotes, printable, not long."""
    return f"`{plain(text, 40)}{'...' if len(text) > 40 else ''}`"


def plain(text: str, most: int = 200) -> str:
    """A text of unknown origin as a value: printable, not long, without white space around it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.strip()[:most])


def fields(text: str, names: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """Names and values of lines `name: value`."""
    wanted = None if names is None else frozenset(names)
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        name = name.strip()
        if colon and (wanted is None or name in wanted):
            yield name, value.strip()


def _problem(error: Exception) -> str:
    if isinstance(error, OSError):
        if isinstance(error, FileNotFoundError):
            return "does not exist"
        return f"cannot be read: {(error.strerror or 'it fails').lower()}"
    return "cannot be read: its name is impossible"


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]
