"""`aifw validate`: check a spec."""

from __future__ import annotations

from pathlib import Path

import click

from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.errors import ExitStatus


@click.command()
@spec_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="For people, for programs, or as annotations of a GitHub workflow.",
)
def command(files: tuple[Path, ...], sets: tuple[str, ...], form: str) -> int:
    """Check a spec; every error points at its line. SPEC is spec.yaml unless given.

    Exit status 3 if anything is wrong.
    """
    from aifw.spec.diagnose import SpecInvalid, as_github, as_json
    from aifw.spec.load import load

    try:
        spec = load(files, sets)
    except SpecInvalid as invalid:
        if form == "text":
            raise
        click.echo((as_json if form == "json" else as_github)(invalid.diagnostics), nl=False)
        return ExitStatus.SPEC_INVALID
    if form == "json":
        click.echo(as_json(()), nl=False)
    elif form == "text":
        click.echo(f"{style('✓', 'good')} {_summary(spec.name, len(spec.resources), len(spec.aliases), len(files))}")
    return ExitStatus.DONE


def _summary(name: str, resources: int, aliases: int, files: int) -> str:
    counts = [_count(resources, "resource", "resources")]
    if aliases:
        counts.append(_count(aliases, "alias", "aliases"))
    if files > 1:
        counts.append(_count(files, "file", "files"))
    return f"{name}: {', '.join(counts)}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
