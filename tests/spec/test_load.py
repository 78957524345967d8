from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifw.errors import ExitStatus
from aifw.spec.diagnose import SpecInvalid
from aifw.spec.load import load
from aifw.spec.models import Reference, Spec

pytestmark = pytest.mark.usefixtures("toy_farm")

HEAD = "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: farm}\n"
FARM = (
    HEAD
    + """seed: 7
hardware: {memory: {budget: 2GiB}, threads: 3}
policy: {allow_delete: true}
defaults: {rows: 4}
datasets:
  wheat: {kind: field, rows: "${defaults.rows}"}
  rye: {kind: field}
stages:
  mill:
    kind: mill
    from: wheat
    blend: [rye, "@best"]
    parts: {a: other.white}
    loss: 25%
    passes: 3
  other: {kind: mill, from: datasets.rye.grain}
aliases:
  best: {initial: rye}
"""
)


def read(folder: Path, text: str = FARM, **arguments: Any) -> Spec:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return load([path], **arguments)


def codes(folder: Path, text: str, **arguments: Any) -> list[str]:
    with pytest.raises(SpecInvalid) as caught:
        read(folder, text, **arguments)
    assert caught.value.exit_status == ExitStatus.SPEC_INVALID
    return [each.code for each in caught.value.diagnostics]


def test_what_a_spec_holds(tmp_path: Path) -> None:
    spec = read(tmp_path)
    assert (spec.name, spec.seed, spec.root, spec.files) == ("farm", 7, tmp_path, (str(tmp_path / "spec.yaml"),))
    assert spec.hardware.memory.budget == 2 * 1024**3
    assert spec.hardware.threads == 3
    assert spec.policy.allow_delete
    assert list(spec.resources) == ["datasets.wheat", "datasets.rye", "stages.mill", "stages.other"]
    mill = spec.resources["stages.mill"]
    assert mill.kind.name == "mill"
    assert mill.settings.model_dump()["loss"] == 0.25
    assert spec.resources["datasets.wheat"].settings.model_dump()["rows"] == 4
    assert mill.place is not None
    assert (mill.place.line, mill.place.column) == (12, 3)
    assert spec.aliases == {"best": Reference("initial", "rye", "datasets.rye", "grain")}


def test_references_are_resolved(tmp_path: Path) -> None:
    spec = read(tmp_path)
    assert spec.resources["stages.mill"].references == (
        Reference("from", "wheat", "datasets.wheat", "grain"),
        Reference("blend.0", "rye", "datasets.rye", "grain"),
        Reference("blend.1", "@best", "datasets.rye", "grain", alias="best"),
        Reference("parts.a", "other.white", "stages.other", "white"),
    )
    assert spec.resources["stages.other"].references == (
        Reference("from", "datasets.rye.grain", "datasets.rye", "grain"),
    )


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("from: other", "AIFW030"),
        ("from: other.bran", "AIFW030"),
        ("from: nothing", "AIFW031"),
        ("from: wheat, blend: [other]", "AIFW033"),
        ("from: wheat, blend: [other.bran]", "AIFW030"),
        ("from: wheat, parts: {a: other.red}", "AIFW033"),
        ("from: wheat, blend: ['@worst']", "AIFW035"),
        ("from: wheat, parts: {a: '@best'}", "AIFW030"),
        ("from: wheat, blend: [m.white]", "AIFW034"),
    ],
)
def test_references_that_do_not_fit(tmp_path: Path, written: str, code: str) -> None:
    assert codes(tmp_path, FARM.replace("aliases:", f"  m: {{kind: mill, {written}}}\naliases:")) == [code]


def test_a_bare_name_picks_the_only_output_that_fits(tmp_path: Path) -> None:
    spec = read(tmp_path, FARM.replace("[rye,", "[other.whole,"))
    assert spec.resources["stages.mill"].references[1].output == "whole"


def test_a_reference_through_an_alias_is_no_edge(tmp_path: Path) -> None:
    text = FARM.replace("{initial: rye}", "{initial: mill.white}").replace(
        "other: {kind: mill, from: datasets.rye.grain}", 'other: {kind: mill, from: rye, blend: ["@best"]}'
    )
    spec = read(tmp_path, text.replace('"@best"]\n', "wheat]\n"))
    assert spec.resources["stages.other"].references[1].alias == "best"


def test_a_section_of_another_package(tmp_path: Path) -> None:
    spec = read(tmp_path, HEAD + "barns:\n  big: {kind: silo}\n")
    assert list(spec.resources) == ["barns.big"]


@pytest.mark.parametrize(
    "text", [HEAD, HEAD + "stages:\nhardware:\naliases:\ndefaults:\npolicy:\n", HEAD + "stages: {}\n"]
)
def test_empty_sections(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).resources == {}


def test_defaults_may_hold_anything(tmp_path: Path) -> None:
    assert read(tmp_path, HEAD + "defaults: {a: [1, {b: null}], kind: x, deep: {x: {y: 1}}}\n").resources == {}


@pytest.mark.parametrize("written", ["3.0", "3e0", "0x3", "+3"])
def test_whole_numbers_however_written(tmp_path: Path, written: str) -> None:
    spec = read(tmp_path, FARM.replace("passes: 3", f"passes: {written}"))
    assert spec.resources["stages.mill"].settings.model_dump()["passes"] == 3


def test_overlays_and_sets(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(FARM, encoding="utf-8")
    (tmp_path / "prod.yaml").write_text("seed: 8\nstages: {mill: {passes: 5, blend: null}}\n", encoding="utf-8")
    spec = load([tmp_path / "spec.yaml", tmp_path / "prod.yaml"], ["stages.mill.passes=6", "defaults.rows=9"])
    assert spec.seed == 8
    assert spec.resources["stages.mill"].settings.model_dump()["passes"] == 6
    assert spec.resources["stages.mill"].settings.model_dump()["blend"] == []
    assert spec.resources["datasets.wheat"].settings.model_dump()["rows"] == 9
    assert spec.root == tmp_path


def test_the_environment_is_that_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = HEAD + "datasets: {a: {kind: field, path: '${oc.env:AIFW_TEST_PATH}'}}\n"
    assert (
        read(tmp_path, text, environment={"AIFW_TEST_PATH": "x"}).resources["datasets.a"].settings.model_dump()["path"]
        == "x"
    )
    monkeypatch.setenv("AIFW_TEST_PATH", "y")
    assert read(tmp_path, text).resources["datasets.a"].settings.model_dump()["path"] == "y"
    monkeypatch.delenv("AIFW_TEST_PATH")
    assert codes(tmp_path, text) == ["AIFW041"]


def test_every_file_is_read_before_anything_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("b: 1\nb: 2\n", encoding="utf-8")
    with pytest.raises(SpecInvalid) as caught:
        load([tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"], ["x"])
    assert [each.code for each in caught.value.diagnostics] == ["AIFW003", "AIFW004", "AIFW001", "AIFW009"]


def test_the_error_survives_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid) as caught:
        read(tmp_path, "a: 1\n")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.diagnostics == caught.value.diagnostics
    assert str(again) == str(caught.value)
    assert again.message == "4 errors in 1 file"


def reorder(value: Any, draw: Any) -> Any:
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: reorder(value[key], draw) for key in keys}
    return value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_digest_is_that_of_the_content(tmp_path: Path, data: Any) -> None:
    plain = read(tmp_path)
    tree = {
        "apiVersion": "aifw/v1",
        "kind": "Stack",
        "metadata": {"name": "farm"},
        "seed": 7,
        "hardware": {"memory": {"budget": "2GiB"}, "threads": 3},
        "policy": {"allow_delete": True},
        "datasets": {"wheat": {"kind": "field", "rows": 4}, "rye": {"kind": "field"}},
        "stages": {
            "mill": {
                "kind": "mill",
                "from": "wheat",
                "blend": ["rye", "@best"],
                "parts": {"a": "other.white"},
                "loss": "25%",
                "passes": 3,
            },
            "other": {"kind": "mill", "from": "datasets.rye.grain"},
        },
        "aliases": {"best": {"initial": "rye"}},
    }
    shuffled = reorder(tree, data.draw)
    indent = data.draw(st.sampled_from([None, 2]))
    comment = data.draw(st.sampled_from(["", "# a comment\n"]))
    assert read(tmp_path, comment + json.dumps(shuffled, indent=indent)).digest == plain.digest
    shuffled["seed"] = 8
    assert read(tmp_path, json.dumps(shuffled)).digest != plain.digest


def test_reading_a_spec_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        HEAD
        + "defaults: {source: models/base}\nmodels:\n  base: {kind: causal_lm, source: '${defaults.source}'}\n"
        + "datasets:\n  feedback: {kind: feedback, source: events.jsonl}\naliases: {champion: {initial: base}}\n",
        encoding="utf-8",
    )
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from aifw.spec.load import load\n"
        f"load([Path({str(path)!r})])\n"
        "heavy = ['omegaconf', 'jsonschema', 'difflib', 'numpy', 'torch', 'sqlalchemy', 'rich', 'asyncio', 'transformers']\n"
        "print([name for name in heavy if name in sys.modules], 'aifw.training.kinds' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] False"
