"""What was found out of one device, and what could not be, with the reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from aifw.hardware.machine import Accelerator

_MOST_BYTES = 1 << 16
_LONGEST_FACT = 200
_ENTRIES = 4096
"""More in one folder than any machine has: a hostile tree shall not keep the probe busy."""


@dataclass(frozen=True, slots=True)
class DeviceDetail:
    """Everything /proc and /sys say of one accelerator.

    Attributes:
        accelerator: The device.
        facts: For people, by name: `frequency now` is `1300 MHz`. Only what was read; nothing in it stands for unknown.
        unknown: What could not be found out, and why, in a sentence each.
    """

    accelerator: Accelerator
    facts: Mapping[str, str] = field(default_factory=dict, hash=False)
    unknown: tuple[str, ...] = ()


class Findings:
    """Facts of a device as they are collected."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.unknown: list[str] = []

    def say(self, name: str, value: str) -> None:
        """Note a fact; one that is empty is none."""
        if value:
            self.facts[name] = value

    def lack(self, reason: str) -> None:
        """Note what is unknown, and why, in a sentence."""
        if reason not in self.unknown:
            self.unknown.append(reason)

    def text(self, name: str, path: str, absent: str = "") -> str:
        """Note what a file says in one line; returned too.

        Args:
            name: Of the fact.
            path: Of the file.
            absent: Why the file may be missing, in words that follow `there is no PATH: `. Empty where its absence is no finding.
        """
        value, reason = one_line(path)
        if value is not None:
            self.say(name, value)
            return value
        if reason or absent:
            self.lack(f"{name}: {reason or f'there is no {short(path)}: {absent}'}")
        return ""

    def number(self, name: str, path: str, unit: str, most: int, least: int = 0, absent: str = "") -> int | None:
        """Note the number a file holds, and its unit; returned too.

        Args:
            name: Of the fact.
            path: Of the file.
            unit: Put behind the number.
            most: A larger one is absurd, and not believed.
            least: A smaller one is not believed either.
            absent: As in `text`.
        """
        value, reason = one_line(path)
        if value is None:
            if reason or absent:
                self.lack(f"{name}: {reason or f'there is no {short(path)}: {absent}'}")
            return None
        number = whole(value)
        if number is None or not least <= number <= most:
            self.lack(f"{name}: {short(path)} says {value[:40]!r}, which is not believed")
            return None
        self.say(name, f"{number} {unit}".rstrip())
        return number


def read(path: str) -> tuple[str | None, str]:
    """What a small file holds, and why it could not be read: empty where there is no such file.

    The plain calls: `Path.read_text` takes several times as long. A pipe nobody writes to does not block.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except (OSError, ValueError) as error:
        return None, _refused(path, error)
    try:
        return os.read(file, _MOST_BYTES).decode("utf-8", errors="replace"), ""
    except OSError as error:
        return None, _refused(path, error)
    finally:
        os.close(file)


def one_line(path: str) -> tuple[str | None, str]:
    """The first line of a file without what a terminal would act on, and why there is none."""
    text, reason = read(path)
    if text is None:
        return None, reason
    lines = text.split("\n", 1)
    line = plain(lines[0])
    return (line, "") if line else (None, f"{short(path)} is empty")


def plain(text: str) -> str:
    """Text fit to be shown: printable, and not endless."""
    return "".join(letter for letter in text[: 4 * _LONGEST_FACT] if letter.isprintable()).strip()[:_LONGEST_FACT]


def whole(text: str) -> int | None:
    """A number without sign, or None."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def entries(path: str) -> tuple[list[str], str]:
    """Names in a folder in the order of their numbers, and why it could not be read: empty where there is none."""
    try:
        names = os.listdir(path)  # noqa: PTH208  # a string, and several times faster than a path
    except (FileNotFoundError, NotADirectoryError):
        return [], ""
    except (OSError, ValueError) as error:
        return [], _refused(path, error)
    return sorted(names[:_ENTRIES], key=lambda name: (len(name), name)), ""


def properties(path: str) -> dict[str, str]:
    """`KEY=value` lines of a uevent file; none where it cannot be read."""
    text, _ = read(f"{path}/uevent")
    return {
        key: plain(value)
        for key, equals, value in (line.partition("=") for line in (text or "").splitlines())
        if equals
    }


def short(path: str) -> str:
    """The end of a path, enough to find the file."""
    return "/".join(path.split("/")[-3:])


def _refused(path: str, error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{short(path)} cannot be read: {words}"
