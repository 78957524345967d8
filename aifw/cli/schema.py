"""`aifw schema`: print the JSON Schema of specs, plans, events or reports.

python -m aifw.cli.schema --write    write the schemas that are published with aifw: below schemas/, those of specs and reports into the
                                     package too
python -m aifw.cli.schema --check    exit with 1 if what is written there is not up to date
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from aifw.kind import AnyKind

ROOT = Path(__file__).parents[2]
Subject = Literal["spec", "plan", "events", "report"]


@click.command()
@click.option(
    "--of",
    "subject",
    type=click.Choice(["spec", "plan", "events", "report"]),
    default="spec",
    show_default=True,
    help="What it is the schema of: specs, what `aifw plan --json` prints, a line of `aifw apply --json`, or an evaluation's `report.json`.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
def command(subject: Subject, output: Path | None) -> None:
    """Print the JSON Schema of specs, for editors, or that of plans, events or reports, for programs.

    That of specs knows the kinds of other packages too. `aifw init` writes it beside a new spec; `aifw schema -o
    .aifw/aifw.v1.schema.json` brings it up to date.
    """
    from aifw.kind import all_kinds
    from aifw.spec.schema import text

    written = text(_schema(subject, all_kinds() if subject == "spec" else ()))
    if output is None:
        click.echo(written, nl=False)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(written, encoding="utf-8")


def _schema(subject: Subject, kinds: Iterable[AnyKind] | None) -> dict[str, Any]:
    if subject == "spec":
        from aifw.spec import schema as spec

        return spec.schema(kinds)
    if subject == "plan":
        from aifw.plan import schema as plan

        return plan.schema()
    if subject == "report":
        from aifw.evaluation import schema as report

        return report.schema()
    from aifw.run import schema as events

    return events.schema()


def published() -> dict[Path, str]:
    """The files that are published with aifw, and what belongs into them."""
    from aifw.evaluation import schema as report
    from aifw.plan import schema as plan
    from aifw.run import schema as events
    from aifw.spec import schema as spec

    of_spec = spec.text(_schema("spec", None))
    of_report = spec.text(_schema("report", None))
    folder = ROOT / "schemas"
    return {
        spec.PACKAGED: of_spec,
        folder / spec.NAME: of_spec,
        folder / plan.NAME: spec.text(_schema("plan", None)),
        folder / events.NAME: spec.text(_schema("events", None)),
        report.PACKAGED: of_report,
        folder / report.NAME: of_report,
    }


def main(arguments: Sequence[str]) -> int:
    """Write or check the published files. Returns the exit status."""
    if list(arguments) == ["--write"]:
        for path, text in published().items():
            path.write_text(text, encoding="utf-8")
        return 0
    if list(arguments) == ["--check"]:
        stale = [
            path for path, text in published().items() if not path.exists() or path.read_text(encoding="utf-8") != text
        ]
        for path in stale:
            sys.stderr.write(f"{path} is not up to date: run `python -m aifw.cli.schema --write`\n")
        return 1 if stale else 0
    sys.stderr.write("usage: python -m aifw.cli.schema --write | --check\n")
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
