"""The published JSON Schema of one event of a run: a line of `aifw apply --json` or of a run's `events.jsonl`.

Events are plain mappings, so what they hold is written down here; a test looks at every place that tells one.
"""

from __future__ import annotations

from typing import Any, get_args

from aifw.plan.model import Action
from aifw.plan.schema import described
from aifw.run.outcome import Status
from aifw.run.pressure import Level

NAME = "aifw.events.v1.schema.json"

Schema = dict[str, Any]


def _text(description: str) -> Schema:
    return {"description": description, "type": "string"}


def _number(description: str) -> Schema:
    return {"description": description, "type": "number"}


def _whole(description: str) -> Schema:
    return {"description": description, "type": "integer"}


def _texts(description: str) -> Schema:
    return {"description": description, "type": "array", "items": {"type": "string"}}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _facts(description: str) -> Schema:
    return {"description": description, "type": "object"}


_ERROR: Schema = {
    "description": "What went wrong.",
    "type": "object",
    "additionalProperties": False,
    "required": ["code", "message", "hint"],
    "properties": {
        "code": _text("Stable; `aifw explain CODE` says more."),
        "message": _text("In one sentence."),
        "hint": _or_null(_text("What to do about it.")),
    },
}
_VERDICT = _facts(
    "What a gate decided: `decision`, `promote`, `alias`, `candidate`, `incumbent`, `summary` and what its kind adds."
)
_CHECKPOINT = _or_null(_whole("Step of the last checkpoint, if there is one."))
_LABEL = "Resource and the first characters of its digest: `dpo@3fa1`"

_EVENTS: dict[str, tuple[str, Schema]] = {
    "run.started": (
        "A plan is being carried out.",
        {
            "name": _text("Of the spec."),
            "pool": _whole("Bytes that running jobs may use together."),
            "steps": {
                "description": "What is planned, by address.",
                "type": "object",
                "additionalProperties": {"enum": [action.value for action in Action]},
            },
            "seconds": {
                "description": "Forecast of the wall time: low, mid, high.",
                "type": "array",
                "items": {"type": "number"},
                "minItems": 3,
                "maxItems": 3,
            },
        },
    ),
    "run.stopping": (
        "An end was asked for.",
        {"waiting_for": _texts("Resources whose jobs still save what they have.")},
    ),
    "run.replanned": (
        "The plan does not hold, and another is made once running jobs are done.",
        {"because": _text("What was found.")},
    ),
    "run.finished": (
        "Nothing runs any more.",
        {
            "state": {"description": "How it ended.", "enum": ["done", "held", "interrupted", "failed"]},
            "exit": _whole("Exit status."),
            "seconds": _number("Wall time."),
            "peak_memory": _whole("Highest use of running jobs together in bytes, sampled."),
            "results": {
                "description": "What became of each resource that did not stay as it was, by address.",
                "type": "object",
                "additionalProperties": {"enum": [each for each in get_args(Status) if each != "unchanged"]},
            },
        },
    ),
    "resource.reused": ("An older result stands for it.", {"artifact": _text("Digest of the artifact.")}),
    "resource.skipped": ("It cannot be made.", {"because": _texts("Resources it waited for in vain.")}),
    "resource.forgotten": ("It left the spec and is not known any more.", {}),
    "alias.moved": (
        "An alias points to something else.",
        {
            "alias": _text("Its name."),
            "before": _or_null(_text(f"{_LABEL}; null if it is set for the first time.")),
            "after": _text(f"{_LABEL}."),
            "verdict": _VERDICT,
        },
    ),
    "alias.held": (
        "An alias stays where it is, although there is a candidate.",
        {
            "alias": _text("Its name."),
            "current": _or_null(_text(f"{_LABEL}; null if it was never set.")),
            "reason": _text("Why."),
            "verdict": _VERDICT,
        },
    ),
    "job.started": (
        "A job runs.",
        {
            "job": _text("Names its folder and its log."),
            "verb": {"description": "What it does.", "enum": ["run", "create", "update", "delete"]},
            "device": _text("Where it computes: `cpu`, `xpu:0`."),
            "threads": _whole("How many it may use."),
            "resumed_from": _or_null(_whole("Step of the checkpoint it goes on from.")),
            "forecast": {"anyOf": [{"$ref": "#/definitions/Forecast"}, {"type": "null"}]},
        },
    ),
    "job.progress": (
        "How far a job is.",
        {
            "done": _number("Units that are done."),
            "total": _or_null(_number("Units there are, if known.")),
            "unit": _text("What is counted."),
            "metrics": {
                "description": "Numbers of this moment, by name: `loss`.",
                "type": "object",
                "additionalProperties": {"type": "number"},
            },
        },
    ),
    "job.metric": (
        "A number that describes the run.",
        {
            "name": _text("Its name."),
            "value": _number("The number."),
            "step": _or_null(_whole("When, if it has a time.")),
        },
    ),
    "job.note": ("Something to see once.", {"text": _text("What.")}),
    "job.checkpoint": ("A checkpoint is complete and on disk.", {"step": _whole("Steps done.")}),
    "job.finished": (
        "A job is done, and its result is kept.",
        {
            "artifact": {"description": "Digest of the artifact; empty if nothing is kept.", "type": "string"},
            "facts": _facts("What is known about the whole result."),
            "outputs": {
                "description": "What is known about each output, by its name.",
                "type": "object",
                "additionalProperties": {"type": "object"},
            },
            "seconds": _number("Wall time."),
            "memory": _whole("Peak bytes of anonymous and shared memory; mapped files do not count."),
            "cpu": _number("Processor seconds."),
            "work": _number("Size of the job, in units of its kind."),
            "resumed": {"description": "Whether it went on from a checkpoint.", "type": "boolean"},
            "device": _text("Where it computed."),
            "exceeded": {"description": "Whether it was ended because it exceeded its memory.", "type": "boolean"},
        },
    ),
    "job.failed": (
        "A job failed, or could not start.",
        {
            "error": _ERROR,
            "log": _texts("Last lines of its log; none if it did not start."),
            "job": _text("Names its folder and its log; absent if it did not start."),
            "checkpoint": _CHECKPOINT,
        },
    ),
    "job.stopped": ("A job ended because it was asked to.", {"checkpoint": _CHECKPOINT}),
    "job.shrink_asked": (
        "A job was asked to go on with less memory from its next step on.",
        {"held": _whole("Bytes it holds.")},
    ),
    "job.paused": (
        "A job saved its state to make room; it goes on in this run once there is room again.",
        {"because": _text("Why memory is short."), "checkpoint": _CHECKPOINT},
    ),
    "job.over_limit": (
        "A job holds more than it may and is ended.",
        {"used": _whole("Bytes it holds."), "limit": _whole("Bytes it may hold.")},
    ),
    "pool.pressure": (
        "How short memory is on this machine changed.",
        {
            "level": {
                "description": "`hold`: nothing more is started; `shrink`: jobs are asked for memory; `pause`: jobs make room.",
                "enum": [level.word for level in Level],
            },
            "available": _whole("Bytes that can be had."),
            "reserve": _whole("Bytes that are to be left to everything else."),
            "psi": _or_null(
                _number("Percent of the last ten seconds in which tasks waited for memory; null if unknown.")
            ),
        },
    ),
    "pool.waits": (
        "A job would fit the budget, but something else holds the memory.",
        {"needs": _whole("Bytes it needs."), "available": _whole("Bytes it could have.")},
    ),
    "memory": (
        "What running jobs use together; told twice a second, and not kept.",
        {"used": _whole("Bytes."), "budget": _whole("Bytes they may use.")},
    ),
}
_OPTIONAL = {
    "alias.moved": {"verdict"},
    "job.progress": {"metrics"},
    "job.failed": {"job", "checkpoint"},
}
_WITHOUT_ADDRESS = {"run.started", "run.stopping", "run.finished", "pool.pressure", "memory"}
_ALWAYS: Schema = {
    "time": {
        "description": "UTC.",
        "type": "string",
        "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
    },
    "run": _whole("Number of the run."),
}


def schema() -> Schema:
    """The schema, draft-07."""
    definitions = described()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "aifw event",
        "description": "Something that happened in a run. Sizes are bytes, durations seconds, money micro-dollars.",
        "type": "object",
        "required": [*_ALWAYS, "event"],
        "properties": {**_ALWAYS, "event": {"description": "What happened.", "enum": list(_EVENTS)}},
        "allOf": [
            {"if": {"properties": {"event": {"const": name}}}, "then": {"$ref": f"#/definitions/{name}"}}
            for name in _EVENTS
        ],
        "definitions": {
            **{name: _definition(name) for name in _EVENTS},
            **{name: definitions[name] for name in ("Forecast", "Estimate")},
        },
    }


def _definition(name: str) -> Schema:
    description, data = _EVENTS[name]
    address = {} if name in _WITHOUT_ADDRESS else {"address": _text("The resource it is about.")}
    properties = {**_ALWAYS, "event": {"const": name}, **address, **data}
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "required": [each for each in properties if each not in _OPTIONAL.get(name, ())],
        "properties": properties,
    }
