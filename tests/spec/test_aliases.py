"""What aliases may point to, with kinds of every family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field
from toys import KINDS, FieldSettings, Flour, Grain, spec

from aifw import kind
from aifw.kind import AnyKind, ArtifactKind, ExternalKind, Output, ServiceKind
from aifw.settings import Ref, Settings
from aifw.spec.diagnose import Diagnostic, SpecInvalid
from aifw.spec.load import load


class FineFlour(Flour):
    name = "fine flour"


class Barn(ExternalKind[FieldSettings]):
    """A barn that somebody else owns."""

    name = "barn"
    section = "storage"
    settings = FieldSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"grain": Grain}
    create = update = delete = "toys:rent"


class Conveyor(ServiceKind[FieldSettings]):
    """A conveyor that runs."""

    name = "conveyor"
    section = "storage"
    settings = FieldSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"grain": Grain}
    start = stop = health = "toys:run"


class Sieve(ArtifactKind[FieldSettings]):
    """A sieve."""

    name = "sieve"
    section = "stages"
    settings = FieldSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"fine": FineFlour}
    run = "toys:sieve"


class TasterSettings(Settings):
    candidate: Annotated[Ref[Grain | Flour], Field(alias="of")]
    pointer: Annotated[str | None, Field(alias="moves")] = None


class Taster(ArtifactKind[TasterSettings]):
    """Tastes."""

    name = "taster"
    section = "stages"
    settings = TasterSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {}
    moves_alias = ("pointer", "of")
    run = "toys:taste"


@pytest.fixture(autouse=True)
def _farm(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, AnyKind] = KINDS | {each.name: each for each in (Barn(), Conveyor(), Sieve(), Taster())}
    monkeypatch.setattr(kind, "find", known.get)
    monkeypatch.setattr(kind, "all_kinds", lambda: list(known.values()))


def wrong(folder: Path, **sections: Any) -> list[Diagnostic]:
    path = folder / "spec.yaml"
    path.write_text(json.dumps(spec(**sections), indent=1))
    try:
        load([path])
    except SpecInvalid as invalid:
        return list(invalid.diagnostics)
    return []


FIELD = {"field": {"kind": "field"}}


def marked(each: Diagnostic) -> str:
    """The characters above the caret."""
    assert each.source is not None
    return each.source[each.place.column - 1 : each.place.column - 1 + each.width]


@pytest.mark.parametrize(
    ("name", "words"), [("barn", "something outside of the store"), ("conveyor", "something that runs")]
)
def test_an_alias_starts_with_an_artifact(tmp_path: Path, name: str, words: str) -> None:
    (found,) = wrong(
        tmp_path,
        datasets=FIELD,
        storage={name: {"kind": name}},
        stages={"user": {"kind": "mill", "from": "@best"}},
        aliases={"best": {"initial": name}},
    )
    assert (found.code, found.label) == ("AIFW036", "artifacts here: field, user.white, user.whole, user.bran")
    assert found.message == f"an alias points to an artifact; `{name}` is {words}"
    assert marked(found) == f'"{name}"'


def test_a_candidate_is_an_artifact(tmp_path: Path) -> None:
    (found,) = wrong(
        tmp_path,
        datasets=FIELD,
        storage={"barn": {"kind": "barn"}},
        stages={"taste": {"kind": "taster", "of": "barn", "moves": "best"}},
        aliases={"best": {"initial": "field"}},
    )
    assert (found.code, marked(found)) == ("AIFW036", '"barn"')


@pytest.mark.parametrize(
    ("candidate", "initial", "message"),
    [
        ("field", "field", None),
        ("@best", "field", None),
        ("m.white", "m.whole", None),
        ("m.white", "sieve", "alias `best` points to a fine flour, `m.white` makes flours"),
        ("sieve", "m.white", "alias `best` points to a flour, `sieve` makes fine flours"),
        ("field", "m.bran", "alias `best` points to a bran, `field` makes grains"),
        ("@other", "m.white", "alias `best` points to a flour, `@other` is a grain"),
    ],
)
def test_a_candidate_is_exactly_what_the_alias_points_to(
    tmp_path: Path, candidate: str, initial: str, message: str | None
) -> None:
    found = wrong(
        tmp_path,
        datasets=FIELD,
        stages={
            "m": {"kind": "mill", "from": "field"},
            "sieve": {"kind": "sieve"},
            "taste": {"kind": "taster", "of": candidate, "moves": "best"},
        },
        aliases={"best": {"initial": initial}, "other": {"initial": "field"}},
    )
    assert [each.message for each in found] == ([] if message is None else [message])
    assert [(each.code, marked(each), each.label) for each in found] == (
        [] if message is None else [("AIFW030", f'"{candidate}"', f"the alias starts with `{initial}`")]
    )


def test_the_alias_is_declared(tmp_path: Path) -> None:
    (found,) = wrong(
        tmp_path,
        datasets=FIELD,
        stages={"taste": {"kind": "taster", "of": "field", "moves": "bset"}},
        aliases={"best": {"initial": "field"}, "first": {"initial": "field"}},
    )
    assert (found.code, found.label, marked(found)) == ("AIFW035", "did you mean `best`?", '"bset"')
    assert found.notes == ("aliases here: best, first",)


def test_one_that_moves_no_alias_needs_none(tmp_path: Path) -> None:
    assert wrong(tmp_path, datasets=FIELD, stages={"taste": {"kind": "taster", "of": "field"}}) == []


def test_a_wrong_reference_is_said_once(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        datasets=FIELD,
        stages={"taste": {"kind": "taster", "of": "nothing", "moves": "best"}},
        aliases={"best": {"initial": "field"}},
    )
    assert [each.code for each in found] == ["AIFW031"]
    found = wrong(
        tmp_path,
        datasets=FIELD,
        stages={"taste": {"kind": "taster", "of": "field", "moves": "best"}},
        aliases={"best": {"initial": "nothing"}},
    )
    assert [each.code for each in found] == ["AIFW031"]
