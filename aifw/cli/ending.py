"""What is said at the end of a run: how it ended, forecast against actual, where things lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aifw.cli.narrate import Counts, Narrator, expected_time
from aifw.kind import Estimate
from aifw.plan.columns import about, aligned, byte_range, joined
from aifw.plan.model import Plan
from aifw.plan.render import Style
from aifw.run.outcome import Outcome
from aifw.state.layout import Layout
from aifw.units import format_bytes, format_money, format_seconds

_MOST_JOBS = 20


def ending(plan: Plan, outcome: Outcome, narrator: Narrator, layout: Layout, typed: str, style: Style) -> Iterable[str]:
    """The lines after the last event.

    Args:
        plan: What was agreed to.
        outcome: How it ended.
        narrator: Heard every event.
        layout: Where the state lies.
        typed: Arguments that name the spec, as typed.
        style: Colours a text by its role.
    """
    counts = narrator.counts
    if outcome.interrupted:
        yield f"Stopped after {format_seconds(outcome.seconds)}. `aifw apply{typed}` goes on from there."
        return
    if counts.failed:
        parts = [f"{len(counts.failed)} failed"]
        if counts.skipped:
            parts.append(f"{len(counts.skipped)} not started because of {'it' if len(counts.failed) == 1 else 'them'}")
        parts.append(f"{len(counts.done)} done")
        yield f"{', '.join(parts)}. Nothing else was touched."
    else:
        yield _done(plan, outcome)
    yield from forecasts_met(narrator.finished, narrator.forecasts, style)
    if any(event.get("artifact") for event in narrator.finished.values()):
        evaluated = any("evaluation" in event.get("outputs", {}) for event in narrator.finished.values())
        report = f"   Report: aifw report{typed} --open" if evaluated else ""
        yield f"Artifacts: {_near(layout.artifacts)}   One of them: aifw show ADDRESS{typed}{report}"
    yield from _next(narrator.counts, typed)


def _next(counts: Counts, typed: str) -> Iterable[str]:
    """What to try now that a gate has spoken."""
    for alias in counts.promoted:
        yield f"Next: what it rests on, aifw show {alias}{typed}   Undo: aifw rollback {alias}{typed}"
    for address in counts.held:
        yield f"Next: why it was held, aifw show {address.rpartition('.')[2]}{typed}   More feedback, or other settings, then aifw apply{typed}"


def _done(plan: Plan, outcome: Outcome) -> str:
    totals = plan.totals
    facts = [f"Done in {format_seconds(outcome.seconds)}"]
    if totals.seconds_high:
        facts[0] += f" (forecast {joined(about(totals.seconds_low), about(totals.seconds_high))})"
    if outcome.peak_memory:
        peak = f"Peak {format_bytes(outcome.peak_memory)}"
        facts.append(f"{peak} (forecast {format_bytes(totals.memory)})" if totals.memory else peak)
    facts.append(f"Spent {joined(format_money(totals.cost_low), format_money(totals.cost_high))}")
    return ". ".join(facts) + "."


def forecasts_met(
    finished: Mapping[str, Mapping[str, Any]], forecasts: Mapping[str, Mapping[str, Any] | None], style: Style
) -> Iterable[str]:
    """A table of what each job took beside what was expected.

    Args:
        finished: The `job.finished` event of each job, by address; `seconds` and `memory` are looked at.
        forecasts: Of the jobs, by address.
        style: Colours a text by its role.
    """
    rows = []
    longest = sorted(finished, key=lambda address: -float(finished[address]["seconds"]))[:_MOST_JOBS]
    for address in (each for each in finished if each in longest):
        forecast = forecasts.get(address)
        if forecast is None:
            continue
        actual = finished[address]
        memory = f"{format_bytes(actual['memory'])} ({byte_range(Estimate(**forecast['memory']))})"
        rows.append((f"  {address}", memory, f"{format_seconds(actual['seconds'])} ({expected_time(forecast)})"))
    if not rows:
        return
    head, *lines = aligned([("  ", "memory (forecast)", "time (forecast)"), *rows])
    yield style(head, "faint")
    yield from lines
    if len(finished) > _MOST_JOBS:
        yield style(f"  … and {len(finished) - _MOST_JOBS} shorter jobs", "faint")


def _near(path: Path) -> str:
    """A path relative to the current folder if that is shorter."""
    relative = os.path.relpath(path)
    return min(relative, str(path), key=len)
