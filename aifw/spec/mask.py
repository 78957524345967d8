"""Secrets that were written in clear, kept out of everything that is said about the spec: a CI log may be read by many.

Where a `Secret` is wanted, whatever is not `{env: NAME}` or `{file: PATH}` is taken for one, and so is what stands at a name that
was meant to be such a setting. Only settings of a known kind can be told; a text that is not YAML is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from aifw import kind as kinds
from aifw.settings import VARIABLE_PATTERN, Secret
from aifw.spec.diagnose import Diagnostic, SpecInvalid
from aifw.spec.interpolate import PLAIN, typed
from aifw.spec.source import Document, Path, Source, Span, walk
from aifw.spec.wording import closest, fields_at

_SHORTEST = 4
"""A text shorter than this is hidden where it stands, but not wherever the same characters are."""
_HEAD = 12
"""As many characters of a secret, or all if it has fewer, are taken for the secret: where it is quoted it may be cut."""
_DEEPEST = 5
"""Steps from a value to what it is taken from, as many as are told."""
_VARIABLE = re.compile(VARIABLE_PATTERN)


def masked(invalid: SpecInvalid, data: Any, source: Source) -> SpecInvalid:
    """The same findings with asterisks for the characters of secrets.

    Args:
        invalid: What was found.
        data: The whole spec, as far as it is interpolated.
        source: Where everything was written.
    """
    masks = _Masks(data, source)
    for path, is_key in _in_clear(data):
        masks.add(path, is_key=is_key)
    if not masks.anything:
        return invalid
    return SpecInvalid(masks.applied(each) for each in invalid.diagnostics)


def secret_paths(settings: type[BaseModel]) -> tuple[Path, ...]:
    """Paths of the fields of a settings class that are secrets; `*` stands for the elements of a list or the values of a mapping."""
    return tuple(
        path
        for name, field in settings.model_fields.items()
        for path in _secrets(field.annotation, (field.alias or name,))
    )


def _secrets(annotation: Any, path: Path) -> Iterator[Path]:
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        yield path
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from ((*path, *inner) for inner in secret_paths(annotation))
    elif origin in {list, tuple, dict}:
        yield from _secrets(get_args(annotation)[1 if origin is dict else 0], (*path, "*"))
    elif origin in {Annotated, Union, UnionType}:
        for option in get_args(annotation)[: 1 if origin is Annotated else None]:
            yield from _secrets(option, path)


def _in_clear(data: Any) -> Iterator[tuple[Path, bool]]:
    """Paths of scalars that may be secrets, and whether it is the key there that may be one."""
    for section, entries in data.items():
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            named = entry.get("kind") if isinstance(entry, dict) else None
            kind = kinds.find(named) if isinstance(named, str) else None
            if kind is not None:
                for wanted in secret_paths(kind.settings):
                    yield from _below(entry, wanted, (section, name), kind.settings, ())


def _below(value: Any, wanted: Path, at: Path, settings: type[BaseModel], passed: Path) -> Iterator[tuple[Path, bool]]:
    if not wanted and isinstance(value, dict):
        yield from _instead_of_a_secret(value, at)
    elif not wanted or not isinstance(value, dict | list):
        yield from (((*at, *path), False) for path, each in walk(value) if each is not None)
    elif wanted[0] == "*":
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _below(each, wanted[1:], (*at, key), settings, (*passed, "*"))
    elif isinstance(value, list):
        yield from (((*at, *path), False) for path, each in walk(value) if each is not None)
    else:
        known = fields_at(settings, passed)
        for key, each in value.items():
            if key == wanted[0] or (key not in known and closest(key, known) == wanted[0]):
                yield from _below(each, wanted[1:], (*at, key), settings, (*passed, wanted[0]))


def _instead_of_a_secret(value: dict[str, Any], at: Path) -> Iterator[tuple[Path, bool]]:
    for key, each in value.items():
        named = isinstance(each, str) and (key == "file" or (key == "env" and _VARIABLE.match(each)))
        if each is None and key not in Secret.model_fields:
            # `{hunter2}` and `{env:hunter2}` are mappings of one key to nothing.
            yield (*at, key), True
        elif not named:
            yield from (((*at, key, *path), False) for path, leaf in walk(each) if leaf is not None)


class _Masks:
    """Characters to hide, by document, and texts to hide wherever they stand."""

    def __init__(self, data: Any, source: Source) -> None:
        self._data = data
        self._source = source
        self._texts: set[str] = set()
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        self._lines: dict[str, list[str]] = {}
        self.anything = False

    def add(self, path: Path, *, is_key: bool = False, depth: int = 0) -> None:
        """Hide what stands at a path, and what it is taken from."""
        self.anything = True
        self._hide_text(str(path[-1]) if is_key else _value_at(self._data, path))
        for document in self._source.documents:
            found = document.find(path)
            if is_key and not found.rest and found.key is not None:
                self._hide_span(found.key)
            written = None if is_key else found.scalar
            if written is None or (found.rest and "${" not in written):
                continue
            if not PLAIN.fullmatch(written):
                self._hide_span(found.repeated or found.value)
                self._hide_text(written)
            for match in PLAIN.finditer(written) if depth < _DEEPEST else ():
                if match["path"] is not None:
                    target = (*typed(match["path"].split("."), self._data), *found.rest)
                    self.add(target, depth=depth + 1)

    def _hide_text(self, value: Any) -> None:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            parts = [part.strip() for line in str(value).splitlines() for part in PLAIN.sub("\n", line).splitlines()]
            self._texts.update(part for part in parts if len(part) >= _SHORTEST)

    def _hide_span(self, span: Span) -> None:
        ranges = self._ranges.setdefault(span.document.name, [])
        start = span.start
        for match in PLAIN.finditer(span.text):
            ranges.append((start, span.start + match.start()))
            start = span.start + match.end()
        ranges.append((start, span.end))

    def applied(self, diagnostic: Diagnostic) -> Diagnostic:
        """A diagnostic without what is hidden. Places stay as they are: an asterisk stands for each character."""
        place = diagnostic.place
        shown = diagnostic.source
        if shown is not None:
            lines = self._masked_lines(place.file)
            shown = self._without_texts(lines[place.line - 1] if place.line <= len(lines) else shown)
        if place.file.startswith("--set "):
            lines = self._masked_lines(place.file)
            place = replace(place, file=self._without_texts(lines[0] if lines else place.file))
        return replace(
            diagnostic,
            place=place,
            source=shown,
            message=self._without_texts(diagnostic.message),
            label=self._without_texts(diagnostic.label),
            notes=tuple(self._without_texts(note) for note in diagnostic.notes),
        )

    def _masked_lines(self, name: str) -> list[str]:
        if name not in self._lines:
            document = next((each for each in self._source.documents if each.name == name), None)
            if document is None:
                return []
            text = document.text
            for start, end in self._ranges.get(name, ()):
                text = text[:start] + re.sub(r"\S", "*", text[start:end]) + text[end:]
            self._lines[name] = Document(name, text).lines
        return self._lines[name]

    def _without_texts(self, text: str) -> str:
        for secret in sorted(self._texts, key=len, reverse=True):
            head = secret[:_HEAD]
            start = text.find(head)
            while start >= 0:
                end = start + len(head)
                while end < len(text) and end - start < len(secret) and text[end] == secret[end - start]:
                    end += 1
                text = f"{text[:start]}{'*' * (end - start)}{text[end:]}"
                start = text.find(head, end)
        return text


def _value_at(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
