"""Interpolation, held against OmegaConf."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aifw.spec import interpolate as module
from aifw.spec.diagnose import Report, SpecInvalid
from aifw.spec.interpolate import interpolate
from aifw.spec.source import Document, Source

ENVIRONMENT = {"AIFW_TEST_A": "text", "AIFW_TEST_B": "3", "AIFW_TEST_C": "with ${x} inside"}
NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
PLAIN = st.one_of(
    PATHS.map(lambda path: f"${{{path}}}"),
    st.sampled_from(["AIFW_TEST_A", "AIFW_TEST_B", "AIFW_TEST_NONE"]).map(lambda name: f"${{oc.env:{name}}}"),
    st.tuples(
        st.sampled_from(["AIFW_TEST_A", "AIFW_TEST_NONE"]),
        st.sampled_from(["x", "models/base", "v1.2", "null", "true", "a-b", "inf", "3", "1e-4", "'q r'", "x y"]),
    ).map(lambda pair: f"${{oc.env:{pair[0]},{pair[1]}}}"),
)
OTHER = st.sampled_from(
    [
        "${.a}",
        "${..b}",
        "${a[0]}",
        "${oc.decode:'3'}",
        "${oc.select:a.b,7}",
        "\\${a}",
        "${${a}}",
        "$",
        "$ {a}",
        "${oc.dict.keys:a}",
        "${b.${a}}",
    ]
)
TEXTS = st.lists(st.one_of(PLAIN, OTHER, st.sampled_from(["x", " ", "-", "/", "é"])), min_size=1, max_size=3).map(
    "".join
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1e-4, 1e20]),
    st.sampled_from(["x", ""]),
    PLAIN,
    TEXTS,
)
TREES = st.dictionaries(
    NAMES,
    st.one_of(
        VALUES,
        st.lists(VALUES, max_size=2),
        st.dictionaries(NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=2)), max_size=3),
    ),
    max_size=3,
)


def source_of(tree: Any) -> Source:
    return Source([Document("spec.yaml", json.dumps(tree, ensure_ascii=False))])


def ours(tree: dict[str, Any]) -> tuple[Any, list[str]]:
    data, report = copy.deepcopy(tree), Report()
    try:
        interpolate(data, source_of(tree), ENVIRONMENT, report)
    except SpecInvalid:
        assert report.diagnostics
    return data, [each.code for each in report.diagnostics]


@given(TREES)
def test_agrees_with_omegaconf(tree: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.delenv("AIFW_TEST_NONE", raising=False)
        try:
            wanted = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
        except (OmegaConfBaseException, RecursionError, TypeError):
            wanted = None
    data, codes = ours(tree)
    if wanted is None:
        assert codes
    elif codes:
        # The one thing we refuse that OmegaConf does: a mapping or list turned to text inside of a text.
        assert set(codes) == {"AIFW043"}
    else:
        assert data == wanted
        assert json.dumps(data) == json.dumps(wanted)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${n}", 3),
        ("${f}", 1e-4),
        ("${t}", True),
        ("${nothing}", None),
        ("${m}", {"k": [1, 2]}),
        ("${m.k.1}", 2),
        ("${m.k[1]}", 2),
        ("a${n}b${t}", "a3bTrue"),
        ("${oc.env:AIFW_TEST_B}", "3"),
        ("${oc.env:AIFW_TEST_C}", "with ${x} inside"),
        ("${oc.env:AIFW_TEST_NONE,models/base}", "models/base"),
        ("${oc.env:AIFW_TEST_NONE,null}", None),
        ("${oc.decode:${oc.env:AIFW_TEST_B}}", 3),
        ("\\${n}", "${n}"),
        ("${.n}", 3),
    ],
)
def test_values(text: str, value: object) -> None:
    data, codes = ours({"n": 3, "f": 1e-4, "t": True, "nothing": None, "m": {"k": [1, 2]}, "x": text})
    assert codes == []
    assert data["x"] == value
    assert type(data["x"]) is type(value)


def test_the_value_of_a_value() -> None:
    data, codes = ours({"a": "${b}", "b": "${c.d}", "c": "${e}", "e": {"d": 7}})
    assert codes == []
    assert data["a"] == 7


@pytest.mark.parametrize(
    ("tree", "code"),
    [
        ({"a": "${b}"}, "AIFW040"),
        ({"a": "${oc.env:AIFW_TEST_NONE}"}, "AIFW041"),
        ({"a": "${oc.decode:${oc.env:AIFW_TEST_NONE}}"}, "AIFW041"),
        ({"a": "${a}"}, "AIFW042"),
        ({"a": "x${b}", "b": "${c}", "c": "y${a}"}, "AIFW042"),
        ({"a": {"b": "${a}"}}, "AIFW042"),
        ({"a": {"x": "${b}"}, "b": {"y": "${a}"}}, "AIFW042"),
        ({"a": "${"}, "AIFW043"),
        ({"a": "x${b}", "b": [1]}, "AIFW043"),
        ({"a": "${oc.coerce:os.path,1}"}, "AIFW043"),
        ({"a": "${oc.deprecated:b}", "b": 1}, "AIFW043"),
    ],
)
def test_what_cannot_be_resolved(tree: dict[str, Any], code: str) -> None:
    _, codes = ours(tree)
    assert set(codes) == {code}


def test_what_the_environment_says_is_not_read_again() -> None:
    data, codes = ours({"a": "${oc.env:AIFW_TEST_C}", "b": "${oc.decode:'3'}", "c": "\\${a}", "d": "${oc.select:b}"})
    assert codes == []
    assert data == {"a": "with ${x} inside", "b": 3, "c": "${a}", "d": 3}


def test_one_broken_value_is_said_once() -> None:
    _, codes = ours({"a": "${b}", "b": "${nothing}", "c": "${b}", "d": "x${b}"})
    assert codes == ["AIFW040"]


def test_texts_do_not_grow_without_end() -> None:
    tree = {
        "a": "x" * 1000,
        **{name: "${" + below + "}" * 1 + ("${" + below + "}") * 99 for below, name in zip("abc", "bcd", strict=True)},
    }
    _, codes = ours(tree)
    assert codes == ["AIFW044"]


def test_all_texts_together_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CHARACTERS", 100)
    _, codes = ours({"a": "x" * 30, "b": "${a}", "c": "${a}", "d": "${a}", "e": "${a}"})
    assert codes == ["AIFW044"]


def test_resolvers_of_others_are_neither_used_nor_lost() -> None:
    register = getattr(OmegaConf, "register_resolver", None) or OmegaConf.register_new_resolver
    register("aifw_test", lambda: 1, replace=True)
    try:
        _, codes = ours({"a": "${aifw_test:}"})
        assert codes == ["AIFW043"]
        assert OmegaConf.to_container(OmegaConf.create({"a": "${aifw_test:}"}), resolve=True) == {"a": 1}
    finally:
        OmegaConf.clear_resolver("aifw_test")


def test_plain_forms_do_without_omegaconf() -> None:
    program = (
        "import sys\n"
        "from aifw.spec.interpolate import interpolate\n"
        "from aifw.spec.diagnose import Report\n"
        "from aifw.spec.source import Source\n"
        "data = {'a': '${b.c}/${oc.env:HOME,x}', 'b': {'c': 1}}\n"
        "interpolate(data, Source([]), {'HOME': '/h'}, Report())\n"
        "assert data['a'] == '1//h', data\n"
        "assert 'omegaconf' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
