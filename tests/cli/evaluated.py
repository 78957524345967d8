"""States in which things were evaluated, made without an engine."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluations import write

from aifw.evaluation.report import digest
from aifw.state.layout import Layout
from aifw.state.store import Store


def classified(skill: float, seed: int, count: int = 120) -> list[dict[str, Any]]:
    """Rows of suite `classification`: the same questions whatever the skill, some of them with names that HTML would mind."""
    questions, answers = random.Random(0), random.Random(seed)
    classes = ["billing", "a <b> & 'c'", "delivery"]
    rows = []
    for place in range(count):
        label = questions.choice(classes)
        said = label if answers.random() < skill else answers.choice(classes)
        sure = answers.uniform(0.4, 0.98)
        odds = {name: sure if name == said else (1 - sure) / 2 for name in classes}
        rows.append(
            {"id": f"q{place:04}", "label": label, "predicted": said, "probabilities": odds, "item_digest": label}
        )
    return rows


def timed(middle: float, seed: int, count: int = 120) -> list[dict[str, Any]]:
    """Rows of suite `latency`."""
    chance = random.Random(seed)
    return [{"id": f"r{place:04}", "seconds": middle * chance.lognormvariate(0, 0.3)} for place in range(count)]


@dataclass
class Evaluated:
    """A state in which things were evaluated, without an engine.

    Attributes:
        folder: Of the spec.
        layout: Of the state.
    """

    folder: Path
    layout: Layout

    def add(self, run: int, rows: Any, *, address: str = "stages.check", **settings: Any) -> Path:
        """Keep an evaluation as a run would have. Returns its folder in the store."""
        made = write(self.folder / f"made-{run}-{address}", rows, **settings).path
        path = made / "report.json"
        found = json.loads(path.read_bytes())
        found["environment"]["time"] = f"2026-01-{run:02}T03:04:05Z"
        return self.keep(run, made, found, address)

    def keep(self, run: int, made: Path, report: dict[str, Any], address: str = "stages.check") -> Path:
        """Put a report's folder into the store, its digest made to fit."""
        report["digest"] = digest(report)
        (made / "report.json").write_text(json.dumps(report))
        artifact = report["digest"]
        store = Store.open(self.layout)
        final = store.artifacts.path(artifact) / "evaluation"
        final.parent.mkdir(parents=True)
        shutil.move(made, final)
        at, job = f"2026-01-{run:02}T03:05:00.000Z", f"{run}-1-{address}"
        with store.transaction() as connection:
            connection.execute(
                "insert into artifact (digest, kind, size, fingerprint, facts, job, made_at) values (?, 'evaluate', 1, '', '{}', ?, ?)",
                (artifact, job, at),
            )
            connection.execute("insert into output values (?, 'evaluation', ?, '{}')", (artifact, artifact))
            connection.execute(
                "insert into job (id, run, address, kind, verb, key, recipe, identity, inputs, state, executor, started)"
                " values (?, ?, ?, 'evaluate', 'run', 'k', 'r', '{}', '{}', 'done', 'local', ?)",
                (job, run, address, at),
            )
        store.close()
        return final

    def judge(self, run: int, verdict: dict[str, Any], *, moved: bool) -> None:
        """Keep a verdict as a run would have."""
        at, text = f"2026-01-{run:02}T03:06:00.000Z", json.dumps(verdict)
        store = Store.open(self.layout)
        with store.transaction() as connection:
            connection.execute(
                "insert into verdict (address, candidate, incumbent, run, verdict, at) values ('stages.promotion', ?, ?, ?, ?, ?)",
                (verdict["candidate"], verdict["incumbent"], run, text, at),
            )
            if moved:
                connection.execute(
                    "insert into alias_move (name, artifact, output, digest, label, cause, run, verdict, at)"
                    " values (?, 'a', 'model', ?, ?, 'promotion', ?, ?, ?)",
                    (verdict["alias"], verdict["candidate"], f"dpo@{verdict['candidate'][:4]}", run, text, at),
                )
                connection.execute(
                    "insert or replace into alias values (?, 'a', 'model', ?, ?)",
                    (verdict["alias"], verdict["candidate"], f"dpo@{verdict['candidate'][:4]}"),
                )
        store.close()


VERDICT = {
    "alias": "champion",
    "candidate": "c" * 64,
    "incumbent": "b" * 64,
    "decision": "better",
    "promote": True,
    "alpha": 0.01,
    "metrics": [
        {
            "metric": "accuracy",
            "met": True,
            "decision": "better",
            "text": "accuracy 0.60 \N{RIGHTWARDS ARROW} 0.80, p 0.0004",
        }
    ],
    "guards": [{"measure": "length_drift", "met": False, "text": "length drift 0.4, at most <0.25>"}],
    "summary": "better",
}
