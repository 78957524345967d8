"""The published schema: draft-07, and of one mind with the reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import to_json
from toys import KINDS, spec

from aifw.cli.init import STARTER
from aifw.hardware.workloads import COLUMNS, RATINGS, WORKLOADS
from aifw.kind import builtin_kinds
from aifw.spec import parse
from aifw.spec import schema as module
from aifw.spec.check import Checker
from aifw.spec.diagnose import Report, SpecInvalid
from aifw.spec.load import load
from aifw.spec.source import Document, Source

ROOT = Path(__file__).parents[2]
TOYS = jsonschema.Draft7Validator(module.schema(KINDS.values()))


@pytest.mark.parametrize("kinds", [None, KINDS.values()], ids=["built in", "toys"])
def test_it_is_draft_7_and_only_that(kinds: Any) -> None:
    document = module.schema(kinds)
    jsonschema.Draft7Validator.check_schema(document)
    text = json.dumps(document)
    for later in ("$defs", "prefixItems", "dependentRequired", "unevaluatedProperties"):
        assert f'"{later}"' not in text


def parts(document: Any) -> Any:
    if isinstance(document, dict):
        yield document
        for each in document.values():
            yield from parts(each)
    elif isinstance(document, list):
        for each in document:
            yield from parts(each)


def test_nothing_stands_beside_a_reference_and_all_references_lead_somewhere() -> None:
    document = module.schema()
    for part in parts(document):
        if isinstance(part.get("$ref"), str):
            assert len(part) == 1
            assert part["$ref"].removeprefix("#/definitions/") in document["definitions"]


def test_every_setting_of_every_kind_is_documented_and_may_be_interpolated() -> None:
    document = module.schema()
    for kind in builtin_kinds():
        definition = document["definitions"][f"kind.{kind.name}"]
        assert definition["description"]
        for name, written in definition["properties"].items():
            assert written.get("description"), f"{kind.name}.{name}"
            assert name == "kind" or "if" in written


def test_kinds_are_listed_with_what_they_are() -> None:
    resource = module.schema()["properties"]["stages"]["else"]["additionalProperties"]["else"]
    kind = resource["properties"]["kind"]
    assert "dpo" in kind["enum"]
    assert (
        len(kind["enum"]) == len(kind["enumDescriptions"]) == len(resource["defaultSnippets"]) == len(resource["allOf"])
    )
    snippet = next(each for each in resource["defaultSnippets"] if each["label"] == "dpo")
    assert snippet["body"] == {"kind": "dpo", "model": "${1}", "data": "${2}"}


@pytest.mark.parametrize("name", ["cache", "artifacts"])
def test_a_stack_is_not_named_as_a_folder_of_the_state(name: str) -> None:
    assert not TOYS.is_valid(spec(metadata={"name": name}))
    for longer in (f"{name}s", f"my-{name}"):
        assert TOYS.is_valid(spec(metadata={"name": longer}))


def test_kinds_of_other_packages_bring_their_sections() -> None:
    assert TOYS.is_valid(spec(barns={"a": {"kind": "silo"}}))
    assert not TOYS.is_valid(spec(barns={"a": {"kind": "mill", "from": "x"}}))


VALID = [
    spec(),
    spec(stages=None, hardware=None, aliases=None),
    spec(
        seed=3.0,
        hardware={"threads": "auto", "devices": ["xpu:0", "cpu"], "memory": {"budget": 4096, "reserve": "1.5 GB"}},
    ),
    spec(hardware={"devices": {"npu": ["embeddings"], "xpu:1": "all", "efficient_cores": []}}),
    spec(
        hardware={
            "placement": {"dpo": {"npu": "never", "cloud": "best"}, "data": {}},
            "memory": {"profile": "aggressive"},
        }
    ),
    spec(aliases={"best": {"initial": "a"}}, datasets={"a": {"kind": "field"}}),
    spec(seed="${defaults.seed}", defaults={"seed": 3}),
    spec(datasets={"a": {"kind": "field", "rows": "${oc.decode:${oc.env:ROWS}}"}}),
    spec(
        datasets={"a": {"kind": "field"}},
        stages={"m": {"kind": "mill", "from": "a", "token": {"env": "TOKEN"}, "price": "$3", "rest": "1h30m"}},
    ),
    spec(datasets="${defaults.d}", defaults={"d": {"a": {"kind": "field"}}}),
]


@pytest.mark.usefixtures("toy_farm")
@pytest.mark.parametrize("tree", VALID)
def test_valid_specs(tree: dict[str, Any], tmp_path: Path) -> None:
    assert list(TOYS.iter_errors(tree)) == []
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(tree), encoding="utf-8")
    load([path], environment={"ROWS": "3"})


@pytest.mark.parametrize(
    "path",
    [STARTER, *sorted((ROOT / "specs").glob("base.yaml")), *sorted((ROOT / "examples").glob("*/spec.yaml"))],
    ids=str,
)
def test_specs_that_come_with_aifw(path: Path) -> None:
    validator = jsonschema.Draft7Validator(module.schema())
    document = Document(path.name, path.read_text(encoding="utf-8"))
    parse.read(document, Report())
    assert list(validator.iter_errors(document.data)) == []
    load([path])


QUANTITIES = st.lists(
    st.sampled_from([*"0123456789.eE+_ kKMGTbBimshd$%", "GiB", "kB", "min", "USD", "1", "2.5", "10"]),
    min_size=1,
    max_size=4,
).map("".join)
NAMES = st.sampled_from(["a", "b", "rows", "name", "env", "file", "gap", "speed", "x y", "1"])
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 5),
        st.sampled_from([0.5, 1.0, 2.0, -1.5, 1e9]),
        QUANTITIES,
        st.sampled_from(
            [
                "",
                "a",
                "a.b",
                "a.b.c.d",
                "@a",
                "@",
                "auto",
                "slow",
                "3",
                "25%",
                "1e-1",
                "4GiB",
                "4 gigs",
                "-4GiB",
                "6h",
                "1h30m",
                "h",
                "$3",
                "$-3",
                "3 USD",
                "3 EUR",
                "true",
                "é",
                "ok ok",
                "toolongtext",
            ]
        ),
    ),
    lambda below: st.one_of(st.lists(below, max_size=2), st.dictionaries(NAMES, below, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_settings_are_judged_alike(name: str, data: Any) -> None:
    """Whatever stands in one setting, pydantic and the schema accept or refuse it together."""
    kind = KINDS[name]
    fields = [field.alias or name for name, field in kind.settings.model_fields.items()]
    field = data.draw(st.sampled_from(fields))
    value = data.draw(VALUES)
    entry = {"kind": name, **({"from": "a"} if name == "mill" else {}), field: value}
    # What JSON Schema cannot say: bounds of a share that is written as text, and one secret or the other.
    assume(not (field == "loss" and isinstance(value, str)))
    assume(not (field == "token" and isinstance(value, dict)))
    # A number of micro-dollars is what settings are stored as, not what people write.
    assume(not (field == "price" and isinstance(value, int | float) and not isinstance(value, bool)))
    assert TOYS.is_valid(spec(**{kind.section: {"r": entry}})) == accepted(kind.settings, entry), (field, value)


def accepted(model: Any, entry: dict[str, Any]) -> bool:
    given_settings = {key: value for key, value in entry.items() if key != "kind"}
    checker = Checker({}, Source([Document("spec.yaml", json.dumps(given_settings))]), Report())
    return checker.validate(model, given_settings, (), "a kind") is not None


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(
        [
            "apiVersion",
            "kind",
            "metadata",
            "seed",
            "hardware",
            "policy",
            "aliases",
            "defaults",
            "stages",
            "datasets",
            "models",
        ]
    ),
    value=VALUES,
)
def test_headers_are_judged_alike(key: str, value: Any, toy_farm: None, tmp_path: Path) -> None:
    tree = spec(**{key: value})
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(tree), encoding="utf-8")
    try:
        load([path])
        codes = set()
    except SpecInvalid as invalid:
        codes = {each.code for each in invalid.diagnostics}
    # References are beyond a schema.
    assert TOYS.is_valid(tree) == (not codes - {"AIFW031", "AIFW035"})


DEVICE_NAMES = st.sampled_from(
    ["cpu", "xpu", "xpu:0", "cuda:12", "npu", "npu:01", "gpu", "efficient_cores", "auto", ""]
)
USES = st.one_of(
    st.sampled_from(["all", "dpo", None]), st.lists(st.sampled_from(["dpo", "data", "vectors", 3]), max_size=2)
)
RATED = st.dictionaries(
    st.sampled_from(["npu", "cpu", "cloud", "integrated_gpu"]), st.sampled_from(["best", "never", "-", None, True])
)
HARDWARE = st.fixed_dictionaries(
    {},
    optional={
        "devices": st.one_of(
            DEVICE_NAMES, st.lists(DEVICE_NAMES, max_size=3), st.dictionaries(DEVICE_NAMES, USES, max_size=3)
        ),
        "placement": st.dictionaries(st.sampled_from(["dpo", "data", "training"]), RATED, max_size=2),
        "memory": st.fixed_dictionaries({}, optional={"profile": st.sampled_from(["conservative", "bold", 1])}),
    },
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(hardware=HARDWARE)
def test_hardware_is_judged_alike(hardware: dict[str, Any], toy_farm: None, tmp_path: Path) -> None:
    tree = spec(hardware=hardware)
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(tree), encoding="utf-8")
    try:
        load([path])
        valid = True
    except SpecInvalid:
        valid = False
    assert TOYS.is_valid(tree) == valid


def test_editors_are_offered_every_workload_column_and_device() -> None:
    hardware = TOYS.schema["definitions"]["HardwareSettings"]["properties"]
    offered = hardware["placement"]["else"]["properties"]
    assert tuple(offered) == WORKLOADS
    assert all(each["description"] for each in offered.values())
    columns = TOYS.schema["definitions"]["Ratings"]["properties"]
    assert tuple(columns) == COLUMNS
    assert all(each["description"] and each["examples"] == list(RATINGS) for each in columns.values())
    (mapping,) = (each for each in hardware["devices"]["else"]["anyOf"] if each.get("type") == "object")
    assert {"cpu", "xpu", "cuda", *COLUMNS} == set(mapping["properties"])


def test_validation_is_strict() -> None:
    model = KINDS["field"].settings
    for wrong in ('{"rows": "3"}', '{"rows": true}', '{"path": 3}'):
        with pytest.raises(ValidationError):
            model.model_validate_json(to_json(json.loads(wrong)), strict=True)
