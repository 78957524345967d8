"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

SPEC = """
apiVersion: aifw/v1
kind: Stack
metadata: {name: words}
datasets:
  feedback: {kind: feedback, source: feedback.jsonl}
  preferences: {kind: preferences, from: feedback}
  vocabulary: {kind: word_count, data: preferences.train}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The third-party package of the README, installed by its metadata."""
    blocks = dict(re.findall(r"```(?:toml|python)\n# (\S+)\n(.*?)```", README, re.DOTALL))
    assert sorted(blocks) == ["pyproject.toml", "wordcount/kinds.py", "wordcount/work.py"]
    for name, text in blocks.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    project = tomllib.loads(blocks["pyproject.toml"])["project"]
    info = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["aifw.kinds"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[aifw.kinds]", *lines, ""]))
    return tmp_path


def _aifw(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aifw", *arguments],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_kind_of_another_package_is_planned_and_run(package: Path) -> None:
    (package / "spec.yaml").write_text(SPEC)
    shutil.copy(ROOT / "examples/quickstart/feedback.jsonl", package)
    planned = _aifw(package, "plan")
    assert planned.returncode == 0, planned.stderr
    assert "datasets.vocabulary" in planned.stdout
    applied = _aifw(package, "apply", "--yes")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    (words,) = (package / ".aifw/artifacts").glob("*/*/words/words.json")
    assert '"the": ' in words.read_text()
    assert "word_count" in _aifw(package, "schema").stdout
    wrong = _aifw(package, "validate", "--set", "datasets.vocabulary.least=0")
    assert wrong.returncode == 3
    assert "least" in wrong.stdout + wrong.stderr


def test_the_spec_shown_is_the_quickstarts() -> None:
    shown = re.search(r"<!-- spec -->\n```yaml\n(.*?)```\n<!-- end of spec -->", README, re.DOTALL)
    assert shown is not None
    assert yaml.safe_load(shown[1]) == yaml.safe_load((ROOT / "examples/quickstart/spec.yaml").read_text())


def test_the_tree_shows_what_is_there() -> None:
    tree = README.split("## What is where")[1].split("`CONTRIBUTING.md`")[0]
    rooms = {path.parent.name for path in (ROOT / "aifw").glob("*/__init__.py")}
    assert set(re.findall(r"^      (\w+)/", tree, re.MULTILINE)) == rooms


def test_every_verb_is_named() -> None:
    from aifw.cli.main import VERBS

    assert [verb for verb in VERBS if not re.search(rf"`(aifw )?{verb}`", README)] == []
