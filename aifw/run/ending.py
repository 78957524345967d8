"""What becomes of a job whose worker ended: made, stopped, paused, ended for its memory, or lost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

from aifw.errors import MemoryRefused
from aifw.executors.base import Ended, Executor
from aifw.job import latest_checkpoint
from aifw.run.events import Events, log_tail
from aifw.run.finish import keep_result
from aifw.run.launch import Running, checkpointed_step
from aifw.run.order import read_result
from aifw.run.outcome import Outcome, Result
from aifw.run.standing import Standings
from aifw.spec.models import Spec
from aifw.state import jobs
from aifw.state.store import Store
from aifw.units import format_bytes


class Endings:
    """Writes the ends of jobs into the state of a run, its outcome and its events."""

    def __init__(
        self, spec: Spec, store: Store, executor: Executor, events: Events, standings: Standings, outcome: Outcome
    ) -> None:
        self._spec = spec
        self._store = store
        self._executor = executor
        self._events = events
        self._standings = standings
        self._outcome = outcome

    def end(self, running: Running, ended: Ended, *, stopping: bool, at_once: bool) -> bool:
        """A worker is gone.

        Args:
            running: Its job.
            ended: How it ended.
            stopping: All jobs were asked to stop.
            at_once: They were ended without being waited for.

        Returns:
            Whether the job paused, so that it has to be started again in this run.
        """
        self._executor.collect(running.handle)
        result = read_result(running.handle.folder)
        actual = self._actual(running, ended, result)
        self._outcome.peak_memory = max(self._outcome.peak_memory, actual["memory"])
        stopped = result is not None and result["status"] == "stopped"
        paused = stopped and running.pause_asked is not None and not stopping
        if result is not None and result["status"] == "done":
            self._made(running, result, actual)
        elif paused:
            self._paused(running, actual)
        elif stopped or (result is None and at_once):
            jobs.ended(self._store, running.entry.id, "stopped", actual)
            self.stopped(running.step.address, running.entry.key)
        else:
            self._lost(running, ended, result, actual)
        shutil.rmtree(running.handle.folder / "out", ignore_errors=True)
        return paused

    def stopped(self, address: str, key: str) -> None:
        """A resource is left unfinished because an end was asked for."""
        self._outcome.results[address] = Result("stopped")
        self._events.emit("job.stopped", address, checkpoint=self.checkpoint(key))

    def checkpoint(self, key: str) -> int | None:
        """The step of the last checkpoint of a job."""
        return checkpointed_step(latest_checkpoint(self._store.layout.checkpoints(key)))

    def _actual(self, running: Running, ended: Ended, result: Mapping[str, Any] | None) -> dict[str, Any]:
        """What it took. The worker saw short peaks of its own, the engine what it started; where neither saw anything, the
        executor's figure stands in, which counts mapped files too.
        """
        measured = result.get("usage", {}).get("memory") if result is not None else None
        return {
            "seconds": time.monotonic() - running.begun,
            "memory": max(measured or 0, running.meter.peak) or ended.peak_memory,
            "cpu": ended.cpu_seconds,
            "work": running.forecast.work if running.forecast is not None else 0.0,
            "resumed": running.resumed,
            "device": running.device,
            "exceeded": running.over is not None and result is None,
        }

    def _made(self, running: Running, result: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
        made = keep_result(self._store, running.entry, result, actual)
        manifest = made.manifest if made is not None else {"facts": result["facts"], "outputs": {}}
        artifact = made.digest if made is not None else ""
        outputs = {name: output["facts"] for name, output in manifest["outputs"].items()}
        address = running.step.address
        self._events.emit(
            "job.finished", address, artifact=artifact, facts=manifest["facts"], outputs=outputs, **actual
        )
        if running.undoing:
            return
        if running.entry.verb == "delete":
            self._outcome.results[address] = Result("forgotten")
        else:
            self._standings.made(running.step, self._spec.resources[address], artifact, running.entry.key)

    def _paused(self, running: Running, actual: Mapping[str, Any]) -> None:
        assert running.pause_asked is not None
        jobs.ended(self._store, running.entry.id, "paused", actual)
        self._events.emit(
            "job.paused",
            running.step.address,
            because=running.pause_asked[1],
            checkpoint=self.checkpoint(running.entry.key),
        )

    def _lost(
        self, running: Running, ended: Ended, result: Mapping[str, Any] | None, actual: Mapping[str, Any]
    ) -> None:
        error = _what_went_wrong(running, ended, result)
        jobs.ended(self._store, running.entry.id, "failed", actual, error)
        self._outcome.results[running.step.address] = Result("failed", error=error)
        self._events.emit(
            "job.failed",
            running.step.address,
            error=error,
            log=log_tail(running.handle.folder / "log"),
            job=running.entry.id,
            checkpoint=self.checkpoint(running.entry.key),
        )


def _what_went_wrong(running: Running, ended: Ended, result: Mapping[str, Any] | None) -> dict[str, Any]:
    if result is not None:
        return dict(result["error"])
    if running.over is not None:
        return _over_limit(running, *running.over)
    how = f"signal {-ended.status}" if ended.status < 0 else f"exit status {ended.status}"
    hint = "the system may have been out of memory" if ended.status == -9 else None
    return {"code": "AIFW500", "message": f"its process ended with {how} and left no result", "hint": hint}


def _over_limit(running: Running, used: int, limit: int) -> dict[str, Any]:
    where = f" at {running.done[0]} {running.done[1]:g}" if running.done is not None else ""
    expected = f"forecast high {format_bytes(running.forecast.memory.high)}, " if running.forecast is not None else ""
    return {
        "code": MemoryRefused.code,
        "message": f"out of memory limit{where}: used {format_bytes(used)}, {expected}limit {format_bytes(limit)}",
        "hint": "the next plan uses what was measured; if that does not fit, raise hardware.memory.budget or make the job smaller",
    }
