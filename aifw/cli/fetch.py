"""`aifw fetch`: bring what jobs need from the network ahead of time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.cli.project import complete_address, full_address, open_spec, state_option
from aifw.cli.terminal import is_terminal, print_json, show
from aifw.errors import AifwError, ExitStatus

if TYPE_CHECKING:
    from aifw.spec.models import Resource, Spec
    from aifw.state.layout import Layout


@click.command()
@spec_options
@state_option
@click.option(
    "--target",
    "targets",
    metavar="ADDRESS",
    multiple=True,
    shell_complete=complete_address,
    help="Only this resource; may be repeated.",
)
@click.option("--offline", is_flag=True, help="Only check that everything is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    targets: tuple[str, ...],
    offline: bool,
    as_json: bool,
) -> int:
    """Bring models and wheels into the cache, so that `aifw apply --offline` finds them.

    What is there already is verified by its hash and not fetched again. Exit status 1 if something cannot be had.
    """
    spec, layout = open_spec(files, sets, state)
    wanted = {full_address(name, spec.resources) for name in targets} or set(spec.resources)
    work = {
        address: name for address in spec.resources if address in wanted and (name := _work(spec, address, offline))
    }
    size = max(map(len, work), default=0)
    results = [_fetch(spec, layout, address, work[address], size, offline=offline, quiet=as_json) for address in work]
    failed = sum(each["error"] is not None for each in results)
    if as_json:
        print_json({"fetched": results, "failed": failed})
    else:
        rest = len(wanted) - len(work)
        told = f"{len(work) - failed} {'checked' if offline else 'ready'}"
        show(
            ", ".join([told, *([f"{failed} failed"] if failed else []), f"{rest} need nothing from the network"]) + "."
        )
    return ExitStatus.JOB_FAILED if failed else ExitStatus.DONE


def _work(spec: Spec, address: str, offline: bool) -> str | None:
    from aifw.kind import Workspace
    from aifw.state.artifacts import digest_of

    resource = spec.resources[address]
    return resource.kind.fetch(resource.settings, Workspace(spec.root, digest_of), offline=offline)


def _fetch(
    spec: Spec, layout: Layout, address: str, name: str, size: int, *, offline: bool, quiet: bool
) -> dict[str, Any]:
    from aifw.plan.columns import padded
    from aifw.units import format_seconds

    began = time.monotonic()
    line = "" if quiet else padded(address, size)
    error: AifwError | None = None
    try:
        _run(spec.resources[address], spec.root, layout, name, _reporter(line) if line else _silent, offline=offline)
    except AifwError as found:
        error = found
    took = time.monotonic() - began
    if line:
        _clear()
        if error is None:
            show(f"{style('✓', 'good')} {line}   {format_seconds(took)}")
        else:
            show(f"{style('✗', 'error')} {line}   {error.message}")
            if error.hint:
                show(f"    {error.hint}")
    failure = {"code": error.code, "message": error.message, "hint": error.hint} if error is not None else None
    return {"address": address, "seconds": took, "error": failure}


def _run(
    resource: Resource,
    root: Path,
    layout: Layout,
    name: str,
    report: Callable[[str, Mapping[str, Any]], None],
    *,
    offline: bool,
) -> None:
    from aifw.job import Job
    from aifw.kind import function

    layout.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="aifw-fetch-") as out:
        function(name)(
            Job(resource.settings, Path(out), root=root, offline=offline, cache_root=layout.cache, report=report)
        )


def _silent(_name: str, _data: Mapping[str, Any]) -> None:
    pass


def _reporter(line: str) -> Callable[[str, Mapping[str, Any]], None]:
    """Shows notes as lines; progress on one line that is written over, on a terminal only."""
    _over(f"◐ {line}   …")

    def report(name: str, data: Mapping[str, Any]) -> None:
        if name == "note":
            _clear()
            show(f"· {line}   {data['text']}")
        elif name == "progress":
            of = f"/{data['total']:,}" if data.get("total") else ""
            _over(f"◐ {line}   {data['done']:,}{of} {data.get('unit') or ''}")

    return report


def _over(text: str) -> None:
    if is_terminal():
        show(f"\r\x1b[K{text}", newline=False)


def _clear() -> None:
    _over("")
