from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aifw
from aifw import kind as registry
from aifw.errors import UsageError
from aifw.kind import (
    AnyKind,
    ArtifactKind,
    Estimate,
    ExternalKind,
    History,
    InputFacts,
    Kind,
    Output,
    Past,
    ServiceKind,
    Standing,
    Workspace,
    all_kinds,
    builtin_kinds,
    find,
    function,
)
from aifw.settings import Settings, reference_paths

PACKAGE = Path(aifw.__file__).parent
BUILTIN = builtin_kinds()


class Thing(Output):
    name = "thing"


class ForeignSettings(Settings):
    size: int = 1


class Foreign(ArtifactKind[ForeignSettings]):
    """A kind of another package."""

    name = "foreign"
    section = "stages"
    settings = ForeignSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"thing": Thing}
    run = "foreign:run"


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def entry_points(group: str) -> list[SimpleNamespace]:
        assert group == "aifw.kinds"
        return [SimpleNamespace(name="foreign", load=lambda: Foreign)]

    registry._plugins.cache_clear()
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    yield
    registry._plugins.cache_clear()


def test_scanning_finds_what_importing_finds() -> None:
    imported = {}
    for path in PACKAGE.glob("*/*kinds.py"):
        name = f"aifw.{path.parent.name}.{path.stem}"
        for found in vars(importlib.import_module(name)).values():
            if (
                isinstance(found, type)
                and issubclass(found, Kind)
                and found.__module__ == name
                and "name" in vars(found)
            ):
                imported[found.name] = name
    assert registry._builtin() == imported
    assert {kind.name for kind in BUILTIN} == set(imported)


@pytest.mark.parametrize("kind", BUILTIN, ids=lambda kind: kind.name)
def test_built_in_kinds_keep_the_contract(kind: AnyKind) -> None:
    assert find(kind.name) is find(kind.name)
    assert type(find(kind.name)) is type(kind)
    assert issubclass(kind.settings, Settings)
    assert type(kind).__doc__
    assert kind.version >= 1
    assert kind.family in {"artifact", "external", "service"}
    for _, types in reference_paths(kind.settings):
        assert all(issubclass(each, Output) and each.name for each in types)
    for output in kind.produces.values():
        assert output.__doc__
        assert output.name
    names = {
        "artifact": ("run",),
        "external": ("create", "update", "delete"),
        "service": ("start", "stop", "health"),
    }[kind.family]
    for attribute in names:
        module, _, found = getattr(kind, attribute).partition(":")
        assert module.startswith("aifw.")
        assert found.isidentifier()
    assert all(
        extra in {"train", "search", "evaluate", "openvino", "cluster", "cloud", "serve"}
        for extra in kind.requires.values()
    )


def test_looking_up_a_kind_imports_only_its_module() -> None:
    program = (
        "import sys\n"
        "from aifw.kind import find\n"
        "assert find('feedback') is not None\n"
        "assert 'aifw.data.kinds' in sys.modules\n"
        "print(sorted(name for name in sys.modules if name.startswith('aifw.') and name.endswith('.kinds')))\n"
        "print([name for name in ('torch', 'numpy', 'sqlalchemy', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['aifw.data.kinds']", "[]"]


def test_kinds_of_other_packages(foreign: None) -> None:
    assert isinstance(find("foreign"), Foreign)
    names = [kind.name for kind in all_kinds()]
    assert "foreign" in names
    assert [(kind.section, kind.name) for kind in all_kinds()] == sorted(
        (kind.section, kind.name) for kind in all_kinds()
    )
    assert "foreign" not in [kind.name for kind in builtin_kinds()]


def test_a_kind_nobody_has(foreign: None) -> None:
    assert find("telepathy") is None


def test_functions_are_found_by_name() -> None:
    assert function("aifw.kind:find") is find
    for name in ("aifw.kind:nothing", "aifw.nowhere:find", "no.such.package:x"):
        with pytest.raises(UsageError, match="cannot load"):
            function(name)


def test_what_a_kind_does_unless_it_says_otherwise(tmp_path: Path) -> None:
    kind, settings, workspace = Foreign(), ForeignSettings(), Workspace(tmp_path, lambda path: "")
    assert kind.observe(settings, workspace) is None
    assert kind.settled(settings, Standing({}, {}, {})) is None
    assert kind.fetch(settings, workspace, offline=True) is None
    with pytest.raises(NotImplementedError):
        kind.forecast(settings, {"x": InputFacts("a.b", {}, True)}, None, History())  # type: ignore[arg-type]


def test_families() -> None:
    assert (ArtifactKind.family, ExternalKind.family, ServiceKind.family) == ("artifact", "external", "service")


def test_paths_in_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path, lambda path: "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert workspace.path("a/b") == tmp_path / "a/b"
    assert workspace.path("/a") == Path("/a")
    assert workspace.path("~/a") == Path("/home/someone/a")


@given(st.floats(0, 1e12), st.floats(0, 100))
def test_estimates_are_in_order(mid: float, spread: float) -> None:
    estimate = Estimate.around(mid, spread)
    assert estimate.low <= estimate.mid <= estimate.high
    assert Estimate.exact(mid) == Estimate(mid, mid, mid)


def test_history_tells_the_median_rate() -> None:
    assert History().rate() is None
    assert History((Past(1, 5, 0),)).rate() is None
    assert History((Past(1, 10, 1), Past(1, 2, 1), Past(1, 12, 4))).rate() == 3
