"""`aifw release`: what was rolled back may be promoted again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from aifw.cli.options import spec_options
from aifw.cli.project import find_layout, open_store, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus


@click.command()
@click.argument("what", metavar="DIGEST|LABEL|all")
@spec_options
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[Path, ...], sets: tuple[str, ...], state: Path | None, *, what: str, as_json: bool) -> int:
    """Let what was rolled back be promoted again: the start of its digest, the label an alias showed (dpo@a41f), or `all`."""
    from aifw.state.aliases import release
    from aifw.state.reading import quarantined

    with closing(open_store(find_layout(files, sets, state))) as store:
        labels = {digest: label for digest, (_, label) in quarantined(store).items()}
        found = release(store, what)
    if as_json:
        print_json({"released": found})
    else:
        names = ", ".join(labels.get(digest, digest[:12]) for digest in found)
        show(f"{names} may be promoted again; `aifw plan` shows whether it will be.")
    return ExitStatus.DONE
