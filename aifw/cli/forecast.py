"""`aifw forecast`: what the next run would need, and how good forecasts were so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.colour import style
from aifw.cli.options import optional_spec_options, spec_files
from aifw.cli.project import STATE_FOLDER, base_folder, open_spec, state_option
from aifw.cli.terminal import print_json, show, width
from aifw.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from aifw.kind import Forecast
    from aifw.plan.model import Plan, Step
    from aifw.plan.score import Score, Summary

_LEAST_TEXT = 24


@click.command()
@optional_spec_options
@state_option
@click.option("--report", is_flag=True, help="Show forecast against actual over all past runs of this folder.")
@click.option("--kind", metavar="KIND", help="Only jobs of this kind.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most jobs of a report to list."
)
@click.option(
    "--html",
    "page",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as one page with a picture; implies --report.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    report: bool,
    kind: str | None,
    limit: int,
    page: Path | None,
    as_json: bool,
) -> int:
    """Show what each job of the next run would need and what that rests on; with --report, how good forecasts were so far.

    The report covers every state of the folder. A job that was ended because it exceeded its memory counts as one above its
    range; of a job that went on from a checkpoint only the memory counts.
    """
    if not report and page is None:
        _show_next(files or spec_files(None, ()), sets, state, kind, as_json=as_json)
        return ExitStatus.DONE
    if files and not files[0].exists():
        raise UsageError(f"there is no file {files[0]}", hint="the report is of the folder a spec lies in")
    base = base_folder(files, state) if files or state else Path(STATE_FOLDER)
    scores = _scores(base)
    chosen = [each for each in scores if kind is None or each.kind == kind]
    if page is not None and chosen:
        _write(page, chosen)
    if as_json:
        print_json(_document(base, chosen))
    elif not chosen:
        show(_nothing(scores, kind))
    elif page is not None:
        show(f"Forecast against actual of {len(chosen):,} job{'s' * (len(chosen) != 1)} is in {page}.")
    else:
        from aifw.cli.forecast_report import report_lines

        for line in report_lines(base, chosen, limit):
            show(line)
    return ExitStatus.DONE


def _scores(base: Path) -> list[Score]:
    """Every job of the folder that was forecast and measured, newest first."""
    from contextlib import closing

    from aifw.plan.score import score
    from aifw.state.layout import Layout
    from aifw.state.reading import measured_jobs
    from aifw.state.store import Store

    found = []
    for database in sorted(base.glob("*/state.db")):
        store = Store.existing(Layout(base.absolute(), database.parent.name))
        if store is None:
            continue
        with closing(store):
            found += [
                score(database.parent.name, job.id, job.address, job.kind, job.started, job.forecast, job.actual)
                for job in measured_jobs(store)
                if job.forecast is not None and job.actual is not None
            ]
    return sorted(found, key=lambda each: each.started, reverse=True)


def _nothing(scores: Sequence[Score], kind: str | None) -> str:
    if not scores:
        return "No job was forecast and measured here yet. `aifw apply` runs jobs; after that this shows how good their forecasts were."
    there = ", ".join(sorted({each.kind for each in scores}))
    return f"No job of kind `{kind}` was measured here yet. Kinds with jobs: {there}."


def _write(page: Path, scores: Sequence[Score]) -> None:
    from aifw.cli.forecast_page import render

    try:
        page.write_text(render(scores), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {page}: {error.strerror}", hint="name a file in a folder that is there"
        ) from error


def _document(base: Path, scores: Sequence[Score]) -> dict[str, Any]:
    from aifw.plan.score import by_kind, overall

    def both(pair: tuple[Summary, Summary]) -> dict[str, Any]:
        return {"memory": asdict(pair[0]), "seconds": asdict(pair[1])}

    return {
        "folder": str(base.absolute()),
        "jobs": [asdict(each) for each in scores],
        "kinds": {kind: both(pair) for kind, pair in by_kind(scores).items()},
        "all": both(overall(scores)),
    }


# The next run


def _show_next(
    files: Sequence[Path], sets: Sequence[str], state: Path | None, kind: str | None, *, as_json: bool
) -> None:
    from aifw.run.planning import make_plan

    spec, layout = open_spec(files, sets, state)
    plan = make_plan(spec, layout)
    steps = [step for step in plan.steps if step.forecast is not None and kind in {None, step.kind}]
    if as_json:
        print_json({"name": plan.name, "jobs": [_step_document(step) for step in steps], "totals": asdict(plan.totals)})
        return
    for line in _next_lines(plan, steps):
        show(line)


def _step_document(step: Step) -> dict[str, Any]:
    return {
        "address": step.address,
        "kind": step.kind,
        "action": step.action.value,
        "device": step.device,
        "forecast": asdict(step.forecast) if step.forecast is not None else None,
    }


def _next_lines(plan: Plan, steps: Sequence[Step]) -> Iterable[str]:
    from aifw.plan.columns import byte_range, padded, time_range, widths, wrapped
    from aifw.plan.render import MARKS
    from aifw.units import format_bytes, format_seconds

    if not steps:
        yield f"{style(plan.name, 'name')}: nothing would run. `aifw forecast --report` shows how good forecasts were."
        return
    yield f"{style(plan.name, 'name')} · {len(steps):,} job{'s' * (len(steps) != 1)} would run"
    rows = []
    for step in steps:
        assert step.forecast is not None
        memory, seconds = step.forecast.memory, step.forecast.seconds
        on = step.placement.label if step.placement is not None else step.device
        needs = f"{format_bytes(memory.mid)} ({byte_range(memory)})"
        rows.append((step.address, on, needs, f"{format_seconds(seconds.mid)} ({time_range(seconds)})"))
    wide = widths(rows)
    room = None if (columns := width()) is None else max(_LEAST_TEXT, columns - 5)
    for step, row in zip(steps, rows, strict=True):
        assert step.forecast is not None
        mark, role = MARKS[step.action]
        yield ""
        cells = "   ".join(padded(cell, size) for cell, size in zip(row, wide, strict=True))
        yield f" {style(mark, role)} {cells}".rstrip()
        for text, role in _resting_on(step.forecast):
            lines = [text] if room is None else wrapped(text, room)
            yield from (f"     {style(line, role) if role else line}" for line in lines)
    yield ""
    totals = plan.totals
    yield f"Peak {format_bytes(totals.memory)} of {format_bytes(totals.budget)} · about {format_seconds(totals.seconds_mid)}"


def _resting_on(forecast: Forecast) -> Iterable[tuple[str, str]]:
    """Texts, each with its role."""
    from aifw.plan.columns import parts_of
    from aifw.units import format_bytes, format_seconds

    if parts := parts_of(forecast.parts):
        yield parts, ""
    if forecast.uncorrected is not None:
        memory, seconds = forecast.uncorrected
        yield f"its kind states {format_bytes(memory)}, {format_seconds(seconds)}", ""
    yield forecast.basis, "faint"
    if forecast.note:
        yield forecast.note, ""
