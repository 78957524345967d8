"""Reports as they are written, and what reading does to those that were cut off or edited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from evaluations import QUIET, preference_rows, write

from aifw.errors import InputInvalid
from aifw.evaluation import report
from aifw.evaluation.comparison import compare_suite
from aifw.evaluation.schema import PACKAGED, schema
from aifw.evaluation.suites import find

OLD, NEW = [1.0, 0.0, 0.5, 0.0, 1.0, 0.0] * 10, [1.0, 1.0, 0.5, 0.0, 1.0, 1.0] * 10
LATENCIES = [{"id": f"r{place:02}", "seconds": 0.01 * (place + 1)} for place in range(30)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An evaluation of two suites, one of them without a baseline."""
    rows = {"preference": (preference_rows(NEW, 20), preference_rows(OLD, 20)), "latency": (LATENCIES, None)}
    return write(tmp_path / "evaluation", rows).path


def test_what_is_written_is_read_again(folder: Path) -> None:
    found = report.read(folder)
    assert found.report["data"]["items"] == 60 + 30
    assert found.report["data"]["groups"] == 20 + 30
    assert len(found.report["data"]["sketch"]) == 64
    assert [item["suite"] for item in found.items] == ["latency"] * 30 + ["preference"] * 60
    rows = report.rows_of(found, "preference", "baseline")
    assert rows == sorted(preference_rows(OLD, 20), key=lambda row: str(row["id"]))
    assert report.rows_of(found, "latency", "baseline") == []
    suite = found.report["suites"]["preference"]
    assert suite["compared"] == compare_suite(find("preference"), preference_rows(OLD, 20), preference_rows(NEW, 20))
    assert suite["compared"]["preference_accuracy"]["before"] == suite["baseline"]["preference_accuracy"]["value"]
    assert "baseline" not in found.report["suites"]["latency"]


def test_reports_are_as_their_schema_says(folder: Path) -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    assert json.loads(PACKAGED.read_bytes()) == schema()
    found = json.loads((folder / "report.json").read_bytes())
    assert [each.message for each in jsonschema.Draft7Validator(schema()).iter_errors(found)] == []


def test_the_same_evaluation_has_the_same_bytes(tmp_path: Path) -> None:
    rows = {"preference": (preference_rows(NEW), preference_rows(OLD))}
    turned = {"preference": (preference_rows(NEW)[::-1], preference_rows(OLD)[::-1])}
    first, second = write(tmp_path / "a", rows).path, write(tmp_path / "b", turned).path
    for name in ("report.json", "items.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_what_the_clock_says_is_marked_under_contention(tmp_path: Path) -> None:
    rows = {"preference": (preference_rows(NEW), None), "latency": (LATENCIES, LATENCIES)}
    suites = report.read(write(tmp_path / "e", rows, contended=True).path).report["suites"]
    assert all(
        entry["contended"] for part in ("subject", "baseline", "compared") for entry in suites["latency"][part].values()
    )
    assert "contended" not in suites["preference"]["subject"]["preference_accuracy"]


def test_what_no_row_holds_stands_beside(tmp_path: Path) -> None:
    observed = {"resources": ({"peak_memory": 2.0e9, "energy_per_item": None}, {"peak_memory": 1.0e9})}
    rows = {"preference": (preference_rows(NEW), preference_rows(OLD))}
    suite = report.read(write(tmp_path / "e", rows, observed=observed).path).report["suites"]["resources"]
    assert suite["subject"]["peak_memory"]["value"] == 2.0e9
    assert suite["subject"]["peak_memory"]["low"] is None
    assert suite["subject"]["energy_per_item"]["value"] is None
    assert suite["subject"]["energy_per_item"]["note"]
    assert suite["baseline"]["peak_memory"]["value"] == 1.0e9
    assert "compared" not in suite


def test_an_evaluation_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="has no items"):
        write(tmp_path / "e", {"preference": ([], preference_rows(OLD))})


def test_sides_about_other_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="the items differ"):
        write(tmp_path / "e", {"preference": (preference_rows(NEW), preference_rows(OLD[:-1]))})


# What should not be believed


def edited(change: Callable[[dict[str, Any]], Any], *, sealed: bool = False) -> Callable[[Path], None]:
    """A change of the report; sealed ones have a digest that fits."""

    def apply(folder: Path) -> None:
        found = json.loads((folder / "report.json").read_bytes())
        change(found)
        if sealed:
            found["digest"] = report.digest(found)
        (folder / "report.json").write_text(json.dumps(found))

    return apply


def lines(change: Callable[[list[str]], list[str]], *, sealed: bool = False) -> Callable[[Path], None]:
    """A change of the items; sealed ones have digests that fit."""

    def apply(folder: Path) -> None:
        path = folder / "items.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
        if sealed:
            import hashlib

            new = hashlib.sha256(path.read_bytes()).hexdigest()
            edited(lambda found: found.update(items_digest=new), sealed=True)(folder)

    return apply


def _flattered(found: dict[str, Any]) -> None:
    found["suites"]["preference"]["subject"]["preference_accuracy"]["value"] = 0.99


def _without_time(found: dict[str, Any]) -> None:
    del found["environment"]["time"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "report.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "items.jsonl").unlink(), "cannot be read"),
        (lambda folder: (folder / "report.json").write_text(""), "no JSON or was cut off"),
        (
            lambda folder: (folder / "report.json").write_text((folder / "report.json").read_text()[:900]),
            "no JSON or was cut off",
        ),
        (lambda folder: (folder / "report.json").write_text("[]"), "has version None, expected 2"),
        (edited(lambda found: found.update(version=1)), "has version 1, expected 2"),
        (edited(_flattered), "was edited"),
        (edited(_flattered, sealed=True), "do not give the preference_accuracy of the subject"),
        (edited(_without_time, sealed=True), r"not of the form of a report, environment: 'time' is a required"),
        (edited(lambda found: found.update(extra=1), sealed=True), "not of the form of a report"),
        (edited(lambda found: found["data"].update(items=3), sealed=True), "has 90 items, the report says 3"),
        (
            edited(
                lambda found: found["suites"]["preference"]["subject"].update(
                    magic=found["suites"]["preference"]["subject"].pop("preference_accuracy")
                ),
                sealed=True,
            ),
            "suite preference has no measure magic",
        ),
        (lines(lambda found: found[:-1]), "was cut off or edited"),
        (lines(lambda found: [*found[:-1], found[-1][:20]], sealed=True), "line 90 of .* is no item"),
        (lines(lambda found: [*found, found[-1]], sealed=True), "has item 'i0059' of suite preference twice"),
        (lines(lambda found: found[::-1], sealed=True), "is out of order"),
        (lines(lambda found: ["3\n", *found], sealed=True), "line 1 of .* is no item"),
        (
            lines(lambda found: [found[0].replace('"seconds": 0.01', '"seconds": NaN'), *found[1:]], sealed=True),
            "line 1 of .* is no item",
        ),
    ],
)
def test_what_was_cut_off_or_edited_is_refused(folder: Path, change: Callable[[Path], Any], message: str) -> None:
    report.read(folder)
    change(folder)
    with pytest.raises(InputInvalid, match=message):
        report.read(folder)


def test_nan_in_a_report_is_refused(folder: Path) -> None:
    text = (folder / "report.json").read_text()
    assert '"seed": 0' in text
    (folder / "report.json").write_text(text.replace('"seed": 0', '"seed": NaN'))
    with pytest.raises(InputInvalid, match="NaN is not a number"):
        report.read_report(folder)


def test_details_never_hold_nan(tmp_path: Path) -> None:
    rows = [{"id": f"c{place}", "label": "a", "predicted": "a"} for place in range(5)]
    text = (write(tmp_path / "e", {"classification": (rows, None)}).path / "report.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


def test_the_environment_is_kept(folder: Path) -> None:
    assert report.read_report(folder)["environment"] == QUIET
