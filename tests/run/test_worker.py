"""The process of a job: where it may run, with how many threads, and what it says it took."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aifw.executors.base import Ended
from aifw.executors.local import LocalExecutor
from aifw.run import worker
from aifw.run.order import Order

MIB = 1024**2


@pytest.fixture
def executor(toy_kinds: Path) -> Iterator[LocalExecutor]:
    with closing(LocalExecutor()) as found:
        yield found


def run(executor: LocalExecutor, folder: Path, kind: str, cpus: tuple[int, ...] = (), **settings: Any) -> Ended:
    job = folder / "job"
    job.mkdir()
    order = Order("1-1-stages.a", "stages.a", kind, "run", settings, str(folder), "0" * 64, cpus=cpus)
    order = Order(**{**order.__dict__, "cache": str(folder / "cache"), "checkpoints": str(folder / "checkpoints")})
    order.write(job)
    executor.launch(job, {"PYTHONPATH": str(Path(__file__).parents[1] / "plugin")})
    while not (ended := executor.wait(60)):
        pass
    return ended[0]


def told(folder: Path) -> Any:
    return json.loads((folder / "job" / "out" / "text" / "text.txt").read_text())


@pytest.mark.parametrize("where", ["one", "two", "gone", "anywhere"])
def test_every_thread_of_a_job_stays_on_its_processors(executor: LocalExecutor, tmp_path: Path, where: str) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    cpus = {"one": allowed[-1:], "two": allowed[:2], "gone": [4095], "anywhere": []}[where]
    assert run(executor, tmp_path, "toy_where", tuple(cpus)).status == 0
    # Processors that are gone do not keep a job from running.
    expected = allowed if where in {"gone", "anywhere"} else cpus
    assert told(tmp_path)["threads"] == [expected] * len(told(tmp_path)["threads"])
    assert len(told(tmp_path)["threads"]) > 1, "libraries start threads, and the worker has some of its own"


def test_what_a_job_took_is_what_it_held_and_not_what_it_mapped(executor: LocalExecutor, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(200 * MIB))
    ended = run(executor, tmp_path, "toy_heavy", hold=64 * MIB, steps=1, maps=str(weights))
    usage = json.loads((tmp_path / "job" / "result.json").read_text())["usage"]
    assert 64 * MIB < usage["memory"] < 160 * MIB
    assert ended.peak_memory > 200 * MIB, "the system's own figure counts mapped files"


def test_a_sandbox_that_forbids_choosing_processors_does_not_keep_a_job_from_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(_process: int, _cpus: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    before = os.sched_getaffinity(0)
    worker._stay_on(before)
    assert os.sched_getaffinity(0) == before
