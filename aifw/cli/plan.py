"""`aifw plan`: what would change, where, and what it takes."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.apply import PLAN_SUFFIX
from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.cli.project import as_typed, base_folder, complete_address, full_address, open_spec, state_option
from aifw.cli.terminal import show, width
from aifw.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from aifw.hardware.machine import Machine
    from aifw.plan.model import Plan


@click.command()
@spec_options
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save the plan for `aifw apply FILE`.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there is something to do.")
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
@click.option(
    "--explain",
    "explained",
    metavar="ADDRESS",
    multiple=True,
    shell_complete=complete_address,
    help="Show everything about one resource: reasons, inputs, forecast, identity; may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="List every unchanged resource.")
def command(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    as_json: bool,
    output: Path | None,
    detailed_exitcode: bool,
    targets: tuple[str, ...],
    replaced: tuple[str, ...],
    explained: tuple[str, ...],
    everything: bool,
) -> int:
    """Show what would change, where, and what it takes. SPEC is spec.yaml unless given.

    Nothing is changed and no network is used. Exit status 2 with --detailed-exitcode if there is something to do.
    """
    if output is not None and output.suffix != PLAN_SUFFIX:
        raise UsageError(
            f"`aifw apply` would take {output} for a spec",
            hint=f"a plan file's name ends in {PLAN_SUFFIX}: {output.with_suffix(PLAN_SUFFIX)}",
        )
    # This process ends with the plan: going through thousands of steps for garbage would make it slower than linear.
    gc.disable()
    plan, machine = _plan(files, sets, state, targets, replaced)
    if output is not None:
        _save(plan, output, source(files, sets, state, output.parent))
    if as_json:
        import json

        from aifw.plan.planfile import document

        show(
            json.dumps(document(plan, source(files, sets, state, Path())), indent=1, sort_keys=True, ensure_ascii=False)
        )
    elif explained:
        _explain(plan, [full_address(name, (step.address for step in plan.steps), "in the plan") for name in explained])
    else:
        _show(plan, machine, as_typed(files, sets, state), output, everything=everything)
    return ExitStatus.CHANGES if detailed_exitcode and not plan.empty else ExitStatus.DONE


def _plan(
    files: Sequence[Path], sets: Sequence[str], state: Path | None, targets: Sequence[str], replaced: Sequence[str]
) -> tuple[Plan, Machine]:
    """The plan, from memory if nothing that it was made from has changed since."""
    from aifw.hardware.probe import probe
    from aifw.run.remembered import Remembered

    machine = probe()
    remembered = Remembered(files, sets, base_folder(files, state).absolute())
    if not targets and not replaced:
        plan = remembered.recall(machine)
        if plan is not None:
            return plan, machine
    from contextlib import closing

    from aifw.run.planning import make_plan
    from aifw.state.store import Store

    spec, layout = open_spec(files, sets, state)
    plan = make_plan(
        spec,
        layout,
        [full_address(name, spec.resources) for name in targets],
        [full_address(name, spec.resources) for name in replaced],
    )
    store = Store.existing(layout)
    if store is not None:
        with closing(store):
            remembered.remember(spec, store, machine, plan)
    return plan, machine


def _save(plan: Plan, output: Path, made_from: Mapping[str, Any]) -> None:
    from aifw.plan.planfile import save

    try:
        output.write_text(save(plan, made_from), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the plan cannot be written to {output}: {error.strerror}", hint="name a file in a folder that is there"
        ) from error


def source(files: Sequence[Path], sets: Sequence[str], state: Path | None, folder: Path) -> dict[str, Any]:
    """What a plan was made from, with paths relative to the folder the plan file lies in."""
    found: dict[str, Any] = {"files": [os.path.relpath(path, folder) for path in files], "sets": list(sets)}
    if state is not None:
        found["state"] = os.path.relpath(state, folder)
    return found


def _explain(plan: Plan, addresses: Sequence[str]) -> None:
    from aifw.plan.explanation import explain

    show("\n".join(explain(plan, address, style, width()) for address in addresses), newline=False)


def _show(plan: Plan, machine: Machine, typed: str, output: Path | None, *, everything: bool) -> None:
    from aifw.plan.render import MOST_UNCHANGED, render

    most = None if everything else MOST_UNCHANGED
    show(render(plan, machine=machine, width=width(), style=style, most_unchanged=most), newline=False)
    if output is not None:
        show(f"Saved to {output}.   Apply: aifw apply {output}")
    elif not plan.empty:
        show(f"Save: aifw plan{typed} -o next.aifwplan   Apply: aifw apply{typed}")
