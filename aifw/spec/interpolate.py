"""`${section.name.key}` and `${oc.env:NAME}`: values taken from elsewhere.

The two plain forms are resolved here. Every other form that OmegaConf knows (nested, relative, escaped, further resolvers) is
left to OmegaConf, which is imported only then: it takes longer to import than a plan takes.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aifw.spec.diagnose import Report
from aifw.spec.source import Path, Source, Span

PLAIN = re.compile(
    r"\$\{(?:(?P<path>[A-Za-z_][\w-]*(?:\.[A-Za-z0-9_][\w-]*)*)"
    r"|oc\.env:(?P<name>[A-Za-z_]\w*)(?:,(?P<default>[A-Za-z_/][\w./-]*))?)\}",
    re.ASCII,
)
LONGEST = 1_000_000
"""Characters a text may grow to."""
MOST_CHARACTERS = 16_000_000
"""Characters that all interpolated texts may have together."""
MOST_EXPANDED = 100_000
"""Values that references to whole mappings and lists may add."""

_WORDS = frozenset({"null", "true", "false", "nan", "inf"})


class _Failed(Exception):
    """A value that could not be resolved; reported where it was found out."""


class _Unresolvable(Exception):
    """Carries what is wrong to the value in which it is reported."""

    def __init__(self, code: str, message: str, label: str = "", part: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.label = label
        self.part = part


def interpolate(
    data: dict[str, Any], source: Source, environment: Mapping[str, str], report: Report
) -> frozenset[Path]:
    """Replace every value that contains `${`, in place. What cannot be resolved is reported and left as it is.

    Returns:
        The paths of all values that contained `${`.
    """
    return _Interpolation(data, source, environment, report).run()


class _Interpolation:
    def __init__(self, data: dict[str, Any], source: Source, environment: Mapping[str, str], report: Report) -> None:
        self.data = data
        self.source = source
        self.environment = environment
        self.report = report
        self.pending: dict[tuple[int, str | int], Path] = {}
        self.stack: list[Path] = []
        self.borrowed: list[Path] = []
        self.grown = 0
        self.slow: Any = None
        self.written: dict[str, Any] = {}
        self.for_omegaconf: set[str] = set()
        self.known: dict[str, Any] = {}

    def run(self) -> frozenset[Path]:
        places: list[tuple[Any, str | int]] = []
        self.collect(self.data, (), places)
        paths = frozenset(self.pending.values())
        self.for_omegaconf = {text for text in {container[key] for container, key in places} if _only_omegaconf(text)}
        if self.for_omegaconf:
            # As written: what is resolved here on the way must not be interpolated again.
            self.written = copy.deepcopy(self.data)
        for container, key in places:
            if (id(container), key) in self.pending:
                with suppress(_Failed):
                    self.settle(container, key)
        if self.borrowed:
            self.check_size()
        return paths

    def collect(self, value: Any, path: Path, places: list[tuple[Any, str | int]]) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            if type(child) is str:
                if "${" in child:
                    self.pending[id(value), key] = (*path, key)
                    places.append((value, key))
            elif isinstance(child, dict | list):
                self.collect(child, (*path, key), places)

    def settle(self, container: Any, key: str | int) -> Any:
        """Resolve one value and put the result in its place."""
        path = self.pending[id(container), key]
        text = container[key]
        if path in self.stack:
            circle = [*self.stack[self.stack.index(path) :], path]
            raise _Unresolvable(
                "AIFW042", "values go round in a circle: " + " → ".join(_dotted(each) for each in circle)
            )
        self.stack.append(path)
        try:
            value = self.resolve(text, path)
        except _Unresolvable as error:
            del self.pending[id(container), key]
            self.complain(path, error)
            raise _Failed from None
        finally:
            self.stack.pop()
        # A circle that was found further down has settled this value as broken already.
        self.pending.pop((id(container), key), None)
        container[key] = value
        return value

    def resolve(self, text: str, path: Path) -> Any:
        if text in self.known:
            value = self.known[text]
            if isinstance(value, str):
                self.count(value)
            return value
        if text in self.for_omegaconf:
            return self.by_omegaconf(path)
        parts: list[Any] = []
        end = 0
        for match in PLAIN.finditer(text):
            if match.start() > end:
                parts.append(text[end : match.start()])
            end = match.end()
            if match["path"] is not None:
                value = self.look_up(match["path"], match[0])
            else:
                value = self.from_environment(match["name"], match["default"], match[0])
            if len(match[0]) == len(text):
                if isinstance(value, dict | list):
                    self.borrowed.append(path)
                else:
                    self.known[text] = value
                    if isinstance(value, str):
                        self.count(value)
                return value
            if isinstance(value, dict | list):
                what = "a mapping" if isinstance(value, dict) else "a list"
                raise _Unresolvable("AIFW043", f"`{match[0]}` is {what} and cannot be part of a text", part=match[0])
            parts.append(str(value))
        if end < len(text):
            parts.append(text[end:])
        whole = "".join(parts)
        self.count(whole)
        return whole

    def count(self, text: str) -> None:
        """Refuse texts that grow out of all proportion, each by itself or all together."""
        self.grown += len(text)
        if len(text) > LONGEST or self.grown > MOST_CHARACTERS:
            most = LONGEST if len(text) > LONGEST else MOST_CHARACTERS
            raise _Unresolvable("AIFW044", f"here texts that are put together grow beyond {most:,} characters")

    def look_up(self, dotted: str, part: str) -> Any:
        at: Any = self.data
        done: list[str] = []
        for name in dotted.split("."):
            key: str | int = name
            if isinstance(at, list) and name.isdecimal() and int(name) < len(at):
                key = int(name)
            elif not isinstance(at, dict) or name not in at:
                raise self.missing(at, name, done, part)
            container, at = at, at[key]
            done.append(name)
            if type(at) is str and (id(container), key) in self.pending:
                at = self.settle(container, key)
            elif type(at) is str and "${" in at and self.report.covers(tuple(done)):
                raise _Failed
        return at

    def missing(self, at: Any, name: str, done: list[str], part: str) -> _Unresolvable:
        where = ".".join(done)
        if isinstance(at, dict):
            from difflib import get_close_matches

            close = get_close_matches(name, [str(key) for key in at], n=1)
            within = f" in `{where}`" if where else ""
            label = f"did you mean `{'.'.join([*done, close[0]])}`?" if close else ""
            return _Unresolvable("AIFW040", f"there is no `{name}`{within} to take a value from", label, part)
        what = f"a list of {len(at)}" if isinstance(at, list) else "a single value"
        return _Unresolvable("AIFW040", f"there is no `{name}` in `{where}`, which is {what}", "", part)

    def from_environment(self, name: str, default: str | None, part: str) -> str:
        value = self.environment.get(name)
        if value is not None:
            return value
        if default is not None:
            return default
        raise _Unresolvable(
            "AIFW041",
            f"the environment variable `{name}` is not set",
            f"set it, or give a default: `${{oc.env:{name},default}}`",
            part,
        )

    def by_omegaconf(self, path: Path) -> Any:
        if self.slow is None:
            from aifw.spec.omega import Omega

            self.slow = Omega(self.written, self.environment)
        try:
            value = self.slow.resolve(path)
        except ValueError as error:
            code, _, message = str(error).partition(" ")
            raise _Unresolvable(code, message) from None
        if isinstance(value, dict | list):
            self.borrowed.append(path)
        elif isinstance(value, str):
            self.count(value)
        return value

    def complain(self, path: Path, error: _Unresolvable) -> None:
        if self.report.covers(path):
            return
        self.report.broken.add(path)
        found = self.source.find(path)
        span = found.value
        if error.part and (start := span.text.find(error.part)) >= 0:
            span = Span(span.document, span.start + start, span.start + start + len(error.part))
        notes = (f"`{_dotted(found.rest)}` comes from here",) if found.rest else ()
        self.report.add(span.diagnostic(error.code, error.message, error.label, notes))

    def check_size(self) -> None:
        """Refuse mappings that contain themselves, or that grow out of all proportion, by way of what they borrow."""
        left = MOST_EXPANDED
        for path in self.borrowed:
            value = self.data
            for part in path:
                value = value[part]  # type: ignore[index]
            try:
                left -= _size(value, left, [])
            except _Unresolvable as error:
                self.complain(path, error)
                # Whatever else there is to say is not worth walking through this.
                self.report.raise_if_any()


def _only_omegaconf(text: str) -> bool:
    if "\\" in text or "???" in text or "${" in PLAIN.sub("", text):
        return True
    return any((match["default"] or "").lower() in _WORDS for match in PLAIN.finditer(text))


def _size(value: Any, most: int, above: list[int]) -> int:
    if not isinstance(value, dict | list):
        return 1
    if id(value) in above:
        raise _Unresolvable("AIFW042", "this mapping contains itself")
    above.append(id(value))
    size = 1
    for child in value.values() if isinstance(value, dict) else value:
        size += _size(child, most - size, above)
        if size > most:
            raise _Unresolvable("AIFW044", f"this adds more than {MOST_EXPANDED:,} values to the spec")
    above.pop()
    return size


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def origins(source: Source, path: Path, data: Any) -> list[str]:
    """Notes that say where the value at `path` came from, if it was taken from elsewhere."""
    notes: list[str] = []
    while len(notes) < 5:
        found = source.find(path)
        if found.repeated is not None and not notes:
            notes.append(_from(found.repeated, found.repeated.text))
        text = found.scalar
        if text is None or "${" not in text:
            break
        matches = list(PLAIN.finditer(text))
        for match in matches:
            if match["name"] is not None:
                notes.append(f"from the environment variable `{match['name']}`")
            else:
                target = (*typed(match["path"].split("."), data), *found.rest)
                there = source.find(target).value
                notes.append(_from(there, f"{_dotted(target)}: {there.text}"))
        if len(matches) != 1 or matches[0]["path"] is None:
            break
        path = (*typed(matches[0]["path"].split("."), data), *found.rest)
    return notes


def _from(span: Span, what: str) -> str:
    place = span.place
    where = place.file if place.file.startswith("--set ") else f"{place.file}:{place.line}:{place.column}"
    first, *more = what.splitlines() or [""]
    shown = first if len(first) <= 80 and not more else f"{first[:79].rstrip()} …"
    return f"from {where}, `{shown}`"


def secretive(source: Source, path: Path) -> bool:
    """True if the value at `path` came from the environment, directly or not, and so must not be printed."""
    for _ in range(50):
        found = source.find(path)
        text = found.scalar or ""
        if "oc.env" in text:
            return True
        match = PLAIN.search(text)
        if match is None or match["path"] is None:
            return False
        path = (*match["path"].split("."), *found.rest)
    return False


def typed(parts: list[str], data: Any) -> Path:
    """The parts of a written path, as numbers where they lead into a list of `data`."""
    found: list[str | int] = []
    at = data
    for part in parts:
        key: str | int = int(part) if isinstance(at, list) and part.isdecimal() else part
        found.append(key)
        try:
            at = at[key]
        except (KeyError, IndexError, TypeError):
            at = None
    return tuple(found)
