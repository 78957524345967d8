"""`aifw hardware`: what this machine has, what the libraries can compute on, and what was measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.colour import style
from aifw.cli.project import STATE_FOLDER, state_option
from aifw.cli.terminal import print_json, show, width
from aifw.errors import AifwError, ExitStatus, StateError, UsageError

if TYPE_CHECKING:
    from aifw.hardware.libraries.profile import Profile
    from aifw.hardware.machine import Machine
    from aifw.hardware.survey import Survey

DOCUMENT = "aifw hardware 1"
_HERE = Path("/")


@click.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--refresh", is_flag=True, help="Ask torch, OpenVINO and the vendors' programs again. Takes seconds.")
@click.option("--measure", "measuring", is_flag=True, help="Ask again, and run short benchmarks. Takes half a minute.")
@click.option("--root", hidden=True, default="/", type=click.Path(path_type=Path, exists=True, file_okay=False))
def command(state: Path | None, *, as_json: bool, refresh: bool, measuring: bool, root: Path) -> int:
    """Show what this machine has, what can be computed on it, and how fast it was measured to be.

    What is told by the kernel is read anew each time. What libraries say and what was measured is kept in the state folder, where
    plans find it too; what no longer holds is ignored, and --refresh and --measure find it out again.
    """
    from aifw.hardware.libraries.profile import read_profile
    from aifw.hardware.survey import survey

    folder = (state if state is not None else Path(STATE_FOLDER)).absolute()
    if refresh or measuring:
        if root != _HERE:
            raise UsageError("a captured tree can be looked at only", hint="leave --root out to ask and measure here")
        _find_out(folder, measuring=measuring)
    profile = read_profile(folder, root)
    found = survey(root)
    machine = _machine(root, profile)
    if as_json:
        print_json(document(found, machine, profile))
    else:
        from aifw.cli.hardware_report import report

        for line in report(found, machine, profile, width(), style):
            show(line)
    return ExitStatus.DONE


def document(found: Survey, machine: Machine | AifwError, profile: Profile) -> dict[str, Any]:
    """All of it as JSON: bytes, seconds, Hz and degrees Celsius; what is unknown is null, and why stands under `unknown`."""
    from aifw.hardware.libraries.profile import plain

    refused = [machine.message] if isinstance(machine, AifwError) else []
    return {
        "format": DOCUMENT,
        "kernel_tells": plain(found),
        "libraries_say": None if profile.runtime is None else {"at": profile.asked_at, **plain(profile.runtime)},
        "measured": plain(profile.measurement),
        "planning_sees": None if isinstance(machine, AifwError) else plain(machine),
        "ignored": list(profile.stale),
        "unknown": [*found.unknown(), *refused],
    }


def _machine(root: Path, profile: Profile) -> Machine | AifwError:
    """What planning sees; on a machine that does not tell its memory, why it sees nothing."""
    from aifw.hardware.libraries.profile import joined
    from aifw.hardware.probe import probe

    try:
        return joined(probe(root), profile)
    except AifwError as error:
        return error


def _find_out(folder: Path, *, measuring: bool) -> None:
    from aifw.hardware.libraries.profile import write_profile
    from aifw.hardware.libraries.runtime import ask
    from aifw.hardware.probe import probe

    with _progress() as tell:
        tell("asking torch and OpenVINO", 0, 1)
        asked_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        runtime = ask()
        measurement = None
        if measuring:
            from aifw.hardware.libraries.measure import measure

            measurement = measure(probe(), runtime, tell)
    try:
        write_profile(folder, runtime=runtime, measurement=measurement, asked_at=asked_at)
    except OSError as error:
        raise StateError(
            f"what was found out cannot be kept in {folder}: {error.strerror or error}",
            hint="choose another folder with `--state DIR`",
        ) from error


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A function that says what is being done; it draws a bar, and on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _text, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=20), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda text, done, total: progress.update(task, description=text, completed=done, total=total)
