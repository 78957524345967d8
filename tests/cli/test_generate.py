"""`aifw generate`: which model is meant, and what is said where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aifw.export import export
from aifw.models.tiny import write_tiny_model

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


@pytest.fixture
def made(shell: Any, tiny: Path) -> Any:
    """A stack whose model has been made."""
    shutil.copytree(tiny, shell.folder / "tiny")
    (shell.folder / "spec.yaml").write_text(SPEC)
    row = {"kind": "thumbs", "conversation": "c", "prompt": "p", "answer": "a", "value": 1}
    (shell.folder / "feedback.jsonl").write_text(json.dumps(row) + "\n")
    shell.aifw("apply", "--yes")
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


def test_before_anything_was_made(shell: Any) -> None:
    (shell.folder / "spec.yaml").write_text(SPEC)
    assert "has no state yet" in shell.aifw("generate", "base", "Hello", status=64).err
