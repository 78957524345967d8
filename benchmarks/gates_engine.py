"""Cycles of a gate by `aifw apply`, for `gates.py`: everything is real but the models and how they are measured.

Two kinds of a package of its own play those: `simulated_model` makes a model that is a number, `simulated_evaluation` measures two of them
on the held-out set of `gates_world.py` and writes the report that `evaluate` would. The gate is `promote` itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).absolute().parent

KINDS = '''
from aifw.evaluation.kinds import Evaluation
from aifw.kind import ArtifactKind, Estimate, Forecast
from aifw.models.kinds import TextModel
from aifw.settings import Ref, Settings


class ModelSettings(Settings):
    """Settings of `simulated_model`."""

    number: int
    """Which one."""
    gain: float = 0.0
    """How much better it is than the incumbents."""
    seen: int = 0
    """How many held-out items it was trained on."""


class Model(ArtifactKind[ModelSettings]):
    """A model that is a number."""

    name = "simulated_model"
    section = "stages"
    settings = ModelSettings
    produces = {"model": TextModel}
    run = "simulated_kinds:make"

    def forecast(self, settings, inputs, machine, history):
        return Forecast(memory=Estimate.exact(64 * 1024**2), seconds=Estimate.exact(1.0))


class EvaluationSettings(Settings):
    """Settings of `simulated_evaluation`."""

    subject: Ref[TextModel]
    """What is measured."""
    baseline: Ref[TextModel]
    """What it is compared with."""
    holdout: int
    """Which held-out set."""


class Measured(ArtifactKind[EvaluationSettings]):
    """Two of them on the same items."""

    name = "simulated_evaluation"
    section = "stages"
    settings = EvaluationSettings
    produces = {"evaluation": Evaluation}
    run = "simulated_kinds:measure"

    def forecast(self, settings, inputs, machine, history):
        return Forecast(memory=Estimate.exact(256 * 1024**2), seconds=Estimate.exact(5.0))


def make(job):
    import json

    (job.output("model") / "model.json").write_text(json.dumps(job.settings.model_dump()))


def measure(job):
    import json
    import sys

    sys.path.insert(0, BENCHMARKS)
    import numpy as np
    from gates_world import evaluation, holdout, model, outcomes, threshold_of

    from aifw.evaluation.report import write

    number = job.settings.holdout
    items = holdout(np.random.default_rng([6, number]), 1000)
    sides = {}
    for name in ("baseline", "subject"):
        said = json.loads((job.inputs[name].path / "model.json").read_text())
        rng = np.random.default_rng([7, said["number"]])
        right = outcomes(rng, items, 1, threshold_of(0.6 + said["gain"]))[0]
        sides[name] = model(rng, right, seen=np.arange(1000) < said["seen"])
    who = {name: (job.inputs[name].address, job.inputs[name].digest) for name in sides}
    report, rows = evaluation(items, sides["baseline"], sides["subject"], **who)
    write(job.output("evaluation"), report, rows)
    job.fact("items", len(rows))
    job.fact("data", f"{number:064}")
    job.fact("sketch", report["data"]["sketch"])
'''

SPEC = """
apiVersion: aifw/v1
kind: Stack
metadata: {{name: gates}}
stages:
  first: {{kind: simulated_model, number: 0}}
  candidate: {{kind: simulated_model, number: {number}, gain: {gain}, seen: {seen}}}
  check: {{kind: simulated_evaluation, subject: candidate, baseline: "@champion", holdout: {holdout}}}
  promotion: {{kind: promote, candidate: candidate, alias: champion, evidence: check, looks: {looks}}}
aliases: {{champion: {{initial: first}}}}
"""

CYCLES = (
    {"number": 1, "gain": 0.0, "seen": 0, "holdout": 1, "looks": 3, "expect": (5, 1), "what": "no better is held"},
    {"number": 2, "gain": 0.3, "seen": 400, "holdout": 1, "looks": 3, "expect": (5, 2), "what": "memorised is held"},
    {"number": 3, "gain": 0.3, "seen": 0, "holdout": 1, "looks": 3, "expect": (0, 3), "what": "better is promoted"},
    {"number": 4, "gain": 0.39, "seen": 0, "holdout": 1, "looks": 3, "expect": (5, 4), "what": "alpha is used up"},
    {
        "number": 4,
        "gain": 0.39,
        "seen": 0,
        "holdout": 2,
        "looks": 3,
        "expect": (5, 5),
        "what": "the same items under another name",
    },
)


def cycles_by_apply(folder: Path) -> list[dict[str, Any]]:
    """Apply one spec after another; what came out of each.

    Raises:
        SystemExit: Something else came out than should.
    """
    packages = folder / "packages"
    about = packages / "simulated_kinds-1.0.dist-info"
    about.mkdir(parents=True)
    (packages / "simulated_kinds.py").write_text(KINDS.replace("BENCHMARKS", repr(str(HERE))), encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: simulated-kinds\nVersion: 1.0\n", encoding="utf-8")
    entries = "".join(
        f"{name} = simulated_kinds:{kind}\n"
        for name, kind in (("simulated_model", "Model"), ("simulated_evaluation", "Measured"))
    )
    (about / "entry_points.txt").write_text(f"[aifw.kinds]\n{entries}", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    found = []
    for cycle in CYCLES:
        (folder / "spec.yaml").write_text(SPEC.format(**cycle), encoding="utf-8")
        applied = _aifw(folder, environment, "apply", "--yes", "spec.yaml")
        told = json.loads(_aifw(folder, environment, "show", "@champion", "--json").stdout)
        verdict = json.loads(_aifw(folder, environment, "show", "stages.promotion", "--json").stdout)
        facts = verdict["outputs"]["verdict"]["facts"]["verdict"]
        status, look = cycle["expect"]
        if (status is not None and applied.returncode != status) or (look is not None and facts.get("look") != look):
            sys.exit(
                f"{cycle}: exit {applied.returncode}, look {facts.get('look')}\n{applied.stdout}\n{applied.stderr}"
            )
        text = f"{cycle['what']} (exit {applied.returncode}, look {facts.get('look')})"
        found.append({"text": text, "exit": applied.returncode, "verdict": facts, "champion": told["pointer"]["label"]})
    return found


def _aifw(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aifw", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
