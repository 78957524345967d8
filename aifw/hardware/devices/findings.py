"""What was found out of one device, and what could not be, with the reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from aifw.hardware.machine import Accelerator
from aifw.hardware.tree import Reasons, Tree, plain

_LONGEST_REASON = 400


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
    """Facts of a device as they are collected.

    Attributes:
        tree: Where they are read.
        facts: By name.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.facts: dict[str, str] = {}
        self._reasons = Reasons()

    def say(self, name: str, value: str) -> None:
        """Note a fact, made fit to be shown; one that is empty is none."""
        if shown := plain(value):
            self.facts[plain(name)] = shown

    def lack(self, reason: str) -> None:
        """Note what is unknown and why, in a sentence."""
        self._reasons.add(plain(reason, _LONGEST_REASON))

    def say_access(self, node: str, remedy: str) -> None:
        """Note whether this user may open the node that programs compute through.

        Args:
            node: Its path, below the root of the tree.
            remedy: What gives leave, where this user may not.
        """
        path = f"{self.tree.root}/{node}"
        if not os.path.lexists(path):
            self.lack(f"access: there is no /{node}; in a container it has to be passed through")
        elif os.access(path, os.R_OK | os.W_OK):
            self.say("access", f"/{node} may be opened")
        else:
            self.say("access", f"/{node} may not be opened by this user; {remedy}")

    def text(self, name: str, path: str, absent: str = "") -> str:
        """Note what a file says in its first line; returned too, empty where there is nothing.

        Args:
            name: Of the fact.
            path: Of the file, below the root of the tree.
            absent: Why the file may be missing. Empty where its absence is no finding.
        """
        found = self.tree.look(path)
        if found.missing:
            self._absent(name, path, absent)
            return ""
        if found.problem:
            self.lack(f"{name}: /{path} {found.problem}")
            return ""
        line = plain(found.text.strip().partition("\n")[0])
        if not line:
            self.lack(f"{name}: /{path} is empty")
        self.say(name, line)
        return line

    def number(self, name: str, path: str, unit: str, most: int, least: int = 0, absent: str = "") -> int | None:
        """Note the number a file holds with its unit; returned too, None where there is none.

        Args:
            name: Of the fact.
            path: Of the file, below the root of the tree.
            unit: Put behind the number.
            most: A larger one cannot be.
            least: A smaller one cannot be either.
            absent: As in `text`.
        """
        found = self.tree.number(path, least, most)
        if found.missing:
            self._absent(name, path, absent)
        elif found.value is None:
            self.lack(f"{name}: {found.why}")
        else:
            self.say(name, f"{found.value} {unit}".rstrip())
        return found.value

    def unknown(self) -> tuple[str, ...]:
        """What could not be found out, and why."""
        return self._reasons.all()

    def _absent(self, name: str, path: str, absent: str) -> None:
        if absent:
            self.lack(f"{name}: there is no /{path}; {absent}")
