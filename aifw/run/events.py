"""What happened in a run, as it happens: appended to the run's `events.jsonl` and told to whoever listens.

Every event has `time` (UTC), `run`, `event`, and where it is about a resource `address`:

    run.started       name, pool, steps, seconds             job.started    job, verb, device, threads, resumed_from, forecast
    run.stopping      waiting_for                            job.progress   done, total, unit, metrics
    run.replanned     because                                job.metric     name, value, step
    run.finished      state, exit, seconds, peak_memory,     job.note       text
                      results                                job.checkpoint step
    resource.reused   artifact                               job.finished   artifact, facts, outputs, seconds, memory, cpu,
    resource.skipped  because                                               work, resumed, device, exceeded
    resource.forgotten                                       job.failed     error, log (last lines), job, checkpoint
    alias.moved       alias, before, after, verdict          job.stopped    checkpoint
    alias.held        alias, current, reason, verdict        job.paused     because, checkpoint
    pool.pressure     level, available, reserve, psi         job.shrink_asked  held
    pool.waits        needs, available                       job.over_limit    used, limit

`memory` (used, budget; bytes) is told twice a second and not kept. `aifw.run.schema` says what each of these is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aifw.state.artifacts import no_space_named
from aifw.state.store import now

Listener = Callable[[Mapping[str, Any]], None]


class Events:
    """The event log of one run."""

    def __init__(self, folder: Path, run: int, listener: Listener) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "events.jsonl").open("a", encoding="utf-8", buffering=1)
        self._run = run
        self._listener = listener

    def emit(self, event: str, address: str | None = None, **data: Any) -> None:
        """Append an event and tell the listener."""
        row: dict[str, Any] = {"time": now(), "run": self._run, "event": event}
        if address is not None:
            row["address"] = address
        row.update(data)
        with no_space_named("the event log"):
            self._file.write(json.dumps(row) + "\n")
        self._listener(row)

    def tell(self, event: str, **data: Any) -> None:
        """Tell the listener something that is not worth keeping."""
        self._listener({"time": now(), "run": self._run, "event": event, **data})

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Tail:
    """Reads what a worker appends to its `events.jsonl`, complete lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Events since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read()
        except FileNotFoundError:
            return []
        complete = chunk[: chunk.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [json.loads(line) for line in complete.splitlines()]


def log_tail(path: Path, lines: int = 12) -> list[str]:
    """The last lines of a job's log, read from its end."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 16_384))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
