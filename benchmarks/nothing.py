"""Applies a spec whose jobs do nothing, and reports what that took: `python nothing.py SPEC STATE`.

Prints JSON: wall and CPU seconds of the engine's own process from before the spec is read until the run is over, its peak memory,
and what each job took as the engine measured it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KIND = '''
from aifw.kind import ArtifactKind, Estimate, Forecast, Output
from aifw.settings import Settings


class Nothing(Output):
    """An empty folder."""

    name = "nothing"


class NothingSettings(Settings):
    """Settings of `nothing`."""

    number: int
    """Makes each one another."""


class NothingKind(ArtifactKind[NothingSettings]):
    """A job that does nothing."""

    name = "nothing"
    section = "stages"
    settings = NothingSettings
    produces = {"nothing": Nothing}
    run = "nothing_kind:do"
    cores = "all"

    def forecast(self, settings, inputs, machine, history):
        return Forecast(memory=Estimate.exact(1024**2), seconds=Estimate.exact(1.0))


def do(job):
    job.output("nothing")
'''


def write_kind(folder: Path) -> None:
    """An installed package with the kind `nothing`, for the import path."""
    (folder / "nothing_kind.py").write_text(KIND, encoding="utf-8")
    about = folder / "nothing_kind-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nothing-kind\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[aifw.kinds]\nnothing = nothing_kind:NothingKind\n", encoding="utf-8")


def write_spec(folder: Path, jobs: int) -> Path:
    """A spec of so many jobs that do nothing, one after another."""
    head = "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: nothing}\nstages:\n"
    path = folder / "spec.yaml"
    body = "".join(f"  job-{number}: {{kind: nothing, number: {number}}}\n" for number in range(jobs))
    path.write_text(head + body, encoding="utf-8")
    return path


def main() -> None:
    """Apply once."""
    from aifw.run.apply import Request, apply
    from aifw.spec.load import load
    from aifw.state.layout import Layout

    spec_path, state = Path(sys.argv[1]), Path(sys.argv[2])
    finished: list[dict[str, float]] = []

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] == "job.finished":
            finished.append({name: event[name] for name in ("seconds", "cpu", "memory")})

    before, begun = _cpu(), time.perf_counter()
    spec = load([spec_path])
    outcome = apply(spec, Layout(state, spec.name), Request(), listen, lambda _: True)
    wall, cpu = time.perf_counter() - begun, _cpu() - before
    assert outcome is not None
    assert len(finished) == len(spec.resources), outcome.results
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"wall": wall, "cpu": cpu, "memory": memory, "jobs": finished}))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
