"""What libyaml says about text it cannot read, in words that help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from yaml.error import MarkedYAMLError, YAMLError

from aifw.spec.diagnose import Diagnostic
from aifw.spec.source import Document, Span


@dataclass(frozen=True)
class _Problem:
    """An error of the parser.

    Attributes:
        what: libyaml's words for it.
        context: libyaml's words for what it was reading.
        at: The character that does not fit, counted from 0.
        began: Where it began to read that.
        past_end: True if it reached the end of the text.
    """

    document: Document
    what: str
    context: str
    at: int
    began: int
    past_end: bool

    @property
    def here(self) -> Span:
        """The character that does not fit."""
        return Span(self.document, self.at, self.at + 1)

    @property
    def opening(self) -> Span:
        """The first character of what it was reading."""
        return Span(self.document, self.began, self.began + 1)

    @property
    def other_line(self) -> bool:
        """True if what it was reading began on another line."""
        return self.document.place(self.began).line != self.document.place(self.at).line

    def word(self, at: int | None = None) -> Span:
        """From a character to the next blank or bracket."""
        start = self.at if at is None else at
        text = self.document.text
        end = start
        while end < len(text) and not text[end].isspace() and text[end] not in ",]}":
            end += 1
        return Span(self.document, start, max(end, start + 1))


def explain(document: Document, error: YAMLError) -> Diagnostic:
    """Turn an error of the parser into a diagnostic at the character that causes it."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return _control_character(document, error)
    reached = error.problem_mark.index + document.offset
    began = error.context_mark.index + document.offset if error.context_mark else reached
    problem = _Problem(
        document,
        error.problem or "",
        error.context or "",
        _clamp(document, reached),
        _clamp(document, began),
        reached >= len(document.text.rstrip()),
    )
    for rule in _RULES:
        diagnostic = rule(problem)
        if diagnostic is not None:
            return diagnostic
    return _syntax(problem.word(), problem.what or problem.context or "this is not YAML")


def _interpolation(problem: _Problem) -> Diagnostic | None:
    start = problem.document.text.rfind("${", 0, problem.at + 1)
    if start < 0 or problem.at - start > 2 or "expected ','" not in problem.what:
        return None
    span = _braces(problem, start)
    return _syntax(span, "inside { } or [ ] this needs quotes", f'write "{span.text}"')


def _quote(problem: _Problem) -> Diagnostic | None:
    if "unknown escape character" in problem.what:
        span = Span(problem.document, problem.at, problem.at + 2)
        advice = "use single quotes, or write `\\\\` for a backslash"
        return _syntax(span, f"`\\{span.text[1:]}` means nothing inside double quotes", advice)
    if problem.context == "while scanning a quoted scalar":
        return _syntax(problem.opening, "this quote is never closed", "opened here")
    return None


def _tab(problem: _Problem) -> Diagnostic | None:
    text = problem.document.text
    start = text.rfind("\n", 0, problem.at) + 1
    indentation = text[start : problem.at + 1]
    tab = start + indentation.find("\t")
    blank = not indentation[: tab - start].strip() and tab >= start
    fits = "cannot start any token" in problem.what or "expected key" in problem.what or "tab character" in problem.what
    if not (blank and fits):
        return None
    return _syntax(Span(problem.document, tab, tab + 1), "a tab cannot indent in YAML", "use spaces")


def _first_character(problem: _Problem) -> Diagnostic | None:
    if problem.context in {"while scanning an alias", "while scanning an anchor"}:
        word = problem.word(problem.began)
    elif "cannot start any token" in problem.what:
        word = problem.word()
    else:
        return None
    first = "a backtick" if word.text.startswith("`") else f"`{word.text[0]}`"
    return _syntax(word, f"a value cannot start with {first} unless it is quoted", f'write "{word.text}"')


def _bracket(problem: _Problem) -> Diagnostic | None:
    if problem.here.text in {"}", "]"} and "did not find expected" in problem.what and "flow" not in problem.context:
        return _syntax(problem.here, f"unexpected `{problem.here.text}`", "nothing was opened that this closes")
    if not problem.context.startswith("while parsing a flow"):
        return None
    opened = problem.opening.text
    closing = {"{": "}", "[": "]"}.get(opened)
    if closing is None:
        return _syntax(problem.word(), "expected a value here")
    if problem.past_end:
        return _syntax(problem.opening, f"this `{opened}` is never closed", f"`{closing}` is missing")
    if problem.other_line:
        reached = problem.document.place(problem.at)
        note = f"it was read on to {reached.file}:{reached.line}:{reached.column}, which does not fit in"
        return _syntax(problem.opening, f"this `{opened}` is not closed", f"`{closing}` is missing", note)
    label = "is a comma missing before this?" if problem.here.text == ":" else ""
    return _syntax(problem.word(), f"expected `,` or `{closing}` here", label)


def _colon(problem: _Problem) -> Diagnostic | None:
    if "mapping values are not allowed" in problem.what:
        note = "a text that contains `: ` needs quotes"
        return _syntax(problem.here, "unexpected `:`", "quote the text before it, or start a new line", note)
    if "could not find expected ':'" in problem.what:
        end = problem.document.text.find("\n", problem.began)
        line = problem.document.text[problem.began : end if end >= 0 else None].rstrip()
        span = Span(problem.document, problem.began, problem.began + max(1, len(line)))
        return _syntax(span, "this is neither a key nor a value", "a key is written `name: value`")
    return None


def _indentation(problem: _Problem) -> Diagnostic | None:
    start = problem.document.place(problem.began)
    notes = (f"it started at {start.file}:{start.line}:{start.column}",) if problem.other_line else ()
    if "did not find expected key" in problem.what:
        message = "this line does not belong to the mapping above it"
        return _syntax(problem.word(), message, "align it with the other keys", *notes)
    if "did not find expected '-' indicator" in problem.what:
        message = "this line does not belong to the list above it"
        return _syntax(problem.word(), message, "start it with `- `, or indent it less", *notes)
    if "block sequence entries are not allowed" in problem.what:
        return _syntax(problem.here, "a list entry cannot start here", "put `- ` on a line of its own below the key")
    return None


def _directive(problem: _Problem) -> Diagnostic | None:
    if "directive" not in problem.context + problem.what and "incompatible YAML document" not in problem.what:
        return None
    start = problem.document.text.rfind("%", 0, problem.at + 1)
    span = problem.word(start) if start >= 0 else problem.word()
    return _syntax(span, "a spec takes no YAML directives", "remove the line that starts with `%`")


_RULES: tuple[Callable[[_Problem], Diagnostic | None], ...] = (
    _interpolation,
    _quote,
    _tab,
    _first_character,
    _bracket,
    _colon,
    _indentation,
    _directive,
)


def _syntax(span: Span, message: str, label: str = "", *notes: str) -> Diagnostic:
    return span.diagnostic("AIFW003", message, label, notes)


def _clamp(document: Document, index: int) -> int:
    """The parser puts some errors past the end, where there is nothing to show."""
    if index < len(document.text):
        return index
    return max(document.offset, len(document.text.rstrip()) - 1)


def _braces(problem: _Problem, start: int) -> Span:
    """An interpolation from its `$` to the brace that closes it, or as far as its word goes."""
    text = problem.document.text
    depth = 0
    for end in range(start, len(text)):
        character = text[end]
        depth += (character == "{") - (character == "}")
        if character == "}" and depth == 0:
            return Span(problem.document, start, end + 1)
        if character == "\n":
            break
    return problem.word(start)


def _control_character(document: Document, error: YAMLError) -> Diagnostic:
    for index, character in enumerate(document.text):
        if not _printable(character):
            span = Span(document, index, index + 1)
            message = f"the control character U+{ord(character):04X} is not allowed"
            return span.diagnostic("AIFW003", message, "remove it")
    start = Span(document, document.offset, document.offset + 1)
    return start.diagnostic("AIFW003", f"this is not YAML: {str(error).splitlines()[0]}")


def _printable(character: str) -> bool:
    """What YAML 1.2 calls printable; a byte order mark inside of the text is not."""
    code = ord(character)
    if code < 0xA0:
        return 0x20 <= code < 0x7F or character in "\t\n\r\x85"
    return not 0xD800 <= code < 0xE000 and code not in {0xFFFE, 0xFFFF, 0xFEFF}
