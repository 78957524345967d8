"""The examples' specs are valid as committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from aifw.cli.targets import tracked
from aifw.spec.load import load

EXAMPLES = Path(__file__).parents[1] / "examples"
SPECS = sorted(EXAMPLES.glob("*/spec.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.parent.name)
def test_every_example_is_valid(path: Path) -> None:
    assert load([path]).resources


def test_the_targets_of_the_project_are_honest_about_what_nothing_measures() -> None:
    spec = load([EXAMPLES / "quickstart/spec.yaml", EXAMPLES / "targets/targets.yaml"])
    found = {each.name: each for each in tracked(spec, None)}
    assert {name: (each.value, each.better) for name, each in found.items()} == {
        "response_quality": (0.15, "higher"),
        "rag_accuracy": (0.10, "higher"),
        "vector_search": (5.0, "higher"),
        "discovery": (10.0, "lower"),
        "cost_per_day": (200.0, "lower"),
    }
    assert {each.status for each in found.values()} == {"not measured"}
    assert found["response_quality"].note == "stages.check has not run yet"
    assert found["vector_search"].note == "nothing in this spec measures it"
