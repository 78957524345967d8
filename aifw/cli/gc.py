"""`aifw gc`: delete what nothing refers to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.cli.project import find_layout, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from aifw.run.collect import Garbage

_MOST_LINES = 40


@click.command()
@spec_options
@state_option
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Keep the N newest artifacts of each resource, even where nothing refers to them.",
)
@click.option(
    "--older-than",
    default="30d",
    show_default=True,
    metavar="AGE",
    help="Job folders, checkpoints and caches not used for so long go, too: 12h, 30d.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    dry_run: bool,
    keep: int,
    older_than: str,
    as_json: bool,
) -> int:
    """Delete artifacts nothing refers to, and job folders, checkpoints and caches nobody used for long.

    What an address of any spec in this folder stands for stays, and what an alias points to with the two things it pointed to
    before, so that it can be rolled back. Refused while an apply runs.
    """
    from aifw.run.collect import collect
    from aifw.units import parse_seconds

    try:
        age = parse_seconds(older_than)
    except ValueError as error:
        raise UsageError(f"--older-than: {error}") from None
    base = find_layout(files, sets, state).base
    found = collect(base, keep=keep, older_than=age, dry_run=dry_run)
    if as_json:
        entries = [{**asdict(each), "path": str(each.path)} for each in found]
        print_json({"deleted": not dry_run, "bytes": sum(each.size for each in found), "garbage": entries})
    else:
        _show(found, dry_run=dry_run)
    return ExitStatus.DONE


def _show(found: Collection[Garbage], *, dry_run: bool) -> None:
    from aifw.plan.columns import aligned
    from aifw.units import format_bytes

    if not found:
        show("Nothing to collect.")
        return
    biggest = sorted(found, key=lambda each: -each.size)
    rows = [(f" - {each.what}", each.name[:24], format_bytes(each.size), each.detail) for each in biggest[:_MOST_LINES]]
    for line in aligned(rows):
        show(line)
    if len(found) > _MOST_LINES:
        show(style(f"   … and {len(found) - _MOST_LINES} smaller ones", "faint"))
    total = format_bytes(sum(each.size for each in found))
    show(
        f"{len(found):,} would be deleted, {total}. Without --dry-run they are."
        if dry_run
        else f"{len(found):,} deleted, {total} freed."
    )
