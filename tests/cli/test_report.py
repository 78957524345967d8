"""`aifw report`: what a state or folders of evaluations tell, as text and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from evaluated import classified, timed

from aifw.cli.report_facts import course, lines, of_folders, of_state
from aifw.errors import UsageError
from aifw.state.store import Store

MINUS = "\N{MINUS SIGN}"


def test_the_newest_evaluation_of_each_resource_with_its_trend(evaluated: Any, aifw: Any) -> None:
    out = aifw("report").out
    head, *rest = out.splitlines()
    assert head == "field · 4 evaluations · 2 verdicts"
    blocks = "\n".join(rest).split("\n\n")
    check = next(block for block in blocks if "stages.check" in block)
    assert "stages.check · dpo against @champion · 120 items · run 3, 2026-01-03 03:04 UTC" in check
    assert re.search(
        r"^   accuracy +0\.\d{3} → 0\.\d{3} +0\.\d{3} … 0\.\d{3} +\+\d+\.\d points +\+\S+ … \+\S+ +(< )?0\.0\S+ +better +▁[▁-█]█$",
        check,
        re.MULTILINE,
    )
    assert re.search(rf"^   p95 latency +\S+ ms → \S+ ms .*{MINUS}", check, re.MULTILINE)
    assert "p99 latency: too few: 120 of 1,000" in check
    assert re.search(r"p adjusted for \d+ measures \(Holm\)", check)
    columns = {line.index(" … ") for line in check.splitlines() if " … " in line}
    assert len(columns) <= 3, "intervals stand below each other but for the width of their numbers"
    speed = next(block for block in blocks if "stages.speed" in block)
    assert "difference" not in speed
    assert "stages.speed · dpo · 120 items" in speed


def test_the_newest_verdict_with_its_evidence(evaluated: Any, aifw: Any) -> None:
    out = aifw("report").out
    assert f"stages.promotion · run 3, 2026-01-03 03:06 UTC · {'b' * 12} → dpo@cccc · better" in out
    assert "   accuracy 0.60 → 0.80, p 0.0004" in out
    assert "   guard: length drift 0.4, at most <0.25>" in out


def test_json_has_the_same_facts(evaluated: Any, aifw: Any) -> None:
    found = json.loads(aifw("report", "--json").out)
    assert found.keys() == {"name", "evaluations", "unreadable", "verdicts", "targets", "forecasts"}
    assert [each["run"] for each in found["evaluations"] if each["address"] == "stages.check"] == [1, 2, 3]
    newest = (
        found["evaluations"][-1] if found["evaluations"][-1]["address"] == "stages.check" else found["evaluations"][-2]
    )
    accuracy = next(each for each in newest["measures"] if each["measure"] == "accuracy")
    assert accuracy["compared"]["outcome"] == "better"
    assert accuracy["compared"]["adjusted_p"] >= accuracy["compared"]["p"]
    assert (Path(newest["folder"]) / "report.json").is_file()
    assert [(each["run"], each["moved"]) for each in found["verdicts"]] == [(3, True), (1, False)]


def test_contention_is_told(evaluated: Any, aifw: Any) -> None:
    assert "something else wanted the machine" not in aifw("report").out
    evaluated.add(4, {"latency": (timed(0.05, 1), None)}, address="stages.speed", baseline=None, contended=True)
    out = aifw("report").out
    assert "something else wanted the machine meanwhile" in out
    assert re.search(r"median latency +\S+ ms !", out)


def test_an_evaluation_that_cannot_be_read_is_named(evaluated: Any, aifw: Any) -> None:
    with_store = Store.open(evaluated.layout)
    newest = of_state(with_store).latest["stages.check"]
    with_store.close()
    text = (newest.folder / "report.json").read_text()
    (newest.folder / "report.json").write_text(text.replace('"threads": 1', '"threads": 2'))
    out = aifw("report").out
    assert "✗ stages.check: " in out
    assert "was edited" in out
    assert "run 2, 2026-01-02" in out, "the one before it stands for the resource"
    assert json.loads(aifw("report", "--json").out)["unreadable"][0]["address"] == "stages.check"


def test_evaluations_from_folders_need_no_spec(
    evaluated: Any, aifw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = sorted(str(path.parent) for path in (tmp_path / ".aifw/artifacts").glob("*/*/evaluation/report.json"))
    monkeypatch.chdir("/")
    out = aifw("report", *folders).out
    assert out.startswith("4 evaluations · 4 evaluations\n")
    assert "stages.dpo on datasets.pairs" in out
    assert "0." in aifw("report", f"{folders[0]}/report.json").out
    assert "0." in aifw("report", str(Path(folders[0]).parent)).out, "the artifact around it will do"


def test_arguments_that_do_not_fit(evaluated: Any, aifw: Any, tmp_path: Path) -> None:
    folder = str(next((tmp_path / ".aifw/artifacts").glob("*/*/evaluation")))
    (tmp_path / "empty").mkdir()
    assert "there is no evaluation at empty" in aifw("report", "empty", status=64).err
    assert "either a spec or evaluations" in aifw("report", folder, "spec.yaml", status=64).err
    assert "either a spec or evaluations" in aifw("report", folder, "--state", ".aifw", status=64).err
    assert "other.yaml is no evaluation" in aifw("report", "spec.yaml", "other.yaml", status=64).err
    assert "cannot be written" in aifw("report", "--html", "nowhere/page.html", status=64).err
    with pytest.raises(UsageError):
        of_folders([tmp_path / "nothing.json"])


def test_a_state_without_evaluations(aifw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no spec.yaml" in aifw("report", status=64).err
    (tmp_path / "spec.yaml").write_text("metadata: {name: field}\n")
    assert "has no state yet" in aifw("report", status=64).err
    from aifw.state.layout import Layout

    Store.open(Layout(tmp_path / ".aifw", "field")).close()
    assert aifw("report").out.startswith("Nothing was evaluated yet.")
    page = tmp_path / "page.html"
    assert aifw("report", "--html", str(page)).out == f"The report is in {page}.\n"
    assert "Nothing was evaluated yet." in page.read_text()


def test_the_page_is_opened_on_request(evaluated: Any, aifw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("click.launch", opened.append)
    aifw("report", "--open")
    assert opened == [str(evaluated.layout.folder / "report.html")]
    assert (evaluated.layout.folder / "report.html").read_text().startswith("<!doctype html>")


def test_the_course_of_a_measure(evaluated: Any) -> None:
    store = Store.open(evaluated.layout)
    facts = of_state(store)
    store.close()
    found = course(facts.evaluations, "stages.check", "accuracy")
    assert [each.run for each, _ in found] == [1, 2, 3]
    assert [each.measure.name for each in lines(facts.latest["stages.speed"].report)] == [
        "latency_p50",
        "latency_p95",
        "latency_p99",
    ]


def test_what_a_run_evaluated_is_reported(shell: Any) -> None:
    """From a spec through the engine to the report and a comparison of two runs."""
    shell.write(
        "datasets:\n"
        "  new: {kind: predictions, path: new.jsonl, suite: classification}\n"
        "  old: {kind: predictions, path: old.jsonl, suite: classification}\n"
        "stages:\n"
        "  check: {kind: evaluate, subject: new, baseline: old}\n"
    )
    for name, skill in (("old", 0.5), ("new", 0.6)):
        (shell.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in classified(skill, 1)))
    assert "Report: aifw report --open" in shell.aifw("apply").out
    (shell.folder / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in classified(0.95, 2)))
    shell.aifw("apply")
    found = json.loads(shell.aifw("report", "--json").out)
    assert [each["run"] for each in found["evaluations"]] == [1, 2]
    assert all(re.fullmatch("[0-9a-f]{64}", each["spec"]) for each in found["evaluations"])
    assert {each["kind"] for each in found["forecasts"]} == {"predictions", "evaluate"}
    out = shell.aifw("compare", "1", "2").out
    assert re.search(r"^   accuracy .* better$", out, re.MULTILINE)
    shell.aifw("report", "--html", "page.html")
    assert "Forecast against actual" in (shell.folder / "page.html").read_text()
