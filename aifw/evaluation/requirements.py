"""How a spec writes what evidence must show: `better`, or a mapping of a margin and bounds, for each measure.

    require: {preference_accuracy: better, perplexity: {not_worse_by: 2%}, latency_p95: {at_most: 80ms}}

Bounds are written in the measure's unit: a share (`2%`), a duration (`80ms`), a size (`6GiB`), an amount (`$0.35`) or a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from aifw.evaluation.measures import Measure
from aifw.settings import Duration, KnownKeys, Money, Settings, Share, Size
from aifw.units import MICRO_DOLLARS, parse_money


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one measure must show; what is None is not asked for. All that is asked for must hold.

    Attributes:
        better: Shown to be better than the incumbent's.
        not_worse_by: Shown to be worse by less than this: points of a share, else a part of the incumbent's value.
        at_most: Not above this, with its whole interval.
        at_least: Not below this, with its whole interval.
    """

    better: bool = False
    not_worse_by: float | None = None
    at_most: float | None = None
    at_least: float | None = None


def _dollars(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_money(value) / MICRO_DOLLARS
        except ValueError as error:
            raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None
    return value


_MONEY_SCHEMA = next(each for each in get_args(Money) if isinstance(each, WithJsonSchema))

Dollars = Annotated[
    float,
    BeforeValidator(_dollars),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, dict(_MONEY_SCHEMA.json_schema or {})]}),
    Field(ge=0),
]
"""Dollars; written `$0.35` or a number."""


class Wanted(Settings):
    """Bounds and a margin; at least one."""

    @model_validator(mode="after")
    def _something(self) -> Wanted:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if not given:
            names = " or ".join(f"`{name}`" for name in reversed(type(self).model_fields))
            raise PydanticCustomError("require", "{reason}", {"reason": f"expected {names}"})
        low, high = getattr(self, "at_least", None), getattr(self, "at_most", None)
        if low is not None and high is not None and low > high:
            raise PydanticCustomError("require", "nothing is both `at_least` the one and `at_most` the other")
        return self


class ShareBounds(Wanted):
    """Bounds of a share."""

    at_least: Share | None = None
    """The least it may be: `90%` or 0.9. The whole interval must lie there."""
    at_most: Share | None = None
    """The most it may be: `5%` or 0.05. The whole interval must lie there."""


class NumberBounds(Wanted):
    """Bounds of a number."""

    at_least: float | None = None
    """The least it may be. The whole interval must lie there."""
    at_most: float | None = None
    """The most it may be. The whole interval must lie there."""


class ShareRequirement(ShareBounds):
    """What a share must show."""

    not_worse_by: Annotated[Share, Field(gt=0, lt=1)] | None = None
    """Points by which it may at most be worse than the incumbent's: `2%` or 0.02."""


class NumberRequirement(NumberBounds):
    """What a number must show."""

    not_worse_by: Annotated[Share, Field(gt=0)] | None = None
    """Part of the incumbent's value by which it may at most be worse: `2%` or 0.02."""


class DurationRequirement(Wanted):
    """What a duration must show."""

    at_least: Duration | None = None
    """The least it may be: `80ms`. The whole interval must lie there."""
    at_most: Duration | None = None
    """The most it may be: `80ms`. The whole interval must lie there."""
    not_worse_by: Annotated[Share, Field(gt=0)] | None = None
    """Part of the incumbent's value by which it may at most be worse: `10%` or 0.1."""


class SizeRequirement(Wanted):
    """What a size must show."""

    at_least: Size | None = None
    """The least it may be: `6GiB`."""
    at_most: Size | None = None
    """The most it may be: `6GiB`."""
    not_worse_by: Annotated[Share, Field(gt=0)] | None = None
    """Part of the incumbent's value by which it may at most be worse: `10%` or 0.1."""


class AmountRequirement(Wanted):
    """What an amount of money must show."""

    at_least: Dollars | None = None
    """The least it may be: `$0.35`."""
    at_most: Dollars | None = None
    """The most it may be: `$0.35`."""
    not_worse_by: Annotated[Share, Field(gt=0)] | None = None
    """Part of the incumbent's value by which it may at most be worse: `10%` or 0.1."""


_BY_UNIT: dict[str, type[Wanted]] = {
    "share": ShareRequirement,
    "seconds": DurationRequirement,
    "bytes": SizeRequirement,
    "dollars": AmountRequirement,
}


_Values = (
    ShareRequirement
    | NumberRequirement
    | DurationRequirement
    | SizeRequirement
    | AmountRequirement
    | ShareBounds
    | NumberBounds
)

Requirements = dict[str, Literal["better"] | _Values | None]
"""What is required, by measure; annotated by `Measures`, which says what each of them takes."""

Bounds = dict[str, Literal["off"] | _Values | None]
"""The same of what only has bounds."""

TASKS = "tasks"
_TASK = re.compile(r"[^/]+/[^/]+(/[^/]+)?")


class Measures(KnownKeys):
    """Marks a mapping whose keys are measures, each with what its unit and direction allow.

    A class of settings with a field for every measure would do the same, but building it takes longer than the rest of a plan.

    Args:
        measures: The measures that may be named.
        tasks: Measures of tasks of lm-evaluation-harness may be named below `tasks`.
        off: A measure may be `off` instead.
        required: Something has to be asked for.
    """

    def __init__(self, measures: Iterable[Measure], *, tasks: bool = False, off: bool = False, required: bool) -> None:
        self.measures = {each.name: each for each in measures}
        self.tasks = tasks
        self.off = off
        self.required = required
        described = {name: _words(each) for name, each in self.measures.items()}
        super().__init__(described | {TASKS: _TASK_WORDS} if tasks else described)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        built = {each: handler.generate_schema(each) for each in dict.fromkeys(map(_takes, self.measures.values()))}
        values = {
            (bounds, tested): self._value(schema, tested=tested)
            for bounds, schema in built.items()
            for tested in (False, True)
        }
        fields = {
            name: core_schema.typed_dict_field(values[_takes(each), self._tested(each)], required=False)
            for name, each in self.measures.items()
        }
        if self.tasks:
            task = self._value(handler.generate_schema(ShareRequirement), tested=True)
            keys = core_schema.no_info_after_validator_function(_task, core_schema.str_schema())
            fields[TASKS] = core_schema.typed_dict_field(core_schema.dict_schema(keys, task), required=False)
        mapping = core_schema.typed_dict_schema(fields, extra_behavior="forbid")
        return core_schema.no_info_after_validator_function(self._something, mapping)

    def _tested(self, measure: Measure) -> bool:
        return not self.off and measure.form != "observed" and measure.better != "neither"

    def _value(self, bounds: CoreSchema, *, tested: bool) -> CoreSchema:
        word = "better" if tested else "off" if self.off else ""
        if not word:
            return core_schema.nullable_schema(bounds)
        # What is wrong with a mapping is told about the mapping alone.
        either = core_schema.union_schema([core_schema.literal_schema([word]), bounds])
        choices = {"mapping": bounds, "either": either}
        return core_schema.nullable_schema(core_schema.tagged_union_schema(choices, _form))

    def _something(self, found: dict[str, Any]) -> dict[str, Any]:
        if self.required and not any(True for _ in requirements(found)):
            raise PydanticCustomError(
                "require", "expected at least one requirement, such as `preference_accuracy: better`"
            )
        return found

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        written = handler(schema)
        for name, each in handler.resolve_ref_schema(written)["properties"].items():
            each.pop("title", None)
            taken = each["additionalProperties"] if name == TASKS else each
            taken["anyOf"] = _choices(taken)
            each["description"] = self.described[name]
        return written


def _form(value: object) -> str:
    return "mapping" if isinstance(value, dict | Wanted) else "either"


def _choices(written: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The choices of a schema whose choices are choices themselves, each once."""
    found: list[dict[str, Any]] = []
    for each in [*written.get("anyOf", ()), *written.get("oneOf", ())]:
        inner = _choices(each) if {"anyOf", "oneOf"} & each.keys() else [each]
        found += [choice for choice in inner if choice not in found]
    return found


def _task(name: str) -> str:
    if not _TASK.fullmatch(name):
        raise PydanticCustomError(
            "task", "expected a task and what it measures, such as `arc_easy/acc` or `gsm8k/exact_match/strict-match`"
        )
    return name


def requirements(wanted: Mapping[str, Any]) -> Iterator[tuple[str, Requirement]]:
    """What a mapping of measures asks for, by measure."""
    for name, each in {**wanted, **(wanted.get(TASKS) or {})}.items():
        if each == "better":
            yield name, Requirement(better=True)
        elif isinstance(each, Wanted):
            yield name, Requirement(**{field: value for field, value in each if value is not None})


_TASK_WORDS = "Measures of tasks of lm-evaluation-harness: `arc_easy/acc: better`."


def _words(measure: Measure) -> str:
    """`P95 latency, in seconds; lower is better.`."""
    title = measure.title[:1].upper() + measure.title[1:]
    words = measure.unit.replace("_", " ")
    unit = "" if measure.unit == "number" or words in measure.title else f", in {words}"
    better = "" if measure.better == "neither" else f"; {measure.better} is better"
    return f"{title}{unit.replace('in share', 'a share')}{better}."


def _takes(measure: Measure) -> type[Wanted]:
    if measure.better == "neither":
        return ShareBounds if measure.unit == "share" else NumberBounds
    return _BY_UNIT.get(measure.unit, NumberRequirement)
