"""`aifw show`: everything known about one resource or alias."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.colour import style
from aifw.cli.options import spec_options
from aifw.cli.project import complete_name, find_layout, full_address, open_store, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus

if TYPE_CHECKING:
    from aifw.state.reading import Bound, JobRow, Move
    from aifw.state.store import Store

_MOST_JOBS = 5


@click.command()
@click.argument("name", metavar="ADDRESS|ALIAS", shell_complete=complete_name)
@spec_options
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[Path, ...], sets: tuple[str, ...], state: Path | None, *, name: str, as_json: bool) -> int:
    """Show everything known about one resource or alias.

    Of a resource: settings, artifact and where it lies, facts, inputs, and what its last jobs took beside what was expected. Of
    an alias: what it points to, and every move with its verdict.
    """
    from aifw.state.reading import known_addresses

    with closing(open_store(find_layout(files, sets, state))) as store:
        aliases = store.aliases()
        addresses = known_addresses(store)
        plain = name.removeprefix("@")
        ambiguous = plain in aliases and any(each.rpartition(".")[2] == plain for each in addresses)
        if plain in aliases and (name.startswith("@") or not ambiguous):
            _show_alias(store, plain, as_json=as_json)
        else:
            known = [*addresses, *(f"@{alias}" for alias in aliases)]
            _show_resource(store, full_address(name, known, "in the state"), as_json=as_json)
    return ExitStatus.DONE


def _show_resource(store: Store, address: str, *, as_json: bool) -> None:
    from aifw.state.reading import bindings, jobs, outputs

    bound = bindings(store).get(address)
    found = jobs(store, address, limit=_MOST_JOBS)
    made = outputs(store, bound.artifact) if bound is not None else {}
    inputs = _inputs(store, bound, found)
    if as_json:
        print_json(
            {
                "address": address,
                "bound": {**asdict(bound), "path": _path(store, bound)} if bound is not None else None,
                "outputs": {name: {"digest": digest, "facts": facts} for name, (digest, facts) in made.items()},
                "inputs": inputs,
                "jobs": [asdict(job) for job in found],
            }
        )
        return
    for line in _resource_lines(store, address, bound, made, inputs, found):
        show(line)


def _path(store: Store, bound: Bound) -> str | None:
    return str(store.artifacts.path(bound.artifact)) if bound.artifact else None


def _inputs(store: Store, bound: Bound | None, found: Sequence[JobRow]) -> dict[str, Any]:
    """What the job that made it was given, while its folder is there."""
    job = bound.job if bound is not None and bound.job else (found[0].id if found else "")
    try:
        order = json.loads((store.layout.job(job) / "job.json").read_bytes()) if job else {}
    except (OSError, ValueError):
        return {}
    return {
        field: {"address": each["address"], "digest": each["digest"]} for field, each in order.get("inputs", {}).items()
    }


def _resource_lines(
    store: Store,
    address: str,
    bound: Bound | None,
    made: Mapping[str, tuple[str, Mapping[str, Any]]],
    inputs: Mapping[str, Any],
    found: Sequence[JobRow],
) -> Iterable[str]:
    from aifw.units import format_bytes

    kind = bound.kind if bound is not None else found[0].kind
    yield f"{style(address, 'name')} · {kind}" + ("" if bound is not None else " · stands for nothing")
    maker = next((job for job in found if bound is None or job.id == bound.job or not bound.job), None)
    settings = maker.settings if maker is not None else bound.identity.get("settings", {}) if bound is not None else {}
    yield from _block("settings", _pairs(settings) or ["all by default"])
    if bound is not None:
        if bound.damage:
            yield from _block("damage", [bound.damage])
        if bound.artifact:
            yield from _block("artifact", [bound.artifact])
            size = f"{format_bytes(bound.size)}, made {bound.made_at[:19].replace('T', ' ')} UTC by job {bound.job}"
            yield from _block("", [_near(store, bound), size])
        else:
            yield from _block("facts", _pairs(bound.facts))
        if bound.artifact and bound.facts:
            yield from _block("facts", _pairs(bound.facts))
        for name, (digest, facts) in made.items():
            yield from _block("output", [f"{name}  {digest}", *(f"  {line}" for line in _facts(facts))])
        yield from _block("key", [bound.key])
    yield from _block(
        "inputs", [f"{field}: {each['address']}  {each['digest'][:12]}" for field, each in inputs.items()]
    )
    yield from _job_lines(found)


def _facts(facts: Mapping[str, Any]) -> Iterable[str]:
    """A verdict in words, everything else as it is."""
    from aifw.cli.measures import decision, verdict_lines

    verdict = facts.get("verdict")
    if isinstance(verdict, dict):
        yield f"verdict: {decision(verdict)}"
        yield from (f"  {line}" for line in verdict_lines(verdict))
    yield from _pairs(
        {name: value for name, value in facts.items() if name != "verdict" or not isinstance(value, dict)}
    )


def _near(store: Store, bound: Bound) -> str:
    import os

    path = _path(store, bound) or ""
    return min(os.path.relpath(path), path, key=len)


def _job_lines(found: Sequence[JobRow]) -> Iterable[str]:
    from aifw.plan.columns import aligned

    if not found:
        return
    head, *lines = aligned(
        [("  run", "started (UTC)", "", "time (forecast)", "memory (forecast)"), *map(_job_row, found)]
    )
    yield from ("", style(head, "faint"), *lines)
    last = found[0]
    if last.error:
        yield f"  {style('✗', 'error')} {last.error.get('message', '')}"
        if last.error.get("hint"):
            yield f"    {last.error['hint']}"


def _job_row(job: JobRow) -> tuple[str, ...]:
    from aifw.cli.narrate import expected_time
    from aifw.kind import Estimate
    from aifw.plan.columns import byte_range
    from aifw.units import format_bytes, format_seconds

    taken, used = "", ""
    if job.actual is not None:
        taken, used = format_seconds(job.actual["seconds"]), format_bytes(job.actual["memory"])
    if job.forecast is not None:
        taken += f" ({expected_time(job.forecast)})"
        used += f" ({byte_range(Estimate(**job.forecast['memory']))})"
    state = "running" if job.ended is None else job.state
    state = f"{state}, resumed" if job.actual and job.actual.get("resumed") else job.state
    return (f"  {job.run}", job.started[:19].replace("T", " "), state, taken.strip(), used.strip())


def _show_alias(store: Store, name: str, *, as_json: bool) -> None:
    from aifw.cli.spent import document, texts
    from aifw.state.reading import goes_back, moves, quarantined

    pointer = store.aliases()[name]
    found = moves(store, name)
    if as_json:
        moved = [asdict(move) for move in found]
        print_json({"alias": name, "pointer": asdict(pointer), "moves": moved, "spent": document(store, name)})
        return
    show(f"{style(f'@{name}', 'name')} → {pointer.label}")
    path = str(store.artifacts.path(pointer.artifact) / pointer.output)
    held = quarantined(store)
    lines = [*_block("digest", [pointer.digest]), *_block("artifact", [pointer.artifact, path])]
    lines += [*_block("spent", list(texts(store, name))), ""]
    for move in found:
        lines += _move_lines(move, held.get(move.digest, ("", ""))[0])
    if goes_back(found):
        lines += ["", f"`aifw rollback {name}` moves it back."]
    for line in lines:
        show(line)


def _move_lines(move: Move, quarantine: str) -> list[str]:
    from aifw.cli.measures import decision, verdict_lines

    run = f" by run {move.run}" if move.run is not None else ""
    verdict = move.verdict or {}
    text = f"  {move.at[:19].replace('T', ' ')}  {move.label}   {move.cause}{run}   {decision(verdict)}"
    lines = [text.rstrip(), *(f"      {line}" for line in verdict_lines(verdict))]
    return [*lines, style(f"      in quarantine: {quarantine}", "warn")] if quarantine else lines


def _pairs(values: Mapping[str, Any]) -> list[str]:
    from aifw.plan.columns import cut

    return [
        cut(f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}", 160)
        for name, value in values.items()
    ]


def _block(name: str, texts: Sequence[str]) -> list[str]:
    heads = [name, *[""] * len(texts)]
    return [f"  {style(f'{head:<9}', 'faint')}  {text}" for head, text in zip(heads, texts, strict=False)]
