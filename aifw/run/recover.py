"""After a crash: wait for workers that are still there, keep what they finished, and clear what was half done."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from aifw.boundary import boundary
from aifw.executors.base import Executor
from aifw.run.finish import keep_result
from aifw.run.order import Order, read_result
from aifw.state import jobs
from aifw.state.artifacts import no_space_named
from aifw.state.store import Store

GRACE_SECONDS = float(os.environ.get("AIFW_GRACE_SECONDS", "30"))


@dataclass(frozen=True, slots=True)
class Recovered:
    """What recovery found: addresses whose finished work was kept, and addresses that will go on or start again."""

    kept: tuple[str, ...]
    lost: tuple[str, ...]


def recover(store: Store, executor: Executor) -> Recovered:
    """Bring state and processes back to a point between two steps. Called with the lock held; safe to be interrupted itself."""
    kept: list[str] = []
    lost: list[str] = []
    if not store.run_is_open():
        return Recovered((), ())
    boundary("recover.begun")
    with no_space_named("the state"):
        for entry in jobs.unfinished(store):
            folder = store.layout.job(entry.id)
            executor.adopt(folder, entry.pid, entry.pid_start, GRACE_SECONDS + 5)
            result = read_result(folder)
            if result is not None and result["status"] == "done":
                actual = {"work": 0.0, "recovered": True, "device": Order.read(folder).device, "exceeded": False}
                keep_result(store, entry, result, {**result["usage"], **actual})
                kept.append(entry.address)
            else:
                jobs.ended(store, entry.id, "lost")
                lost.append(entry.address)
            boundary("recover.settled")
        _sweep(store)
        for (run,) in store.rows("select id from run where state = 'running'"):
            store.end_run(run, "crashed", {})
    return Recovered(tuple(kept), tuple(lost))


def _sweep(store: Store) -> None:
    """Remove what is of no use any more: half-written folders, and checkpoints of what is finished."""
    store.artifacts.sweep()
    folder = store.layout.folder
    for leftover in (*folder.glob("jobs/*/out"), *folder.glob("checkpoints/*/writing-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in store.layout.cache.glob("writing-*"):
        if not Path(f"/proc/{leftover.name.rpartition('-')[2]}").exists():
            shutil.rmtree(leftover, ignore_errors=True)
    for checkpoints in folder.glob("checkpoints/*"):
        if store.rows("select 1 from made where key = ?", checkpoints.name):
            shutil.rmtree(checkpoints, ignore_errors=True)
