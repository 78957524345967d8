"""`aifw apply`: do what the plan says."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.cli.project import as_typed, complete_address, full_address, open_spec, state_option
from aifw.cli.terminal import is_terminal, show, silence, width
from aifw.errors import ExitStatus, Refused, UsageError

if TYPE_CHECKING:
    from aifw.cli.live import LiveProgress
    from aifw.cli.narrate import Narrator
    from aifw.plan.model import Plan
    from aifw.run.apply import Request
    from aifw.run.events import Listener
    from aifw.run.outcome import Outcome
    from aifw.spec.models import Spec
    from aifw.state.layout import Layout

PLAN_SUFFIX = ".aifwplan"


@click.command()
@spec_options
@state_option
@click.option("--yes", is_flag=True, help="Do not ask before spending or deleting.")
@click.option(
    "--target",
    "targets",
    metavar="ADDRESS",
    multiple=True,
    shell_complete=complete_address,
    help="Only this resource and what it waits for; may be repeated.",
)
@click.option(
    "--replace",
    "replaced",
    metavar="ADDRESS",
    multiple=True,
    shell_complete=complete_address,
    help="Make it again although nothing changed; may be repeated.",
)
@click.option("--offline", is_flag=True, help="Do not use the network.")
@click.option("--allow-delete", is_flag=True, help="External things that left the spec may be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines.")
def command(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    yes: bool,
    targets: tuple[str, ...],
    replaced: tuple[str, ...],
    offline: bool,
    allow_delete: bool,
    as_json: bool,
) -> int:
    """Do what the plan says. SPEC is spec.yaml unless given, or a plan that `aifw plan -o` saved.

    Asks before it spends money or deletes something outside the store, and only then. Ctrl-C stops cleanly: running jobs save
    what they have, and the next apply goes on from there.

    Exit status: 0 done or nothing to do, 1 a job failed, 4 refused, 5 a gate said no, 6 stale plan or another apply runs,
    130 interrupted.
    """
    from aifw.run.apply import Request

    saved = None
    if files[0].suffix == PLAN_SUFFIX:
        if len(files) > 1 or sets or targets or replaced:
            raise UsageError(
                "a saved plan is applied as it is: -f, --set, --target and --replace do not go with it",
                hint="make another plan with them",
            )
        saved, files, sets, state = read_saved(files[0], state)
    spec, layout = open_spec(files, sets, state)
    request = Request(
        targets=saved["targets"] if saved else [full_address(name, spec.resources) for name in targets],
        replaced=saved["replaced"] if saved else [full_address(name, spec.resources) for name in replaced],
        saved=saved,
        allow_delete=allow_delete,
        offline=offline,
    )
    return carry_out(spec, layout, request, typed=as_typed(files, sets, state), yes=yes, as_json=as_json)


def read_saved(path: Path, state: Path | None) -> tuple[dict[str, Any], tuple[Path, ...], tuple[str, ...], Path | None]:
    """A plan file, and the files, values and state folder it was made from.

    Raises:
        UsageError: Not a plan file, or it does not say what it was made from.
    """
    from aifw.plan import planfile

    saved = planfile.load(path)
    source = saved.get("source")
    if not isinstance(source, dict) or not source.get("files"):
        raise UsageError(
            f"{path} does not say which spec it was made from", hint="`aifw plan -o FILE` writes one that does"
        )
    files = tuple(_beside(path, each) for each in source["files"])
    if state is None and source.get("state") is not None:
        state = _beside(path, source["state"])
    return saved, files, tuple(source["sets"]), state


def _beside(path: Path, relative: str) -> Path:
    joined = path.parent / relative
    resolved = joined.resolve()
    here = Path.cwd()
    return resolved.relative_to(here) if resolved.is_relative_to(here) else joined


def carry_out(spec: Spec, layout: Layout, request: Request, *, typed: str, yes: bool, as_json: bool) -> int:
    """Apply with a plan shown before, progress while it goes on, and a report at the end; returns the exit status."""
    from aifw.cli.narrate import Narrator
    from aifw.run.apply import apply

    narrator = Narrator(style, tells_progress=not is_terminal())
    talk = Talk(narrator, yes=yes, as_json=as_json)
    try:
        outcome = apply(spec, layout, request, talk.hear, talk.agree)
    finally:
        talk.stop()
    if outcome is None:
        talk.say("Nothing was done.")
        return ExitStatus.REFUSED
    if not as_json:
        _end(talk, outcome, narrator, layout, typed)
    return outcome.exit_status


def _end(talk: Talk, outcome: Outcome, narrator: Narrator, layout: Layout, typed: str) -> None:
    from aifw.cli.ending import ending

    assert talk.plan is not None
    if outcome.results and not (talk.plan.empty and not narrator.finished):
        for line in ending(talk.plan, outcome, narrator, layout, typed, style):
            talk.say(line)


class Talk:
    """Shows the plan, asks if need be, and says what happens.

    Attributes:
        plan: The plan that was agreed to, once it was.
    """

    def __init__(self, narrator: Narrator, *, yes: bool, as_json: bool) -> None:
        self.plan: Plan | None = None
        self._narrator = narrator
        self._yes = yes
        self._as_json = as_json
        self._listener: Listener = self._print_json if as_json else self._print_lines
        self._live: LiveProgress | None = None

    def agree(self, plan: Plan) -> bool:
        """Show the plan; ask if it spends or deletes."""
        self.plan = plan
        if not self._as_json:
            from aifw.plan.render import render

            self.say(render(plan, width=width(), style=style, most_unchanged=0), newline=plan.changes != ())
        reason = self.why_ask(plan)
        if reason and not self._yes and not self._asked(reason):
            return False
        if not plan.empty and not self._as_json and is_terminal():
            self._go_live(plan)
        return True

    def why_ask(self, plan: Plan) -> str:
        """Why a person must agree to a plan, or nothing."""
        from aifw.plan.model import Action
        from aifw.units import format_money

        reasons: list[str] = []
        if plan.totals.cost_high > 0:
            reasons.append(f"spends up to {format_money(plan.totals.cost_high)}")
        deleted: Sequence[str] = [step.address for step in plan.steps if step.action is Action.DELETE]
        if deleted:
            reasons.append(f"deletes {', '.join(deleted)}")
        return " and ".join(reasons)

    def _asked(self, reason: str) -> bool:
        if self._as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Refused(f"this plan {reason}, and nobody can be asked here", hint="`--yes` agrees to it")
        return click.confirm(f"This plan {reason}. Go on?", default=False)

    def _go_live(self, plan: Plan) -> None:
        from aifw.cli.live import LiveProgress

        self._live = LiveProgress(self._narrator, {step.address: step.after for step in plan.steps})
        self._listener = self._live.hear

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in an event of the run."""
        self._listener(event)

    def say(self, text: str, *, newline: bool = True) -> None:
        """Print. Work goes on when the reader of a pipe goes away."""
        try:
            show(text, newline=newline)
        except BrokenPipeError:
            silence()

    def stop(self) -> None:
        """Clear what is redrawn; lines stay."""
        if self._live is not None:
            self._live.stop()

    def _print_lines(self, event: Mapping[str, Any]) -> None:
        for line in self._narrator.hear(event):
            self.say(line)

    def _print_json(self, event: Mapping[str, Any]) -> None:
        import json

        self.say(json.dumps(event, ensure_ascii=False))
