"""pydantic's findings in our words: what is expected, what is there, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aifw.settings import KnownKeys
from aifw.spec.diagnose import Diagnostic, Report
from aifw.spec.interpolate import origins, secretive
from aifw.spec.models import PATTERN_WORDS
from aifw.spec.source import Path, Source

_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "none_required": "nothing (null)",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "less than {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
}
_LENGTHS = {
    "too_short": ("min_length", "at least {} entr{}", "ies", "y"),
    "too_long": ("max_length", "at most {} entr{}", "ies", "y"),
    "string_too_short": ("min_length", "at least {} character{}", "s", ""),
    "string_too_long": ("max_length", "at most {} character{}", "s", ""),
}


@dataclass(frozen=True)
class _Finding:
    """One of pydantic's errors and the path it is about."""

    path: Path
    """Below the settings; for a missing setting with its name."""
    tags: int
    """How many parts of pydantic's location are names of union branches rather than keys."""
    details: ErrorDetails


def findings(
    error: ValidationError,
    data: Any,
    at: Path,
    settings: type[BaseModel],
    subject: str,
    source: Source,
    whole: Any,
    report: Report,
) -> Iterator[Diagnostic]:
    """Diagnostics for everything pydantic found in one mapping of settings.

    Args:
        error: What pydantic raised.
        data: What was validated.
        at: Its path in the spec.
        settings: The class it was validated against.
        subject: What has these settings: `kind `dpo``.
        source: Where everything was written.
        whole: The data of the whole spec.
        report: Paths that are known to be broken are left out.
    """
    found = [_locate(each, data) for each in error.errors(include_url=False)]
    # A value that fits no branch of a union fails once per branch; the branch that got furthest is the one that was meant.
    found = [
        each
        for each in found
        if not (
            each.details["type"] not in {"missing", "extra_forbidden"}
            and any(len(other.path) > len(each.path) and other.path[: len(each.path)] == each.path for other in found)
        )
    ]
    given_up = {
        closest(str(each.path[-1]), fields_at(settings, each.path[:-1]))
        for each in found
        if each.details["type"] == "extra_forbidden"
    }
    # A setting that is missing because its name was misspelt is said once, at the misspelt name.
    found = [each for each in found if each.details["type"] != "missing" or each.path[-1] not in given_up]
    # What is said of the value of an unknown key would only be mixed up with what is said of the key.
    unknown_keys = {each.path for each in found if "[key]" in each.details["loc"]}
    found = [each for each in found if each.path not in unknown_keys or "[key]" in each.details["loc"]]
    together: dict[tuple[Path, bool], list[_Finding]] = {}
    for each in found:
        alone = each.details["type"] in {"missing", "extra_forbidden"}
        together.setdefault((each.path, alone), []).append(each)
    for (path, _), group in together.items():
        if report.covers((*at, *path)):
            continue
        yield _diagnose(group, path, at, data, settings, subject, source, whole)


def _locate(details: ErrorDetails, data: Any) -> _Finding:
    path: list[str | int] = []
    value = data
    tags = 0
    location = details["loc"]
    for position, part in enumerate(location):
        if (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]  # type: ignore[index]
            path.append(part)
        elif details["type"] == "missing" and position == len(location) - 1:
            path.append(part)
        elif part != "[key]":
            tags += 1
    return _Finding(tuple(path), tags, details)


def _diagnose(
    group: Sequence[_Finding],
    path: Path,
    at: Path,
    data: Any,
    settings: type[BaseModel],
    subject: str,
    source: Source,
    whole: Any,
) -> Diagnostic:
    first = group[0].details
    kind = first["type"]
    name = spell(path)
    if kind == "extra_forbidden":
        return _unknown(path, at, data, settings, subject, source, whole)
    if kind == "missing":
        return _missing(path, at, subject, source, whole)
    key = "[key]" in first["loc"]
    span = source.at_key((*at, *path)) if key else source.at_value((*at, *path))
    notes = origins(source, (*at, *path), whole)
    value = first["input"]
    if kind in {"value_error", "assertion_error"} or not _phrase(first):
        message = _own_words(first, name)
        label = "" if not notes or secretive(source, (*at, *path)) else f"is {show(value)} here"
        code = "AIFW024" if isinstance(value, dict) or not path else "AIFW023"
        return span.diagnostic(code, message, label, notes)
    phrases = list(dict.fromkeys(phrase for each in group if (phrase := _phrase(each.details))))
    choices = [choice for each in group for choice in _choices(each.details)]
    words = _choice_words(choices, [each for each in phrases if not each.startswith("\0")])
    code = next((_code(each.details) for each in group if _code(each.details) != "AIFW020"), "AIFW020")
    if notes:
        label = "" if secretive(source, (*at, *path)) else f"is {show(value)} here"
        if secretive(source, (*at, *path)) and code == "AIFW020":
            variable = notes[-1].rpartition("variable ")[2].strip("`")
            notes.append(
                f"an environment variable is text; `${{oc.decode:${{oc.env:{variable}}}}}` reads it as a number or truth value"
            )
    else:
        label = _advice(value, group, choices)
    verb = "have" if words.endswith(("entry", "entries")) else "be"
    return span.diagnostic(
        code,
        f"`{path[-1] if key else name or at[-1]}` must {verb} {words}",
        label if not key or choices else "",
        notes,
    )


def _missing(path: Path, at: Path, subject: str, source: Source, whole: Any) -> Diagnostic:
    of = f"`{spell(path[:-1])}`" if len(path) > 1 else subject
    message = f"{of} needs the setting `{path[-1]}`"
    full, above = (*at, *path), (*at, *path[:-1])
    if not source.find(full).rest:
        return source.at_key(full).diagnostic("AIFW014", message, "null takes it away")
    if source.borrowed(above):
        return source.at_value(above).diagnostic("AIFW014", message, "", origins(source, above, whole))
    return source.at_key(above).diagnostic("AIFW014", message, f"add `{path[-1]}: ...`")


def _phrase(details: ErrorDetails) -> str:
    """What is expected, to follow "must be"; choices are marked and joined later; nothing where pydantic's own words are needed."""
    kind = details["type"]
    context: Mapping[str, Any] = details.get("ctx", {})
    if kind == "model_type" and context.get("class_name") == "Secret":
        return "`{env: NAME}` or `{file: PATH}`, never the secret itself"
    if kind in _TYPES:
        return _TYPES[kind]
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return words.format(number(context[key]))
    if kind in _LENGTHS:
        key, words, many, one = _LENGTHS[kind]
        length = context[key]
        return words.format(length, one if length == 1 else many) + (" long" if kind.startswith("string") else "")
    if kind in {"literal_error", "enum"}:
        return "\0choice"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return PATTERN_WORDS.get(pattern, f"text of the form {pattern}")
    return ""


def _code(details: ErrorDetails) -> str:
    kind = details["type"]
    if kind in _TYPES and kind != "finite_number":
        return "AIFW020"
    if kind in _BOUNDS or kind in _LENGTHS or kind == "finite_number":
        return "AIFW021"
    if kind in {"literal_error", "enum"}:
        # A value of another type altogether is not a misspelt choice.
        return "AIFW022" if isinstance(details["input"], str) else "AIFW020"
    return "AIFW023"


def _choices(details: ErrorDetails) -> list[str]:
    if details["type"] not in {"literal_error", "enum"}:
        return []
    expected = str(details.get("ctx", {}).get("expected", ""))
    return [part.strip("'\" ") for part in expected.replace(" or ", ", ").split(", ")]


def _choice_words(choices: Sequence[str], others: Sequence[str]) -> str:
    quoted = [f"`{each}`" for each in choices]
    if len(quoted) > 2:
        return " or ".join(["one of " + ", ".join(quoted), *others])
    return " or ".join([*quoted, *others])


def _advice(value: Any, group: Sequence[_Finding], choices: Sequence[str]) -> str:
    """A few words about a value that stands there as written."""
    if isinstance(value, str) and choices:
        close = closest(value, choices)
        if close:
            return f"did you mean `{close}`?"
    wanted = {each.details["type"] for each in group}
    if isinstance(value, str) and wanted & {"int_type", "float_type", "bool_type"}:
        from aifw.spec.scalars import resolve

        read = resolve(value)
        if isinstance(read, bool | int | float):
            return "remove the quotes"
        if "bool_type" in wanted and value.lower() in {"yes", "on", "no", "off"}:
            return f"write `{'true' if value.lower() in {'yes', 'on'} else 'false'}`; in YAML 1.2 `{value}` is text"
        return "this is text"
    if value is None:
        return "there is nothing here"
    if isinstance(value, str) and wanted & {"list_type", "tuple_type"}:
        return f"write `[{value}]`"
    if isinstance(value, float) and "int_type" in wanted:
        return "this is not whole"
    if isinstance(value, str) and choices:
        return ""
    if isinstance(value, bool | int | float) and wanted <= {"string_type"}:
        return f"this is {_kind_of(value)}; quotes make it text"
    if wanted <= set(_TYPES) | {"literal_error", "enum"}:
        return f"this is {_kind_of(value)}"
    return ""


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "text" if value is not None else "nothing"


def _own_words(details: ErrorDetails, name: str) -> str:
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if not message:
        message = "is not valid"
    return f"`{name}`: {message}" if name else message


def _unknown(
    path: Path, at: Path, data: Any, settings: type[BaseModel], subject: str, source: Source, whole: Any
) -> Diagnostic:
    name = str(path[-1])
    known = fields_at(settings, path[:-1])
    close = closest(name, known)
    given: Any = data
    for part in path[:-1]:
        given = given[part]
    free = [each for each in known if each not in given]
    if close:
        label = f"did you mean `{close}`?"
    elif free:
        label = f"settings here: {shorten(free)}"
    else:
        label = "remove it"
    of = f"`{spell(path[:-1])}`" if len(path) > 1 else subject
    message = f"unknown setting `{name}` for {of}"
    full = (*at, *path)
    if source.borrowed(full):
        return source.at_value(full).diagnostic("AIFW012", message, label, origins(source, full, whole))
    return source.at_key(full).diagnostic("AIFW012", message, label)


def fields_at(settings: type[BaseModel], path: Path) -> list[str]:
    """Names of the settings that may stand at a path, as they are written."""
    classes = [settings]
    for position, part in enumerate(path):
        below: list[type[BaseModel]] = []
        for each in classes:
            for name, field in each.model_fields.items():
                if part in {name, field.alias}:
                    below.extend(_models(field.annotation))
                    keys = next((each for each in field.metadata if isinstance(each, KnownKeys)), None)
                    if keys is not None and position == len(path) - 1:
                        return list(keys.described)
        classes = below or classes
    return [field.alias or name for each in classes for name, field in each.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif origin is Annotated:
        yield from _models(get_args(annotation)[0])
    elif origin in {Union, UnionType, list, tuple, dict}:
        for option in get_args(annotation):
            yield from _models(option)


def closest(name: str, known: Sequence[str]) -> str | None:
    """The known name that was probably meant, or None."""
    from difflib import get_close_matches

    if len(known) > 500:
        # Comparing with each of thousands of names takes longer than everything else together.
        known = [each for each in known if abs(len(each) - len(name)) <= 1 and each[:1] == name[:1]][:500]
    folded = {each.lower().replace("-", "_"): each for each in reversed(known)}
    close = get_close_matches(name.lower().replace("-", "_"), folded, n=1, cutoff=0.65)
    return folded[close[0]] if close else None


def shorten(names: Sequence[str], most: int = 12) -> str:
    """Names for a message, cut where there are too many to read."""
    shown = ", ".join(names[:most])
    return f"{shown}, ..." if len(names) > most else shown


def spell(path: Path) -> str:
    """A path as people write it: `lora.r`, `devices[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def number(value: Any) -> str:
    """A bound without a needless `.0`."""
    return (
        str(int(value))
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15
        else f"{value:,}"
        if isinstance(value, int) and value >= 100_000
        else str(value)
    )


def show(value: Any) -> str:
    """A value for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        text = value if len(value) <= 40 else value[:39] + "…"
        return f'the text "{text}"'
    return str(value)
