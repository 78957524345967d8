"""`aifw status`: what is there and what is running."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.cli.project import find_layout, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus

if TYPE_CHECKING:
    from aifw.evaluation.targets import Tracked
    from aifw.state.layout import Layout
    from aifw.state.reading import RunRow
    from aifw.state.store import Store


@click.command()
@spec_options
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[Path, ...], sets: tuple[str, ...], state: Path | None, *, as_json: bool) -> int:
    """Show aliases, what each resource stands for, what is running, and how the last run ended. Never waits for a running apply."""
    from aifw.cli.targets import targets_of
    from aifw.state.store import Store

    layout = find_layout(files, sets, state)
    store = Store.existing(layout)
    if store is None:
        found: dict[str, Any] = {"name": layout.name, "serial": 0, "aliases": [], "resources": [], "running": None}
        if as_json:
            print_json({**found, "quarantined": [], "spent": [], "targets": [], "last_run": None})
        else:
            show(f"{style(layout.name, 'name')}: nothing was applied yet. `aifw plan` shows what would be done.")
        return ExitStatus.DONE
    with closing(store):
        if as_json:
            targets = [each.as_json() for each in targets_of(files, sets, store)]
            print_json({**_document(store, layout), "targets": targets})
        else:
            for line in _lines(store, layout, targets_of(files, sets, store)):
                show(line)
    return ExitStatus.DONE


def _document(store: Store, layout: Layout) -> dict[str, Any]:
    from aifw.cli.spent import document
    from aifw.state.reading import bindings, engine, outputs, pointers, quarantined, runs

    last = runs(store, 1)
    return {
        "name": layout.name,
        "folder": str(layout.folder),
        "serial": store.serial,
        "aliases": [
            {"name": name, "label": pointer.label, "digest": pointer.digest, "artifact": pointer.artifact}
            | {"output": pointer.output, "since": at, "cause": cause}
            for name, (pointer, at, cause) in pointers(store).items()
        ],
        "quarantined": [
            {"digest": digest, "reason": reason, "label": label}
            for digest, (reason, label) in quarantined(store).items()
        ],
        "spent": [{"alias": name, **each} for name in pointers(store) for each in document(store, name)],
        "resources": [
            {
                "address": bound.address,
                "kind": bound.kind,
                "artifact": bound.artifact or None,
                "outputs": {name: digest for name, (digest, _) in outputs(store, bound.artifact).items()},
                "size": bound.size,
                "made_at": bound.made_at or None,
                "damage": bound.damage or None,
            }
            for bound in bindings(store).values()
        ],
        "running": _running_document(layout, running) if (running := engine(store, layout)) is not None else None,
        "last_run": {"run": last[0].id, "state": last[0].state, "started": last[0].started, "ended": last[0].ended}
        | {"summary": last[0].summary}
        if last
        else None,
    }


def _running_document(layout: Layout, run: RunRow) -> dict[str, Any]:
    narrator = _heard(layout, run)
    return {
        "run": run.id,
        "pid": run.pid,
        "started": run.started,
        "jobs": [
            {"address": job.address, "verb": job.verb, "done": job.done, "total": job.total, "unit": job.unit}
            | {"metrics": job.metrics, "speed": job.speed}
            for job in narrator.running.values()
        ],
        "waiting": list(narrator.waiting),
    }


def _heard(layout: Layout, run: RunRow) -> Any:
    """A narrator that has heard the events of a run so far."""
    import json

    from aifw.cli.narrate import Narrator

    narrator = Narrator()
    try:
        text = (layout.run(run.id) / "events.jsonl").read_text(encoding="utf-8")
    except OSError:
        return narrator
    for line in text[: text.rfind("\n") + 1].splitlines():
        narrator.hear(json.loads(line))
    return narrator


def _lines(store: Store, layout: Layout, targets: Iterable[Tracked]) -> Iterable[str]:
    from aifw.cli.targets import lines
    from aifw.state.reading import engine

    yield f"{style(layout.name, 'name')}{style(f' · state #{store.serial} · {layout.folder}', 'faint')}"
    yield from _alias_lines(store)
    yield from _resource_lines(store)
    yield from lines(targets)
    run = engine(store, layout)
    yield ""
    if run is not None:
        yield from _running_lines(layout, run)
    else:
        yield _last_run(store)


def _alias_lines(store: Store) -> Iterable[str]:
    from aifw.cli.spent import texts
    from aifw.plan.columns import aligned
    from aifw.state.reading import pointers, quarantined

    rows = [
        (f"   @{name}", pointer.label, f"{_ago(at)} ({cause})" if at else "")
        for name, (pointer, at, cause) in pointers(store).items()
    ]
    if rows:
        head, *lines = aligned([("   alias", "points to", "since"), *rows])
        yield from ("", style(head, "faint"), *lines)
    for name in pointers(store):
        yield from (style(f"   @{name}: {text}", "faint") for text in texts(store, name))
    for reason, label in quarantined(store).values():
        yield style(f"   {label} is in quarantine: {reason}", "warn")


def _resource_lines(store: Store) -> Iterable[str]:
    from aifw.cli.measures import summary
    from aifw.plan.columns import aligned
    from aifw.state.reading import bindings, outputs
    from aifw.units import format_bytes

    rows = []
    for bound in bindings(store).values():
        facts = {name: each for name, (_, each) in outputs(store, bound.artifact).items()}
        what = bound.damage or summary(bound.facts, facts)
        size = format_bytes(bound.size) if bound.artifact else "outside"
        made = _ago(bound.made_at) if bound.made_at else ""
        rows.append((f"   {bound.address}", bound.kind, bound.artifact[:8], size, made, what))
    if rows:
        head, *lines = aligned([("   address", "kind", "artifact", "size", "made", ""), *rows])
        yield from ("", style(head, "faint"), *lines)


def _running_lines(layout: Layout, run: RunRow) -> Iterable[str]:
    import time

    from aifw.plan.columns import padded

    narrator = _heard(layout, run)
    yield f"Running: run {run.id}, pid {run.pid}, started {_ago(run.started)}"
    size = max(map(len, [*narrator.running, *narrator.waiting]), default=0)
    for job in narrator.running.values():
        yield f" ◐ {padded(job.address, size)}   {job.text(time.time())}"
    for address in narrator.waiting:
        yield style(f" · {padded(address, size)}   waits", "faint")


def _last_run(store: Store) -> str:
    from aifw.state.reading import runs
    from aifw.units import format_seconds

    last = runs(store, 1)
    if not last:
        return "Nothing was run yet."
    run = last[0]
    if run.state == "running":
        return f"Run {run.id} ended without a word; the next `aifw plan` or `aifw apply` brings in order what it left."
    took = f" after {format_seconds(run.summary['seconds'])}" if "seconds" in run.summary else ""
    return f"Last run: {run.id}, {run.state}{took}, {_ago(run.ended or run.started)}. `aifw history` lists all."


def _ago(text: str) -> str:
    from aifw.plan.columns import about
    from aifw.state.reading import seconds_since

    seconds = round(seconds_since(text))
    return f"{about(seconds)} ago" if seconds else "just now"
