"""`aifw destroy`: forget everything a spec made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aifw.cli.apply import Talk
from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.cli.project import as_typed, find_layout, open_store, state_option
from aifw.cli.terminal import is_terminal, show
from aifw.errors import ExitStatus

if TYPE_CHECKING:
    from aifw.plan.model import Plan


@click.command()
@spec_options
@state_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-artifacts", is_flag=True, help="Leave the bytes in the store until `aifw gc`.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines.")
def command(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    yes: bool,
    keep_artifacts: bool,
    as_json: bool,
) -> int:
    """Forget everything this spec made, delete what lies outside the store, and collect the bytes no other spec refers to.

    Asks first, always. The history of runs stays, and with it what forecasts rest on.
    """
    from aifw.cli.narrate import Narrator
    from aifw.run.destroy import destroy

    layout = find_layout(files, sets, state)
    open_store(layout).close()
    talk = _Talk(Narrator(style, tells_progress=not is_terminal()), yes=yes, as_json=as_json)
    try:
        outcome = destroy(layout, files[0].absolute().parent, talk.hear, talk.agree)
    finally:
        talk.stop()
    if outcome is None:
        show("Nothing was done.")
        return ExitStatus.REFUSED
    if outcome.exit_status == ExitStatus.DONE and not keep_artifacts:
        _collect(layout.base, quiet=as_json)
    if outcome.exit_status != ExitStatus.DONE and not as_json:
        show(f"Not everything was destroyed. `aifw destroy{as_typed(files, sets, state)}` goes on from there.")
    return outcome.exit_status


class _Talk(Talk):
    """Asks whatever the plan says."""

    def why_ask(self, plan: Plan) -> str:
        """Destroying is always asked for, unless nothing is there."""
        forgotten = f"forgets {len(plan.changes)} resource{'s' * (len(plan.changes) != 1)}" if plan.changes else ""
        return " and ".join(filter(None, [forgotten, super().why_ask(plan)]))


def _collect(base: Path, *, quiet: bool) -> None:
    from aifw.run.collect import collect
    from aifw.units import format_bytes

    found = collect(base, keep=0, older_than=float("inf"), dry_run=False)
    if not quiet:
        show(f"Destroyed. {len(found)} artifacts deleted, {format_bytes(sum(each.size for each in found))} freed.")
