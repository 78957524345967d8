"""How well memory and time are forecast: real runs, each in a process of its own, beside what was forecast for them.

    python benchmarks/forecast.py [--save FILE] [--plot FILE.svg] [--runs WORD ...] [--part fit|held-out|fresh|all] [--jobs 1]
    python benchmarks/forecast.py --limit [--runs WORD ...]     # the same runs in a control group that holds them to the forecast
    python benchmarks/forecast.py --heap [...]                   # without the allocation that jobs of aifw get: tensors in glibc's heap
    python benchmarks/forecast.py --from FILE ... [--plot FILE.svg] # the tables again, of the last measurement of each run

The runs are those of `forecast_grid.py`. Peak is anonymous and shared memory of the process tree, looked at from outside every two
milliseconds; mapped files are apart. Errors are taken over the part above an idle worker, which has imported the same libraries
and does nothing. The time of the first run of each task and format that constants may be fitted to calibrates the others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import forecast_expected
import surroundings
from forecast_grid import GRID, MODELS, Run
from forecast_limit import limited, why_not
from forecast_plot import draw
from memory_of import Watched, watch
from processes import ENVIRONMENT, tell
from table import table

from aifw.models.memory import estimated
from aifw.run.launch import allocation

MEGA = 1e6
TARGETS = {"middle": 0.10, "runs": 0.90, "under": 0.05, "range": 1.5, "time": 0.30}
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "openvino", "nncf", "safetensors")


def main() -> int:
    arguments = _arguments()
    if arguments.source is not None:
        result = _together([json.loads(each.read_text(encoding="utf-8")) for each in arguments.source])
    else:
        runs = [
            run
            for run in GRID
            if (not arguments.runs or any(word in run.name for word in arguments.runs))
            and (arguments.part == "all" or run.part == arguments.part)
        ]
        result = _measured(arguments, runs)
    if arguments.save is not None:
        arguments.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.plot is not None and not result.get("limited"):
        arguments.plot.write_text(draw(_rows(result)), encoding="utf-8")
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        print(_limits_text(result) if result.get("limited") else _text(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--save", type=Path, help="write the measurements there")
    parser.add_argument("--from", dest="source", type=Path, nargs="+", help="measurements written by --save")
    parser.add_argument("--plot", type=Path, help="write a picture (SVG) there")
    parser.add_argument("--runs", nargs="+", help="only runs whose name holds one of these")
    parser.add_argument(
        "--part", choices=["fit", "held-out", "fresh", "all"], default="all", help="which part of the grid"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many runs at once")
    parser.add_argument(
        "--heap", action="store_true", help="without the allocation that jobs of aifw get, which is what is forecast"
    )
    parser.add_argument("--limit", action="store_true", help="hold each run to its forecast by a control group")
    parser.add_argument("--folder", type=Path, help="where models are written and kept; default a temporary folder")
    return parser.parse_args()


def _together(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Measurements made one after the other on one machine; later ones replace earlier ones of the same run."""
    found = dict(results[-1])
    for name in ("idle", "accelerate", "runs"):
        if name in found:
            found[name] = {key: value for each in results for key, value in each[name].items()}
    return found


def _measured(arguments: argparse.Namespace, runs: Sequence[Run]) -> dict[str, Any]:
    if arguments.limit and (reason := why_not()) is not None:
        raise SystemExit(reason)
    before = surroundings.load()
    with tempfile.TemporaryDirectory(prefix="aifw-forecast-") as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        _prepare(folder, runs)
        if arguments.limit:
            found = {"limited": [_under_limit(folder, run, arguments.heap) for run in runs]}
        else:
            tasks = sorted({run.task for run in runs})
            idle = {task: _watched(folder, f"idle:{task}", heap=arguments.heap).peak for task in tasks}
            peers = {
                name: _watched(folder, f"accelerate:{name}").result for name in sorted({run.model for run in runs})
            }
            with ThreadPoolExecutor(arguments.jobs) as pool:
                seen = list(pool.map(lambda run: _one(folder, run, arguments.heap), runs))
            found = {
                "heap": arguments.heap,
                "idle": idle,
                "accelerate": peers,
                "runs": {run.name: asdict(each) for run, each in zip(runs, seen, strict=True)},
            }
    return {
        "benchmark": "forecast",
        "machine": surroundings.machine(),
        "versions": surroundings.versions() | surroundings.packages(LIBRARIES),
        "threads": 1,
        "load_before": before,
        "load_after": surroundings.load(),
        **found,
    }


def _watched(folder: Path, what: str, group: Path | None = None, *, heap: bool = False) -> Watched:
    command = [sys.executable, os.fspath(Path(__file__).with_name("forecast_work.py")), os.fspath(folder), what]
    trains = what.removeprefix("idle:").partition("-")[0] in forecast_expected.TRAINING
    environment = {**ENVIRONMENT, **({} if heap else allocation(reuses_memory=trains))}
    found = watch(command, environment=environment, group=group)
    if found.code and group is None:
        raise RuntimeError(f"{what} ended with {found.code}:\n{found.output[-2000:]}")
    return found


def _prepare(folder: Path, runs: Sequence[Run]) -> None:
    for name in sorted({run.model for run in runs}):
        if not (folder / name / "config.json").is_file():
            tell(f"  model {name}: {MODELS[name].layers} blocks of width {MODELS[name].hidden}")
            _watched(folder, f"make:{name}")
    for run in runs:
        if run.task == "openvino_infer" and not (folder / "openvino" / f"{run.model}-{run.weights}.xml").is_file():
            _watched(folder, f"convert:{run.model}:{run.weights}")


def _one(folder: Path, run: Run, heap: bool) -> Watched:
    found = _watched(folder, run.name, heap=heap)
    tell(f"  {run.name}: {found.peak / MEGA:,.0f} MB, {found.result['whole']:.0f} s")
    return found


def _under_limit(folder: Path, run: Run, heap: bool) -> dict[str, Any]:
    high = estimated(forecast_expected.parts_of(run), certain=True).high
    found = limited(lambda group: _watched(folder, run.name, group, heap=heap), int(high))
    tell(f"  {run.name}: {'finished' if found.finished else 'KILLED' if found.killed else 'failed'}")
    return {"name": run.name, **asdict(found)}


def _rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every run with its forecast and the peers', in bytes above the idle worker."""
    rows = []
    calibration: dict[tuple[str, str], Run] = {}
    for run in GRID:
        if run.name in result["runs"] and run.part == "fit":
            calibration.setdefault((run.task, run.precision), run)
    for run in GRID:
        if run.name not in result["runs"]:
            continue
        seen = result["runs"][run.name]
        parts = forecast_expected.parts_of(run)
        forecast, worker, idle = estimated(parts, certain=True), parts["worker"], result["idle"][run.task]
        job, by = seen["peak"] - idle, calibration.get((run.task, run.precision))
        seconds: dict[str, float | None] = dict.fromkeys(("seconds", "cpu_seconds"))
        if by is not None and by != run:
            took = result["runs"][by.name]["result"]
            seconds = {name: forecast_expected.calibrated_seconds(run, took[name], by) for name in seconds}
        training = run.task in forecast_expected.TRAINING
        peers = result.get("accelerate", {}).get(run.model, {})
        rows.append(
            {
                "run": run.name,
                "part": run.part,
                "idle": idle,
                "job": job,
                "low": forecast.low - worker,
                "mid": forecast.mid - worker,
                "high": forecast.high - worker,
                "whole_range": forecast.high / forecast.low,
                "under": seen["peak"] / forecast.high - 1,
                "rule": 4 * 4 * forecast_expected.shape_of(run.model).parameters,
                "accelerate": peers.get("training" if training else "running"),
                "seconds": seen["result"]["seconds"],
                "cpu_seconds": seen["result"]["cpu_seconds"],
                "expected_seconds": seconds["seconds"],
                "expected_cpu_seconds": seconds["cpu_seconds"],
            }
        )
    return rows


def _text(result: Mapping[str, Any]) -> str:
    rows = _rows(result)
    head = (
        "run",
        "part",
        "measured",
        "forecast",
        "error",
        "low",
        "high",
        "4 x weights",
        "accelerate",
        "s",
        "expected",
        "cpu s",
        "expected",
    )
    lines = [
        (
            row["run"],
            row["part"],
            f"{row['job'] / MEGA:,.0f}",
            f"{row['mid'] / MEGA:,.0f}",
            f"{row['mid'] / row['job'] - 1:+.1%}",
            f"{row['low'] / MEGA:,.0f}",
            f"{row['high'] / MEGA:,.0f}",
            f"{row['rule'] / row['job'] - 1:+.0%}",
            "" if row["accelerate"] is None else f"{row['accelerate'] / row['job'] - 1:+.0%}",
            f"{row['seconds']:.2f}",
            "" if row["expected_seconds"] is None else f"{row['expected_seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            "" if row["expected_cpu_seconds"] is None else f"{row['expected_cpu_seconds']:.2f}",
        )
        for row in rows
    ]
    parts = [
        surroundings.described(result),
        "MB above an idle worker; the last columns are seconds of a step, a call or the whole, and of processor time",
        table(head, lines),
    ]
    chosen = {name: [row for row in rows if row["part"] == name] for name in ("held-out", "fresh", "fit")}
    parts += [f"{name}: {_summary(some)}" for name, some in chosen.items() if some]
    return "\n\n".join(parts)


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the targets are about, for some of the runs."""

    def shares(name: str) -> list[float]:
        return [abs(row[name] / row["job"] - 1) for row in rows if row[name] is not None]

    mid = shares("mid")
    near = sum(error <= TARGETS["middle"] for error in mid)
    lines = [
        f"{len(rows)} runs, {sum(row['job'] >= 2 * row['idle'] for row in rows)} of them with a job part twice the idle worker's",
        f"middle within 10 % of the peak: {near} of {len(mid)} (wanted 90 %); median error {statistics.median(mid):.1%}, largest {max(mid):.1%}",
        f"peak above the upper end, at most: {max(row['under'] for row in rows):+.1%} (wanted: at most +5 %)",
        f"upper end / lower end, at most: {max(row['high'] / row['low'] for row in rows):.2f} (wanted 1.5)",
    ]
    for name, words in (("rule", "four times the weights"), ("accelerate", "accelerate's estimate")):
        if found := shares(name):
            lines.append(
                f"{words}: within 10 % on {sum(each <= 0.1 for each in found)} of {len(found)}, median error {statistics.median(found):.0%}"
            )
    for name, words in (("seconds", "time"), ("cpu_seconds", "processor time")):
        times = [abs(row[f"expected_{name}"] / row[name] - 1) for row in rows if row[f"expected_{name}"] is not None]
        if times:
            within = sum(each <= TARGETS["time"] for each in times)
            lines.append(f"{words} within 30 %: {within} of {len(times)}; median error {statistics.median(times):.0%}")
    return "\n  ".join(lines)


def _limits_text(result: Mapping[str, Any]) -> str:
    head = ("run", "limit, MB", "peak, MB", "finished", "killed", "limit reached")
    lines = [
        (
            row["name"],
            f"{row['limit'] / MEGA:,.0f}",
            f"{row['peak'] / MEGA:,.0f}",
            "yes" if row["finished"] else "no",
            "yes" if row["killed"] else "",
            str(row["pushed"]),
        )
        for row in result["limited"]
    ]
    killed = sum(row["killed"] for row in result["limited"])
    finished = sum(row["finished"] for row in result["limited"])
    return "\n\n".join(
        [
            surroundings.described(result),
            table(head, lines),
            f"{finished} of {len(lines)} finished within the upper end of their forecast, {killed} killed for want of memory",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
