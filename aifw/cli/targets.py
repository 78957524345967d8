"""Targets of a spec beside what its state has measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifw.cli.colour import style
from aifw.errors import InputInvalid

if TYPE_CHECKING:
    from aifw.evaluation.targets import Entry, Goal, Measurement, Tracked
    from aifw.spec.models import Spec, Target
    from aifw.state.store import Store


def targets_of(files: Sequence[Path], sets: Sequence[str], store: Store | None) -> list[Tracked]:
    """Targets of the spec as it is now; none where it cannot be read, which is no reason not to tell everything else.

    Args:
        files: Of the spec.
        sets: Values set on the command line.
        store: The state, or None if nothing was applied yet.
    """
    from aifw.cli.project import read_loosely
    from aifw.spec.diagnose import SpecInvalid

    # Most specs state none, and reading one to the last setting takes longer than everything else that is shown.
    if not any(read_loosely(path).get("targets") for path in files) and not any("targets" in text for text in sets):
        return []
    from aifw.spec.load import load

    try:
        return tracked(load(files, sets), store)
    except SpecInvalid:
        return []


def tracked(spec: Spec, store: Store | None) -> list[Tracked]:
    """Every target of a spec and how it stands, in the order written.

    Args:
        spec: That states the targets.
        store: The state, or None if nothing was applied yet.
    """
    from aifw.evaluation.targets import track

    return [track(_goal(target), _history(target, store)) for target in spec.targets]


def _goal(target: Target) -> Goal:
    from aifw.evaluation.targets import Goal

    settings = target.settings
    return Goal(
        name=target.name,
        value=settings.value,
        better=target.better,
        measure=settings.measure,
        formula=settings.formula,
        of=target.reference.address if target.reference is not None else "",
        description=settings.description or "",
    )


def _history(target: Target, store: Store | None) -> list[Measurement]:
    from aifw.evaluation.targets import Measurement

    if store is None or target.reference is None:
        return []
    rows = store.rows(
        "select a.digest, j.run, a.made_at, o.facts, a.facts from artifact a join job j on j.id = a.job"
        " join output o on o.artifact = a.digest where j.address = ? and o.name = ? order by a.made_at, a.digest",
        target.reference.address,
        target.reference.output,
    )
    return [
        Measurement(
            at,
            run,
            _entries(
                store.artifacts.path(digest) / target.reference.output, {**json.loads(whole), **json.loads(facts)}
            ),
        )
        for digest, run, at, facts, whole in rows
    ]


def _entries(folder: Path, facts: Mapping[str, Any]) -> dict[str, Entry]:
    """What an output measured: with intervals where it is an evaluation, as its facts say where it is not, or is gone."""
    from aifw.evaluation.report import REPORT, read_report
    from aifw.evaluation.targets import entries_of, entries_of_facts

    if not (folder / REPORT).exists():
        return entries_of_facts(facts)
    try:
        return {**entries_of_facts(facts), **entries_of(read_report(folder))}
    except InputInvalid:
        # What was cut off or edited says nothing, and facts alone would say it without interval.
        return {}


def lines(found: Iterable[Tracked]) -> Iterable[str]:
    """A table of targets for a terminal."""
    from aifw.plan.columns import aligned

    rows = [
        (
            f"   {each.name}",
            each.status,
            value_text(each, each.measured),
            f"{'at least' if each.better == 'higher' else 'at most'} {value_text(each, each.value)}",
            _beside(each),
        )
        for each in found
    ]
    if not rows:
        return
    head, *body = aligned([("   target", "status", "measured", "wanted", ""), *rows])
    yield from ("", style(head, "faint"), *body)


def _beside(each: Tracked) -> str:
    parts = []
    if each.low is not None and each.high is not None:
        parts.append(f"95 % {value_text(each, each.low)} … {value_text(each, each.high)}")
    if len(each.trend) > 1:
        parts.append(f"{len(each.trend)} runs, first {value_text(each, each.trend[0].value)}")
    return ", ".join([*parts, *([each.note] if each.note else [])])


def value_text(each: Tracked, value: float | None) -> str:
    """A value in the target's unit."""
    from aifw.units import format_bytes, format_seconds

    if value is None:
        return "—"
    if each.unit == "seconds":
        return format_seconds(value)
    if each.unit == "bytes":
        return format_bytes(value)
    if each.unit == "dollars":
        return f"${value:,.4g}"
    return f"{value:.3f}" if each.unit == "share" else f"{value:,.4g}"
