"""How long it takes to find out that there is nothing to do: `aifw plan` beside `snakemake -n` and `dvc status`.

    python benchmarks/plan.py [--json] [--sizes 10 100 1000 10000] [--runs 9] [--peers .venv-peers]

Each tool gets the same number of stages with files, all up to date, in its own idiom. Measured are CPU seconds (user and system,
children included) and peak memory of whole processes, as `wait4` reports them, interleaved with the floor: an interpreter that
imports pydantic, yaml and sqlite3 and ends. `make bench-peers` installs the peers; without them their columns say so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import surroundings
import workload
from processes import Command, Measured, interleaved, tell
from table import mebibytes, table

FLOOR = "floor"
HELP = "aifw --help"
PLAN = "aifw plan"
ANEW = "aifw plan, anew"
VALIDATE = "aifw validate"
SNAKEMAKE = "snakemake -n"
DVC = "dvc status"
PEERS = {SNAKEMAKE: "snakemake", DVC: "dvc"}

FLOOR_FACTORS = {100: 1.6, 1000: 2.5}
"""`aifw plan` may take so many times the floor."""
PEER_FACTORS = {100: 3.0, 1000: 4.0}
"""Each peer must take at least so many times what `aifw plan` does."""
HELP_SECONDS = 0.10
SETTLED_SECONDS = 1.2
"""What changed a moment ago is not relied on by a plan; nobody asks for one as fast as a benchmark does."""
LINEAR_SLACK = 1.15
"""Linear growth would be 9,990 / 990; so much more is taken for noise."""


def main() -> int:
    arguments = _arguments()
    before = surroundings.load()
    peers = {name: surroundings.peer(arguments.peers, program) for name, program in PEERS.items()}
    room = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="aifw-bench-", dir=room))
    try:
        figures = {size: _measured(folder / str(size), size, arguments, peers) for size in sorted(arguments.sizes)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "benchmark": "plan",
        "machine": surroundings.machine(),
        "versions": surroundings.versions()
        | {program: found[1] if (found := peers[name]) else "not installed" for name, program in PEERS.items()},
        "threads": 1,
        "load_before": before,
        "load_after": surroundings.load(),
        "figures": [
            {"resources": size, "command": name, **asdict(measured)}
            for size, found in figures.items()
            for name, measured in found.items()
        ],
        "bounds": _bounds(figures),
    }
    print(json.dumps(result, indent=1) if arguments.json else _text(result, figures))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10000], help="numbers of resources")
    parser.add_argument(
        "--runs", type=int, default=9, help="runs of each command; a third of it from 10,000 resources on"
    )
    parser.add_argument(
        "--peers", type=Path, default=Path(".venv-peers"), help="environment that holds snakemake and dvc"
    )
    parser.add_argument("--peers-to", type=int, default=1000, help="largest size the peers are measured at")
    return parser.parse_args()


def _measured(
    folder: Path, size: int, arguments: argparse.Namespace, peers: dict[str, tuple[str, str] | None]
) -> dict[str, Measured]:
    tell(f"{size:,} resources")
    runs = arguments.runs if size < 10_000 else max(1, arguments.runs // 3)
    aifw = surroundings.console_script()
    place = folder / "aifw"
    place.mkdir(parents=True)
    workload.apply_spec(workload.write_spec(place, size))
    time.sleep(SETTLED_SECONDS)
    remembered = place / ".aifw/cache/remembered-plans"

    def forget() -> None:
        shutil.rmtree(remembered, ignore_errors=True)

    nothing = f"Nothing to do: {size:,} unchanged"
    commands = [
        Command(FLOOR, [sys.executable, "-c", "import pydantic, yaml, sqlite3"], place, runs=runs),
        Command(HELP, [*aifw, "--help"], place, runs=runs, expected="Usage:"),
        Command(VALIDATE, [*aifw, "validate"], place, runs=runs, expected=f"{size:,} resources"),
        Command(ANEW, [*aifw, "plan"], place, runs=runs, expected=nothing, before=forget),
        Command(PLAN, [*aifw, "plan"], place, runs=runs, expected=nothing),
    ]
    snakemake, dvc = peers[SNAKEMAKE], peers[DVC]
    if snakemake is not None and size <= arguments.peers_to:
        place = folder / "snakemake"
        workload.write_snakemake(place, size)
        environment = {"XDG_CACHE_HOME": os.fspath(folder / "cache"), "HOME": os.fspath(folder)}
        commands.append(
            Command(SNAKEMAKE, [snakemake[0], "-n"], place, environment, min(runs, 5), expected="Nothing to be done")
        )
    if dvc is not None and size <= arguments.peers_to:
        place = folder / "dvc"
        workload.write_dvc(place, size)
        environment = {"DVC_NO_ANALYTICS": "1", "HOME": os.fspath(folder)}
        commands.append(Command(DVC, [dvc[0], "status"], place, environment, min(runs, 5), expected="up to date"))
    return interleaved(commands)


def _bounds(figures: dict[int, dict[str, Measured]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def add(name: str, value: float, limit: float, *, least: bool = False) -> None:
        met = value >= limit if least else value <= limit
        found.append({"bound": name, "value": round(value, 3), "at_least" if least else "at_most": limit, "met": met})

    for size, measured in figures.items():
        if size in FLOOR_FACTORS:
            add(f"{PLAN} at {size:,} / floor", measured[PLAN].cpu / measured[FLOOR].cpu, FLOOR_FACTORS[size])
        for peer in PEERS:
            if size in PEER_FACTORS and peer in measured:
                add(
                    f"{peer} at {size:,} / {PLAN}",
                    measured[peer].cpu / measured[PLAN].cpu,
                    PEER_FACTORS[size],
                    least=True,
                )
    if {10, 1000, 10_000} <= figures.keys():
        for name in (PLAN, ANEW):
            least, middle, most = (figures[size][name].cpu for size in (10, 1000, 10_000))
            grown = (most - least) / max(middle - least, 1e-3)
            add(f"{name}: growth from 10 to 10,000 / from 10 to 1,000", grown, round(LINEAR_SLACK * 9990 / 990, 2))
    helped = [measured[HELP].cpu for measured in figures.values()]
    add(f"{HELP}, seconds", sorted(helped)[len(helped) // 2], HELP_SECONDS)
    return found


def _text(result: dict[str, Any], figures: dict[int, dict[str, Measured]]) -> str:
    names = [FLOOR, HELP, VALIDATE, ANEW, PLAN, *PEERS]
    missing = {name for name, program in PEERS.items() if result["versions"][program] == "not installed"}
    return "\n\n".join(
        [
            surroundings.described(result),
            "CPU seconds, median (times the floor)\n" + _columns(figures, names, missing, _seconds),
            "Peak memory, median\n" + _columns(figures, names, missing, lambda each, _: mebibytes(each.memory)),
            "Bounds\n"
            + table(
                ["", "measured", "wanted", ""],
                [
                    [
                        each["bound"],
                        f"{each['value']:.2f}",
                        f"at least {each['at_least']:g}" if "at_least" in each else f"at most {each['at_most']:g}",
                        "met" if each["met"] else "NOT MET",
                    ]
                    for each in result["bounds"]
                ],
            ),
        ]
    )


def _seconds(measured: Measured, floor: Measured) -> str:
    return f"{measured.cpu:.3f} ({measured.cpu / floor.cpu:.2f})"


def _columns(figures: dict[int, dict[str, Measured]], names: Sequence[str], missing: set[str], shown: Any) -> str:
    rows = [
        [
            f"{size:,}",
            *(
                shown(measured[name], measured[FLOOR])
                if name in measured
                else "not installed"
                if name in missing
                else "not measured"
                for name in names
            ),
        ]
        for size, measured in figures.items()
    ]
    return table(["resources", *names], rows)


if __name__ == "__main__":
    sys.exit(main())
