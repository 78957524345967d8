"""`aifw explain`: say more about an error code or a kind."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.colour import style
from aifw.errors import AifwError, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from aifw.kind import AnyKind

_WIDTH = 88


@click.command()
@click.argument("what", metavar="CODE|KIND")
def command(what: str) -> None:
    """Say more about an error code (AIFW012) or a kind (dpo)."""
    click.echo(_code(what.upper()) if what.upper().startswith("AIFW") else _kind(what))


def _code(code: str) -> str:
    from aifw.spec.codes import CODES

    if code in CODES:
        title, text = CODES[code]
        return f"{style(f'{code}: {title}', 'name')}\n\n{_paragraph(text)}"
    for error in _errors(AifwError):
        if error.code == code and code != AifwError.code:
            from aifw.spec.documentation import summary

            told = f"{summary(error)} The exit status is {int(error.exit_status)}."
            return f"{style(f'{code}: {error.__name__}', 'name')}\n\n{_paragraph(told)}"
    from difflib import get_close_matches

    known = [*CODES, *(error.code for error in _errors(AifwError))]
    close = get_close_matches(code, known, n=1)
    raise UsageError(f"there is no error code {code}", hint=f"did you mean {close[0]}?" if close else None)


def _errors(root: type[AifwError]) -> Iterator[type[AifwError]]:
    yield root
    for each in root.__subclasses__():
        yield from _errors(each)


def _kind(name: str) -> str:
    from aifw.kind import all_kinds, find
    from aifw.spec.documentation import first_paragraph, summary

    kind = find(name)
    if kind is None:
        from aifw.spec.wording import closest

        kinds = [each.name for each in all_kinds()]
        close = closest(name, kinds)
        hint = f"did you mean `{close}`?" if close else f"kinds: {', '.join(kinds)}; error codes look like AIFW012"
        raise UsageError(f"there is no kind or code `{name}`", hint=hint)
    lines = [style(f"{kind.name} (section `{kind.section}`)", "name"), "", _paragraph(summary(type(kind)))]
    lines += ["", style("Settings", "name"), *_settings(kind.settings)]
    if kind.produces:
        lines += ["", style("Outputs", "name")]
        for output, made in kind.produces.items():
            lines += [f"  {output}: {made.name}", *_indented(first_paragraph(made))]
    lines += ["", style("Example", "name"), *_example(kind)]
    return "\n".join(lines)


def _settings(settings: type[BaseModel], depth: int = 1) -> Iterator[str]:
    from aifw.settings import KnownKeys
    from aifw.spec.documentation import attribute_docstrings, nested, type_words

    documented = attribute_docstrings(settings)
    margin = "  " * depth
    for name, field in settings.model_fields.items():
        written = field.alias or name
        default = (
            "required"
            if field.is_required()
            else f"default {_default(field.get_default(call_default_factory=True, validated_data={}))}"
        )
        yield f"{margin}{style(written, 'name')}: {type_words(field)}; {default}"
        if name in documented:
            yield from _indented(documented[name], depth + 1)
        keys = next((each for each in field.metadata if isinstance(each, KnownKeys)), None)
        if keys is not None:
            # Its values are of few forms, which the setting's own text tells, and of many names.
            for key, meaning in keys.described.items():
                yield f"{margin}  {style(key, 'name')}: {meaning}"
            continue
        for each in nested(field.annotation):
            yield from _settings(each, depth + 1)


def _default(value: Any) -> str:
    from json import dumps

    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return "as below"
    return dumps(value, ensure_ascii=False, default=list) if value is not None else "none"


def _example(kind: AnyKind) -> Iterator[str]:
    required = [field.alias or name for name, field in kind.settings.model_fields.items() if field.is_required()]
    yield f"  {kind.section}:"
    yield f"    my-{kind.name.replace('_', '-')}:"
    yield f"      kind: {kind.name}"
    for name in required:
        yield f"      {name}: ..."


def _paragraph(text: str, margin: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )


def _indented(text: str, depth: int = 2) -> list[str]:
    return _paragraph(" ".join(text.split()), "  " * depth).splitlines()
