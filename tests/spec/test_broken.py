"""Broken specs: what is said about each, to the character.

Every file below `broken/` is a spec that is wrong in one way, with the output that is expected; `AIFW_UPDATE_GOLDEN=1` writes
what is said now, to be reviewed like any other change.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest

from aifw.spec import parse
from aifw.spec.codes import CODES
from aifw.spec.diagnose import Report, SpecInvalid, as_text
from aifw.spec.interpolate import interpolate
from aifw.spec.load import load
from aifw.spec.overlay import apply_set, document_of_set, merge
from aifw.spec.schema import schema
from aifw.spec.source import Source

CORPUS = sorted((Path(__file__).parent / "broken").glob("*.txt"))
UPDATE = bool(os.environ.get("AIFW_UPDATE_GOLDEN"))


@dataclass
class Case:
    schema: str = ""
    files: dict[str, str] = field(default_factory=dict)
    sets: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    expected: str = ""

    @classmethod
    def read(cls, path: Path) -> Case:
        case = cls()
        text = path.read_bytes().decode()
        head, _, case.expected = text.partition("=== expected\n")
        for part in re.split(r"^=== ", head, flags=re.MULTILINE)[1:]:
            line, _, body = part.partition("\n")
            what, _, rest = line.partition(" ")
            if what == "schema":
                case.schema = rest
            elif what == "file":
                case.files[rest] = body
            elif what == "set":
                case.sets.append(rest)
            elif what == "environment":
                name, _, value = rest.partition("=")
                case.environment[name] = value
            else:
                assert line == "no newline at the end"
                last = next(reversed(case.files))
                case.files[last] = case.files[last].removesuffix("\n")
        return case


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(schema())


def say(case: Case, folder: Path) -> SpecInvalid:
    for name, text in case.files.items():
        (folder / name).write_bytes(text.encode())
    with pytest.raises(SpecInvalid) as caught:
        load([Path(name) for name in case.files], case.sets, environment=case.environment)
    return caught.value


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 100


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_is_said(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = Case.read(path)
    invalid = say(case, tmp_path)
    text = as_text(invalid.diagnostics)
    if UPDATE:
        head = path.read_bytes().decode().partition("=== expected\n")[0]
        path.write_bytes(f"{head}=== expected\n{text}".encode())
    else:
        assert text == case.expected
    assert "Traceback" not in text
    assert "s3cr3t" not in text
    for each in invalid.diagnostics:
        assert each.code in CODES
        if each.source is not None:
            # The caret marks characters of the line it shows, or the place right behind it.
            assert 1 <= each.place.column <= len(each.source) + 1
            assert each.width >= 1
            assert each.place.column - 1 + each.width <= max(len(each.source), each.place.column)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_schema_agrees(path: Path, validator: jsonschema.Draft7Validator) -> None:
    case = Case.read(path)
    report = Report()
    documents = [parse.decode(name, text.encode(), report) for name, text in case.files.items()]
    for document in documents:
        assert document is not None
        parse.read(document, report)
    sets = [document_of_set(text, report) for text in case.sets]
    readable = not report.diagnostics and all(document.data is not None for document in documents)
    readable = readable and all(isinstance(document.data, dict) for document in documents[1:])
    if readable:
        data = documents[0].data
        if isinstance(data, dict):
            for document in documents[1:]:
                merge(data, document.data)
            for document in sets:
                apply_set(data, document, report)
            with suppress(SpecInvalid):
                interpolate(data, Source([*documents, *sets]), case.environment, report)
        readable = not report.diagnostics
    assert readable == (case.schema != "unreadable")
    if readable:
        verdict, _, reason = case.schema.partition(": ")
        assert validator.is_valid(data) == (verdict == "accepts")
        assert bool(reason) == (verdict == "accepts")
