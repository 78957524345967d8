from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from aifw.cli.schema import command


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
