from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.spec.diagnose import Diagnostic, SpecInvalid, as_github, as_json, as_text
from aifw.spec.models import Place


def diagnostic(source: str = "  epochs: 0", column: int = 11, width: int = 1, **more: object) -> Diagnostic:
    given_more = {"label": "is 0 here", "notes": ("from spec.yaml:1:1, `a: 0`",), **more}
    return Diagnostic(
        "AIFW021", "`epochs` must be at least 1", Place("spec.yaml", 7, column), width, source, **given_more
    )  # type: ignore[arg-type]


def test_text() -> None:
    assert as_text([diagnostic()]) == (
        "error[AIFW021]: `epochs` must be at least 1\n"
        "  ┌─ spec.yaml:7:11\n"
        "  │\n"
        " 7│   epochs: 0\n"
        "  │           ^ is 0 here\n"
        "  = from spec.yaml:1:1, `a: 0`\n"
        "\n"
        "1 error in 1 file. `aifw explain AIFW021` says more.\n"
    )


def test_several_files_and_line_numbers_of_any_length() -> None:
    far = Diagnostic("AIFW012", "unknown", Place("b.yaml", 12345, 1), 1, "x: 1")
    text = as_text([diagnostic(), far])
    assert "     ┌─ b.yaml:12345:1\n     │\n12345│ x: 1\n     │ ^\n" in text
    assert text.endswith("2 errors in 2 files. `aifw explain AIFW012` says more.\n")


def test_many_are_cut_and_counted() -> None:
    text = as_text([diagnostic(column=column) for column in range(1, 100)])
    assert text.count("error[") == 40
    assert "... and 59 more\n" in text


def test_json() -> None:
    document = json.loads(as_json([diagnostic("  größe: 0", 10)]))
    assert document == {
        "valid": False,
        "errors": [
            {
                "code": "AIFW021",
                "message": "`epochs` must be at least 1",
                "file": "spec.yaml",
                "line": 7,
                "column": 10,
                "end_column": 11,
                "source": "  größe: 0",
                "label": "is 0 here",
                "notes": ["from spec.yaml:1:1, `a: 0`"],
            }
        ],
    }
    assert json.loads(as_json([])) == {"valid": True, "errors": []}


def test_github() -> None:
    odd = Diagnostic("AIFW003", "50% of it\nis wrong", Place("a,b:c.yaml", 1, 2), 3, "x")
    assert (
        as_github([odd])
        == "::error file=a%2Cb%3Ac.yaml,line=1,col=2,endColumn=5,title=AIFW003::50%25 of it%0Ais wrong\n"
    )


def test_order_is_by_file_line_and_column() -> None:
    places = [("b", 2, 1), ("a", 1, 1), ("b", 1, 5), ("b", 1, 2)]
    invalid = SpecInvalid([Diagnostic("AIFW003", "x", Place(*place)) for place in places])
    assert [(each.place.file, each.place.line, each.place.column) for each in invalid.diagnostics] == [
        ("b", 1, 2), ("b", 1, 5), ("b", 2, 1), ("a", 1, 1),
    ]  # fmt: skip


def columns(text: str) -> int:
    """Terminal columns, told independently: from the widths Unicode states, character by character."""
    total = 0
    for character in text:
        if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me", "Cf"}:
            continue
        total += 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
    return total


@given(
    st.text(st.sampled_from("ab 線🙂e\u0301é\u200b\uff21"), max_size=20),
    st.text(st.sampled_from("x線🙂"), min_size=1, max_size=5),
)
def test_the_caret_stands_under_what_is_meant(before: str, meant: str) -> None:
    text = as_text([diagnostic(before + meant + "  tail", len(before) + 1, len(meant))])
    shown, caret = text.splitlines()[3:5]
    shown, caret = shown.split("│ ", 1)[1], caret.split("│ ", 1)[1]
    assert shown.startswith(before + meant)
    assert len(caret) - len(caret.lstrip(" ")) == columns(before)
    assert caret.count("^") == columns(meant)


@given(st.integers(0, 3000), st.integers(1, 500))
def test_long_lines_are_cut_around_the_caret(start: int, width: int) -> None:
    source = "".join(chr(ord("a") + n % 26) for n in range(start + width + 200))
    text = as_text([diagnostic(source, start + 1, width, label="")])
    shown, caret = (line.split("│ ", 1)[1] for line in text.splitlines()[3:5])
    assert len(shown) <= 330
    under = shown[caret.index("^") : caret.rindex("^") + 1]
    assert under == source[start : start + len(under)]
    assert under


def test_tabs_stay_tabs_before_the_caret() -> None:
    text = as_text([diagnostic("\ta:\tx", 5, 1)])
    assert "\n  │ \t  \t^ " in text


@pytest.mark.parametrize("format_", [as_text, as_json, as_github])
def test_control_characters_do_not_reach_the_terminal(format_: object) -> None:
    text = format_([diagnostic("a: \x1b[31mred", 4, 1)])  # type: ignore[operator]
    assert "\x1b" not in text
