"""The ready specs: valid, and planned for the machines they are for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from aifw.cli.feedback import command as feedback
from aifw.errors import MemoryRefused
from aifw.hardware.probe import probe
from aifw.plan.compile import compile  # noqa: A004 - the word of the design
from aifw.plan.model import Action
from aifw.plan.needs import memory_budget
from aifw.plan.snapshot import Snapshot
from aifw.run.observe import Observer
from aifw.spec.load import load
from aifw.spec.models import Spec

ROOT = Path(__file__).parents[1]
TREES = ROOT / "tests/hardware/trees"
GIB = 1024**3
OVERLAYS = sorted(path.name for path in (ROOT / "specs").glob("*.yaml") if path.name != "base.yaml")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `specs/` with the quickstart's feedback in its database."""
    folder = Path(shutil.copytree(ROOT / "specs", tmp_path_factory.mktemp("repository") / "specs"))
    (folder / "data").mkdir()
    source = str(ROOT / "examples/quickstart/feedback.jsonl")
    done = CliRunner().invoke(feedback, ["import", source, "--into", f"sqlite:///{folder}/data/feedback.db"])
    assert done.exit_code == 0, done.output
    return folder


def _snapshot(spec: Spec, tree: str) -> Snapshot:
    return Snapshot(machine=probe(TREES / tree), observations=Observer(spec, None).observations())


def test_there_are_overlays() -> None:
    assert OVERLAYS == ["core-ultra-laptop.yaml", "cpu-only.yaml"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_valid_as_committed(overlay: str) -> None:
    spec = load([ROOT / "specs/base.yaml", ROOT / "specs" / overlay])
    assert spec.name == "field-assistant"
    assert {resource.kind.name for resource in spec.resources.values()} == {
        "causal_lm",
        "feedback",
        "preferences",
        "dpo",
        "evaluate",
        "promote",
    }


@pytest.mark.parametrize(
    ("overlay", "tree", "budget"),
    [("core-ultra-laptop.yaml", "core-ultra-laptop", 48 * GIB), ("cpu-only.yaml", "virtual-machine-hybrid", 8 * GIB)],
)
def test_planned_for_its_machine(specs: Path, overlay: str, tree: str, budget: int) -> None:
    spec = load([specs / "base.yaml", specs / overlay])
    snapshot = _snapshot(spec, tree)
    assert memory_budget(spec, snapshot) == budget
    plan = compile(spec, snapshot)
    assert {step.action for step in plan.steps} == {Action.CREATE}
    assert {step.device for step in plan.steps} <= {"cpu", ""}
    assert all(step.forecast is not None and step.forecast.memory.mid < budget for step in plan.steps)


def test_training_goes_to_the_gpu_once_libraries_can_use_it(specs: Path) -> None:
    spec = load([specs / "base.yaml", specs / "core-ultra-laptop.yaml"])
    snapshot = _snapshot(spec, "core-ultra-laptop")
    places = {}
    for devices in (("cpu",), ("xpu:0", "cpu")):
        here = replace(snapshot.machine, devices=devices)
        places[devices] = {step.address: step.device for step in compile(spec, replace(snapshot, machine=here)).steps}
    assert set(places["cpu",].values()) == {"cpu"}
    gpu = {address for address, device in places["xpu:0", "cpu"].items() if device == "xpu:0"}
    assert gpu == {"stages.dpo", "stages.check"}


def test_refused_where_it_cannot_fit(specs: Path) -> None:
    spec = load([specs / "base.yaml", specs / "cpu-only.yaml"])
    with pytest.raises(MemoryRefused):
        compile(spec, _snapshot(spec, "container-v1"))
