"""The page of a report: as text here, and in a browser where there is one."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from evaluated import VERDICT, Evaluated, classified, timed
from evaluations import preference_rows, write

from aifw.cli.report_facts import Facts, of_folders, of_state
from aifw.cli.report_page import render
from aifw.evaluation.targets import Point, Tracked
from aifw.state.layout import Layout
from aifw.state.store import Store
from aifw.statistics import Comparison, Interval

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome is installed"
)

TARGET = Tracked(
    name="quality",
    description="Response quality <15 to 25 %>",
    what="accuracy",
    of="stages.check",
    better="higher",
    value=0.7,
    status="met",
    measured=0.8,
    low=0.75,
    high=0.85,
    unit="share",
    trend=(Point("2026-01-01", 1, 0.6, None, None), Point("2026-01-03", 3, 0.8, 0.75, 0.85)),
    note="",
)


class Wellformed(HTMLParser):
    """Sees that tags close in order, and what the page would ask for."""

    EMPTY = frozenset({"meta", "br", "path", "circle", "rect", "polygon"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wanted: list[str] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "data", "action"}:
                if str(value).startswith("#"):
                    self.links.add(str(value)[1:])
                else:
                    self.wanted.append(str(value))
            if name == "id":
                self.anchors.add(str(value))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag, tag


def answered(skill: float, seed: int) -> list[dict[str, Any]]:
    """Rows of suite `rag`."""
    chance = random.Random(seed)
    return [
        {
            "id": f"a{place:03}",
            "question": f"question {place}",
            "answer": "yes" if (right := chance.random() < skill) else "no",
            "references": ["yes"],
            "answerable": True,
            "abstained": False,
            "confidence": min(1.0, max(0.0, chance.gauss(0.7 if right else 0.4, 0.2))),
            "cited": ["d1"],
            "supporting": ["d1", "d2"],
            "retrievals": 1 + place % 2,
        }
        for place in range(80)
    ]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Three runs of several suites, targets, verdicts and an evaluation that was cut off."""
    folder = tmp_path_factory.mktemp("state")
    made = Evaluated(folder, Layout(folder / ".aifw", "field <assistant>"))
    for run, skill in ((1, 0.5), (2, 0.6), (3, 0.9)):
        rows = {
            "classification": (classified(skill, run), classified(0.5, 0)),
            "latency": (timed(0.08, run, 1200), timed(0.1, 0, 1200)),
            "rag": (answered(skill, run), answered(0.5, 0)),
            "preference": (preference_rows([1.0, 0.0, 1.0] * 20), preference_rows([0.0, 0.0, 1.0] * 20)),
        }
        observed = {"resources": ({"peak_memory": 2e9, "energy_per_item": None}, {"peak_memory": 3e9})}
        made.add(run, rows, observed=observed, contended=run == 2, data=f"data{run // 2}")
    broken = made.add(4, {"latency": (timed(0.05, 9), None)}, address="stages.speed", baseline=None)
    (broken / "report.json").write_text("{")
    made.judge(1, {**VERDICT, "candidate": "a" * 64, "decision": "worse", "promote": False}, moved=False)
    made.judge(3, VERDICT, moved=True)
    store = Store.open(made.layout)
    found = of_state(store, [TARGET])
    store.close()
    return found


@pytest.fixture(scope="module")
def page(facts: Facts) -> str:
    """The page."""
    return render(facts)


def test_a_page_is_whole_and_needs_nothing_from_elsewhere(page: str) -> None:
    parser = Wellformed()
    parser.feed(page)
    assert parser.open == []
    assert parser.wanted == []
    assert parser.links <= parser.anchors
    assert {"measures", "targets", "trend", "details", "items", "verdicts", "evaluations"} <= parser.links
    assert "http" not in page
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert 'name="viewport"' in page


def test_what_people_named_is_text_on_the_page(page: str) -> None:
    assert "<assistant>" not in page
    assert "field &lt;assistant&gt;" in page
    assert "a &lt;b&gt; &amp; &#x27;c&#x27;" in page
    assert "Response quality &lt;15 to 25 %&gt;" in page
    assert "at most &lt;0.25&gt;" in page


def test_every_part_is_there(page: str) -> None:
    for words in (
        "Reliability: how often right over confidence",
        "Distribution of latency",
        "Risk against coverage",
        "Confusion: rows are what is right, columns what was said",
        "Margin per token",
        "accuracy, higher is better",
        "p95 latency, lower is better",
        "champion moved from",
        "champion stayed",
        "stages.speed: ",
        "no JSON or was cut off",
        "p adjusted for",
        "1.9 GiB",
    ):
        assert words in page, words
    assert page.count("<article") == 2
    assert '<td class="left met">met</td>' in page


def test_a_trend_is_broken_where_the_items_changed(page: str) -> None:
    accuracy = next(each for each in re.findall(r"<svg[^>]*aria-label=\"accuracy over runs\".*?</svg>", page))
    lines = re.findall(r'<path d="(M[^"]+)" stroke="var\(--subject\)" stroke-width="2"/>', accuracy)
    assert [each.count("L") for each in lines] == [0, 1], "one evaluation of the first items, two of the second"
    assert accuracy.count("<circle") == 3


def test_only_what_the_clock_says_is_marked_as_doubtful(page: str) -> None:
    latency = next(each for each in re.findall(r"<svg[^>]*aria-label=\"median latency over runs\".*?</svg>", page))
    assert latency.count('fill="var(--back)"') == 1
    assert "under contention" in latency


def test_items_that_changed_the_most_come_first(facts: Facts) -> None:
    page = render(facts)
    items = page[page.index('id="items"') : page.index('id="verdicts"')]
    assert re.search(r"\d+ items higher than the baseline, \d+ lower", items)
    assert items.count("<tr>") <= 4 * 31


def test_a_page_of_one_item(tmp_path: Path) -> None:
    rows = {"preference": (preference_rows([1.0]), preference_rows([1.0])), "latency": (timed(0.1, 0, 1), None)}
    page = render(of_folders([write(tmp_path / "e", rows).path]))
    parser = Wellformed()
    parser.feed(page)
    assert parser.open == []
    assert "0 items higher than the baseline, 0 lower" in page
    assert "too few: 1 of 1,000" in page


def test_a_report_over_100_000_items_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bootstraps take most of the time of measuring and change nothing of the size."""
    unsure = Comparison(0.5, 0.6, 0.0, 0.2, 100_000, 100_000, 0.5, 0.1, 1000, "none")
    monkeypatch.setattr("aifw.statistics.interval_of_statistic", lambda *_, **__: Interval(0.4, 0.6))
    monkeypatch.setattr("aifw.statistics.compare_statistic", lambda *_, **__: unsure)
    count = 100_000
    rows = {
        "classification": (classified(0.8, 1, count), classified(0.6, 2, count)),
        "latency": (timed(0.1, 1, count), timed(0.1, 2, count)),
    }
    page = render(of_folders([write(tmp_path / "e", rows).path]))
    assert len(page.encode()) < 5_000_000
    assert "100,000 items" in page


# In a browser

_LOOK = """
<script>
addEventListener("load", () => {
  const inside = document.querySelector("iframe").contentDocument, root = inside.documentElement;
  const wide = [...inside.querySelectorAll("body *")].filter(each =>
    each.getBoundingClientRect().right > root.clientWidth + 1 && !each.closest(".scroll") && !each.closest("svg"));
  document.title = JSON.stringify({
    scrolls: root.scrollWidth, width: root.clientWidth, background: getComputedStyle(inside.body).backgroundColor,
    text: getComputedStyle(inside.body).color, pictures: [...inside.querySelectorAll("svg")].filter(each =>
      each.getBoundingClientRect().height < 1).length,
    requests: performance.getEntriesByType("resource").concat(
      inside.defaultView.performance.getEntriesByType("resource")).map(each => each.name),
    wide: wide.map(each => each.outerHTML.slice(0, 80)), sections: inside.querySelectorAll("section").length,
  });
});
</script>
"""


def look(page: str, folder: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """Lay out the page in a frame of a width and tell what came of it."""
    assert BROWSER is not None
    wrapper = folder / "wrapper.html"
    frame = f'<iframe srcdoc="{escape(page)}" style="border: 0; width: {width}px; height: 800px"></iframe>'
    wrapper.write_text(f"<!doctype html><meta charset=utf-8><title></title>{frame}{_LOOK}", encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--enable-logging=stderr",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1000",
            "--virtual-time-budget=4000",
            "--dump-dom",
            wrapper.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout, re.DOTALL)
    assert title, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr
    found: dict[str, Any] = json.loads(unescape(title[1]))
    return found


@needs_browser
@pytest.mark.parametrize("width", [390, 1300])
def test_a_browser_lays_it_out_without_scrolling_sideways(page: str, tmp_path: Path, width: int) -> None:
    found = look(page, tmp_path, width)
    assert found["width"] <= width
    assert found["wide"] == []
    assert found["scrolls"] <= found["width"]
    assert found["requests"] == []
    assert found["pictures"] == 0, "a picture without height shows nothing"
    assert found["sections"] >= 7


@needs_browser
def test_a_browser_shows_it_light_and_dark(page: str, tmp_path: Path) -> None:
    light, dark = (look(page, tmp_path, 800, dark=dark) for dark in (False, True))
    assert light["background"] == "rgb(255, 255, 255)"
    assert dark["background"] == "rgb(13, 17, 23)"
    assert light["text"] != dark["text"]
