"""`aifw report`: what was measured, how sure that is, and what followed from it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aifw.cli.options import spec_files
from aifw.cli.project import find_layout, open_store, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from aifw.cli.report_facts import Facts

_DEFAULT_PAGE = "report.html"


@click.command()
@click.argument("paths", metavar="[SPEC|EVALUATION...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--file",
    "overlays",
    multiple=True,
    metavar="OVERLAY",
    type=click.Path(path_type=Path),
    help="Another file to merge over the spec; may be repeated, later ones win.",
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set one value of the spec; may be repeated.")
@state_option
@click.option(
    "--html",
    "page",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write everything as one page of HTML.",
)
@click.option(
    "--open",
    "opened",
    is_flag=True,
    help=f"Show the page in the browser; it is {_DEFAULT_PAGE} beside the state unless --html says.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    paths: tuple[Path, ...],
    overlays: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    page: Path | None,
    opened: bool,
    as_json: bool,
) -> int:
    """Show the newest evaluation of each resource with its trend, targets, and the newest verdicts.

    Names a spec, whose state is told about, or evaluations themselves: folders with `report.json` and `items.jsonl`. The page
    has the course over all runs, distributions, confusion, forecasts and every verdict with its evidence.
    """
    facts, folder = _facts(paths, overlays, sets, state)
    if page is None and opened:
        page = folder / _DEFAULT_PAGE
    if page is not None:
        _write(page, facts)
    if as_json:
        from aifw.cli.report_facts import document

        print_json(document(facts))
    elif page is not None:
        show(f"The report is in {page}.")
    elif not (facts.evaluations or facts.unreadable or facts.judgements or facts.targets):
        show("Nothing was evaluated yet. A resource of kind `evaluate` measures, `aifw apply` makes it.")
    else:
        from aifw.cli.report_text import report_lines

        for line in report_lines(facts):
            show(line)
    if page is not None and opened:
        click.launch(str(page.absolute()))
    return ExitStatus.DONE


def _facts(
    paths: tuple[Path, ...], overlays: tuple[Path, ...], sets: tuple[str, ...], state: Path | None
) -> tuple[Facts, Path]:
    """What to tell, and where a page about it lies."""
    from aifw.cli.report_facts import is_evaluation, of_folders, of_state
    from aifw.cli.targets import targets_of

    folders = [path for path in paths if is_evaluation(path)]
    if folders:
        if len(folders) != len(paths) or overlays or sets or state is not None:
            raise UsageError("name either a spec or evaluations", hint="`aifw report FOLDER...` needs no spec")
        return of_folders(folders), Path()
    if len(paths) > 1:
        raise UsageError(
            f"{paths[1]} is no evaluation", hint="name one spec, with overlays by -f, or folders of evaluations"
        )
    files = spec_files(paths[0] if paths else None, overlays)
    layout = find_layout(files, sets, state)
    with closing(open_store(layout)) as store:
        return of_state(store, targets_of(files, sets, store)), layout.folder


def _write(page: Path, facts: Facts) -> None:
    from aifw.cli.report_page import render

    try:
        page.write_text(render(facts), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {page}: {error.strerror}", hint="name a file in a folder that is there"
        ) from error
