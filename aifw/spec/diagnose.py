"""What is wrong with a spec, where, and how it is shown.

A `Diagnostic` carries everything a message needs, so that the three renderers (text for people, JSON for programs, workflow
commands for GitHub) work without the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from aifw.errors import AifwError, ExitStatus
from aifw.spec.models import Place

SHOWN_AT_ONCE = 40
"""Diagnostics printed as text before the rest is only counted."""
MOST_COLLECTED = 200
"""Diagnostics after which a spec is not looked at any further."""
_WINDOW = 160
_CONTEXT = 40

Style = Callable[[str, str], str]
"""Takes a text and its role (`error`, `code`, `frame`, `caret`) and returns it, coloured or not."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong.

    Attributes:
        code: Stable; `aifw explain CODE` says more.
        message: What is wrong, in one sentence.
        place: Where the offending characters start.
        width: How many characters are meant; at least 1.
        source: The line as written, without its line break; None if there is nothing to show.
        label: A few words that stand beside the caret: what is there, or what to write instead.
        notes: Where the value came from and what to do, a line each.
    """

    code: str
    message: str
    place: Place
    width: int = 1
    source: str | None = None
    label: str = ""
    notes: tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class Report:
    """Collects diagnostics while a spec is read, so that several can be shown at once."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    broken: set[tuple[str | int, ...]] = field(default_factory=set)

    def add(self, diagnostic: Diagnostic) -> None:
        """Report something. Raises `SpecInvalid` once there is more than anyone reads."""
        self.diagnostics.append(diagnostic)
        if len(self.diagnostics) >= MOST_COLLECTED:
            raise SpecInvalid(self.diagnostics)

    def covers(self, path: tuple[str | int, ...]) -> bool:
        """True if something at or above `path` was reported already, so that more about it would only be noise."""
        return any(path[:length] in self.broken for length in range(1, len(path) + 1))

    def raise_if_any(self) -> None:
        """Raise `SpecInvalid` if anything was reported."""
        if self.diagnostics:
            raise SpecInvalid(self.diagnostics)


class SpecInvalid(AifwError):
    """The spec cannot be used.

    Attributes:
        diagnostics: What is wrong, by file in the order given, line and column.
    """

    code = "AIFW003"
    exit_status = ExitStatus.SPEC_INVALID

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        found = list(dict.fromkeys(diagnostics))
        files = {file: number for number, file in enumerate(dict.fromkeys(each.place.file for each in found))}
        found.sort(key=lambda each: (files[each.place.file], each.place.line, each.place.column))
        self.diagnostics: tuple[Diagnostic, ...] = tuple(found)
        super().__init__(_tally(self.diagnostics))

    def __reduce__(self) -> tuple[object, ...]:
        return SpecInvalid, (self.diagnostics,)

    def __str__(self) -> str:
        return as_text(self.diagnostics)


def _plain(text: str, _role: str) -> str:
    return text


def _where(place: Place) -> str:
    return place.file if place.file.startswith("--set ") else f"{place.file}:{place.line}:{place.column}"


def _tally(diagnostics: Sequence[Diagnostic]) -> str:
    files = len({each.place.file for each in diagnostics})
    errors = len(diagnostics)
    where = "place" if any(each.place.file.startswith("--set ") for each in diagnostics) else "file"
    return f"{errors} error{'s' * (errors != 1)} in {files} {where}{'s' * (files != 1)}"


def as_text(diagnostics: Sequence[Diagnostic], style: Style = _plain) -> str:
    """Render for people: each with its source line and a caret, then a line that counts them."""
    shown = diagnostics[:SHOWN_AT_ONCE]
    blocks = [_block(each, style) for each in shown]
    left = len(diagnostics) - len(shown)
    if left:
        more = " or more; checking stopped there" if len(diagnostics) >= MOST_COLLECTED else ""
        blocks.append(f"... and {left}{more or ' more'}")
    code = shown[-1].code if shown else "AIFW003"
    blocks.append(f"{_tally(diagnostics)}. `aifw explain {code}` says more.")
    return "\n\n".join(blocks) + "\n"


def _block(diagnostic: Diagnostic, style: Style) -> str:
    number = str(diagnostic.place.line)
    margin = max(2, len(number))
    pad = " " * margin
    lines = [
        f"{style('error', 'error')}{style(f'[{diagnostic.code}]', 'code')}: {diagnostic.message}",
        f"{pad}{style('┌─', 'frame')} {_where(diagnostic.place)}",
    ]
    if diagnostic.source is not None:
        source, before, marked = _window(diagnostic.source, diagnostic.place.column - 1, diagnostic.width)
        caret = style("^" * max(1, _columns(marked)), "caret")
        label = f" {diagnostic.label}" if diagnostic.label else ""
        bar = style("│", "frame")
        lines += [
            f"{pad}{bar}",
            f"{number:>{margin}}{bar} {source}",
            f"{pad}{bar} {_blank(before)}{caret}{label}",
        ]
    elif diagnostic.label:
        lines.append(f"{pad}{style('=', 'frame')} {diagnostic.label}")
    lines += [f"{pad}{style('=', 'frame')} {note}" for note in diagnostic.notes]
    return "\n".join(lines)


def _window(source: str, start: int, width: int) -> tuple[str, str, str]:
    """Cut a long line around the caret. Returns the line, what stands before the caret, and what the caret marks."""
    source = "".join(" " if character < " " and character != "\t" else character for character in source)
    end = min(len(source), start + width)
    if len(source) <= _WINDOW:
        return source, source[:start], source[start:end]
    first = max(0, start - _CONTEXT)
    last = min(len(source), max(first + _WINDOW // 2, min(end, start + _WINDOW // 2) + _CONTEXT))
    head = "…" if first else ""
    tail = "…" if last < len(source) else ""
    return f"{head}{source[first:last]}{tail}", head + source[first:start], source[start : min(end, last)]


def _blank(text: str) -> str:
    """White space that takes the same columns as `text`; tabs stay tabs, since only the terminal knows how wide they are."""
    if text.isascii():
        return "".join("\t" if character == "\t" else " " for character in text)
    return "".join("\t" if character == "\t" else " " * _columns(character) for character in text)


def _columns(text: str) -> int:
    """Terminal columns that `text` takes: wide characters two, combining and other zero-width ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(character) in {"Mn", "Me", "Cf"} else 2 if east_asian_width(character) in "WF" else 1
        for character in text
    )


def as_json(diagnostics: Sequence[Diagnostic]) -> str:
    """Render as one JSON document; lines and columns count from 1, `end_column` is the first column after what is meant."""
    import json

    document = {
        "valid": not diagnostics,
        "errors": [
            {
                "code": each.code,
                "message": each.message,
                "file": each.place.file,
                "line": each.place.line,
                "column": each.place.column,
                "end_column": each.place.column + each.width,
                "source": each.source,
                "label": each.label,
                "notes": list(each.notes),
            }
            for each in diagnostics
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_github(diagnostics: Sequence[Diagnostic]) -> str:
    """Render as workflow commands, which GitHub shows beside the lines of a pull request."""
    lines = []
    for each in diagnostics:
        text = "\n".join([each.message, *([each.label] if each.label else []), *each.notes])
        properties = {
            "file": each.place.file,
            "line": each.place.line,
            "col": each.place.column,
            "endColumn": each.place.column + each.width,
            "title": each.code,
        }
        joined = ",".join(f"{name}={_escape(str(value), ':,')}" for name, value in properties.items())
        lines.append(f"::error {joined}::{_escape(text)}")
    return "".join(line + "\n" for line in lines)


def _escape(text: str, also: str = "") -> str:
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
