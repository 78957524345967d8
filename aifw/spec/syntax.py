"""What libyaml says about text it cannot read, in words that help."""

from __future__ import annotations

from yaml.error import MarkedYAMLError, YAMLError

from aifw.spec.diagnose import Diagnostic
from aifw.spec.source import Document, Span

_QUOTED = "while scanning a quoted scalar"


def explain(document: Document, error: YAMLError) -> Diagnostic:
    """Turn an error of the parser into a diagnostic at the character that causes it."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return _unreadable(document, error)
    problem = error.problem or ""
    context = error.context or ""
    at = _clamp(document, error.problem_mark.index + document.offset)
    began = _clamp(document, error.context_mark.index + document.offset) if error.context_mark else at
    here = Span(document, at, at + 1)
    character = here.text
    line = _line_up_to(document, at)

    if context == _QUOTED and "end of stream" in problem:
        return _syntax(Span(document, began, began + 1), "this quote is never closed", "opened here")
    if context == _QUOTED and "document indicator" in problem:
        return _syntax(
            Span(document, began, began + 1), "this quote is not closed before the document ends", "opened here"
        )
    if "unknown escape character" in problem:
        return _syntax(
            Span(document, at, at + 2),
            f"`\\{document.text[at + 1 : at + 2]}` means nothing inside double quotes",
            "use single quotes, or write `\\\\` for a backslash",
        )
    if "cannot start any token" in problem:
        if character == "\t":
            return _syntax(here, "a tab cannot indent in YAML", "use spaces")
        word = _word(document, at)
        return _syntax(word, f"a value cannot start with `{character}` unless it is quoted", f'write "{word.text}"')
    if "mapping values are not allowed" in problem:
        return _syntax(
            here,
            "unexpected `:`",
            "quote the text before it, or start a new line",
            "a text that contains `: ` needs quotes",
        )
    if (
        "expected ',' or '}'" in problem
        or "expected ',' or ']'" in problem
        or context in {"while parsing a flow node", "while parsing a flow mapping", "while parsing a flow sequence"}
    ):
        opened = document.text[began : began + 1]
        if opened in {"{", "["} and at >= len(document.text.rstrip()):
            return _syntax(
                Span(document, began, began + 1),
                f"this `{opened}` is never closed",
                f"write the `{'}' if opened == '{' else ']'}` that belongs to it",
            )
        closing = "`,` or `}`" if opened == "{" else "`,` or `]`" if opened == "[" else "a value"
        return _syntax(_word(document, at), f"expected {closing} here", notes=_opened_at(document, began, at))
    if "could not find expected ':'" in problem:
        begun = Span(document, began, max(began + 1, _line_end(document, began)))
        return _syntax(begun, "this is neither a key nor a value", "a key is written `name: value`")
    if "did not find expected key" in problem:
        if "\t" in line:
            tab = at - len(line) + line.index("\t")
            return _syntax(Span(document, tab, tab + 1), "a tab cannot indent in YAML", "use spaces")
        return _syntax(
            _word(document, at),
            "this line does not belong to the mapping above it",
            "align it with the other keys",
            *_opened_at(document, began, at),
        )
    if "did not find expected '-' indicator" in problem:
        return _syntax(
            _word(document, at),
            "this line does not belong to the list above it",
            "start it with `- `, or indent it less",
            *_opened_at(document, began, at),
        )
    if "block sequence entries are not allowed" in problem:
        return _syntax(here, "a list entry cannot start here", "put `- ` on a line of its own below the key")
    if "block mapping" in problem or "simple key" in context:
        return _syntax(
            _word(document, at),
            "unexpected text",
            "check the indentation and the quotes on this line and the one above",
        )
    if "directive" in context or "directive" in problem or "incompatible YAML document" in problem:
        return _syntax(_word(document, at), "a spec takes no YAML directives", "remove the line that starts with `%`")
    return _syntax(_word(document, at), problem or context or "this is not YAML")


def _syntax(span: Span, message: str, label: str = "", *more: str, notes: tuple[str, ...] = ()) -> Diagnostic:
    return span.diagnostic("AIFW003", message, label, (*more, *notes))


def _opened_at(document: Document, began: int, at: int) -> tuple[str, ...]:
    start, here = document.place(began), document.place(at)
    return () if start.line == here.line else (f"it started at {start.file}:{start.line}:{start.column}",)


def _clamp(document: Document, index: int) -> int:
    """The parser puts some errors past the end, where there is nothing to show."""
    if index < len(document.text):
        return index
    return max(document.offset, len(document.text.rstrip()) - 1)


def _line_up_to(document: Document, at: int) -> str:
    return document.text[document.text.rfind("\n", 0, at) + 1 : at]


def _line_end(document: Document, at: int) -> int:
    end = document.text.find("\n", at)
    line = document.text[at : len(document.text) if end < 0 else end]
    return at + len(line.rstrip())


def _word(document: Document, at: int) -> Span:
    end = at
    while end < len(document.text) and not document.text[end].isspace() and document.text[end] not in ",]}":
        end += 1
    return Span(document, at, max(end, at + 1))


def _unreadable(document: Document, error: YAMLError) -> Diagnostic:
    for index, character in enumerate(document.text):
        code = ord(character)
        if (
            (code < 32 and character not in "\t\n\r")
            or (127 <= code < 160 and code != 0x85)
            or 0xD800 <= code < 0xE000
            or code in {0xFFFE, 0xFFFF, 0xFEFF}
        ):
            return Span(document, index, index + 1).diagnostic(
                "AIFW003", f"the control character U+{code:04X} is not allowed", "remove it"
            )
    return Span(document, document.offset, document.offset + 1).diagnostic(
        "AIFW003", f"this is not YAML: {str(error).splitlines()[0]}"
    )
