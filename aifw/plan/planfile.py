"""Saved plans: canonical, versioned JSON that can be reviewed in git and is refused once it no longer holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from aifw.errors import PlanStale, UsageError
from aifw.plan.identity import canonical
from aifw.plan.model import CHANGES, Action, Plan

FORMAT = "aifw.plan/v1"


def document(plan: Plan, source: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The plan as JSON data; `aifw plan --json` and `-o` print the same.

    Args:
        plan: The plan.
        source: What it was made from, so that the file can be applied alone: `files`, relative to the folder of the plan
            file, and `sets`.
    """
    content = {
        "format": FORMAT,
        **({"source": dict(source)} if source is not None else {}),
        "name": plan.name,
        "spec": plan.spec,
        "serial": plan.serial,
        "machine": plan.machine,
        "targets": list(plan.targets),
        "replaced": list(plan.replaced),
        "steps": [_without_empty(asdict(step)) for step in plan.steps],
        "aliases": [asdict(change) for change in plan.aliases],
        "totals": asdict(plan.totals),
        "warnings": list(plan.warnings),
    }
    return {**content, "digest": digest(content)}


def _without_empty(step: dict[str, Any]) -> dict[str, Any]:
    # Compared by identity where equality would take a start at 0 seconds for nothing.
    return {
        name: value
        for name, value in step.items()
        if value is not None and value is not False and value not in ("", ())
    }


def save(plan: Plan, source: Mapping[str, Any] | None = None) -> str:
    """Text of a plan file; the same plan is the same text. `source` as in `document`."""
    return json.dumps(document(plan, source), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def load(path: Path) -> dict[str, Any]:
    """Read a plan file.

    Raises:
        UsageError: Not a plan file, or no longer as it was written.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path} is not a plan file: {error}", hint="`aifw plan -o FILE` writes one") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UsageError(
            f"{path} is not a plan file of format {FORMAT}", hint="it may be from another version of aifw; plan again"
        )
    if found.get("digest") != digest(found):
        raise UsageError(
            f"{path} was changed after it was written, so it may not say what was planned",
            hint="a plan file is for reading; change the spec and plan again",
        )
    return found


def digest(saved: Mapping[str, Any]) -> str:
    """Identity of a saved plan, by which the runs that carry it out are known."""
    content = {name: value for name, value in saved.items() if name != "digest"}
    return sha256(canonical(content).encode()).hexdigest()


def check(saved: dict[str, Any], fresh: Plan, progressed: bool) -> None:
    """Refuse a saved plan that no longer holds.

    Args:
        saved: The plan file.
        fresh: The plan compiled now from the same spec, targets and replacements.
        progressed: Whether the state changed since only by carrying out this very plan.

    Raises:
        PlanStale: Spec, state, observations or prices have moved.
    """
    hint = "make a new plan and review it"
    if saved["spec"] != fresh.spec:
        raise PlanStale("the spec has changed since the plan was saved", hint=hint)
    if saved["serial"] != fresh.serial and not progressed:
        raise PlanStale(
            f"the state has moved from #{saved['serial']} to #{fresh.serial} since the plan was saved", hint=hint
        )
    before = {step["address"]: step for step in saved["steps"]}
    for step in fresh.steps:
        then = before.pop(step.address, None)
        if then is None:
            raise PlanStale(f"{step.address} was not in the saved plan", hint=hint)
        if step.identity != then.get("identity", "") or (step.action in CHANGES and then["action"] not in {*CHANGES}):
            raise PlanStale(f"{step.address} has changed since the plan was saved", hint=hint)
    gone = [address for address, step in before.items() if step["action"] not in {Action.FORGET, Action.DELETE}]
    if gone:
        raise PlanStale(f"{gone[0]} is in the saved plan but no longer in the spec", hint=hint)
    if fresh.totals.cost_high > saved["totals"]["cost_high"]:
        raise PlanStale("the plan would now cost more than when it was saved", hint=hint)
