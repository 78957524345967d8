"""What makes a result the same result: recipes at plan time, keys at launch, and the words for what changed between two of them.

Neither contains a device, a thread count or anything else marked `execution`. Settings that have their default value are left out,
so that a new setting does not make everything again; a kind whose default changes raises its `version`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from pydantic import BaseModel

from aifw.kind import Observation
from aifw.plan.model import PlannedInput, Reason
from aifw.settings import execution_fields
from aifw.spec.models import Resource

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no white space."""
    return _ENCODER.encode(value)


def own_identity(resource: Resource, observation: Observation | None, seed: int) -> str:
    """The part of the identity that does not come from inputs, as canonical JSON."""
    kind = resource.kind
    settings = resource.settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for name in execution_fields(type(resource.settings)):
        settings.pop(name, None)
    for reference in resource.references:
        _blank(settings, reference.field.split("."))
    identity: dict[str, Any] = {"kind": kind.name, "version": kind.version, "settings": settings}
    if observation is not None:
        identity["observation"] = {"fingerprint": observation.fingerprint, "summary": observation.summary}
    if kind.seeded:
        identity["seed"] = seed
    return canonical(identity)


def _blank(settings: Any, path: list[str]) -> None:
    for part in path[:-1]:
        settings = settings[int(part)] if isinstance(settings, list) else settings.get(part)
        if settings is None:
            return
    if isinstance(settings, list):
        settings[int(path[-1])] = None
    else:
        settings.pop(path[-1], None)


def combine(own: str, inputs: Mapping[str, str]) -> str:
    """Digest of an identity: a recipe if `inputs` maps fields to recipes, a key if it maps them to digests."""
    return sha256(f"{own}\n{canonical(inputs)}".encode()).hexdigest()


def differences(before_json: str, after_json: str, settings: type[BaseModel]) -> list[Reason]:
    """Say what changed between two own identities: `beta 0.1 → 0.2`."""
    if before_json == after_json:
        return []
    before, after = json.loads(before_json), json.loads(after_json)
    if before.get("kind") != after["kind"]:
        return [Reason("kind", f"kind {before.get('kind')} → {after['kind']}")]
    found: list[Reason] = []
    if before["version"] != after["version"]:
        found.append(Reason("version", f"{after['kind']} version {before['version']} → {after['version']}"))
    if before.get("seed") != after.get("seed"):
        found.append(Reason("seed", f"seed {before.get('seed')} → {after.get('seed')}"))
    found.extend(_setting_changes(before["settings"], after["settings"], _defaults(settings), ""))
    old, new = before.get("observation"), after.get("observation")
    if old != new:
        old_summary = (old or {}).get("summary", "unknown")
        new_summary = (new or {}).get("summary", "unknown")
        found.append(
            Reason(
                "observation",
                f"{old_summary} → {new_summary}" if old_summary != new_summary else f"content changed ({new_summary})",
            )
        )
    return found


def described_inputs(inputs: Mapping[str, tuple[str, str]]) -> str:
    """What a result was made from, as JSON: by field, what the reference meant and the digest of that output."""
    return canonical(inputs)


def input_differences(before_json: str, inputs: Iterable[PlannedInput]) -> list[Reason]:
    """Say which inputs are others than before, or have other content. One that is pending counts if it is another."""
    before: dict[str, tuple[str, str]] = json.loads(before_json)
    found: list[Reason] = []
    for planned in inputs:
        source, digest = before.pop(planned.field, ("unset", ""))
        if source != planned.source:
            found.append(Reason("input", f"{planned.field} {source} → {planned.source}"))
        elif planned.digest is not None and digest != planned.digest:
            found.append(Reason("input", f"{planned.source} changed"))
    found.extend(Reason("input", f"{field} {source} → unset") for field, (source, _) in before.items())
    return list(dict.fromkeys(found))


def _defaults(settings: type[BaseModel]) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        if not field.is_required():
            value = field.get_default(call_default_factory=True, validated_data={})
            defaults[field.alias or name] = (
                value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
            )
    return defaults


def _setting_changes(before: Any, after: Any, defaults: Any, path: str) -> list[Reason]:
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[Reason] = []
        known = defaults if isinstance(defaults, dict) else {}
        for name in sorted(before.keys() | after.keys()):
            default = known.get(name)
            old, new = before.get(name, default), after.get(name, default)
            found.extend(_setting_changes(old, new, default, f"{path}.{name}" if path else name))
        return found
    if before == after:
        return []
    if _references(before) and _references(after):
        return [Reason("input", f"{path}: {len(before)} → {len(after)} inputs")]
    return [Reason("setting", f"{path} {_shown(before)} → {_shown(after)}")]


def _references(value: Any) -> bool:
    """Whether this is a list of references, which are blank in an identity."""
    return isinstance(value, list) and all(each is None for each in value)


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
