"""A remembered plan is used while nothing changed, and never after anything did."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest

from aifw.hardware.libraries.profile import write_profile
from aifw.hardware.libraries.runtime import Runtime
from aifw.hardware.probe import probe
from aifw.kind import Observation, Workspace
from aifw.run.apply import Request, apply
from aifw.run.planning import make_plan
from aifw.run.remembered import Remembered
from aifw.spec.load import load
from aifw.state.aliases import rollback
from aifw.state.layout import Layout
from aifw.state.store import Store

SPEC = """apiVersion: aifw/v1
kind: Stack
metadata: {name: tested}
stages:
  a: {kind: toy, text: hello, file: input.txt}
  b: {kind: toy, text: "${oc.env:AIFW_TEST_WORD,none}", sources: [a]}
  g: {kind: toy_gate, candidate: b, baseline: "@best", alias: best}
aliases:
  best: {initial: a}
"""
MACHINE = probe()


@pytest.fixture
def folder(tmp_path: Path, toy_kinds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec that was applied, with inputs that settled long ago."""
    monkeypatch.setenv("PYTHONPATH", str(toy_kinds))
    monkeypatch.delenv("AIFW_TEST_WORD", raising=False)
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "input.txt").write_text("there")
    _age(tmp_path / "input.txt")
    # A module of the package that brings the kinds, which a test may change without changing the package for other tests.
    (tmp_path / "more.py").write_text("MORE = 1\n")
    more = ModuleType("toy.more")
    more.__file__ = str(tmp_path / "more.py")
    monkeypatch.setitem(sys.modules, "toy.more", more)
    _apply(tmp_path)
    return tmp_path


def _age(path: Path) -> None:
    past = time.time() - 100
    os.utime(path, (past, past))


def _layout(folder: Path) -> Layout:
    return Layout(folder / ".aifw", "tested")


def _apply(folder: Path) -> None:
    spec = load([folder / "spec.yaml"])
    assert apply(spec, _layout(folder), Request(), lambda event: None, lambda plan: True) is not None


def _remembered(folder: Path, *sets: str) -> Remembered:
    return Remembered([folder / "spec.yaml"], sets, folder / ".aifw")


def _remember(folder: Path, *sets: str) -> None:
    remembered = _remembered(folder, *sets)
    spec = load([folder / "spec.yaml"], sets)
    plan = make_plan(spec, _layout(folder))
    store = Store.existing(_layout(folder))
    assert store is not None
    remembered.remember(spec, store, MACHINE, plan)
    store.close()


def test_what_is_recalled_is_what_was_planned(folder: Path) -> None:
    _remember(folder)
    plan = make_plan(load([folder / "spec.yaml"]), _layout(folder))
    assert plan.empty
    assert _remembered(folder).recall(MACHINE) == plan


def test_a_plan_with_something_to_do_is_not_remembered(folder: Path) -> None:
    _remember(folder, "stages.a.text=bye")
    assert _remembered(folder, "stages.a.text=bye").recall(MACHINE) is None


def _write_spec(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC + "\n# a comment\n")


def _write_input(folder: Path) -> None:
    (folder / "input.txt").write_text("THERE")


def _write_journal(folder: Path) -> None:
    (folder / "input.txt-wal").write_text("rows not yet in the file")


def _remove_input(folder: Path) -> None:
    (folder / "input.txt").unlink()


def _set_variable(folder: Path) -> None:
    os.environ["AIFW_TEST_WORD"] = "some"


def _roll_back(folder: Path) -> None:
    store = Store.open(_layout(folder))
    rollback(store, "best")
    store.close()


def _alter_artifact(folder: Path) -> None:
    path = next((folder / ".aifw/artifacts").glob("*/*/text/text.txt"))
    path.chmod(0o644)
    path.write_text("altered")


def _remove_artifact_file(folder: Path) -> None:
    next((folder / ".aifw/artifacts").glob("*/*/text/text.txt")).unlink()


def _begin_run(folder: Path) -> None:
    store = Store.open(_layout(folder))
    store.begin_run("spec", None)
    store.close()


def _change_code(folder: Path) -> None:
    (folder / "more.py").write_text("MORE = 2")


def _remove_state(folder: Path) -> None:
    for path in (folder / ".aifw/tested").glob("state.db*"):
        path.unlink()


def _ask_libraries(folder: Path) -> None:
    write_profile(folder / ".aifw", runtime=Runtime())


def _break_memory(folder: Path) -> None:
    (path,) = (folder / ".aifw/cache/remembered-plans").iterdir()
    path.write_text(path.read_text()[:-100])


CHANGES = [
    _write_spec,
    _write_input,
    _write_journal,
    _remove_input,
    _set_variable,
    _roll_back,
    _alter_artifact,
    _remove_artifact_file,
    _begin_run,
    _change_code,
    _remove_state,
    _ask_libraries,
    _break_memory,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_any_change_makes_it_forgotten(
    folder: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIFW_TEST_WORD", "none")
    _remember(folder)
    assert _remembered(folder).recall(MACHINE) is not None
    change(folder)
    assert _remembered(folder).recall(MACHINE) is None


def test_another_machine_or_other_values_are_another_plan(folder: Path) -> None:
    _remember(folder)
    more = replace(MACHINE, memory=replace(MACHINE.memory, total=MACHINE.memory.total + 1, limit=None))
    assert _remembered(folder).recall(more) is None
    assert _remembered(folder).recall(replace(MACHINE, name="another")) is None
    assert _remembered(folder, "seed=7").recall(MACHINE) is None


def test_damage_of_what_nobody_stands_for_is_no_obstacle(folder: Path) -> None:
    _remember(folder)
    store = Store.existing(_layout(folder))
    assert store is not None
    with store.transaction() as connection:
        connection.execute("insert into artifact values ('former', 'toy', 1, 'f', '{}', 'text is corrupted', 'j', 't')")
    store.close()
    assert _remembered(folder).recall(MACHINE) is not None


def test_what_changed_a_moment_ago_is_not_relied_on(folder: Path) -> None:
    now = time.time()
    os.utime(folder / "input.txt", (now, now))
    _remember(folder)
    assert _remembered(folder).recall(MACHINE) is None


def _observe_as(monkeypatch: pytest.MonkeyPatch, observe: Callable[[Path, Workspace], Observation]) -> None:
    """Replaces how the toy looks at its file; what it finds stays the same."""
    monkeypatch.setattr(
        sys.modules["toy.kinds"].Toy,
        "observe",
        lambda self, settings, workspace: observe(Path(settings.file), workspace) if settings.file else None,
    )


def test_an_observation_without_a_path_is_not_relied_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Like a kind that asks a server: nothing is learnt of where it looked.
    _observe_as(
        monkeypatch, lambda file, workspace: Observation(sha256((folder / file).read_bytes()).hexdigest(), "5 bytes")
    )
    _remember(folder)
    assert _remembered(folder).recall(MACHINE) is None


def test_an_observation_that_says_so_is_not_relied_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def observe(file: Path, workspace: Workspace, *, rememberable: bool = False) -> Observation:
        return Observation(workspace.digest_of(workspace.path(str(file))), "5 bytes", rememberable=rememberable)

    _observe_as(monkeypatch, observe)
    _remember(folder)
    assert _remembered(folder).recall(MACHINE) is None
    _observe_as(monkeypatch, partial(observe, rememberable=True))
    _remember(folder)
    assert _remembered(folder).recall(MACHINE) is not None


def test_a_path_whose_digest_was_asked_for_is_looked_after(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without `workspace.path`, as a kind does that finds a file beside another.
    _observe_as(monkeypatch, lambda file, workspace: Observation(workspace.digest_of(workspace.root / file), "5 bytes"))
    _remember(folder)
    assert _remembered(folder).recall(MACHINE) is not None
    _write_input(folder)
    assert _remembered(folder).recall(MACHINE) is None


def test_a_look_that_goes_elsewhere_each_time_is_not_relied_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()

    def observe(file: Path, workspace: Workspace) -> Observation:
        workspace.path(f"elsewhere-{next(numbers)}")
        return Observation(workspace.digest_of(workspace.root / file), "5 bytes")

    _observe_as(monkeypatch, observe)
    _remember(folder)
    assert _remembered(folder).recall(MACHINE) is None


def test_values_that_could_come_from_anywhere_are_not_relied_on(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace("${oc.env:AIFW_TEST_WORD,none}", "${oc.decode:'abc'}"))
    _apply(folder)
    _remember(folder)
    assert _remembered(folder).recall(MACHINE) is None


def test_no_value_of_a_variable_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFW_TEST_WORD", "canary-5b1a")
    _apply(folder)
    _remember(folder)
    (path,) = (folder / ".aifw/cache/remembered-plans").iterdir()
    assert "AIFW_TEST_WORD" in json.loads(path.read_text())["environment"]
