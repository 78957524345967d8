"""Text with places: a file or a `--set`, what it says as plain data, and where each part of it stands.

Reading builds only plain data. Where something stands is needed only for a message, so spans come from a second look at the
text (`Document.find`), taken when there is something to complain about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aifw.spec.diagnose import Diagnostic
from aifw.spec.models import Place

Path = tuple[str | int, ...]
"""Keys and list positions from the top of a spec down to one value."""

_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Span:
    """Characters of a document, counted from 0; `end` is the first that does not belong."""

    document: Document
    start: int
    end: int

    @property
    def place(self) -> Place:
        """Where the span starts."""
        return self.document.place(self.start)

    def diagnostic(self, code: str, message: str, label: str = "", notes: Sequence[str] = ()) -> Diagnostic:
        """A diagnostic whose caret marks this span, or the part of it on its first line."""
        place = self.place
        source = self.document.lines[place.line - 1]
        width = max(1, min(self.end - self.start, len(source) - place.column + 1))
        return Diagnostic(code, message, place, width, source, label, tuple(notes))

    @property
    def text(self) -> str:
        """The characters themselves."""
        return self.document.text[self.start : self.end]


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """Where a value stands.

    Attributes:
        start: Its first character.
        end: The first character that does not belong.
        text: Of a scalar.
        children: Of a list, its entries; of a mapping, keys and values by turns.
        mapping: True for a mapping.
        block: True for a mapping or list without brackets.
        repeats: What an alias (`*name`) stands for.
        index: Key and value by key; made by the first `step`.
    """

    start: int
    end: int
    text: str | None = None
    children: list[Node] | None = None
    mapping: bool = False
    block: bool = False
    repeats: Node | None = None
    index: dict[str | None, tuple[Node, Node]] | None = None

    def step(self, part: str | int) -> tuple[Node | None, Node] | None:
        """The key, if it is a mapping, and the value that one part of a path leads to."""
        if self.repeats is not None:
            found = self.repeats.step(part)
            # What an alias repeats was written elsewhere, but used here.
            return None if found is None else (None, Node(self.start, self.end, repeats=found[1]))
        children = self.children or []
        if self.mapping:
            if self.index is None:
                self.index = {}
                for key, value in zip(children[::2], children[1::2], strict=False):
                    # The first of two equal keys is the one that counts; the second was reported.
                    self.index.setdefault(key.scalar, (key, value))
            return self.index.get(part) if isinstance(part, str) else None
        if isinstance(part, int) and part < len(children):
            return None, children[part]
        return None

    @property
    def scalar(self) -> str | None:
        """The text of a scalar, of what an alias repeats too; None for mappings and lists."""
        return self.repeats.scalar if self.repeats is not None else self.text


@dataclass(slots=True, eq=False, repr=False)
class Found:
    """How far a path leads into a document.

    Attributes:
        key: Span of the last key on the way; None at the top and inside lists.
        node: What stands there.
        rest: What of the path is left; empty if all of it was found.
    """

    document: Document
    key: Span | None
    node: Node
    rest: Path

    @property
    def value(self) -> Span:
        """Span of what stands there."""
        return Span(self.document, self.node.start, self.node.end)

    @property
    def scalar(self) -> str | None:
        """The text of a scalar, None for mappings and lists."""
        return self.node.scalar

    @property
    def repeated(self) -> Span | None:
        """Where the value was written, if it stands here by way of an alias."""
        node = self.node
        while node.repeats is not None:
            node = node.repeats
        return None if node is self.node else Span(self.document, node.start, node.end)


@dataclass(eq=False, repr=False)
class Document:
    """One text that takes part in a spec.

    Attributes:
        name: As the user named it.
        text: Everything in it, without a byte order mark.
        data: What it says: dicts, lists and scalars of YAML 1.2.
        offset: Where YAML starts in `text`; not 0 only for `--set`.
        keys: For `--set`, each key on the way and its span.
        interpolated: True if some value contains `${`.
        verbatim: True if what follows `offset` is a text as it stands, not YAML.
    """

    name: str
    text: str
    data: Any = None
    offset: int = 0
    keys: tuple[tuple[str, int, int], ...] = ()
    interpolated: bool = False
    verbatim: bool = False

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_BREAK.finditer(self.text))]

    @cached_property
    def lines(self) -> list[str]:
        """The lines without their breaks."""
        return _LINE_BREAK.split(self.text)

    def place(self, index: int) -> Place:
        """Line and column of a character."""
        from bisect import bisect_right

        line = bisect_right(self._starts, index)
        return Place(self.name, line, index - self._starts[line - 1] + 1)

    @cached_property
    def _root(self) -> Node:
        if self.verbatim:
            return Node(self.offset, len(self.text), text=self.text[self.offset :])
        from aifw.spec.parse import compose

        return compose(self.text[self.offset :], self.offset)

    def find(self, path: Path) -> Found:
        """Follow a path as far as it leads."""
        key: Span | None = None
        for position, (name, start, end) in enumerate(self.keys):
            if position == len(path) or str(path[position]) != name:
                # Only the keys of a `--set` imply a mapping here.
                whole = key if key is not None else Span(self, 0, len(self.text))
                return Found(self, key, Node(whole.start, whole.end, children=[], mapping=True), path[position:])
            key = Span(self, start, end)
        node = self._root
        for position in range(len(self.keys), len(path)):
            step = node.step(path[position])
            if step is None:
                return Found(self, key, node, path[position:])
            name_node, node = step
            key = Span(self, name_node.start, name_node.end) if name_node is not None else None
        return Found(self, key, node, ())


@dataclass(eq=False, repr=False)
class Source:
    """All documents of a spec, lowest first: the spec, its overlays, `--set`."""

    documents: list[Document]

    def find(self, path: Path) -> Found:
        """Where the value at `path` was written; the highest document that says something about it wins.

        If no document has all of the path, the one that leads furthest is returned.
        """
        best: Found | None = None
        for document in reversed(self.documents):
            found = document.find(path)
            if not found.rest:
                return found
            if best is None or len(found.rest) < len(best.rest):
                best = found
            if found.scalar is not None and len(found.rest) < len(path):
                return found
        assert best is not None
        return best

    def at_key(self, path: Path) -> Span:
        """Span of a key, or of the nearest thing above it that was written."""
        found = self.find(path)
        return found.key if found.key is not None else _first_line(found.value)

    def of_resource(self, address: str) -> Place:
        """Where the name of a resource stands."""
        return self.at_key(tuple(address.split(".", 1))).place

    def at_value(self, path: Path) -> Span:
        """Span of a value; of its key where the value goes over several lines; of the nearest thing above if it was not written."""
        found = self.find(path)
        if found.key is not None and (found.node.block or (found.rest and found.scalar is None)):
            return found.key
        return _first_line(found.value)

    def borrowed(self, path: Path) -> bool:
        """True if what stands at `path` was not written there but taken from elsewhere."""
        found = self.find(path)
        return bool(found.rest) and found.scalar is not None and "${" in found.scalar


def _first_line(span: Span) -> Span:
    if span.document.text[span.start : span.end].strip():
        return span
    # An empty value, such as `epochs:` with nothing behind it, has no characters; its place is one past the colon.
    return Span(span.document, span.start, span.start + 1)


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every scalar below `value` with its path."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from walk(child, (*path, key))
    elif isinstance(value, list):
        for position, child in enumerate(value):
            yield from walk(child, (*path, position))
    else:
        yield path, value
