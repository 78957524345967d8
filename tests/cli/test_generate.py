"""`aifw generate`: which model is meant, and what is said where there is none."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aifw.export import export
from aifw.models.tiny import write_tiny_model

FEEDBACK = Path(__file__).parents[2] / "examples/quickstart/feedback.jsonl"
SPEC = """
apiVersion: aifw/v1
kind: Stack
metadata: {name: tested}
hardware: {threads: 1}
models:
  base: {kind: causal_lm, source: tiny}
datasets:
  feedback: {kind: feedback, source: feedback.jsonl}
aliases:
  champion: {initial: base}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", seed=1).path


@pytest.fixture(scope="module")
def applied(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec that was applied once for all tests here."""
    folder = tmp_path_factory.mktemp("applied")
    shutil.copytree(tiny, folder / "tiny")
    (folder / "spec.yaml").write_text(SPEC)
    with FEEDBACK.open() as lines:
        (folder / "feedback.jsonl").write_text(next(lines))
    command = [sys.executable, "-m", "aifw", "apply", "--yes"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def made(shell: Any, applied: Path) -> Any:
    """A stack whose model has been made."""
    shutil.copytree(applied, shell.folder, dirs_exist_ok=True)
    return shell


def test_by_name_address_output_and_alias(made: Any) -> None:
    outs = [
        made.aifw("generate", name, "Hello", "--max-tokens", "6", "--threads", "1").out
        for name in ("base", "models.base", "base.model", "models.base.model", "@champion", "champion")
    ]
    assert len(set(outs)) == 1
    assert outs[0].strip()
    document = json.loads(made.aifw("generate", "base", "Hello", "--max-tokens", "6", "--threads", "1", "--json").out)
    assert document["model"] == "models.base"
    assert document["text"] + "\n" == outs[0]
    assert len(document["tokens"]) <= 6
    assert document["notes"] == []
    other = made.aifw("generate", "base", "Hello", "--max-tokens", "6", "--temperature", "2", "--seed", "5").out
    assert other != outs[0]


def test_a_model_of_openvino(made: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tiny, tmp_path / "int8", precision="fp32")
    torch_text = made.aifw("generate", "base", "Hello", "--max-tokens", "6", "--threads", "1").out
    monkeypatch.setattr("aifw.cli.generate.find_model", lambda *_: ("stages.int8", tmp_path / "int8"))
    assert made.aifw("generate", "int8", "Hello", "--max-tokens", "6", "--threads", "1").out == torch_text


def test_what_is_none(made: Any) -> None:
    assert "did you mean `base`?" in made.aifw("generate", "bas", "Hello", status=64).err
    assert "made no language model" in made.aifw("generate", "feedback", "Hello", status=64).err
    assert "there is no resource" in made.aifw("generate", "base.weights.x", "Hello", status=64).err
    assert "has no output `weights`" in made.aifw("generate", "base.weights", "Hello", status=64).err
    long = made.aifw("generate", "base", "long " * 60, status=1)
    assert "the model's window 256" in long.err
    assert "shorten the prompt" in long.err
    assert made.aifw("generate", "base", "Hello", "--max-tokens", "0", status=64)


@pytest.mark.parametrize("kind", ["reward", "of_a_plugin_that_is_gone"])
def test_a_reward_model_answers_nothing(made: Any, kind: str) -> None:
    """It has the same files as a language model, and a head for scores in place of one for tokens."""
    with closing(sqlite3.connect(made.folder / ".aifw/tested/state.db")) as database, database:
        database.execute("update binding set kind = ? where address = 'models.base'", (kind,))
        database.execute("update artifact set kind = ? where kind = 'causal_lm'", (kind,))
    for config in (made.folder / ".aifw/artifacts").rglob("config.json"):
        text = config.read_text()
        config.chmod(0o644)
        config.write_text(text.replace("ForCausalLM", "ForSequenceClassification"))
    assert f"`base` ({kind}) made no language model" in made.aifw("generate", "base", "Hello", status=64).err
    assert "which is no language model" in made.aifw("generate", "@champion", "Hello", status=64).err


def test_what_was_collected_is_said_to_be_gone(made: Any) -> None:
    for folder in {config.parents[1] for config in (made.folder / ".aifw/artifacts").rglob("config.json")}:
        for each in (folder, *folder.rglob("*")):
            each.chmod(0o755)
        shutil.rmtree(folder)
    assert "what `models.base` made is gone" in made.aifw("generate", "base", "Hello", status=64).err
    assert "which @champion points to, is gone" in made.aifw("generate", "@champion", "Hello", status=64).err


def test_interrupted(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aifw.models.answer.generate", interrupted)
    assert "interrupted" in made.aifw("generate", "base", "Hello", status=130).err


def test_names_are_completed(made: Any) -> None:
    import click

    from aifw.cli.generate import command
    from aifw.cli.project import complete_name

    argument = command.params[0]
    found = argument.shell_complete(click.Context(command), "ch") if argument.name == "name" else []
    assert [item.value for item in found] == ["champion"]
    assert argument._custom_shell_complete is complete_name


def test_before_anything_was_made(shell: Any) -> None:
    (shell.folder / "spec.yaml").write_text(SPEC)
    assert "has no state yet" in shell.aifw("generate", "base", "Hello", status=64).err
