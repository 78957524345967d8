"""`aifw schema`: print the JSON Schema of specs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
def command(output: Path | None) -> None:
    """Print the JSON Schema of specs, for editors; kinds of other packages included.

    `aifw init` writes it beside a new spec; `aifw schema -o .aifw/aifw.v1.schema.json` brings it up to date.
    """
    from aifw.kind import all_kinds
    from aifw.spec.schema import schema, text

    written = text(schema(all_kinds()))
    if output is None:
        click.echo(written, nl=False)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(written, encoding="utf-8")
