"""`aifw logs`: what a job wrote."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aifw.cli.options import spec_options
from aifw.cli.project import complete_address, find_layout, full_address, open_store, state_option
from aifw.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from aifw.state.reading import JobRow
    from aifw.state.store import Store

_POLL_SECONDS = 0.2
_OPEN = ("intended", "launched")


@click.command()
@click.argument("name", metavar="ADDRESS", shell_complete=complete_address)
@spec_options
@state_option
@click.option("-F", "--follow", is_flag=True, help="Go on printing until the job ends.")
@click.option("--run", type=click.IntRange(min=1), help="The job of this run instead of the last one.")
@click.option("--events", is_flag=True, help="Its events as JSON lines (progress, metrics, notes) instead of its log.")
def command(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    name: str,
    follow: bool,
    run: int | None,
    events: bool,
) -> int:
    """Print what the last job of a resource wrote to its standard output and error."""
    with closing(open_store(find_layout(files, sets, state))) as store:
        job = _job(store, name, run)
        path = store.layout.job(job.id) / ("events.jsonl" if events else "log")
        if not path.exists() and job.state not in _OPEN:
            raise UsageError(f"the log of job {job.id} is gone", hint="`aifw gc` collected it")
        _copy(store, job, path, follow=follow)
    return ExitStatus.DONE


def _job(store: Store, name: str, run: int | None) -> JobRow:
    from aifw.state.reading import jobs, known_addresses

    address = full_address(name, known_addresses(store), "in the state")
    found = jobs(store, address, run, limit=1)
    if not found:
        others = sorted({job.run for job in jobs(store, address)})
        hint = f"runs with one: {', '.join(map(str, others))}" if others else "`aifw status` lists what there is"
        raise UsageError(f"{address} had no job{f' in run {run}' if run is not None else ''}", hint=hint)
    return found[0]


def _copy(store: Store, job: JobRow, path: Path, *, follow: bool) -> None:
    """Copy bytes as they are: what a job prints is its own."""
    from aifw.state.reading import jobs

    offset = 0
    while True:
        # Asked before reading: what is written between the two is then read in the next round.
        ended = not follow or all(
            each.state not in _OPEN for each in jobs(store, job.address, job.run) if each.id == job.id
        )
        try:
            with path.open("rb") as file:
                file.seek(offset)
                while chunk := file.read(65_536):
                    offset += len(chunk)
                    sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
        except FileNotFoundError:
            pass
        if ended:
            return
        time.sleep(_POLL_SECONDS)
