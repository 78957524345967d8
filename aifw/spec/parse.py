"""YAML 1.2 text to plain data, in one pass over the events of PyYAML's C parser.

The parser is libyaml's; what a scalar means, which tags and keys are allowed and how deep and large a spec may be is decided
here. Nothing here recurses, so no nesting can exhaust the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from yaml._yaml import CParser
from yaml.error import YAMLError
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from aifw.spec.diagnose import Report
from aifw.spec.scalars import resolve
from aifw.spec.source import Document, Node, Span

MOST_BYTES = 4 * 1024**2
DEEPEST = 64
MOST_EXPANDED = 100_000
"""Values that the aliases of one document may add."""

_SPOILT = "\0"
_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, tuple[type, ...]] = {
    f"{_CORE}str": (str,),
    f"{_CORE}int": (int,),
    f"{_CORE}float": (int, float),
    f"{_CORE}bool": (bool,),
    f"{_CORE}null": (type(None),),
}


@dataclass(slots=True, eq=False, repr=False)
class _Open:
    """A mapping or list whose end has not been reached."""

    value: Any
    key: str | None = None
    anchor: str | None = None


class _Refused(Exception):
    """The rest of the document cannot be read."""


def read(document: Document, report: Report) -> None:
    """Fill `document.data` from its text. What is wrong is reported; data stays None if nothing can be read."""
    try:
        text = document.text[document.offset :]
        document.data = _Reader(document, report).read(CParser(BytesIO(text.encode())).get_event)
        document.interpolated = "${" in text
    except _Refused:
        pass
    except YAMLError as error:
        from aifw.spec.syntax import explain

        report.add(explain(document, error))


class _Reader:
    def __init__(self, document: Document, report: Report) -> None:
        self.document = document
        self.report = report
        self.anchors: dict[str, Any] = {}
        self.expanded = 0
        self.spoilt: list[dict[str, Any]] = []

    def span(self, event: Any) -> Span:
        offset = self.document.offset
        return Span(self.document, event.start_mark.index + offset, event.end_mark.index + offset)

    def error(self, event: Any, code: str, message: str, label: str = "", *notes: str) -> None:
        self.report.add(self.span(event).diagnostic(code, message, label, notes))

    def read(self, get_event: Callable[[], Any]) -> Any:  # noqa: PLR0915 - one loop; a call per event would be felt
        """Build data from events.

        Scalars and mapping keys are nearly all events, so their way through the loop is kept short: known keys and plain
        scalars seen before cost one dictionary look-up.
        """
        values: dict[str, Any] = {}
        keys: set[str] = set()
        stack: list[_Open] = []
        top: Any = None
        documents = 0
        container: Any = None
        key: str | None = None
        while (event := get_event()) is not None:
            kind = type(event)
            if kind is ScalarEvent:
                text = event.value
                if container is not None and key is None and type(container) is dict:
                    if text in keys or self.accept_key(event, keys):
                        key = text
                        if key in container:
                            self.duplicate(event, key)
                            key = self.spoil(container)
                    else:
                        key = self.spoil(container)
                    if event.anchor is not None:
                        self.anchors[event.anchor] = text
                    continue
                if event.tag is None and event.implicit[0]:
                    value = values.get(text, values)
                    if value is values:
                        value = values[text] = self.plain(event)
                else:
                    value = text if event.tag is None else self.tagged(event)
                if event.anchor is not None:
                    self.anchors[event.anchor] = value
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                if container is not None and key is None and type(container) is dict:
                    self.error(event, "AIFW005", "a key must be text", "this is a list or a mapping")
                    raise _Refused
                if len(stack) >= DEEPEST:
                    self.error(
                        event, "AIFW007", f"nested more than {DEEPEST} levels deep", "the level that is too deep"
                    )
                    raise _Refused
                if event.tag not in {None, "!", f"{_CORE}map" if kind is MappingStartEvent else f"{_CORE}seq"}:
                    self.unknown_tag(event)
                value = {} if kind is MappingStartEvent else []
                if stack:
                    stack[-1].key = key
                stack.append(_Open(value, anchor=event.anchor))
                if event.anchor is not None:
                    self.anchors.pop(event.anchor, None)
                container, key = value, None
                continue
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                closed = stack.pop()
                value = closed.value
                if closed.anchor is not None:
                    self.anchors[closed.anchor] = value
                if stack:
                    container, key = stack[-1].value, stack[-1].key
                else:
                    container = None
            elif kind is AliasEvent:
                value = self.alias(event, stack)
                if type(container) is dict and key is None:
                    if not isinstance(value, str):
                        self.error(event, "AIFW005", "a key must be text")
                        raise _Refused
                    key = value
                    if key in container:
                        self.duplicate(event, key)
                        key = self.spoil(container)
                    continue
            elif kind is DocumentStartEvent:
                documents += 1
                if documents > 1:
                    self.error(
                        event,
                        "AIFW006",
                        "a spec is one YAML document, a second one starts here",
                        "remove this `---`, or put the rest into a file of its own and name it with `-f`",
                    )
                    raise _Refused
                continue
            elif kind is DocumentEndEvent:
                continue
            else:
                continue
            if container is None:
                top = value
            elif type(container) is list:
                container.append(value)
            else:
                container[key] = value
                key = None
        for mapping in self.spoilt:
            mapping.pop(_SPOILT, None)
        return top

    def spoil(self, mapping: dict[str, Any]) -> str:
        """A key to read a value under that does not count, because its own key was refused."""
        self.spoilt.append(mapping)
        return _SPOILT

    def accept_key(self, event: Any, keys: set[str]) -> bool:
        """Check a key that was not seen before in this document."""
        text = event.value
        plain = event.tag is None and event.implicit[0]
        if plain and text == "<<":
            self.error(
                event,
                "AIFW006",
                "merge keys (`<<`) are not part of YAML 1.2",
                "write the settings out, or take single values from `defaults` with `${defaults.name}`",
            )
            return False
        if event.tag is not None and event.tag not in {"!", f"{_CORE}str"}:
            self.unknown_tag(event)
            return False
        if plain and not isinstance(value := self.plain(event), str):
            what = "nothing" if value is None else f"the {_WORD[type(value)]} {text}"
            self.error(event, "AIFW005", f"a key must be text, this one is {what}", f'write "{text}"')
            return False
        if plain:
            keys.add(text)
        return True

    def plain(self, event: Any) -> Any:
        try:
            return resolve(event.value)
        except ValueError as error:
            self.error(event, "AIFW020", str(error))
            return 0

    def tagged(self, event: Any) -> Any:
        if event.tag == "!":
            return event.value
        wanted = _SCALAR_TAGS.get(event.tag)
        if wanted is None:
            self.unknown_tag(event)
            return event.value
        if wanted == (str,):
            return event.value
        value = resolve(event.value)
        if type(value) not in wanted:
            self.error(event, "AIFW020", f"`!!{event.tag.removeprefix(_CORE)}` does not fit what follows it")
        return float(value) if event.tag == f"{_CORE}float" and isinstance(value, int) else value

    def unknown_tag(self, event: Any) -> None:
        span = self.span(event)
        tag = span.text.split(maxsplit=1)[0] if span.text.startswith("!") else event.tag
        marked = Span(self.document, span.start, span.start + len(tag))
        self.report.add(
            marked.diagnostic("AIFW006", f"the tag `{tag}` is not allowed: a spec holds plain data", "remove the tag")
        )

    def duplicate(self, event: Any, key: str) -> None:
        self.error(event, "AIFW004", f"`{key}` is given twice", "remove one of the two")

    def alias(self, event: Any, stack: list[_Open]) -> Any:
        name = event.anchor
        if name not in self.anchors:
            if any(each.anchor == name for each in stack):
                self.error(event, "AIFW008", f"`*{name}` stands inside the very thing it repeats")
                raise _Refused
            self.error(
                event,
                "AIFW008",
                f"`*{name}` repeats an anchor that does not exist",
                f'a text that starts with * needs quotes: "*{name}"',
            )
            return None
        return self.copy(self.anchors[name], event, len(stack))

    def copy(self, value: Any, event: Any, depth: int) -> Any:
        """What an alias stands for, as a value of its own; refused once aliases have added too much."""
        self.expanded += 1
        if self.expanded > MOST_EXPANDED:
            self.error(event, "AIFW007", f"aliases expand this file by more than {MOST_EXPANDED:,} values")
            raise _Refused
        if not isinstance(value, dict | list):
            return value
        if depth >= DEEPEST:
            self.error(event, "AIFW007", f"aliases nest this more than {DEEPEST} levels deep")
            raise _Refused
        if isinstance(value, dict):
            return {key: self.copy(child, event, depth + 1) for key, child in value.items()}
        return [self.copy(child, event, depth + 1) for child in value]


def compose(text: str, offset: int) -> Node:
    """Where everything in a text stands that `read` got through.

    Args:
        text: YAML.
        offset: Added to every position.
    """
    get_event: Callable[[], Any] = CParser(BytesIO(text.encode())).get_event
    anchors: dict[str, Node] = {}
    top = Node(offset, offset)
    open_nodes: list[Node] = []
    while (event := get_event()) is not None:
        kind = type(event)
        if kind is MappingEndEvent or kind is SequenceEndEvent:
            open_nodes.pop().end = event.end_mark.index + offset
            continue
        node = Node(event.start_mark.index + offset, event.end_mark.index + offset)
        if kind is ScalarEvent:
            node.text = event.value
        elif kind is AliasEvent:
            node.repeats = anchors.get(event.anchor)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            node.children = []
            node.mapping = kind is MappingStartEvent
            node.block = not event.flow_style
        else:
            continue
        if kind is not AliasEvent and event.anchor is not None:
            anchors[event.anchor] = node
        if not open_nodes:
            top = node
        elif (children := open_nodes[-1].children) is not None:
            children.append(node)
        if node.children is not None:
            open_nodes.append(node)
    return top


_WORD: dict[type, str] = {int: "number", float: "number", bool: "truth value"}


def decode(name: str, raw: bytes, report: Report) -> Document | None:
    """Make a document of the bytes of a file, or report why that is not possible."""
    for mark, encoding in ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if raw.startswith(mark):
            start = Span(Document(name, ""), 0, 1)
            report.add(
                start.diagnostic("AIFW002", f"this file is {encoding}; a spec must be UTF-8", "save it as UTF-8")
            )
            return None
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return Document(name, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        shown = Document(name, before + raw[error.start :].decode("utf-8", "replace"))
        report.add(
            Span(shown, len(before), len(before) + 1).diagnostic(
                "AIFW002", f"byte 0x{raw[error.start]:02x} is not UTF-8 here", "save the file as UTF-8"
            )
        )
        return None
