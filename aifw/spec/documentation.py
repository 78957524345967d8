"""Attribute docstrings of settings: the documentation that schema and explanations show."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache

from pydantic import BaseModel


@cache
def attribute_docstrings(settings: type[BaseModel]) -> dict[str, str]:
    """The string below each field, by the field's name; those of base classes too.

    Empty where the source is not at hand, as in an interactive session.
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
