"""Feedback by the million: what importing, freezing and making pairs take, each in a process of its own.

    python benchmarks/feedback.py [--rows 100000 1000000] [--folder FOLDER] [--parts import freeze pair] [--json]

The events are made here: prompts and answers of random words with a skewed vocabulary, all four kinds, raters of different reliability,
popular prompts, repetitions that differ in a word, and rows that are broken. The temporary files go to the folder and are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import surroundings
from processes import Command, measure
from table import table

PARTS = ("import", "freeze", "pair")
PACKAGES = ("aifw", "numpy", "SQLAlchemy")
RATERS = 300
WORDS = 20_000
NEAR = 0.1
"""Share of answers that repeat an earlier one but for a word."""
BROKEN = 0.002


class Writer:
    """Makes events, the same ones for the same seed."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        self.random = random.Random(seed)
        letters = "abcdefghijklmnoprstuvw"
        self.words = ["".join(self.random.choices(letters, k=self.random.randint(2, 10))) for _ in range(WORDS)]
        self.weights = list(accumulate(1 / (place + 10) for place in range(WORDS)))
        self.right = [self.random.choice([0.55, 0.75, 0.95]) for _ in range(RATERS)]
        self.former: list[list[str]] = []
        self.rows = rows

    def text(self, least: int, most: int) -> str:
        if self.former and self.random.random() < NEAR:
            words = list(self.random.choice(self.former))
            words[self.random.randrange(len(words))] = self.random.choice(self.words)
            return " ".join(words)
        words = self.random.choices(self.words, cum_weights=self.weights, k=self.random.randint(least, most))
        if len(words) > 20 and len(self.former) < 5000:
            self.former.append(words)
        return " ".join(words)

    def events(self) -> Iterator[dict[str, Any]]:
        number = 0
        conversation = 0
        while number < self.rows:
            conversation += 1
            prompt = self.text(6, 30)
            good, bad = self.text(10, 60), self.text(10, 60)
            kind = self.random.choices(("comparison", "correction", "thumbs", "stars"), (50, 15, 25, 10))[0]
            for rater in self.random.sample(range(RATERS), self.random.choice((1, 1, 2))):
                better, worse = (good, bad) if self.random.random() < self.right[rater] else (bad, good)
                for judgement in self.judgements(kind, better, worse):
                    if number == self.rows:
                        return
                    number += 1
                    yield {
                        "id": f"e{self.random.getrandbits(64):016x}",
                        "kind": kind,
                        "conversation": f"c{conversation}",
                        "rater": f"r{rater}",
                        "time": f"2026-{1 + number * 12 // (self.rows + 1):02d}-{self.random.randint(1, 28):02d}T10:00:00Z",
                        "prompt": "" if self.random.random() < BROKEN else prompt,
                    } | judgement

    @staticmethod
    def judgements(kind: str, better: str, worse: str) -> list[dict[str, Any]]:
        if kind == "comparison":
            return [{"answer_a": better, "answer_b": worse, "preferred": "a"}]
        if kind == "correction":
            return [{"answer": worse, "corrected": better}]
        if kind == "thumbs":
            return [{"answer": better, "thumb": "up"}, {"answer": worse, "thumb": "down"}]
        return [{"answer": better, "stars": 5}, {"answer": worse, "stars": 2}]


def write(path: Path, rows: int) -> int:
    """Write a file of events; its bytes."""
    with path.open("w", encoding="utf-8") as file:
        for event in Writer(rows).events():
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
    return path.stat().st_size


def freeze(folder: Path) -> None:
    """The job of kind `feedback` on the database in the folder."""
    from aifw.data.feedback import freeze as work
    from aifw.data.kinds import FeedbackSettings
    from aifw.job import Job

    settings = FeedbackSettings(source="sqlite:///feedback.db")
    job = Job(settings, out=folder / "frozen/out", root=folder, outputs=("events",))
    work(job)
    print(json.dumps(job.facts["events"]))


def pair(folder: Path) -> None:
    """The job of kind `preferences` on what that made."""
    from aifw.data.kinds import PreferencesSettings
    from aifw.data.preferences import build
    from aifw.job import Input, Job

    settings = PreferencesSettings.model_validate({"from": "feedback", "half_life": "180d"})
    job = Job(
        settings,
        out=folder / "paired/out",
        inputs={"from": Input("datasets.feedback", folder / "frozen/out/events")},
        outputs=("train", "heldout", "card"),
    )
    build(job)
    card = json.loads((job.out / "card/card.json").read_text(encoding="utf-8"))
    print(json.dumps({name: card[name] for name in ("train", "heldout", "lost", "duplicates", "raters")}))


def measured(folder: Path, rows: int, parts: list[str]) -> dict[str, Any]:
    """Bytes, and wall seconds, CPU seconds, peak bytes and what came out, of each part in turn."""
    place = folder / str(rows)
    place.mkdir()
    size = write(place / "feedback.jsonl", rows)
    console = surroundings.console_script()
    script = os.fspath(Path(__file__).absolute())
    commands = {
        "import": [*console, "feedback", "import", "feedback.jsonl", "--into", "sqlite:///feedback.db"],
        "freeze": [sys.executable, script, "--do", "freeze"],
        "pair": [sys.executable, script, "--do", "pair"],
    }
    found: dict[str, Any] = {}
    for part in parts:
        usage = measure(Command(part, commands[part], place))
        said = usage.output.strip().splitlines()[-1]
        found[part] = {
            "seconds": usage.wall,
            "cpu": usage.cpu,
            "memory": usage.memory,
            "rows_per_second": rows / usage.wall,
            "said": json.loads(said) if said.startswith("{") else said,
        }
    shutil.rmtree(place)
    return {"rows": rows, "bytes": size, "parts": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--do", choices=("freeze", "pair"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.do:
        (freeze if arguments.do == "freeze" else pair)(Path.cwd())
        return 0
    before = surroundings.load()
    folder = Path(tempfile.mkdtemp(prefix="aifw-bench-feedback-", dir=arguments.folder))
    try:
        runs = [measured(folder, rows, arguments.parts) for rows in arguments.rows]
    finally:
        shutil.rmtree(folder)
    result = {
        "machine": surroundings.machine(),
        "versions": surroundings.versions() | surroundings.packages(PACKAGES),
        "threads": 1,
        "load_before": before,
        "load_after": surroundings.load(),
        "runs": runs,
    }
    if arguments.json:
        print(json.dumps(result, indent=1))
        return 0
    print(surroundings.described(result))
    lines = [
        [
            f"{run['rows']:,}",
            f"{run['bytes'] / 1e6:,.0f} MB",
            part,
            f"{one['seconds']:,.1f} s",
            f"{one['cpu']:,.1f} s",
            f"{one['rows_per_second']:,.0f}",
            f"{one['memory'] / 1024**2:,.0f} MiB",
        ]
        for run in runs
        for part, one in run["parts"].items()
    ]
    print(table(("rows", "file", "part", "wall", "CPU", "rows/s", "peak"), lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
