"""`aifw init`: write a starter spec."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from aifw.cli.options import DEFAULT_SPEC
from aifw.errors import UsageError

STARTER = Path(__file__).with_name("starter.yaml")
SCHEMA_FOLDER = ".aifw"
_PLACEHOLDER = "my-stack"
_LONGEST_NAME = 63


@click.command()
@click.argument("spec", required=False, type=click.Path(path_type=Path), default=Path(DEFAULT_SPEC))
@click.option("--name", help="Name of the stack. Default: that of the folder.")
@click.option("--force", is_flag=True, help="Replace a spec that is there.")
def command(spec: Path, name: str | None, force: bool) -> None:
    """Write a commented starter spec, and the schema an editor needs for it.

    The schema goes into .aifw/ beside the spec, so that the first line of the spec finds it wherever the folder is moved.
    """
    if spec.is_dir():
        spec /= DEFAULT_SPEC
    if spec.exists() and not force:
        raise UsageError(f"{spec} is already there", hint="name another file, or replace it with --force")
    from aifw.kind import all_kinds
    from aifw.spec import schema
    from aifw.spec.models import PATTERN_WORDS, PUBLISHED_STACK_NAME_PATTERN

    stack = name if name is not None else _name_of(spec.absolute().parent)
    if not re.fullmatch(PUBLISHED_STACK_NAME_PATTERN, stack) or len(stack) > _LONGEST_NAME:
        raise UsageError(f"`{stack}` cannot be the name of a stack", hint=PATTERN_WORDS[PUBLISHED_STACK_NAME_PATTERN])

    folder = spec.parent / SCHEMA_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / schema.NAME).write_text(schema.text(schema.schema(all_kinds())), encoding="utf-8")
        spec.write_text(STARTER.read_text(encoding="utf-8").replace(_PLACEHOLDER, stack), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or spec}: {(error.strerror or str(error)).lower()}") from error
    here = "" if spec == Path(DEFAULT_SPEC) else f" {spec}"
    click.echo(f"Wrote {spec} and {folder / schema.NAME} (for your editor).")
    click.echo(f"Next: aifw validate{here} · aifw plan{here} · aifw apply{here}")


def _name_of(folder: Path) -> str:
    """The folder's name as far as it can name a stack."""
    name = re.sub(r"[^a-z0-9]+", "-", os.path.basename(folder).lower()).strip("-")  # noqa: PTH119 - works for the root too
    from aifw.spec.models import PUBLISHED_STACK_NAME_PATTERN

    return name[:_LONGEST_NAME].rstrip("-") if re.match(PUBLISHED_STACK_NAME_PATTERN, name) else _PLACEHOLDER
