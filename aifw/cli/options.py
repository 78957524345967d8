"""Options that several verbs share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from aifw.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_SPEC = "spec.yaml"


def spec_options(verb: F) -> F:
    """Add `[SPEC] [-f OVERLAY]... [--set KEY=VALUE]...` to a verb.

    The verb gets `files: tuple[Path, ...]`, the spec first and overlays after it, and `sets: tuple[str, ...]`.
    """
    return _with_spec(verb, needed=True)


def optional_spec_options(verb: F) -> F:
    """The same for a verb that also works without a spec: `files` is empty if none was named and there is no `spec.yaml`."""
    return _with_spec(verb, needed=False)


def _with_spec(verb: F, *, needed: bool) -> F:

    @click.argument("spec", required=False, type=click.Path(path_type=Path))
    @click.option(
        "-f",
        "--file",
        "overlays",
        multiple=True,
        metavar="OVERLAY",
        type=click.Path(path_type=Path),
        help="Another file to merge over the spec; may be repeated, later ones win.",
    )
    @click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set one value, such as `stages.dpo.epochs=1`; may be repeated, wins over every file.",
    )
    @functools.wraps(verb)
    def with_spec(spec: Path | None, overlays: tuple[Path, ...], sets: tuple[str, ...], **rest: Any) -> Any:
        absent = spec is None and not overlays and not sets and not Path(DEFAULT_SPEC).exists()
        files = () if absent and not needed else spec_files(spec, overlays)
        return verb(files=files, sets=sets, **rest)

    return with_spec  # type: ignore[return-value]


def spec_files(spec: Path | None, overlays: tuple[Path, ...]) -> tuple[Path, ...]:
    """The files of a spec in the order in which they are merged.

    Raises:
        UsageError: No spec was named and there is no `spec.yaml` here.
    """
    if spec is None:
        spec = Path(DEFAULT_SPEC)
        if not spec.exists():
            raise UsageError(
                f"there is no {DEFAULT_SPEC} in this folder",
                hint="name a spec, or write a starter spec with `aifw init`",
            )
    return (spec, *overlays)
