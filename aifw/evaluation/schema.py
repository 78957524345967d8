"""The published JSON Schema of an evaluation's `report.json`. Readers of reports check by the copy in the package.

Suites and measures are those of `aifw.evaluation.measures` and of lm-evaluation-harness, so their names are not listed here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAME = "aifw.report.v1.schema.json"
PACKAGED = Path(__file__).with_name(NAME)
VERSION = 2
"""Of the documents that it describes."""

Schema = dict[str, Any]

_DIGEST = "^[0-9a-f]{64}$"


def _text(description: str) -> Schema:
    return {"description": description, "type": "string"}


def _number(description: str) -> Schema:
    return {"description": description, "type": "number"}


def _number_or_null(description: str) -> Schema:
    return {"description": description, "type": ["number", "null"]}


def _whole(description: str, least: int = 0) -> Schema:
    return {"description": description, "type": "integer", "minimum": least}


def _sha256(description: str) -> Schema:
    return {"description": description, "type": "string", "pattern": _DIGEST}


def _object(description: str, properties: Schema, *, optional: tuple[str, ...] = (), more: Any = False) -> Schema:
    return {
        "description": description,
        "type": "object",
        "additionalProperties": more,
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


def _by_name(description: str, each: Schema) -> Schema:
    return {"description": description, "type": "object", "additionalProperties": each}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


_CONTENDED: Schema = {
    "description": "Measured while something else wanted the machine: it does not meet a requirement.",
    "type": "boolean",
}
_NOTE = _text("Why something is null.")

_MEASURED = _object(
    "A measure of one subject.",
    {
        "value": _number_or_null("Null where it is not defined; `note` says why."),
        "low": _number_or_null("Lower end of its interval."),
        "high": _number_or_null("Upper end."),
        "n": _whole("Items that have it."),
        "method": _text("What the interval rests on."),
        "note": _NOTE,
        "contended": _CONTENDED,
    },
    optional=("note", "contended"),
)
_COMPARED = _object(
    "A measure of the baseline (before) and of the subject (after) on the same items.",
    {
        "before": _number_or_null("Of the baseline."),
        "after": _number_or_null("Of the subject."),
        "difference": _number_or_null("After minus before."),
        "low": _number_or_null("Lower end of the interval of the difference."),
        "high": _number_or_null("Upper end."),
        "n": _whole("Items."),
        "groups": _whole("Clusters of items that are not independent of each other."),
        "p": {
            "description": "Two-sided p-value of no difference.",
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
        },
        "method": _text("What interval and p-value rest on."),
        "detectable": _number_or_null("Smallest difference that would have shown with a power of 80 %."),
        "needed": _number_or_null("Items that the observed difference would need to show."),
        "note": _NOTE,
        "contended": _CONTENDED,
    },
    optional=("note", "contended"),
)
_MEASURES = _by_name("By measure.", _reference("Measured"))
_DETAILS = {
    "description": "Confusion, bins of confidence, histograms and so on, as the suite has them.",
    "type": "object",
}
_SUITE = _object(
    "What one suite measured.",
    {
        "subject": _MEASURES,
        "baseline": _MEASURES,
        "compared": _by_name("By measure.", _reference("Compared")),
        "details": _object(
            "Beside the measures.", {"subject": _DETAILS, "baseline": _DETAILS}, optional=("subject", "baseline")
        ),
    },
    optional=("baseline", "compared"),
)
_NAMED: Schema = {
    "address": _text("Of the resource, or `@alias`."),
    "digest": _text("sha256 of its content; empty where it has none, such as predictions from elsewhere."),
    "name": _text("For people."),
}
_PRESSURE = _object(
    "Percent of the last ten seconds in which tasks waited (PSI, some).",
    {
        "cpu": _number_or_null("For a processor."),
        "memory": _number_or_null("For memory."),
        "io": _number_or_null("For input and output."),
        "reason": _text("Why one is null."),
        "overloaded": {
            "description": "More was to be done than there are processors; said where `cpu` is null.",
            "type": "boolean",
        },
    },
    optional=("reason", "overloaded"),
)
_ENVIRONMENT = _object(
    "What it ran on.",
    {
        "time": {
            "description": "UTC, of the beginning.",
            "type": "string",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$",
        },
        "aifw": _text("Version."),
        "python": _text("Version."),
        "packages": _by_name("Versions of packages that numbers may depend on.", {"type": "string"}),
        "hardware": _object(
            "The machine.",
            {
                "processor": _text("Its model."),
                "cores": _whole("Processors that could be used.", 1),
                "memory": _whole("Bytes that could be used."),
                "devices": {"description": "What is there.", "type": "array", "items": {"type": "string"}},
            },
            more=True,
        ),
        "threads": _whole("That were used.", 1),
        "device": _text("Where it was computed."),
        "seed": {"description": "Of sampling.", "type": "integer"},
        "spec": {"description": "Digest of the spec, or null outside a run.", "type": ["string", "null"]},
        "contention": _object(
            "How much else wanted the machine.",
            {
                "before": _PRESSURE,
                "after": _PRESSURE,
                "contended": {"description": "Too much for a latency to be believed.", "type": "boolean"},
            },
        ),
    },
    more=True,
)
_DATA = _object(
    "What was measured on.",
    {
        **_NAMED,
        "items": _whole("Different items."),
        "groups": _whole("Clusters of them."),
        "dropped": _by_name("Items that could not be used, by reason.", {"type": "integer"}),
        "cut": _by_name("Items that were shortened, by what was cut.", {"type": "integer"}),
        "sketch": {
            "description": "The smallest hashes of item ids, by which two sets of items are seen to overlap.",
            "type": "array",
            "items": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        },
    },
    more=True,
)


def schema() -> Schema:
    """The schema, draft-07."""
    properties: Schema = {
        "version": {"description": "The form of this document.", "const": VERSION},
        "digest": _sha256("sha256 of everything else, as canonical JSON."),
        "items_digest": _sha256("sha256 of `items.jsonl`."),
        "subject": _object("What was measured.", _NAMED),
        "baseline": {
            "description": "What it is compared with, or null.",
            "anyOf": [_object("What it is compared with.", _NAMED), {"type": "null"}],
        },
        "data": _DATA,
        "settings": {"description": "What the numbers depend on.", "type": "object"},
        "suites": _by_name("By suite.", _reference("Suite")),
        "environment": _ENVIRONMENT,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "aifw report",
        "description": "One evaluation. Durations are seconds, sizes bytes, shares between 0 and 1.",
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
        "definitions": {"Measured": _MEASURED, "Compared": _COMPARED, "Suite": _SUITE},
    }
