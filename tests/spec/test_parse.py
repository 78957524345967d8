from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.spec import parse
from aifw.spec.diagnose import Report, SpecInvalid, as_text
from aifw.spec.load import load
from aifw.spec.scalars import resolve
from aifw.spec.source import Document, walk

PRINTABLE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\ufeff\ufffe\uffff"),
    max_size=8,
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), PRINTABLE
)
TREES = st.recursive(
    SCALARS,
    lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(PRINTABLE, below, max_size=4)),
    max_leaves=20,
)


def read(text: str) -> tuple[Document, Report]:
    report = Report()
    document = parse.decode("spec.yaml", text.encode(), report)
    assert document is not None
    parse.read(document, report)
    return document, report


def complain(tmp_path: Path, raw: bytes, **arguments: Any) -> SpecInvalid:
    path = tmp_path / "spec.yaml"
    path.write_bytes(raw)
    with pytest.raises(SpecInvalid) as caught:
        load([path], **arguments)
    assert "Traceback" not in as_text(caught.value.diagnostics)
    return caught.value


@given(TREES)
def test_json_is_yaml(tree: Any) -> None:
    # What JSON writes for a lone surrogate or a control character is an escape, which YAML reads too.
    document, report = read(json.dumps(tree, ensure_ascii=False))
    assert report.diagnostics == []
    assert document.data == tree


@given(st.dictionaries(PRINTABLE, TREES, max_size=4), st.sampled_from([None, 1, 2]))
def test_every_value_is_found_where_it_stands(tree: Any, indent: int | None) -> None:
    document, _ = read(json.dumps(tree, ensure_ascii=False, indent=indent))
    lines = document.text.split("\n")
    for path, value in walk(tree):
        found = document.find(path)
        assert found.rest == ()
        written = found.value.text
        assert json.loads(written) == value
        place = found.value.place
        assert lines[place.line - 1][place.column - 1 :].startswith(written)
        if found.key is not None:
            assert json.loads(found.key.text) == path[-1]


@given(st.lists(st.sampled_from(["a", "é", "線", "🙂", " ", "\r\n", "\n", "\r", "x: 1"]), max_size=30).map("".join))
def test_lines_are_counted_as_editors_count_them(text: str) -> None:
    document = Document("spec.yaml", text)
    for index in range(len(text)):
        place = document.place(index)
        before = text[:index].replace("\r\n", "\n").replace("\r", "\n")
        if text[index - 1 : index + 1] != "\r\n":
            assert place.line == before.count("\n") + 1
        assert document.lines[place.line - 1][place.column - 1 : place.column] in {text[index], ""}


@given(st.text(max_size=60))
def test_no_text_crashes_the_reader(text: str) -> None:
    report = Report()
    document = parse.decode("spec.yaml", text.encode("utf-8", "surrogatepass"), report)
    if document is not None:
        parse.read(document, report)
    for each in report.diagnostics:
        assert each.source is not None
        assert 1 <= each.place.column <= len(each.source) + 1


@given(st.text(alphabet="ab:{}[],\"'\n -?&*#!|>%@`\t0123$\\<.~", max_size=40))
def test_no_punctuation_crashes_the_reader(text: str) -> None:
    document, report = read(text)
    if not report.diagnostics:
        for path, value in walk(document.data):
            found = document.find(path)
            assert found.rest == ()
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert found.scalar is not None
                assert resolve(found.scalar) == value or "!" in text


def test_aliases_are_copies() -> None:
    document, report = read("a: &x {b: [1]}\nc: *x\nd: *x\n")
    assert report.diagnostics == []
    assert document.data == {"a": {"b": [1]}, "c": {"b": [1]}, "d": {"b": [1]}}
    assert document.data["c"] is not document.data["d"]
    assert document.find(("c", "b", 0)).value.text == "*x"


def test_tags_of_the_core_schema() -> None:
    document, report = read(
        "a: !!str 1\nb: !!float 1\nc: !!int 2\nd: ! 3\ne: !!map {}\nf: !!seq []\ng: !!bool true\nh: !!null ''\n"
    )
    assert [each.message for each in report.diagnostics] == []
    assert document.data == {"a": "1", "b": 1.0, "c": 2, "d": "3", "e": {}, "f": [], "g": True, "h": None}
    assert isinstance(document.data["b"], float)


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    (diagnostic,) = complain(tmp_path, b"\xef\xbb\xbf- a\n").diagnostics
    assert (diagnostic.place.line, diagnostic.place.column) == (1, 1)
    assert diagnostic.source == "- a"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    raw = "apiVersion: aifw/v1\n".encode(encoding)
    raw = raw if encoding != "utf-16-le" else b"\xff\xfe" + raw
    (diagnostic,) = complain(tmp_path, raw).diagnostics
    assert diagnostic.code == "AIFW002"


@pytest.mark.parametrize(
    ("raw", "line", "column"),
    [
        (b"a: \xe9", 1, 4),
        ("größe: ".encode() + b"\xff", 1, 8),
        (b"a: 1\r\nb:\r\n  c: \xc3\x28", 3, 6),
        (b"\xed\xa0\x80", 1, 1),
    ],
)
def test_the_byte_that_is_not_utf8(tmp_path: Path, raw: bytes, line: int, column: int) -> None:
    (diagnostic,) = complain(tmp_path, raw).diagnostics
    assert diagnostic.code == "AIFW002"
    assert (diagnostic.place.line, diagnostic.place.column, diagnostic.width) == (line, column, 1)


def test_a_large_file(tmp_path: Path) -> None:
    (diagnostic,) = complain(tmp_path, b"a: " + b"x" * 10_000_000).diagnostics
    assert diagnostic.code == "AIFW007"
    assert "4 MiB" in diagnostic.message


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 100_000,
        "a: " + "{a: " * 100_000,
        "a:\n  " + "- " * 100_000,
        "\n".join(" " * n + "a:" for n in range(300)),
    ],
)
def test_deep_nesting(tmp_path: Path, text: str) -> None:
    (diagnostic,) = complain(tmp_path, text.encode()).diagnostics
    assert diagnostic.code == "AIFW007"
    assert "64 levels" in diagnostic.message


def test_nesting_through_aliases(tmp_path: Path) -> None:
    lines = ["a0: &a0 " + "[" * 30 + "]" * 30]
    lines += [f"a{n}: &a{n} {'[' * 30}*a{n - 1}{']' * 30}" for n in range(1, 5)]
    (diagnostic,) = complain(tmp_path, "\n".join(lines).encode()).diagnostics
    assert diagnostic.code == "AIFW007"
    assert diagnostic.place.line == 3


def test_an_alias_bomb(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    (diagnostic,) = complain(tmp_path, "\n".join(lines).encode()).diagnostics
    assert diagnostic.code == "AIFW007"
    assert diagnostic.source is not None
    assert diagnostic.source[diagnostic.place.column - 1 :].startswith("*")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid) as caught:
        load([tmp_path / "missing.yaml", tmp_path])
    assert [each.code for each in caught.value.diagnostics] == ["AIFW001", "AIFW001"]
    assert "no such file" in caught.value.diagnostics[0].message
    assert "is a directory" in caught.value.diagnostics[1].message


def test_thousands_of_errors_are_not_all_collected(tmp_path: Path) -> None:
    text = "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: a}\nstages:\n" + "".join(
        f"  s{n}: 1\n" for n in range(5000)
    )
    invalid = complain(tmp_path, text.encode())
    assert len(invalid.diagnostics) == 200
    assert "checking stopped there" in as_text(invalid.diagnostics)
