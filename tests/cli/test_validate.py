from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from aifw.errors import ExitStatus

PLUGIN = Path(__file__).parents[1] / "plugin"
GOOD = """apiVersion: aifw/v1
kind: Stack
metadata: {name: demo}
models:
  base: {kind: causal_lm, source: models/base}
aliases:
  champion: {initial: base}
"""
BAD = GOOD.replace("source: models/base", "sorce: models/base")


def aifw(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aifw", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(BAD, encoding="utf-8")
    (tmp_path / "prod.yaml").write_text("seed: 9\n", encoding="utf-8")
    return tmp_path


def test_a_valid_spec_takes_one_quiet_line(folder: Path) -> None:
    done = aifw(folder, "validate")
    assert (done.returncode, done.stdout, done.stderr) == (0, "✓ demo: 1 resource, 1 alias\n", "")


def test_overlays_are_counted(folder: Path) -> None:
    done = aifw(folder, "validate", "spec.yaml", "-f", "prod.yaml", "--set", "seed=3")
    assert done.stdout == "✓ demo: 1 resource, 1 alias, 2 files\n"


def test_an_invalid_spec(folder: Path) -> None:
    done = aifw(folder, "validate", "bad.yaml")
    assert done.returncode == ExitStatus.SPEC_INVALID
    assert done.stdout == ""
    assert done.stderr == (
        "error[AIFW012]: unknown setting `sorce` for kind `causal_lm`\n"
        "  ┌─ bad.yaml:5:27\n"
        "  │\n"
        " 5│   base: {kind: causal_lm, sorce: models/base}\n"
        "  │                           ^^^^^ did you mean `source`?\n"
        "\n"
        "1 error in 1 file. `aifw explain AIFW012` says more.\n"
    )


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_a_secret_in_clear_is_not_repeated(folder: Path, form: str) -> None:
    (folder / "secret.yaml").write_text(
        GOOD + 'stages:\n  a: {kind: toy, token: canary-7f3a}\n  b: {kind: toy, token: "${defaults.token}"}\n'
        "defaults: {token: canary-7f3b}\n"
    )
    for verb in (["validate", "--format", form], ["plan"]):
        done = aifw(folder, *verb, "secret.yaml", "--set", "stages.b.tokn=canary-7f3c", PYTHONPATH=str(PLUGIN))
        assert done.returncode == ExitStatus.SPEC_INVALID
        said = done.stdout + done.stderr
        assert "`token` must be `{env: NAME}` or `{file: PATH}`" in said
        assert "canary" not in said


def test_json(folder: Path) -> None:
    done = aifw(folder, "validate", "bad.yaml", "--format", "json")
    assert done.returncode == ExitStatus.SPEC_INVALID
    document = json.loads(done.stdout)
    assert not document["valid"]
    assert [(each["file"], each["line"], each["column"], each["end_column"]) for each in document["errors"]] == [
        ("bad.yaml", 5, 27, 32)
    ]
    done = aifw(folder, "validate", "--format", "json")
    assert json.loads(done.stdout) == {"valid": True, "errors": []}


def test_github(folder: Path) -> None:
    done = aifw(folder, "validate", "bad.yaml", "--format", "github")
    assert done.returncode == ExitStatus.SPEC_INVALID
    assert done.stdout.startswith(
        "::error file=bad.yaml,line=5,col=27,endColumn=32,title=AIFW012::unknown setting `sorce`"
    )
    assert aifw(folder, "validate", "--format", "github").stdout == ""


def test_no_spec_here(tmp_path: Path) -> None:
    done = aifw(tmp_path, "validate")
    assert done.returncode == ExitStatus.USAGE
    assert "there is no spec.yaml in this folder" in done.stderr
    assert "aifw init" in done.stderr


def test_a_spec_that_does_not_exist(tmp_path: Path) -> None:
    done = aifw(tmp_path, "validate", "nowhere.yaml")
    assert done.returncode == ExitStatus.SPEC_INVALID
    assert "error[AIFW001]: cannot read nowhere.yaml: no such file or directory" in done.stderr


def on_a_terminal(folder: Path, *arguments: str, **environment: str) -> str:
    reader, writer = pty.openpty()
    settings = {**os.environ, "TERM": "xterm", **environment}
    if "NO_COLOR" not in environment:
        settings.pop("NO_COLOR", None)
    subprocess.run(
        [sys.executable, "-m", "aifw", *arguments], cwd=folder, env=settings, stdout=writer, stderr=writer, check=False
    )
    os.close(writer)
    shown = b""
    try:
        while part := os.read(reader, 65536):
            shown += part
    except OSError:
        pass  # Linux ends a terminal's output this way.
    os.close(reader)
    return shown.decode()


def test_colour_only_on_a_terminal(folder: Path) -> None:
    assert "\x1b[" in on_a_terminal(folder, "validate", "bad.yaml")
    assert "\x1b[" not in on_a_terminal(folder, "validate", "bad.yaml", NO_COLOR="1")
    assert "\x1b[" not in aifw(folder, "validate", "bad.yaml").stderr
