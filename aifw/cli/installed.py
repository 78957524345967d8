"""What is installed, read from the metadata of packages; none of them is imported."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from urllib.parse import unquote, urlsplit

from aifw.hardware.libraries.versions import release

_REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*([^;]*?)\s*(?:;\s*(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True, slots=True)
class Package:
    """A package an extra of aifw asks for.

    Attributes:
        name: As the index calls it.
        wanted: The versions asked for.
        version: The one installed, or None.
        fits: Whether that is one of them; None if it is not installed or the condition is not understood.
    """

    name: str
    wanted: str
    version: str | None
    fits: bool | None


class Installation:
    """The environment of this interpreter.

    Args:
        name: The package whose extras are asked about.
    """

    def __init__(self, name: str = "aifw") -> None:
        self.name = name
        self._own = _find(name)

    def has_module(self, name: str) -> bool:
        """Whether `import NAME` would find something. Only the top of a dotted name is looked for."""
        return importlib.util.find_spec(name.partition(".")[0]) is not None

    def version(self, name: str) -> str | None:
        """Version of an installed package, or None."""
        found = _find(name)
        return found.version if found is not None else None

    def requirements(self, name: str) -> list[str]:
        """What an installed package declares to need."""
        found = _find(name)
        return list(found.requires or ()) if found is not None else []

    def extras(self) -> dict[str, list[Package]]:
        """Packages of each extra, in the order declared; empty if aifw itself is not installed."""
        found: dict[str, list[Package]] = {}
        for line in self._own.requires or () if self._own is not None else ():
            match = _REQUIREMENT.fullmatch(line)
            extra = _EXTRA.search(match[3] or "") if match is not None else None
            # An extra that only stands for others (`all`) asks for aifw itself.
            if match is None or extra is None or match[1] == self.name:
                continue
            version = self.version(match[1])
            fits = None if version is None else satisfies(version, match[2])
            found.setdefault(extra[1], []).append(Package(match[1], match[2], version, fits))
        return found

    def command(self, extras: Sequence[str]) -> str:
        """The command that installs extras, or packages where a third party's kind names those instead."""
        pip = [sys.executable, "-m", "pip", "install"]
        known = (self._own.metadata.get_all("Provides-Extra") or []) if self._own is not None else extras
        ours = [extra for extra in extras if extra in known]
        others = [extra for extra in extras if extra not in known]
        checkout = self._checkout()
        if ours and checkout is not None:
            pip += ["-c", f"{checkout}/constraints.txt", "-e", f"{checkout}[{','.join(ours)}]"]
        elif ours:
            pip.append(f"{self.name}[{','.join(ours)}]")
        return shlex.join([*pip, *others])

    def _checkout(self) -> str | None:
        """The folder aifw is installed from in place, or None."""
        text = self._own.read_text("direct_url.json") if self._own is not None else None
        origin = json.loads(text) if text else {}
        if not origin.get("dir_info", {}).get("editable"):
            return None
        return unquote(urlsplit(origin["url"]).path)


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def satisfies(version: str, wanted: str) -> bool | None:
    """Whether a version is one of those asked for, by the numbers of the release; None if a condition is not understood."""
    for condition in wanted.split(","):
        match = re.fullmatch(r"\s*\(?(>=|==)\s*([\d.]+)\)?\s*", condition)
        if not condition.strip():
            continue
        if match is None:
            return None
        have, want = release(version), release(match[2])
        length = max(len(have), len(want))
        have, want = have + (0,) * (length - len(have)), want + (0,) * (length - len(want))
        if not (have >= want if match[1] == ">=" else have == want):
            return False
    return True


def torch_build(version: str, requirements: Sequence[str]) -> str:
    """For what a build of PyTorch computes, by the local part of its version, or else by what it declares to need."""
    local = version.partition("+")[2]
    if local == "cpu":
        return "for the processor only"
    if local.startswith("xpu"):
        return "for Intel GPUs"
    if local.startswith("cu"):
        return "for NVIDIA GPUs"
    if local.startswith("rocm"):
        return "for AMD GPUs"
    if any(re.match(r"nvidia|cuda", requirement) for requirement in requirements):
        return "for NVIDIA GPUs, by what it needs"
    if any(re.match(r"intel|dpcpp", requirement) for requirement in requirements):
        return "for Intel GPUs, by what it needs"
    return "for what is not declared"
