"""`aifw history`: runs, newest first."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.cli.project import find_layout, open_store, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus

if TYPE_CHECKING:
    from aifw.state.reading import RunRow


@click.command()
@spec_options
@state_option
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most runs to list.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[Path, ...], sets: tuple[str, ...], state: Path | None, *, limit: int, as_json: bool) -> int:
    """List runs, newest first: when, how long, how they ended, what they changed."""
    from aifw.plan.columns import aligned
    from aifw.state.reading import engine, runs

    layout = find_layout(files, sets, state)
    with closing(open_store(layout)) as store:
        found = runs(store, limit)
        working = engine(store, layout)
    if as_json:
        print_json([asdict(run) for run in found])
        return ExitStatus.DONE
    if not found:
        show("Nothing was run yet.")
        return ExitStatus.DONE
    head, *lines = aligned(
        [("run", "started (UTC)", "took", "ended", "spec", "what"), *(_row(run, working) for run in found)]
    )
    show(style(head, "faint"))
    for line in lines:
        show(line)
    return ExitStatus.DONE


def _row(run: RunRow, working: RunRow | None) -> tuple[str, ...]:
    from aifw.units import format_seconds

    results = list(run.summary.get("results", {}).values())
    counts = {state: results.count(state) for state in dict.fromkeys(results)}
    what = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing changed"
    took = format_seconds(run.summary["seconds"]) if "seconds" in run.summary else ""
    started = run.started[:19].replace("T", " ")
    if run.state == "running":
        # Its engine died: the next plan or apply closes the run.
        ended, what = ("running", "") if working is not None and working.id == run.id else ("died", "")
    else:
        ended = run.state
    return (str(run.id), started, took, ended, run.spec[:6], what)
