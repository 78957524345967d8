from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from omegaconf import OmegaConf

from aifw.spec.diagnose import Report
from aifw.spec.overlay import apply_set, document_of_set, merge

KEYS = st.sampled_from(["a", "b", "c", "d"])
SCALARS = st.one_of(st.booleans(), st.integers(-5, 5), st.sampled_from(["x", "y", ""]))
MAPPINGS = st.recursive(
    st.dictionaries(KEYS, SCALARS, max_size=3),
    lambda below: st.dictionaries(KEYS, st.one_of(SCALARS, st.lists(SCALARS, max_size=2), below), max_size=3),
    max_leaves=12,
)


@given(MAPPINGS, MAPPINGS)
def test_merging_is_what_omegaconf_does(base: dict[str, Any], over: dict[str, Any]) -> None:
    try:
        wanted = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(base), OmegaConf.create(over)))
    except TypeError:
        # It refuses a mapping over a list; here the later one wins, whatever it is.
        reject()
    assert merge(copy.deepcopy(base), over) == wanted


@given(MAPPINGS)
def test_merging_a_mapping_over_itself_changes_nothing(tree: dict[str, Any]) -> None:
    assert merge(copy.deepcopy(tree), copy.deepcopy(tree)) == tree


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": 1}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": None}, {"b": 1}, {"a": None, "b": 1}),
    ],
)
def test_null_takes_away(base: dict[str, Any], over: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge(base, over) == merged


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a.b=3", {"a": {"b": 3}}),
        ("a=1e-4", {"a": 1e-4}),
        ("a=no", {"a": "no"}),
        ('a="3"', {"a": "3"}),
        ("a=[1, x]", {"a": [1, "x"]}),
        ("a={b: 1}", {"a": {"b": 1}}),
        ("a=@champion", {"a": "@champion"}),
        ("a=${oc.env:HOME}", {"a": "${oc.env:HOME}"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=", {"a": None}),
    ],
)
def test_values_of_set_are_yaml(text: str, data: dict[str, Any]) -> None:
    report = Report()
    document = document_of_set(text, report)
    assert report.diagnostics == []
    assert document is not None
    assert document.data == data


@pytest.mark.parametrize(
    ("base", "text", "changed"),
    [
        ({"a": {"b": 1}}, "a.b=2", {"a": {"b": 2}}),
        ({}, "a.b=2", {"a": {"b": 2}}),
        ({"a": 1}, "a.b=2", {"a": {"b": 2}}),
        ({"a": {"b": 1}}, "a.b=null", {"a": {}}),
        ({"a": [1, 2]}, "a.1=9", {"a": [1, 9]}),
        ({"a": [{"b": 1}]}, "a.0.b=9", {"a": [{"b": 9}]}),
        ({"a": [1, 2]}, "a=[3]", {"a": [3]}),
    ],
)
def test_set_changes_one_value(base: dict[str, Any], text: str, changed: dict[str, Any]) -> None:
    report = Report()
    document = document_of_set(text, report)
    assert document is not None
    apply_set(base, document, report)
    assert report.diagnostics == []
    assert base == changed


@given(st.text(max_size=20))
def test_no_set_crashes(text: str) -> None:
    report = Report()
    document = document_of_set(text.replace("\ud800", ""), report)
    if document is not None:
        apply_set({"a": [1], "b": {"c": 1}}, document, report)
    for each in report.diagnostics:
        assert each.code in {"AIFW003", "AIFW004", "AIFW005", "AIFW006", "AIFW007", "AIFW008", "AIFW009", "AIFW020"}
