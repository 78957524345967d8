"""`aifw feedback`: import, count and export user feedback."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aifw.errors import DependencyMissing, InputInvalid, UsageError

if TYPE_CHECKING:
    from aifw.data.events import Event
    from aifw.data.kinds import FeedbackSettings

T = TypeVar("T")

_NAMED = 10
_SECONDS_BEFORE_A_BAR = 2.0
_COLUMNS = """\b
every kind   id, kind (thumbs, comparison, correction, stars), conversation,
             rater, time (ISO 8601, UTC), prompt
optional     turns (list of {"role", "content"}), model
thumbs       answer, thumb (up, down)
comparison   answer_a, answer_b, preferred (a, b, tie)
correction   answer, corrected
stars        answer, stars (1 to 5)"""


@click.group()
def command() -> None:
    """Import, count and export user feedback.

    SOURCE is `sqlite:///relative.db`, `sqlite:////absolute.db`, or the path of a `.jsonl` file.
    """


@command.command("import", epilog=_COLUMNS)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--into", required=True, metavar="SOURCE", help="Database to add to, `sqlite:///PATH`; made if needed.")
@click.option("--table", default="feedback", show_default=True, help="Table of the database.")
def import_(file: Path, into: str, table: str) -> None:
    """Add the events of a JSON Lines FILE to a database.

    An id that is there already is left as it is, so the same file can be imported again. Broken rows are named and skipped.
    """
    # A command that starts fast collects rarely (`aifw.cli.main`); here the rows of many batches would pile up meanwhile.
    gc.set_threshold(700, 10, 10)
    target = _source(into, table)
    if not target.is_database:
        raise UsageError(f"{into} is not a database", hint="use `--into sqlite:///PATH`")
    if not file.is_file():
        raise InputInvalid(f"there is no file {file}")
    database = _database()
    from aifw.data.events import BrokenRow, check, listed
    from aifw.data.feedback import read_lines
    from aifw.data.observation import look_at_lines

    rejected: Counter[str] = Counter()
    named: list[str] = []

    def events() -> Iterator[Event]:
        rows = look_at_lines(file, lambda _: "").facts["rows"]
        with _bar(rows, f"reading {file.name}") as advance:
            for line, raw in read_lines(file):
                advance()
                try:
                    if isinstance(raw, str):
                        raise BrokenRow(raw)
                    yield check(raw)
                except BrokenRow as broken:
                    rejected[str(broken)] += 1
                    if len(named) < _NAMED:
                        named.append(f"{file}:{line}: {broken}")

    done = database.add(target.path(Path.cwd()), events(), table)
    for text in named:
        click.echo(f"skipped {text}", err=True)
    if rejected:
        click.echo(f"{_rows(rejected.total())} skipped: {listed(rejected)}", err=True)
    click.echo(f"{done.added:,} added, {done.present:,} already there, in {into}")
    if done.conflicts:
        shown = ", ".join(done.conflicts[:_NAMED]) + (", ..." if len(done.conflicts) > _NAMED else "")
        raise InputInvalid(
            f"{_rows(len(done.conflicts))} of {file} not added: the id is there with other content: {shown}",
            hint="what the database holds was kept; give corrected events ids of their own",
        )
    if not done.added and not done.present:
        raise InputInvalid(f"{file} holds no usable feedback", hint="`aifw feedback import --help` lists the columns")


@command.command()
@click.argument("source")
@click.option("--table", default="feedback", show_default=True, help="Table of the database.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(source: str, table: str, as_json: bool) -> None:
    """Count events by kind and rater, and say how far raters agree."""
    from aifw.data.summary import summarise

    rejected: Counter[str] = Counter()
    with _events(source, table, rejected) as events:
        found = summarise(events)
        found["rejected"] = dict(sorted(rejected.items()))
    if as_json:
        import json

        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    _print(found, rejected)


@command.command()
@click.argument("source")
@click.option("--table", default="feedback", show_default=True, help="Table of the database.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; default is standard output.")
def export(source: str, table: str, output: Path | None) -> None:
    """Write events as JSON Lines, by id, in the form `import` reads."""
    from aifw.data.events import encode

    rejected: Counter[str] = Counter()
    with ExitStack() as stack:
        events = stack.enter_context(_events(source, table, rejected))
        if output is None:
            for event in events:
                click.echo(encode(event))
        else:
            try:
                file = stack.enter_context(output.open("w", encoding="utf-8", newline="\n"))
            except OSError as error:
                raise UsageError(f"{output} cannot be written: {error.strerror}") from error
            for event in events:
                file.write(encode(event) + "\n")
    if rejected:
        from aifw.data.events import listed

        click.echo(f"{_rows(rejected.total())} skipped: {listed(rejected)}", err=True)


def _source(text: str, table: str) -> FeedbackSettings:
    from pydantic import ValidationError

    from aifw.data.kinds import FeedbackSettings

    try:
        return FeedbackSettings(source=text, table=table)
    except ValidationError as error:
        reasons = "; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())
        raise UsageError(f"{text!r} cannot be used: {reasons}") from error


def _database() -> Any:
    try:
        import aifw.data.database
    except ImportError as error:
        raise DependencyMissing(
            f"feedback needs the package {error.name}", hint="install it with `pip install 'aifw[train]'`"
        ) from error
    return aifw.data.database


@contextmanager
def _events(source: str, table: str, rejected: Counter[str]) -> Iterator[Iterator[Event]]:
    """Usable events by id, each id once; the others are counted."""
    settings = _source(source, table)
    path = settings.path(Path.cwd())
    if not path.is_file():
        raise InputInvalid(f"there is no feedback at {path}", hint="`aifw feedback import` makes a database")
    _database()
    from tempfile import TemporaryDirectory

    from aifw.data.feedback import accepted, open_rows

    with TemporaryDirectory(prefix="aifw-") as scratch, open_rows(settings, path) as rows:
        yield accepted(rows, Path(scratch), rejected)


def _print(found: dict[str, Any], rejected: Counter[str]) -> None:
    from aifw.data.events import listed

    click.echo(f"{found['rows']:,} events in {found['conversations']:,} conversations by {len(found['raters'])} raters")
    if found["first"]:
        click.echo(f"from {found['first']} to {found['last']}")
    click.echo("")
    for kind, count in found["kinds"].items():
        agreement = found["agreement"].get(kind)
        said = f"   raters agree in {agreement['agree']} of {agreement['judgements']}" if agreement else ""
        click.echo(f"  {kind:<12}{count:>8,}{said}")
    click.echo("")
    for rater, count in found["raters"].items():
        click.echo(f"  {rater:<12}{count:>8,}")
    if rejected:
        click.echo("")
        click.echo(f"{_rows(rejected.total())} cannot be used: {listed(rejected)}")


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


@contextmanager
def _bar(total: int, text: str) -> Iterator[Any]:
    """A function to call for every step; draws a bar on a terminal once the work has taken a while."""
    with ExitStack() as stack:
        begun = time.monotonic()
        done = 0
        draw: Any = None

        def advance() -> None:
            nonlocal done, draw
            done += 1
            if draw is not None:
                draw(done)
            elif done % 100 == 0 and time.monotonic() - begun > _SECONDS_BEFORE_A_BAR and sys.stderr.isatty():
                from rich.console import Console
                from rich.progress import Progress

                progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
                task = progress.add_task(text, total=total, completed=done)
                draw = lambda at: progress.update(task, completed=at)  # noqa: E731 - a name for the bar's only use

        yield advance
