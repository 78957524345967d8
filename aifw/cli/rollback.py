"""`aifw rollback`: an alias goes back to what it pointed to before."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import click

from aifw.cli.options import spec_options
from aifw.cli.project import complete_alias, find_layout, open_store, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus


@click.command()
@click.argument("alias", shell_complete=complete_alias)
@spec_options
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[Path, ...], sets: tuple[str, ...], state: Path | None, *, alias: str, as_json: bool) -> int:
    """Move ALIAS back to what it pointed to before.

    Takes milliseconds, also while an apply runs. What it leaves is put in quarantine: no run promotes it again until
    `aifw release`.
    """
    from aifw.state.aliases import rollback
    from aifw.units import format_seconds

    name = alias.removeprefix("@")
    with closing(open_store(find_layout(files, sets, state))) as store:
        began = time.perf_counter()
        before, after = rollback(store, name)
        took = time.perf_counter() - began
    if as_json:
        print_json({"alias": name, "before": before.label, "after": after.label, "quarantined": before.digest})
    else:
        show(f"{name}: {before.label} → {after.label}   {format_seconds(took)}")
        show(f"{before.label} is in quarantine; `aifw release {before.label}` lets it be promoted again.")
    return ExitStatus.DONE
