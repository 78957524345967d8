from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from aifw import errors
from aifw.cli.explain import command
from aifw.errors import AifwError, UsageError
from aifw.kind import builtin_kinds
from aifw.spec.codes import CODES

SPEC = Path(errors.__file__).parent / "spec"


def explain(what: str) -> str:
    done = CliRunner().invoke(command, [what])
    assert done.exit_code == 0, done.exception
    return done.output


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(code: str) -> None:
    text = explain(code.lower())
    title, _, paragraph = text.partition("\n\n")
    assert title == f"{code}: {CODES[code].title}"
    assert paragraph.strip().endswith(".")
    assert all(len(line) <= 88 for line in text.splitlines())


def all_errors(root: type[AifwError]) -> list[type[AifwError]]:
    return [each for below in root.__subclasses__() for each in (below, *all_errors(below))]


@pytest.mark.parametrize("error", all_errors(AifwError))
def test_every_error_is_explained(error: type[AifwError]) -> None:
    assert explain(error.code).startswith(error.code)


def test_codes_in_use_are_the_codes_explained() -> None:
    used = {
        code
        for path in SPEC.glob("*.py")
        if path.name != "codes.py"
        for code in re.findall(r"AIFW\d{3}", path.read_text(encoding="utf-8"))
    }
    assert used == set(CODES)


@pytest.mark.parametrize("kind", builtin_kinds(), ids=lambda kind: kind.name)
def test_every_kind_is_explained(kind: object) -> None:
    text = explain(kind.name)  # type: ignore[attr-defined]
    for name, field in kind.settings.model_fields.items():  # type: ignore[attr-defined]
        assert f"  {field.alias or name}: " in text
    for output in kind.produces:  # type: ignore[attr-defined]
        assert f"  {output}: " in text


def test_what_a_kind_says() -> None:
    text = explain("dpo")
    assert "  epochs: whole number, at least 1, at most 1000; default 1\n    How often each pair is used.\n" in text
    assert "  model: reference to text model; required" in text
    assert "    r: whole number, at least 1, at most 1024; default 16\n      Rank." in text


@pytest.mark.parametrize(("what", "hint"), [("dpoo", "did you mean `dpo`?"), ("AIFW999", ""), ("nonsense", "kinds: ")])
def test_what_cannot_be_explained(what: str, hint: str) -> None:
    done = CliRunner().invoke(command, [what])
    assert isinstance(done.exception, UsageError)
    assert hint in (done.exception.hint or "")
