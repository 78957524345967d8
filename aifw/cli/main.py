"""The `aifw` command: finds the verb, imports it, turns errors into messages and exit statuses."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import NoReturn

import click

from aifw import __version__
from aifw.errors import AifwError, ExitStatus

VERBS: dict[str, tuple[str, str]] = {
    # verb: (what it is about, one line of help)
    "init": ("Write", "Write a commented starter spec."),
    "validate": ("Write", "Check a spec; errors point at the line."),
    "schema": ("Write", "Print the JSON Schema of specs, for editors."),
    "explain": ("Write", "Say more about an error code or a kind."),
    "completion": ("Prepare", "Print the script with which a shell completes names."),
    "doctor": ("Prepare", "Say what is installed and what a spec still needs."),
    "hardware": ("Prepare", "Show what this machine has and can do."),
    "fetch": ("Prepare", "Bring models and wheels ahead of time."),
    "feedback": ("Prepare", "Import, count and export user feedback."),
    "plan": ("Change", "Show what would change, where, and what it takes."),
    "apply": ("Change", "Do what the plan says."),
    "rollback": ("Change", "Move an alias back to what it pointed to before."),
    "release": ("Change", "Let a rolled-back artifact be promoted again."),
    "destroy": ("Change", "Forget everything a spec made; delete what is external."),
    "gc": ("Change", "Delete artifacts nothing refers to."),
    "status": ("Look", "Show what is there and what is running."),
    "show": ("Look", "Show everything known about one resource or alias."),
    "history": ("Look", "List runs, newest first."),
    "report": ("Look", "Show what was measured and decided, as text or page."),
    "compare": ("Look", "Compare two evaluations item by item."),
    "forecast": ("Look", "Show what the next run needs, and how good forecasts were."),
    "logs": ("Look", "Print what a job wrote."),
    "generate": ("Look", "Let a language model answer a prompt."),
    "graph": ("Look", "Draw the spec's resources as Mermaid or DOT."),
}


class Verbs(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb."""
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"aifw.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which was probably meant."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], VERBS, n=1)
            meant = f" Did you mean `{close[0]}`?" if close else " `aifw --help` lists the verbs."
            ctx.fail(f"there is no verb `{args[0]}`.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List verbs by what they are about, without importing them."""
        for group in dict.fromkeys(group for group, _ in VERBS.values()):
            with formatter.section(group):
                formatter.write_dl([(verb, text) for verb, (about, text) in VERBS.items() if about == group])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="aifw")
def main() -> None:
    """Plan, budget and apply a self-improving AI stack from one YAML spec."""


def show_error(error: AifwError) -> None:
    """Print an error as a person wants to read it, on standard error."""
    if error.exit_status == ExitStatus.SPEC_INVALID:
        from aifw.cli.colour import style
        from aifw.spec.diagnose import SpecInvalid, as_text

        if isinstance(error, SpecInvalid):
            click.echo(as_text(error.diagnostics, style), err=True, nl=False)
            return
    click.echo(f"error[{error.code}]: {error.message}", err=True)
    if error.hint:
        click.echo(f"  = {error.hint}", err=True)


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with a status of `ExitStatus`."""
    # pydantic looks for plugins in the metadata of every installed package unless told not to.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Most of what is made here stays until the end, so looking for garbage every 700 objects finds none and takes its time.
    gc.set_threshold(50_000, 20, 20)
    stdout = sys.stdout
    try:
        result = main.main(arguments, standalone_mode=False)
        status = result if isinstance(result, int) else ExitStatus.DONE
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.UsageError as error:
        error.show()
        status = ExitStatus.USAGE
    except click.ClickException as error:
        error.show()
        status = ExitStatus.JOB_FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        status = ExitStatus.INTERRUPTED
    except AifwError as error:
        show_error(error)
        status = error.exit_status
    except SystemExit:
        # When the reader of a pipe goes away, click replaces stdout and exits with 1, which would read as a failed job.
        if sys.stdout is stdout:
            raise
        status = ExitStatus.DONE
    sys.exit(int(status))
