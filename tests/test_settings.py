from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from aifw.errors import SourceUnavailable
from aifw.kind import Output
from aifw.settings import (
    REFERENCE_PATTERN,
    Duration,
    Money,
    Ref,
    Secret,
    Settings,
    Share,
    Size,
    execution,
    execution_fields,
    reference_paths,
)


class Model(Output):
    name = "model"


class Pairs(Output):
    name = "pairs"


class Inner(Settings):
    data: Ref[Pairs]
    other: int = 0


class Outer(Settings):
    model: Ref[Model]
    start: Annotated[Ref[Model | Pairs], Field(alias="from")]
    maybe: Ref[Model] | None = None
    many: list[Ref[Pairs]] = []
    pair: tuple[Ref[Model], ...] = ()
    named: dict[str, Annotated[Ref[Model], Field(min_length=1)]] = {}
    inner: Inner | None = None
    inners: list[Inner] = []
    size: Size = 0
    threads: Annotated[int, execution] = 1


class Quantities(Settings):
    size: Size = 0
    duration: Duration = 0.0
    money: Money = 0
    share: Share = 0.0


def test_unknown_settings_are_refused_and_values_frozen() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Quantities.model_validate({"sizes": 1})
    with pytest.raises(ValidationError, match="frozen"):
        Quantities().size = 3  # type: ignore[misc]


@pytest.mark.parametrize("text", ["a", "a-b", "_a", "stages.dpo", "stages.dpo.model", "@champion"])
def test_references(text: str) -> None:
    inner = Inner.model_validate({"data": text})
    assert inner.data == text
    assert isinstance(inner.data, Ref)
    assert json.loads(inner.model_dump_json())["data"] == text


@pytest.mark.parametrize(
    "text", ["", "a.", ".a", "a..b", "a.b.c.d", "@", "@a.b", "1a", "a b", "a/b", "${a}", 3, None, ["a"]]
)
def test_what_is_no_reference(text: object) -> None:
    with pytest.raises(ValidationError):
        Inner.model_validate({"data": text})


def test_the_schema_of_a_reference_is_its_pattern() -> None:
    assert Inner.model_json_schema()["properties"]["data"]["pattern"] == REFERENCE_PATTERN


def test_where_references_are() -> None:
    assert reference_paths(Outer) == (
        (("model",), (Model,)),
        (("from",), (Model, Pairs)),
        (("maybe",), (Model,)),
        (("many", "*"), (Pairs,)),
        (("pair", "*"), (Model,)),
        (("named", "*"), (Model,)),
        (("inner", "data"), (Pairs,)),
        (("inners", "*", "data"), (Pairs,)),
    )
    assert reference_paths(Quantities) == ()


def test_what_is_no_part_of_identity() -> None:
    assert execution_fields(Outer) == {"threads"}
    assert repr(execution) == "execution"


@pytest.mark.parametrize(
    ("field", "written", "value"),
    [
        ("size", "48GiB", 48 * 1024**3),
        ("size", 4096, 4096),
        ("duration", "1h30m", 5400.0),
        ("duration", 90, 90.0),
        ("money", "$0.35", 350_000),
        ("share", "25%", 0.25),
        ("share", 0.25, 0.25),
    ],
)
def test_quantities_as_people_write_them(field: str, written: object, value: object) -> None:
    assert getattr(Quantities.model_validate({field: written}), field) == value


@pytest.mark.parametrize("field", ["size", "duration", "money", "share"])
@pytest.mark.parametrize("written", [True, False, -1, "many", "1 parsec", None, [1], {}])
def test_what_is_no_quantity(field: str, written: object) -> None:
    with pytest.raises(ValidationError):
        Quantities.model_validate({field: written})


@given(st.integers(0, 2**60), st.floats(0, 1e9), st.integers(0, 10**12), st.floats(0, 1))
def test_quantities_survive_being_stored(size: int, duration: float, money: int, share: float) -> None:
    stored = Quantities(size=size, duration=duration, money=money, share=share)
    assert Quantities.model_validate_json(stored.model_dump_json(), strict=True) == stored


def texts(schema: dict[str, Any]) -> str:
    return str(next(each["pattern"] for each in schema.get("anyOf", [schema]) if "pattern" in each))


@given(
    st.sampled_from(["size", "money", "share"]),
    st.lists(st.sampled_from([*"0123456789._+eE $%kMGiBb", "USD", "GiB"]), min_size=1, max_size=5).map("".join),
)
def test_patterns_accept_what_parsers_accept(field: str, written: str) -> None:
    pattern = texts(Quantities.model_json_schema()["properties"][field])
    try:
        Quantities.model_validate({field: written})
        accepted = True
    except ValidationError:
        accepted = False
    assert (re.search(pattern, written) is not None) == accepted


@pytest.mark.parametrize(
    "written", [{}, {"env": "A", "file": "b"}, {"env": "A B"}, {"env": ""}, "hunter2", {"value": "x"}]
)
def test_a_secret_is_never_written_down(written: object) -> None:
    with pytest.raises(ValidationError):
        Secret.model_validate(written)


def test_secrets_are_read_where_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFW_TEST_SECRET", "s3cr3t")
    secret = Secret(env="AIFW_TEST_SECRET")
    assert secret.resolve() == "s3cr3t"
    assert "s3cr3t" not in repr(secret) + secret.model_dump_json()
    file = tmp_path / "secret"
    file.write_text("0th3r\nmore\n", encoding="utf-8")
    assert Secret(file=str(file)).resolve() == "0th3r"


@pytest.mark.parametrize("content", [None, ""])
def test_secrets_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    monkeypatch.delenv("AIFW_TEST_SECRET", raising=False)
    with pytest.raises(SourceUnavailable, match="AIFW_TEST_SECRET"):
        Secret(env="AIFW_TEST_SECRET").resolve()
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(SourceUnavailable, match="secret"):
        Secret(file=str(file)).resolve()
