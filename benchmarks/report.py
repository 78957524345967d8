"""A report over many items: what measuring, showing, comparing and the page of it take, each command in a process of its own.

    python benchmarks/report.py [--items 100000] [--runs 3] [--json]

Two evaluations of classification, preference and latency are made here from seeded random rows, every item with a baseline. The page
must be there in 5 s and under 5 MB, of a hundred thousand items.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import surroundings
from processes import Command, Usage, measure
from table import mebibytes, table

MOST_SECONDS, MOST_BYTES = 5.0, 5_000_000
CLASSES = ("billing", "delivery", "returns", "account", "other")
PACKAGES = ("numpy", "jsonschema")


def classification(items: int, skill: float, seed: int) -> list[dict[str, Any]]:
    """Questions that are the same whatever the skill, five to a conversation."""
    questions, chance = random.Random(0), random.Random(seed)
    rows = []
    for place in range(items):
        label = questions.choice(CLASSES)
        said = label if chance.random() < skill else chance.choice(CLASSES)
        sure = chance.uniform(0.3, 0.99)
        odds = {name: sure if name == said else (1 - sure) / (len(CLASSES) - 1) for name in CLASSES}
        row = {"id": f"q{place:07}", "group": f"c{place // 5:06}", "label": label, "predicted": said}
        rows.append({**row, "probabilities": odds, "item_digest": f"{place:x}"})
    return rows


def preference(items: int, skill: float, seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "id": f"p{place:07}",
            "chosen": -90 + 10 * chance.gauss(skill, 1),
            "rejected": -90.0,
            "chosen_tokens": 10 + place % 7,
            "rejected_tokens": 11 + place % 5,
            "item_digest": f"{place:x}",
        }
        for place in range(items)
    ]


def latency(items: int, middle: float, seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [{"id": f"r{place:07}", "seconds": chance.lognormvariate(math.log(middle), 0.35)} for place in range(items)]


def make(folder: Path, items: int, skill: float) -> None:
    """Measure everything and write an evaluation."""
    from aifw.evaluation import report
    from aifw.evaluation.environment import Environment
    from aifw.job import Job

    environment = Environment.begin(Job(None, folder))
    rows = {
        "classification": (classification(items, skill, 1), classification(items, 0.7, 2)),
        "preference": (preference(items, skill - 0.5, 3), preference(items, 0.2, 4)),
        "latency": (latency(items, 0.1 - skill / 20, 5), latency(items, 0.07, 6)),
    }
    built, lines = report.build(
        subject={"address": "stages.model", "digest": f"{skill}", "name": "model"},
        baseline={"address": "@champion", "digest": "champion", "name": "champion"},
        data={"address": "datasets.heldout", "digest": "heldout", "name": "heldout"},
        settings={},
        rows=rows,
        environment=environment.end(),
    )
    folder.mkdir()
    report.write(folder, built, lines)


def measured(folder: Path, items: int, runs: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Figures of every command, and sizes of what is on the disk."""
    script, console = os.fspath(Path(__file__).absolute()), surroundings.console_script()
    commands = {
        "measure": [sys.executable, script, "--items", str(items), "--make", "one", "0.8"],
        "report": [*console, "report", "one"],
        "report --html": [*console, "report", "one", "--html", "page.html"],
        "compare": [*console, "compare", "one", "other", "--json"],
    }
    measure(Command("measure", [sys.executable, script, "--items", str(items), "--make", "other", "0.85"], folder))
    figures = []
    for name, arguments in commands.items():
        found = [measure(Command(name, arguments, folder)) for _ in range(1 if name == "measure" else runs)]
        figures.append({"command": name, **_medians(found), "runs": len(found)})
    sizes = {
        "report.json": (folder / "one/report.json").stat().st_size,
        "items.jsonl": (folder / "one/items.jsonl").stat().st_size,
        "page.html": (folder / "page.html").stat().st_size,
    }
    return figures, sizes


def _medians(found: Sequence[Usage]) -> dict[str, float]:
    return {name: statistics.median(getattr(each, name) for each in found) for name in ("wall", "cpu", "memory")}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=100_000, help="of each of three suites")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--make", nargs=2, metavar=("FOLDER", "SKILL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make(Path(arguments.make[0]), arguments.items, float(arguments.make[1]))
        return 0
    before = surroundings.load()
    folder = Path(tempfile.mkdtemp(prefix="aifw-bench-report-"))
    try:
        figures, sizes = measured(folder, arguments.items, arguments.runs)
    finally:
        shutil.rmtree(folder)
    seconds = next(each["wall"] for each in figures if each["command"] == "report --html")
    result = {
        "machine": surroundings.machine(),
        "versions": surroundings.versions() | surroundings.packages(PACKAGES),
        "threads": 1,
        "load_before": before,
        "load_after": surroundings.load(),
        "items": arguments.items,
        "figures": figures,
        "sizes": sizes,
        "bounds": [
            {"bound": "seconds of the page", "value": seconds, "at_most": MOST_SECONDS, "met": seconds <= MOST_SECONDS},
            {
                "bound": "bytes of the page",
                "value": sizes["page.html"],
                "at_most": MOST_BYTES,
                "met": sizes["page.html"] <= MOST_BYTES,
            },
        ],
    }
    if arguments.json:
        print(json.dumps(result, indent=1))
        return 0
    print(surroundings.described(result))
    rows = [
        [each["command"], f"{each['wall']:.2f} s", f"{each['cpu']:.2f} s", mebibytes(each["memory"])]
        for each in figures
    ]
    print(table(("command", "wall", "CPU", "peak"), rows))
    print(", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items()))
    for bound in result["bounds"]:
        print(
            f"{'met' if bound['met'] else 'NOT MET'}: {bound['bound']} {bound['value']:,.2f}, at most {bound['at_most']:,}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
