"""`aifw forecast`: what the next run needs, and forecast against actual after real runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import pytest

from aifw.cli import forecast_report
from aifw.cli.forecast_page import render
from aifw.cli.forecast_report import report_lines, strip
from aifw.kind import Estimate
from aifw.plan.score import Compared, Score, score

WORDS = "stages:\n  a: {kind: toy, text: TEXT}\n  p: {kind: toy_pair, left: x, right: TEXT}\n"


def apply(shell: Any, text: str, *, status: int = 0) -> None:
    shell.write(WORDS.replace("TEXT", text))
    shell.aifw("apply", status=status)


def compared(low: float, mid: float, high: float, measured: float) -> Compared:
    return Compared(Estimate(low, mid, high), measured, mid / measured - 1, None, None, low <= measured <= high, 0.0)


def job(address: str, kind: str, memory: float, seconds: float, **actual: Any) -> Score:
    forecast = {
        "memory": {"low": 80e6, "mid": 1e8, "high": 120e6},
        "seconds": {"low": 60.0, "mid": 90.0, "high": 180.0},
        "parts": {"worker": 2e7},
    }
    at = "2026-03-01T10:00:00.000Z"
    return score("field", f"1-{address}", address, kind, at, forecast, {"memory": memory, "seconds": seconds, **actual})


JOBS = [
    job("stages.good", "dpo", 1e8, 100.0),
    job("stages.large", "dpo", 1.5e8, 100.0),
    job("stages.slow", "evaluate", 0.99e8, 300.0),
    job("stages.ended", "evaluate", 1.3e8, 1.0, exceeded=True),
    job("stages.half", "evaluate", 1e8, 1.0, resumed=True),
]


# What the next run needs


def test_the_next_run_with_what_it_rests_on(shell: Any) -> None:
    shell.write(WORDS)
    out = shell.aifw("forecast").out
    assert out.startswith("tested · 2 jobs would run\n")
    assert re.search(
        r" \+ stages\.a +cpu +1\.0 MiB \(931 KiB.1\.1 MiB\) +0\.1 s \(67 ms.0\.2 s\)\n     declared by the kind\n", out
    )
    assert "Peak " in out.splitlines()[-1]
    document = json.loads(shell.aifw("forecast", "--json", "--kind", "toy_pair").out)
    (only,) = document["jobs"]
    assert (only["address"], only["action"], only["device"]) == ("stages.p", "create", "cpu")
    assert only["forecast"]["memory"]["mid"] == 1024**2
    assert not (shell.folder / ".aifw").exists(), "looking changes nothing"


def test_nothing_to_run_and_no_spec(shell: Any) -> None:
    apply(shell, "x")
    assert "nothing would run" in shell.aifw("forecast").out
    (shell.folder / "spec.yaml").unlink()
    assert "there is no spec.yaml" in shell.aifw("forecast", status=64).err
    assert "3 jobs" not in shell.aifw("forecast", "--report").out


def test_the_next_run_is_forecast_by_what_the_last_one_took(shell: Any) -> None:
    apply(shell, "x")
    shell.write(WORDS.replace("TEXT", "y"))
    first = json.loads(shell.aifw("forecast", "--report", "--json").out)["jobs"]
    took = {each["address"]: each["memory"]["measured"] for each in first}
    for step in json.loads(shell.aifw("forecast", "--json").out)["jobs"]:
        forecast = step["forecast"]
        assert forecast["uncorrected"] == [1024**2, 0.1]
        assert forecast["memory"]["mid"] == pytest.approx(took[step["address"]], rel=0.1)
        assert forecast["seconds"]["mid"] > 0.1
        assert "corrected by 1 earlier run (memory x" in forecast["basis"]
    assert "its kind states 1.0 MiB, 0.1 s" in shell.aifw("forecast").out
    apply(shell, "y")
    second = json.loads(shell.aifw("forecast", "--report", "--json").out)["jobs"][:2]
    for each in second:
        assert abs(each["memory"]["error"]) < 0.1 < abs(each["memory"]["error_stated"])


def test_a_job_that_exceeded_its_memory_is_given_more_by_the_next_plan(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy, fail: memory, memory: 20MiB}\n")
    shell.aifw("apply", status=4)
    (only,) = json.loads(shell.aifw("forecast", "--report", "--json").out)["jobs"]
    assert only["exceeded"]
    assert only["seconds"] is None
    held = only["memory"]["measured"]
    assert held > only["memory"]["forecast"]["high"] == 22 * 1024**2
    assert "ended: too much memory" in shell.aifw("forecast", "--report").out
    planned = json.loads(shell.aifw("plan", "--set", "hardware.memory.budget=8GiB", "--json").out)
    (step,) = planned["steps"]
    assert step["forecast"]["memory"]["mid"] == pytest.approx(held)
    assert step["forecast"]["memory"]["high"] > 1.1 * held
    assert "which exceeded its memory" in step["forecast"]["basis"]


# Forecast against actual


def test_the_report_is_of_every_state_of_the_folder(shell: Any) -> None:
    apply(shell, "x")
    shell.aifw("apply", "--set", "metadata.name=second", "--set", "stages.a.text=z")
    out = shell.aifw("forecast", "--report").out
    assert out.startswith("4 jobs in 2 states · .aifw\n")
    assert re.search(
        r"tested/stages\.a +memory +1\.0 MiB \(931 KiB.1\.1 MiB\) +[\d.]+ MiB +.\d+ % .* above high\n", out
    )
    assert "second/stages.a" in out
    assert re.search(r"^   toy_pair +2 ", out, re.MULTILINE)
    assert re.search(r"^   all +4 ", out, re.MULTILINE)
    document = json.loads(shell.aifw("forecast", "--report", "--json", "--kind", "toy").out)
    assert [(each["state"], each["address"]) for each in document["jobs"]] == [
        ("second", "stages.a"),
        ("tested", "stages.a"),
    ]
    assert list(document["kinds"]) == ["toy"]
    assert document["all"]["memory"]["jobs"] == 2
    measured = document["jobs"][0]["memory"]
    assert measured["error"] == pytest.approx(measured["forecast"]["mid"] / measured["measured"] - 1)


def test_a_job_that_failed_is_in_no_report(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy, fail: error}\n")
    shell.aifw("apply", status=1)
    assert "No job was forecast and measured here yet." in shell.aifw("forecast", "--report").out


def test_reports_of_nothing_say_what_to_do(shell: Any) -> None:
    assert "`aifw apply` runs jobs" in shell.aifw("forecast", "--report").out
    assert json.loads(shell.aifw("forecast", "--report", "--json").out)["jobs"] == []
    assert "there is no file nowhere.yaml" in shell.aifw("forecast", "nowhere.yaml", "--report", status=64).err
    apply(shell, "x")
    out = shell.aifw("forecast", "--report", "--kind", "tyo").out
    assert out == "No job of kind `tyo` was measured here yet. Kinds with jobs: toy, toy_pair.\n"
    page = shell.folder / "missing" / "page.html"
    assert "cannot be written" in shell.aifw("forecast", "--html", str(page), status=64).err


def test_the_text(golden: Any) -> None:
    golden("forecast_report", click.unstyle("\n".join(report_lines(Path(".aifw"), JOBS, 20))) + "\n")


def test_the_worst_come_first_and_the_rest_is_counted() -> None:
    lines = list(report_lines(Path(".aifw"), JOBS, 2))
    addresses = [found[1] for line in lines if (found := re.match(r"   (stages\.\w+)", line))]
    assert addresses == ["stages.ended", "stages.large"]
    assert any("and 3 better ones" in line for line in lines)


def test_a_strip_shows_range_and_measurement_on_one_scale() -> None:
    assert strip(compared(0.7, 1.0, 1.5, 1.2)) == "   ───┼─●──  "
    assert strip(compared(0.9, 1.0, 1.1, 1.0)) == "     ─●─     "
    assert strip(compared(0.1, 1.0, 9.0, 9.0)) == "──────┼─────▸"
    assert strip(compared(1.0, 1.0, 1.0, 0.2)) == "◂     │      "


def test_strips_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "┼" not in "\n".join(report_lines(Path(), JOBS, 20))
    monkeypatch.setattr(forecast_report, "is_terminal", lambda: True)
    assert "┼" in "\n".join(report_lines(Path(), JOBS, 20))


# The page


class Page(HTMLParser):
    """Checks that every element that needs an end has one, in order, and collects what is loaded from elsewhere."""

    EMPTY = frozenset({"meta", "path", "circle", "polygon"})
    OPTIONAL = frozenset({"td", "th"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "xlink:href"}]
        self.rows += tag == "tr"
        if tag not in self.EMPTY | self.OPTIONAL:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_a_page_needs_nothing_from_elsewhere() -> None:
    page = Page()
    text = render(JOBS)
    page.feed(text)
    assert page.open == []
    assert page.links == []
    assert "http" not in text
    assert "<script" not in text
    assert "prefers-color-scheme: dark" in text
    assert page.rows == 1 + 2 * 3 + 1 + len(JOBS)


def test_pictures_put_forecast_across_and_measured_upwards() -> None:
    pictures = re.findall(r"<svg viewBox.*?</svg>", render(JOBS), re.DOTALL)
    memory, seconds = (ET.fromstring(each) for each in pictures)
    assert [len(memory.findall("g")), len(seconds.findall("g"))] == [5, 3]
    (good, large, *_) = (each for each in memory.findall("g"))
    assert "stages.good (dpo on cpu): 95.4 MiB; forecast 76.3 MiB to 114 MiB, middle 95.4 MiB" in "".join(
        good.itertext()
    )
    marks = [each.find("circle") for each in (good, large)]
    at = [(float(mark.get("cx", "")), float(mark.get("cy", ""))) for mark in marks if mark is not None]
    assert at[0][0] == at[1][0], "the same was forecast"
    assert at[0][1] > at[1][1], "more was measured, and y counts downwards"
    assert "at least" in "".join(memory.findall("g")[3].itertext())


@pytest.mark.parametrize("sizes", [(1e8,), (1e8, 1.01e8), (1e6, 6e10)])
def test_axes_have_as_many_ticks_as_there_is_room_for(sizes: tuple[float, ...]) -> None:
    page = render([job(f"stages.j{size}", "toy", size, 1.0) for size in sizes])
    ticks = re.findall(r'text-anchor="middle">([^<]+)<', page.partition("</svg>")[0])
    assert 2 <= len(ticks) <= 7
    assert len(set(ticks)) == len(ticks)


def test_what_people_named_is_text_on_the_page() -> None:
    text = render([job("stages.<b>", "a&b", 1e8, 1.0)])
    assert "stages.&lt;b&gt;" in text
    assert "a&amp;b" in text
    assert "<b>" not in text


def test_a_page_of_real_runs(shell: Any) -> None:
    apply(shell, "x")
    out = shell.aifw("forecast", "--html", "page.html").out
    assert out == "Forecast against actual of 2 jobs is in page.html.\n"
    page = Page()
    page.feed((shell.folder / "page.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.rows == 1 + 2 * 3 + 1 + 2
