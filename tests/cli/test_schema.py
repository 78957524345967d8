from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from aifw.cli import schema as module
from aifw.cli.schema import command, main
from aifw.evaluation.schema import PACKAGED as PACKAGED_REPORT
from aifw.spec.schema import PACKAGED
from aifw.spec.schema import schema as schema_of_spec


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    printed = CliRunner().invoke(command, [])
    assert printed.exit_code == 0
    document = json.loads(printed.output)
    assert "kind.dpo" in document["definitions"]
    path = tmp_path / "below/here.json"
    written = CliRunner().invoke(command, ["-o", str(path)])
    assert (written.exit_code, written.output) == (0, "")
    assert json.loads(path.read_text(encoding="utf-8")) == document


def test_kinds_of_other_packages_are_in_it(toy_kinds: Path) -> None:
    assert toy_kinds.exists()
    document = json.loads(CliRunner().invoke(command, []).output)
    assert "kind.toy" in document["definitions"]


@pytest.mark.parametrize("section", ["models", "datasets", "stages"])
def test_sections_name_their_kinds(section: str) -> None:
    document = json.loads(CliRunner().invoke(command, []).output)
    resource = document["properties"][section]["else"]["additionalProperties"]["else"]
    assert resource["properties"]["kind"]["enum"]


def test_what_is_published_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err
    folder = Path(__file__).parents[2] / "schemas"
    packaged = {PACKAGED, PACKAGED_REPORT}
    assert set(module.published()) - packaged == set(folder.glob("*.json"))
    for path in packaged:
        assert path.read_text(encoding="utf-8") == (folder / path.name).read_text(encoding="utf-8")


def test_stale_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "schemas").mkdir()
    monkeypatch.setattr("aifw.spec.schema.PACKAGED", tmp_path / "packaged.json")
    monkeypatch.setattr("aifw.evaluation.schema.PACKAGED", tmp_path / "packaged_report.json")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert capsys.readouterr().err.count("json is not up to date") == 6
    assert main(["--write"]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "schemas/aifw.events.v1.schema.json").write_text("{}")
    assert main(["--check"]) == 1
    assert "aifw.events.v1.schema.json is not up to date" in capsys.readouterr().err
    assert main([]) == 64


@pytest.mark.usefixtures("toy_kinds")
def test_what_is_published_knows_no_kinds_of_other_packages() -> None:
    assert "kind.toy" not in schema_of_spec()["definitions"]


def schema_of(subject: str) -> jsonschema.Draft7Validator:
    printed = CliRunner().invoke(command, ["--of", subject])
    assert printed.exit_code == 0
    return jsonschema.Draft7Validator(json.loads(printed.output))


def test_plans_are_as_their_schema_says(shell: Any) -> None:
    validator = schema_of("plan")

    def check(text: str) -> set[str]:
        plan = json.loads(text)
        assert [each.message for each in validator.iter_errors(plan)] == []
        return {step["action"] for step in plan["steps"]}

    assert check(shell.aifw("plan", "--json").out) == {"create"}
    shell.aifw("apply")
    # The second is remembered from the first.
    assert check(shell.aifw("plan", "--json").out) == {"reuse"}
    assert check(shell.aifw("plan", "--json").out) == {"reuse"}
    shell.aifw("plan", "-o", "next.aifwplan", "--replace", "a", "--set", "stages.b.text=other", "--state", ".aifw")
    assert "replace" in check((shell.folder / "next.aifwplan").read_text(encoding="utf-8"))


def test_events_are_as_their_schema_says(shell: Any) -> None:
    validator = schema_of("events")
    lines = shell.aifw("apply", "--json").out.splitlines()
    lines += (shell.folder / ".aifw/tested/runs/1/events.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert [each.message for each in validator.iter_errors(json.loads(line))] == [], line
    assert {"run.started", "alias.moved", "job.finished", "run.finished"} <= {
        json.loads(line)["event"] for line in lines
    }
