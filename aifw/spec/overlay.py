"""Overlays and `--set`: documents that are merged over a spec.

Mappings merge, lists and scalars replace, and `null` takes an entry away, so that its default applies again (the rules of JSON
Merge Patch, RFC 7396).
"""

from __future__ import annotations

from typing import Any

from aifw.spec import parse
from aifw.spec.diagnose import Report
from aifw.spec.source import Document, Span


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base` in place, and return `base`."""
    for key, value in over.items():
        if value is None:
            base.pop(key, None)
        elif isinstance(value, dict):
            below = base.get(key)
            base[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            base[key] = value
    return base


def document_of_set(text: str, report: Report) -> Document | None:
    """Read `KEY=VALUE`: a dotted path and a YAML value. None, and a report, if it is not of that form."""
    prefix = "--set "
    whole = prefix + text
    path, equals, value = text.partition("=")
    document = Document((whole.splitlines() or [whole])[0], whole)
    if not equals:
        _malformed(document, report, len(prefix), len(whole), "`--set` wants KEY=VALUE", "there is no `=`")
        return None
    keys, start = [], len(prefix)
    for part in path.split("."):
        end = start + len(part)
        if not part.strip() or part != part.strip():
            _malformed(
                document,
                report,
                start,
                end,
                "`--set` wants a path such as stages.dpo.epochs before the `=`",
                "a name is missing here" if not part.strip() else "remove the blanks",
            )
            return None
        keys.append((part, start, end))
        start = end + 1
    document.keys = tuple(keys)
    document.offset = start
    before = len(report.diagnostics)
    if value.startswith("@"):
        # The one value people write that YAML reserves; on a command line its quotes would need quotes.
        document.data, document.verbatim = value, True
    else:
        parse.read(document, report)
    if len(report.diagnostics) > before:
        return None
    data = document.data
    for key, _, _ in reversed(keys):
        data = {key: data}
    document.data = data
    return document


def apply_set(base: dict[str, Any], document: Document, report: Report) -> None:
    """Merge a `--set` over `base`; a whole number in its path leads into a list."""
    at: Any = base
    value = document.data
    for key, start, end in document.keys:
        value = value[key]
        last = end == document.keys[-1][2]
        if isinstance(at, list):
            if not key.isdecimal() or int(key) >= len(at):
                has = f"it has {len(at)}, counted from 0" if at else "it is empty"
                _malformed(document, report, start, end, f"there is no entry `{key}` in this list", has)
                return
            if last:
                at[int(key)] = value
                return
            at = at[int(key)]
        elif isinstance(at, dict):
            below = at.get(key)
            if last or not isinstance(below, dict | list):
                merge(at, {key: value})
                return
            at = below
        else:
            _malformed(document, report, start, end, f"there is nothing below this that `{key}` could name", "")
            return


def _malformed(document: Document, report: Report, start: int, end: int, message: str, label: str) -> None:
    report.add(Span(document, start, max(end, start + 1)).diagnostic("AIFW009", message, label))
