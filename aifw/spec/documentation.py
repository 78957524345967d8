"""Attribute docstrings of settings: the documentation that schema and explanations show."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aifw.settings import Duration, Money, Ref, Share, Size


@cache
def attribute_docstrings(settings: type[BaseModel]) -> dict[str, str]:
    """The string below each field, by the field's name; those of base classes too.

    Empty where the source is not at hand, as in an interactive interpreter.
    """
    found: dict[str, str] = {}
    for each in reversed(settings.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            found.update(_own(each))
    for name, field in settings.model_fields.items():
        if field.description:
            found[name] = field.description
    return found


def _own(settings: type[BaseModel]) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(settings)))
    except (OSError, TypeError, SyntaxError):
        return {}
    (definition,) = tree.body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, below in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[statement.target.id] = inspect.cleandoc(below.value.value)
    return found


def summary(documented: object) -> str:
    """A docstring in one paragraph; empty if there is none of its own."""
    text = inspect.getdoc(documented) or ""
    return " ".join(text.split())


def first_paragraph(documented: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def attribute_section(documented: type) -> dict[str, str]:
    """What the section `Attributes:` of a class's docstring says, by name."""
    _, _, section = (inspect.getdoc(documented) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        begins = re.match(r" {4}(\w+): (.*)", line)
        if begins is not None:
            name = begins[1]
            found[name] = begins[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


_PLAIN: dict[object, str] = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything"}
_QUANTITIES: tuple[tuple[Any, str], ...] = (
    (Size, "size (`48GiB`)"),
    (Duration, "duration (`6h`)"),
    (Money, "amount (`$200`)"),
    (Share, "share (`25%`)"),
)


def type_words(field: FieldInfo) -> str:
    """What a field takes, in a few words: `whole number, at least 1`, `` `auto` or whole number ``."""
    return _words(field.annotation, tuple(field.metadata))


def nested(annotation: object) -> Iterator[type[BaseModel]]:
    """Settings classes that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not Ref:
        for each in get_args(annotation):
            yield from nested(each)


def _words(annotation: object, metadata: tuple[object, ...] = ()) -> str:
    bounds = [text for each in metadata if (text := _bound(each))]
    for quantity, text in _QUANTITIES:
        if quantity.__metadata__[0] in metadata:
            return ", ".join([text, *bounds])
    return ", ".join([_type(annotation), *bounds])


def _type(annotation: object) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        return _words(inner, tuple(metadata))
    if origin is Ref:
        (wanted,) = get_args(annotation)
        outputs = get_args(wanted) if get_origin(wanted) in {Union, UnionType} else (wanted,)
        return "reference to " + " or ".join(getattr(each, "name", each.__name__).replace("_", " ") for each in outputs)
    if origin is Literal:
        return " | ".join(f"`{each}`" for each in get_args(annotation))
    if origin in {Union, UnionType}:
        return " or ".join(dict.fromkeys(_type(each) for each in get_args(annotation) if each is not type(None)))
    if origin in {list, tuple, set, frozenset}:
        return f"list of {_type(get_args(annotation)[0])}"
    if origin is dict:
        return f"mapping to {_type(get_args(annotation)[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bound(metadata: object) -> str:
    for attribute, words in (
        ("ge", "at least"),
        ("gt", "more than"),
        ("le", "at most"),
        ("lt", "less than"),
        ("multiple_of", "a multiple of"),
    ):
        value = getattr(metadata, attribute, None)
        if value is not None:
            return f"{words} {value}"
    return ""
