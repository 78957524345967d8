from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from aifw.cli.init import command
from aifw.errors import UsageError
from aifw.spec import parse
from aifw.spec.diagnose import Report
from aifw.spec.load import load
from aifw.spec.source import Document


def test_the_starter_is_valid_and_its_first_line_finds_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Pump Assistant 2"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(command, [])
    assert done.exit_code == 0, done.output
    assert "aifw validate" in done.output
    assert load([Path("spec.yaml")]).name == "pump-assistant-2"
    text = Path("spec.yaml").read_text(encoding="utf-8")
    first, _ = text.split("\n", 1)
    prefix, _, schema = first.partition("$schema=")
    assert prefix == "# yaml-language-server: "
    document = Document("spec.yaml", text)
    parse.read(document, Report())
    jsonschema.Draft7Validator(json.loads(Path(schema).read_text(encoding="utf-8"))).validate(document.data)


def test_a_spec_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("mine", encoding="utf-8")
    done = CliRunner().invoke(command, [str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert path.read_text(encoding="utf-8") == "mine"
    assert CliRunner().invoke(command, [str(path), "--force", "--name", "yours"]).exit_code == 0
    assert load([path]).name == "yours"


@pytest.mark.parametrize("name", ["Yours", "9lives", "a b", "", "cache", "artifacts", "a" * 64])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(command, [str(tmp_path / "a.yaml"), "--name", name])
    assert isinstance(done.exception, UsageError)
    assert not (tmp_path / "a.yaml").exists()


@pytest.mark.parametrize("name", ["2026", "Cache"])
def test_a_folder_whose_name_cannot_be_that_of_a_stack(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert CliRunner().invoke(command, [str(folder / "spec.yaml")]).exit_code == 0
    assert load([folder / "spec.yaml"]).name == "my-stack"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = CliRunner().invoke(command, [str(tmp_path / "file" / "spec.yaml")])
    assert isinstance(done.exception, UsageError)
