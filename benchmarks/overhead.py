"""What the engine itself takes around a job that does nothing, and what one journalled step costs.

    python benchmarks/overhead.py [--json] [--jobs 8] [--runs 9] [--steps 300] [--disk FOLDER]

Both are measured on a real disk and, where there is one, on a tmpfs, whose flushes cost nothing. A journalled step is compared with
the least SQLite can do for the same promise: one row, committed to a write-ahead log with `synchronous=FULL`, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import nothing
import surroundings
from processes import Command, interleaved, measure, tell
from table import mebibytes, milliseconds, table

from aifw.run.order import read_result
from aifw.state import jobs
from aifw.state.jobs import JobEntry
from aifw.state.layout import Layout
from aifw.state.store import Store

SCRIPT = Path(nothing.__file__).absolute()
EXIT = "import os; os._exit(0)"
"""How a worker ends, without taking anything apart."""
LOOK_UP = "import aifw.run.worker as worker; worker.find('nothing').settings.model_validate({'number': 1})"


def main() -> int:
    arguments = _arguments()
    before = surroundings.load()
    places = {"disk": arguments.disk}
    if os.access("/dev/shm", os.W_OK):
        places["tmpfs"] = Path("/dev/shm")
    found: dict[str, dict[str, Any]] = {}
    for name, parent in places.items():
        folder = Path(tempfile.mkdtemp(prefix="aifw-bench-", dir=parent))
        try:
            tell(f"{name}: {parent}")
            found[name] = {
                "filesystem": _filesystem(folder),
                "engine": _engine(folder, arguments.jobs, arguments.runs),
                "worker": _worker(folder, arguments.runs),
                "steps": _steps(folder / "steps", arguments.steps),
            }
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    result = {
        "benchmark": "overhead",
        "machine": surroundings.machine(),
        "versions": surroundings.versions(),
        "threads": 1,
        "load_before": before,
        "load_after": surroundings.load(),
        "jobs": arguments.jobs,
        "places": found,
    }
    print(json.dumps(result, indent=1) if arguments.json else _text(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--jobs", type=int, default=8, help="jobs of one run")
    parser.add_argument("--runs", type=int, default=9, help="runs of each process")
    parser.add_argument("--steps", type=int, default=300, help="transactions of each sort")
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()), help="a folder on a real disk")
    return parser.parse_args()


def _filesystem(folder: Path) -> str:
    """Type of the file system a folder lies on."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, found, *_ = line.split()
        if len(point) >= len(best) and folder.resolve().is_relative_to(point):
            best, kind = point, found
    return kind


def _engine(folder: Path, count: int, runs: int) -> dict[str, float]:
    """Medians over runs; per job, what is left of the run's time once its job is taken away."""
    (folder / "kind").mkdir()
    nothing.write_kind(folder / "kind")
    spec = nothing.write_spec(folder, count)
    state = folder / "state"
    command = Command(
        "apply",
        [sys.executable, os.fspath(SCRIPT), os.fspath(spec), os.fspath(state)],
        folder,
        {"PYTHONPATH": os.fspath(folder / "kind")},
        before=lambda: shutil.rmtree(state, ignore_errors=True),
    )
    measure(command)
    reports = []
    for _ in range(runs):
        report = json.loads(measure(command).output)
        took = report["jobs"]
        reports.append(
            {
                "wall_per_job": (report["wall"] - sum(each["seconds"] for each in took)) / count,
                "cpu_per_job": report["cpu"] / count,
                "job_wall": statistics.median(each["seconds"] for each in took),
                "job_cpu": statistics.median(each["cpu"] for each in took),
                "job_memory": statistics.median(each["memory"] for each in took),
                "memory": report["memory"],
            }
        )
    return {name: statistics.median(report[name] for report in reports) for name in reports[0]}


def _worker(folder: Path, runs: int) -> dict[str, dict[str, float]]:
    """Where a worker's time goes, from processes that do more and more of what it does."""
    (done,) = (folder / "state/nothing/jobs").glob("1-1-*")
    work = folder / "work"

    def prepare() -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        shutil.copy(done / "job.json", work)

    def python(name: str, *words: str, before: Callable[[], None] | None = None) -> Command:
        environment = {"PYTHONPATH": os.fspath(folder / "kind")}
        return Command(name, [sys.executable, "-P", *words], folder, environment, runs, before=before)

    found = interleaved(
        [
            python("interpreter", "-c", EXIT),
            python("imports", "-c", f"import aifw.run.worker; {EXIT}"),
            python("kind", "-c", f"{LOOK_UP}; {EXIT}"),
            python("protocol", "-m", "aifw.run.worker", os.fspath(work), before=prepare),
        ]
    )
    result = read_result(work)
    assert result is not None
    assert result["status"] == "done"
    parts: dict[str, dict[str, float]] = {}
    wall = cpu = 0.0
    for name, measured in found.items():
        parts[name] = {"wall": measured.wall - wall, "cpu": measured.cpu - cpu}
        wall, cpu = measured.wall, measured.cpu
    return {**parts, "worker": {"wall": wall, "cpu": cpu}}


def _steps(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Transactions of each sort in turns."""
    folder.mkdir()
    entry = JobEntry(
        id="",
        run=1,
        address="stages.nothing",
        kind="nothing",
        verb="run",
        key="k" * 64,
        recipe="r" * 64,
        identity='{"kind":"nothing"}',
        inputs="{}",
        pid=None,
        pid_start=None,
    )
    with (
        closing(Store.open(Layout(folder / "state", "steps"))) as store,
        closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as bare,
    ):
        bare.execute("pragma journal_mode=wal")
        bare.execute("pragma synchronous=full")
        bare.execute("create table step (number integer primary key, text text)")

        def least(number: int) -> None:
            bare.execute("insert into step values (?, ?)", (number, "x" * 200))

        def intended(number: int) -> None:
            jobs.intended(store, replace(entry, id=f"1-{number}-stages.nothing"), "{}", {"memory": 1}, "local")

        def launched(number: int) -> None:
            jobs.launched(store, f"1-{number}-stages.nothing", 4711, 12345)

        sorts = {"bare SQLite commit": least, "job intended": intended, "job launched": launched}
        walls: dict[str, list[float]] = {name: [] for name in sorts}
        cpus: dict[str, list[float]] = {name: [] for name in sorts}
        for number in range(count):
            for name, step in sorts.items():
                cpu, begun = time.process_time(), time.perf_counter()
                step(number)
                walls[name].append(time.perf_counter() - begun)
                cpus[name].append(time.process_time() - cpu)
    return {
        name: {
            "wall": statistics.median(walls[name]),
            "wall_p95": sorted(walls[name])[int(0.95 * (count - 1))],
            "cpu": statistics.median(cpus[name]),
        }
        for name in sorts
    }


def _text(result: dict[str, Any]) -> str:
    parts = [surroundings.described(result)]
    places = result["places"]
    heads = {name: f"{name} ({place['filesystem']})" for name, place in places.items()}
    engine = [
        ("engine beside the job, wall", "wall_per_job", milliseconds),
        ("engine's own CPU", "cpu_per_job", milliseconds),
        ("job from start to end, wall", "job_wall", milliseconds),
        ("job, CPU", "job_cpu", milliseconds),
        ("peak memory of the engine", "memory", mebibytes),
        ("peak memory of a worker, as recorded", "job_memory", mebibytes),
    ]
    rows = [[text, *(shown(place["engine"][name]) for place in places.values())] for text, name, shown in engine]
    parts.append(f"A job that does nothing, one of {result['jobs']}\n" + table(["", *heads.values()], rows))
    texts = {
        "interpreter": "interpreter",
        "imports": "imports of the worker",
        "kind": "finding the kind, building its settings",
        "protocol": "protocol: order, files to disk, result",
        "worker": "all",
    }
    rows = [
        [text]
        + [
            f"{milliseconds(place['worker'][name]['wall'])} / {milliseconds(place['worker'][name]['cpu'])}"
            for place in places.values()
        ]
        for name, text in texts.items()
    ]
    parts.append(
        "Start of a worker, wall / CPU, each part by difference to the one before\n"
        + table(["", *heads.values()], rows)
    )
    for name, place in places.items():
        least = place["steps"]["bare SQLite commit"]["wall"]
        rows = [
            [
                text,
                milliseconds(step["wall"]),
                milliseconds(step["wall_p95"]),
                milliseconds(step["cpu"]),
                f"{step['wall'] / least:.2f}",
            ]
            for text, step in place["steps"].items()
        ]
        parts.append(
            f"One journalled step on {heads[name]}\n" + table(["", "wall", "95 % below", "CPU", "times bare"], rows)
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
