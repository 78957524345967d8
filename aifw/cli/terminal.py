"""What the output goes to: its width, whether it is a terminal, and text it can show."""

from __future__ import annotations

import os
import sys

import click

_USUAL_WIDTH = 80


def is_terminal() -> bool:
    """Whether standard output is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal; None in a pipe, where lines are never cut or wrapped."""
    if not sys.stdout.isatty():
        return None
    said = os.environ.get("COLUMNS", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _USUAL_WIDTH
    except OSError:
        return _USUAL_WIDTH


def show(text: str, *, newline: bool = True) -> None:
    """Print, with a question mark for each character that the output's encoding lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.encode(encoding, errors="replace").decode(encoding)
    click.echo(text, nl=newline)


def silence() -> None:
    """Let everything that is printed from now on go nowhere: nobody reads it any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_json(value: object) -> None:
    """Print a JSON document."""
    import json

    show(json.dumps(value, indent=1, ensure_ascii=False))
