"""Field types that a kind's settings are made of.

`Ref[TextModel]` is an edge of the graph, `Secret` never holds a secret, `Size`, `Duration`, `Money` and `Share` accept what
people write, and `execution` marks a field that does not change what a job makes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from aifw.errors import SourceUnavailable
from aifw.kind import Output
from aifw.units import parse_bytes, parse_money, parse_quantity, parse_seconds, parse_share

T = TypeVar("T")

REFERENCE_PATTERN = r"^(@[A-Za-z_][\w-]*|[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*){0,2})$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
"""Names of environment variables."""
_REFERENCE = re.compile(REFERENCE_PATTERN)


class Settings(BaseModel):
    """Base of every kind's settings: unknown keys are errors, values are frozen.

    Attribute docstrings are the documentation. `aifw.spec.documentation` reads them when a schema or an explanation is asked
    for; pydantic would parse the source of every class at import, which takes a tenth of the time of a plan.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, serialize_by_alias=True)


class Ref(str, Generic[T]):
    """A reference to another resource's output, or to an alias (`@champion`).

    `Ref[TextModel]` accepts what some kind produces as `TextModel`; `Ref[TextModel | Adapter]` accepts either. In settings it is
    the text the user wrote; the engine resolves it.
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls._check, core_schema.str_schema(strict=True))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: object) -> dict[str, Any]:
        return {"type": "string", "pattern": REFERENCE_PATTERN}

    @classmethod
    def _check(cls, text: str) -> Ref[T]:
        if not _REFERENCE.match(text):
            raise PydanticCustomError(
                "reference", "expected a reference such as `name`, `section.name`, `name.output` or `@alias`"
            )
        return cls(text)


class _Execution:
    """Marker in a field's metadata; see `execution`."""

    def __repr__(self) -> str:
        return "execution"


class KnownKeys:
    """Marker in a field's metadata: its value is a mapping with some of these keys, though its type does not say so.

    Args:
        described: What each key means, by key.
    """

    def __init__(self, described: Mapping[str, str]) -> None:
        self.described = described


execution = _Execution()
"""`threads: Annotated[int, execution]`: says how a job runs, not what it makes, so it is no part of its identity."""


def _parser(parse: Any, accepts: tuple[type, ...]) -> BeforeValidator:
    def validate(value: object) -> object:
        if isinstance(value, bool):
            raise PydanticCustomError("quantity", "expected a quantity, got true or false")
        if isinstance(value, str):
            try:
                return parse(value)
            except ValueError as error:
                raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None
        if isinstance(value, accepts) and value < 0:  # type: ignore[operator]
            raise PydanticCustomError("quantity", "must not be negative")
        return value

    return BeforeValidator(validate)


_NUMBER = r"\+?[0-9]+(_[0-9]+)*(\.[0-9]+)?([eE][+-]?[0-9]+)?"
"""A quantity's number as `aifw.units` reads it, in a form that editors understand too; it cannot be negative."""


def _dollars(value: str) -> int:
    return parse_money(value)


Size = Annotated[
    int,
    _parser(parse_bytes, (int,)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*([kKmMgGtTpP][iI]?)?[bB]\s*$|^\s*{_NUMBER}\s*$"},
            ]
        }
    ),
]
"""Bytes; written `48GiB`, `500 MB` or a number of bytes."""

Duration = Annotated[
    float,
    _parser(parse_seconds, (int, float)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {
                    "type": "string",
                    "pattern": r"^\s*(\d+(\.\d+)?\s*([mM]?[sS]|[sS][eE][cC]|[mM]([iI][nN])?|[hHdDwW])\s*)+$",
                },
            ]
        }
    ),
]
"""Seconds; written `6h`, `90 min`, `1h30m` or a number of seconds."""

Money = Annotated[
    int,
    _parser(_dollars, (int,)),
    WithJsonSchema({"type": "string", "pattern": rf"^\s*(\$\s*{_NUMBER}|{_NUMBER}\s*([uU][sS][dD])?)\s*$"}),
]
"""Micro-dollars; written `$200` or `12.50 USD`."""

Share = Annotated[
    float,
    _parser(parse_share, (int, float)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*%?\s*$"},
            ]
        }
    ),
]
"""A fraction; written `25%` or `0.25`. Bounds are the field's business."""


Quantity = Annotated[
    float,
    _parser(parse_quantity, ()),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number"},
                {
                    "type": "string",
                    "pattern": rf"^\s*\$?\s*-?{_NUMBER}\s*([xX%]|[uU][sS][dD]|([kKmMgGtTpP][iI]?)?[bB]|[a-zA-Z]{{1,3}})?\s*$",
                },
            ]
        }
    ),
]
"""What is wanted of a measure; written `15%`, `80ms`, `6GiB`, `$200`, `5x` or a number."""


class Secret(Settings):
    """Where a secret is to be found, never the secret: `{env: NAME}` or `{file: PATH}`."""

    env: Annotated[str, Field(pattern=VARIABLE_PATTERN)] | None = None
    """Name of an environment variable."""
    file: str | None = None
    """Path of a file whose first line is the secret."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise PydanticCustomError("secret", "a secret is given as either `env: NAME` or `file: PATH`")
        return self

    def resolve(self) -> str:
        """Read the secret, in the process that uses it.

        Raises:
            SourceUnavailable: The variable is not set or the file cannot be read.
        """
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is None:
                raise SourceUnavailable(f"the environment variable {self.env} is not set")
            return value
        assert self.file is not None
        try:
            return Path(self.file).expanduser().read_text(encoding="utf-8").splitlines()[0]
        except (OSError, IndexError) as error:
            raise SourceUnavailable(f"the secret's file {self.file} cannot be read: {error}") from error


@cache
def reference_paths(settings: type[BaseModel]) -> tuple[tuple[tuple[str, ...], tuple[type[Output], ...]], ...]:
    """Find the fields of a settings class that are references.

    Returns:
        Pairs of a path of names as a spec writes them, so aliases where a field has one (`*` stands for the elements of a list or the values of a mapping) and the output types accepted there.
    """
    found: list[tuple[tuple[str, ...], tuple[type[Output], ...]]] = []
    for name, field in settings.model_fields.items():
        _collect(field.annotation, (field.alias or name,), found)
    return tuple(found)


def _collect(annotation: Any, path: tuple[str, ...], found: list[Any]) -> None:
    origin = get_origin(annotation)
    if origin is Ref:
        (wanted,) = get_args(annotation)
        types = get_args(wanted) if get_origin(wanted) in {Union, UnionType} else (wanted,)
        found.append((path, types))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found.extend(((*path, *inner), types) for inner, types in reference_paths(annotation))
    elif origin in {list, tuple, dict}:
        _collect(get_args(annotation)[1 if origin is dict else 0], (*path, "*"), found)
    elif origin is Annotated:
        _collect(get_args(annotation)[0], path, found)
    elif origin in {Union, UnionType}:
        for option in get_args(annotation):
            _collect(option, path, found)


@cache
def execution_fields(settings: type[BaseModel]) -> frozenset[str]:
    """Names of the top-level fields marked `execution`."""
    return frozenset(
        field.alias or name for name, field in settings.model_fields.items() if execution in field.metadata
    )
