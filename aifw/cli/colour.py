"""Colour, only on a terminal and never where `NO_COLOR` is set (no-color.org)."""

from __future__ import annotations

import os

import click

_STYLES: dict[str, dict[str, object]] = {
    "error": {"fg": "red", "bold": True},
    "code": {"fg": "red"},
    "frame": {"fg": "blue"},
    "caret": {"fg": "red", "bold": True},
    "good": {"fg": "green"},
    "warn": {"fg": "yellow"},
    "accent": {"fg": "cyan"},
    "name": {"bold": True},
    "faint": {"dim": True},
}


def style(text: str, role: str) -> str:
    """Colour a text by its role. `click.echo` takes the colour away again where the output is no terminal."""
    if os.environ.get("NO_COLOR"):
        return text
    return click.style(text, **_STYLES[role])  # type: ignore[arg-type]
