"""The published JSON Schema of a plan: what `aifw plan --json` prints and `aifw plan -o` saves.

It is made from the classes a plan consists of, so that it cannot say anything else than they do. Only for publishing: this imports
pydantic, and a plan is made without it.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from aifw.kind import Estimate, Forecast
from aifw.plan.model import Action, AliasChange, Placement, Plan, PlannedInput, Reason, Step, Totals
from aifw.plan.planfile import FORMAT
from aifw.spec.documentation import attribute_section, first_paragraph

NAME = "aifw.plan.v1.schema.json"

Schema = dict[str, Any]

DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_CLASSES: tuple[type, ...] = (
    Action,
    AliasChange,
    Estimate,
    Forecast,
    Placement,
    Plan,
    PlannedInput,
    Reason,
    Step,
    Totals,
)
_ALWAYS = ("address", "kind", "action")
"""What every step says; anything else is left out where there is nothing to say."""


def schema() -> Schema:
    """The schema, draft-07."""
    definitions = described()
    plan = definitions.pop("Plan")["properties"]
    step = definitions["Step"]
    step["required"] = list(_ALWAYS)
    step["properties"] = {name: _without_null(each) for name, each in step["properties"].items()}
    texts: Schema = {"type": "array", "items": {"type": "string"}}
    source: Schema = {
        "description": "What the plan was made from; paths are relative to the folder of the plan file, or to the one the command ran in.",
        "type": "object",
        "additionalProperties": False,
        "required": ["files", "sets"],
        "properties": {
            "files": {**texts, "description": "The spec and its overlays."},
            "sets": {**texts, "description": "Values set on the command line."},
            "state": {"type": "string", "description": "Where the state lies, if that was said."},
        },
    }
    properties: Schema = {
        "format": {"description": "The form of this document.", "const": FORMAT},
        "source": source,
        **plan,
        "spec": {**plan["spec"], **DIGEST},
        "digest": {"description": "sha256 of everything else, as canonical JSON.", **DIGEST},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "aifw plan",
        "description": "What has to change, in an order in which it can be done. Sizes are bytes, durations seconds, money micro-dollars.",
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name != "source"],
        "properties": properties,
        "definitions": definitions,
    }


def described() -> dict[str, Schema]:
    """A definition of every class a plan consists of, by name."""
    generated = TypeAdapter(Plan).json_schema(mode="serialization", ref_template="#/definitions/{model}")
    found: dict[str, Schema] = {**generated.pop("$defs"), "Plan": generated}
    return {each.__name__: _definition(each, found[each.__name__]) for each in _CLASSES}


def _definition(documented: type, generated: Schema) -> Schema:
    about: Schema = {"description": first_paragraph(documented), "type": generated["type"]}
    if "properties" not in generated:
        return {**about, "enum": generated["enum"]}
    texts = attribute_section(documented)
    properties = {}
    for name, each in generated["properties"].items():
        kept = {key: value for key, value in each.items() if key not in {"title", "default", "description"}}
        if "$ref" in kept:
            # In draft-07 whatever stands beside `$ref` is ignored.
            kept = {"allOf": [kept]}
        properties[name] = {**({"description": texts[name]} if name in texts else {}), **kept}
    return {**about, "additionalProperties": False, "required": list(properties), "properties": properties}


def _without_null(written: Schema) -> Schema:
    options = [each for each in written.get("anyOf", ()) if each != {"type": "null"}]
    if len(options) != 1:
        return written
    (only,) = options
    rest = {key: value for key, value in written.items() if key != "anyOf"}
    return {**rest, **({"allOf": [only]} if "$ref" in only else only)}
