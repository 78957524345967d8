"""The published JSON Schema of a spec: what an editor completes and checks.

It is pydantic's schema rewritten for editors. Draft-07, which all of them read. `kind` is an `enum`, and `if`/`then` picks the
settings, so that a wrong `kind` yields one message rather than one per kind. Every value may be `${...}` instead: `if` it is
such a string, anything goes, `else` the type applies; `anyOf` would spoil what an editor shows beside the key.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from pydantic_core import core_schema

from aifw.kind import AnyKind, builtin_kinds
from aifw.settings import REFERENCE_PATTERN, Duration, Money, Quantity, Share, Size
from aifw.spec.documentation import attribute_docstrings, first_paragraph
from aifw.spec.models import NAME_PATTERN, PATTERN_WORDS, SECTIONS, Header

NAME = "aifw.v1.schema.json"
PACKAGED = Path(__file__).with_name(NAME)
"""The schema of the built-in kinds as it is shipped."""

Schema = dict[str, Any]

_INTERPOLATION: Schema = {"type": "string", "pattern": r"\$\{"}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def _pattern_of(quantity: Any) -> str:
    (schema,) = (each.json_schema for each in quantity.__metadata__ if hasattr(each, "json_schema"))
    return str(next(each["pattern"] for each in schema.get("anyOf", [schema]) if "pattern" in each))


_PATTERN_MESSAGES = {
    REFERENCE_PATTERN: "Write a reference: name, section.name, name.output or @alias.",
    **{pattern: f"Write {words.replace('`', '')}." for pattern, words in PATTERN_WORDS.items()},
    _pattern_of(Size): "Write a size such as 48GiB.",
    _pattern_of(Duration): "Write a duration such as 90s, 15min, 6h or 1h30m.",
    _pattern_of(Money): "Write an amount such as $200.",
    _pattern_of(Share): "Write a share such as 25% or 0.25.",
    _pattern_of(Quantity): "Write a quantity such as 15%, 80ms, 6GiB, $200, 5x or 12.",
}


class _Generator(GenerateJsonSchema):
    """Adds attribute docstrings, and bounds that pydantic leaves out where a type brings a schema of its own."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        settings: type[BaseModel] = schema["cls"]
        generated = super().model_schema(schema)
        generated.pop("title", None)
        documented = attribute_docstrings(settings)
        # A type's own schema is one object however many fields have the type.
        properties = generated["properties"] = copy.deepcopy(generated.get("properties", {}))
        for name, field in settings.model_fields.items():
            written = properties[field.alias or name]
            if name in documented:
                written["description"] = " ".join(documented[name].split())
            _add_bounds(written, field)
        return generated

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _add_bounds(written: Schema, field: FieldInfo) -> None:
    if not any(hasattr(each, "json_schema") for each in field.metadata):
        return
    bounds = {
        keyword: value
        for each in field.metadata
        for name, keyword in _BOUNDS.items()
        if (value := getattr(each, name, None)) is not None
    }
    for option in written.get("anyOf", ()):
        if option.get("type") in {"number", "integer"}:
            option.update(bounds)


def schema(kinds: Iterable[AnyKind] | None = None) -> Schema:
    """The schema of a spec.

    Args:
        kinds: The kinds it knows; those that come with aifw if None.
    """
    known = list(builtin_kinds() if kinds is None else kinds)
    mode: JsonSchemaMode = "validation"
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (Header, mode),
        *((each, mode) for each in dict.fromkeys(kind.settings for kind in known)),
    ]
    references, document = models_json_schema(
        models, by_alias=True, ref_template="#/definitions/{model}", schema_generator=_Generator
    )
    definitions: Schema = {name: _rewrite(each) for name, each in document["$defs"].items()}
    header = definitions.pop(_name(references[Header, mode]))
    for kind in known:
        definitions[f"kind.{kind.name}"] = _kind(kind, definitions[_name(references[kind.settings, mode])])
    used = json.dumps([header, *definitions.values()])
    definitions = {
        name: each
        for name, each in sorted(definitions.items())
        if name.startswith("kind.") or f'"#/definitions/{name}"' in used
    }
    sections = {
        **SECTIONS,
        **{kind.section: f"Resources of section {kind.section}." for kind in known if kind.section not in SECTIONS},
    }
    properties = header["properties"]
    for optional in ("hardware", "policy", "aliases", "targets", "defaults"):
        # A section whose entries are all commented out reads as null.
        properties[optional] = _or_null(properties[optional])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "aifw spec",
        "description": "What an AI stack should be.",
        "type": "object",
        "additionalProperties": False,
        "required": header["required"],
        "properties": {
            **properties,
            **{name: _section(name, text, known) for name, text in sections.items()},
        },
        "definitions": definitions,
    }


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _kind(kind: AnyKind, settings: Schema) -> Schema:
    described = {"const": kind.name, "description": first_paragraph(type(kind))}
    return {
        **settings,
        "description": first_paragraph(type(kind)),
        "properties": {"kind": described, **settings.get("properties", {})},
        "required": ["kind", *settings.get("required", [])],
    }


def _section(name: str, text: str, known: Sequence[AnyKind]) -> Schema:
    kinds = [kind for kind in known if kind.section == name]
    descriptions = [first_paragraph(type(kind)) for kind in kinds]
    resource: Schema = {
        "type": "object",
        "required": ["kind"],
        "properties": {
            "kind": {
                "description": f"What this resource is: {', '.join(kind.name for kind in kinds) or 'no kind is installed'}.",
                "enum": [kind.name for kind in kinds],
                "enumDescriptions": descriptions,
                "markdownEnumDescriptions": descriptions,
            }
        },
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]},
                "then": {"$ref": f"#/definitions/kind.{kind.name}"},
            }
            for kind in kinds
        ],
        "defaultSnippets": [
            {"label": kind.name, "description": description, "body": _snippet(kind)}
            for kind, description in zip(kinds, descriptions, strict=True)
        ],
    }
    if not kinds:
        del resource["allOf"], resource["defaultSnippets"]
        del (
            resource["properties"]["kind"]["enumDescriptions"],
            resource["properties"]["kind"]["markdownEnumDescriptions"],
        )
        resource["properties"]["kind"] = {"description": "No kind that is installed belongs here.", "not": {}}
    entries: Schema = {
        "type": ["object", "null"],
        "propertyNames": {"pattern": NAME_PATTERN, "patternErrorMessage": _PATTERN_MESSAGES[NAME_PATTERN]},
        "additionalProperties": _or_interpolation(resource),
    }
    return _or_interpolation({"description": text, **entries})


def _snippet(kind: AnyKind) -> Schema:
    required = [field.alias or name for name, field in kind.settings.model_fields.items() if field.is_required()]
    return {"kind": kind.name, **{name: f"${{{place}}}" for place, name in enumerate(required, 1)}}


def _or_interpolation(typed: Schema) -> Schema:
    """The same, or a text that contains `${`; what an editor shows stays outside of the condition.

    Editors offer as values what stands outside, so the choices of an enumeration are repeated there as examples.
    """
    shown: Schema = {key: typed[key] for key in ("description", "default") if key in typed}
    if "enum" in typed or typed.get("type") == "boolean":
        shown["examples"] = typed.get("enum", [True, False])
    rest = {key: value for key, value in typed.items() if key not in shown}
    return {**shown, "if": _INTERPOLATION, "else": rest} if rest else shown


def _or_null(wrapped: Schema) -> Schema:
    """The same as `_or_interpolation` gave it, or nothing."""
    return {**wrapped, "if": {**_INTERPOLATION, "type": ["string", "null"]}} if "if" in wrapped else wrapped


def _rewrite(part: Any) -> Any:
    """Draft 2020-12 as pydantic writes it to draft-07 as editors like it."""
    if isinstance(part, list):
        return [_rewrite(each) for each in part]
    if not isinstance(part, dict):
        return part
    out: Schema = {}
    for key, value in part.items():
        if key == "properties":
            out[key] = {name: _or_interpolation(_rewrite(each)) for name, each in value.items()}
        elif key in {"items", "additionalProperties"} and isinstance(value, dict):
            out[key] = _or_interpolation(_rewrite(value)) if value else value
        elif key == "patternProperties":
            out[key] = {pattern: _or_interpolation(_rewrite(each)) for pattern, each in value.items()}
            out.setdefault("additionalProperties", False)
        elif key == "prefixItems":
            out["items"] = [_or_interpolation(_rewrite(each)) for each in value]
        elif key in {"default", "enum", "const", "examples"}:
            out[key] = value
        elif key != "title" or not isinstance(value, str):
            out[key] = _rewrite(value)
    if out.get("default", "") is None:
        del out["default"]
    out = _merged(out)
    if out.get("pattern") in _PATTERN_MESSAGES:
        out["patternErrorMessage"] = _PATTERN_MESSAGES[out["pattern"]]
    if "$ref" in out and len(out) > 1:
        # In draft-07 whatever stands beside `$ref` is ignored.
        out["allOf"] = [{"$ref": out.pop("$ref")}]
    return out


def _merged(out: Schema) -> Schema:
    """Alternatives of different types as one list of types, where no keyword of one says anything about the others.

    Editors then complain about the form of a text instead of about its not being a number.
    """
    options = out.get("anyOf", [])
    types = [option.get("type") for option in options]
    keywords = [key for option in options for key in option if key != "type"]
    said = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern", "patternErrorMessage", "minLength"}
    apart = len(set(map(str, types))) == len(types) and not {"number", "integer"} <= set(map(str, types))
    if not options or not all(isinstance(each, str) for each in types):
        return out
    if not apart or len(set(keywords)) < len(keywords) or not said.issuperset(keywords):
        return out
    rest = {key: value for key, value in out.items() if key != "anyOf"}
    return {**rest, "type": types, **{key: option[key] for option in options for key in option if key != "type"}}


def text(document: Schema) -> str:
    """A schema as it is written to a file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
