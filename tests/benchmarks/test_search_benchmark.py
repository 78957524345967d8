"""The search benchmark judges answers rightly, takes turns as it says, and prints what it promises. No time is checked."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
METRICS = ("inner_product", "cosine", "l2")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def _scores(rows: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    x, q = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return -((x[None] - q[:, None]) ** 2).sum(2)
    products = q @ x.T
    if metric == "inner_product":
        return products
    return products / np.linalg.norm(x, axis=1) / np.linalg.norm(q, axis=1)[:, None]


@pytest.mark.parametrize("metric", METRICS)
def test_truth_knows_right_from_wrong(module: Any, metric: str) -> None:
    random = np.random.default_rng(3)
    rows, queries = random.standard_normal((500, 24)).astype("f4"), random.standard_normal((7, 24)).astype("f4")
    truth = module("search_data").Truth(rows, queries, metric, 10)
    scores = _scores(rows, queries, metric)
    order = np.argsort(-scores, axis=1)
    assert truth.recall(order[:, :10]) == 1.0
    assert truth.recall(order[:, 1:11]) == pytest.approx(0.9)
    assert truth.recall(np.hstack([order[:, :9], order[:, :1]])) == pytest.approx(0.9), "the same row twice counts once"
    assert truth.recall(order[:3, -10:]) == 0.0
    given = np.take_along_axis(scores, order[:, :10], 1) * (-1 if metric == "l2" else 1)
    assert truth.score_error(order[:, :10], given) < 1e-14
    assert truth.score_error(order[:, :10], given + 1) > 1e-4


def test_any_of_equal_rows_is_right(module: Any) -> None:
    rows = np.ones((40, 8), np.float32)
    truth = module("search_data").Truth(rows, rows[:2], "l2", 5)
    assert truth.recall(np.array([[0, 1, 2, 3, 4], [39, 7, 21, 8, 30]])) == 1.0


@pytest.mark.parametrize("name", ["gaussian", "clustered"])
def test_data_are_the_same_each_time(module: Any, tmp_path: Path, name: str) -> None:
    first, second = (module("search_data").load(name, 16, 100, 9, tmp_path) for _ in range(2))
    assert first.rows.shape == (100, 16)
    assert first.queries.shape == (9, 16)
    assert (first.rows == second.rows).all()
    assert (first.queries == second.queries).all()
    assert len(np.unique(np.vstack([first.rows, first.queries]), axis=0)) == 109


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_method_finds_the_nearest(module: Any, metric: str, threads: int) -> None:
    random = np.random.default_rng(4)
    rows, queries = random.standard_normal((700, 32)).astype("f4"), random.standard_normal((70, 32)).astype("f4")
    rows *= random.uniform(0.5, 2, (700, 1)).astype("f4")
    truth = module("search_data").Truth(rows, queries, metric, 10)
    methods, missing = module("search_peers").prepared(rows, queries, metric, 10, threads)
    assert {"aifw", "numpy"} <= {method.name for method in methods}
    assert set(missing) <= {"FAISS", "torch", "usearch", "numkong"}
    for method in methods:
        for batch in (1, 8, 70):
            found = method.search(batch)
            assert found.shape == (batch, 10)
            assert truth.recall(found) == 1.0, method.name
        method.close()


def test_the_best_of_fewer_than_wanted_are_all(module: Any) -> None:
    best = module("search_peers").best
    scores = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert best(scores, 10, least=True).tolist() == [[1, 2, 0], [0, 2, 1]]
    assert best(scores, 10, least=False).tolist() == [[0, 2, 1], [1, 2, 0]]
    assert best(scores, 2, least=True).tolist() == [[1, 2], [0, 2]]
    assert best(scores, 2, least=False).tolist() == [[0, 2], [1, 2]]


class _Clock:
    """Time that passes only while an action runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, measure: ModuleType) -> None:
        self.now = 0.0
        self.done: list[str] = []
        for name in ("perf_counter", "process_time"):
            monkeypatch.setattr(measure.time, name, lambda: self.now)

    def action(self, name: str, seconds: float) -> Any:
        def act() -> str:
            self.now += seconds
            self.done.append(name)
            return name.upper()

        return act


def test_turns_are_taken(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = module("search_measure")
    clock = _Clock(monkeypatch, measure)
    actions = {
        name: clock.action(name, seconds) for name, seconds in {"ours": 0.01, "fast": 0.02, "slow": 0.04}.items()
    }
    found = measure.in_turns(
        actions, seconds=0.3, least=3, threads=1, ours="ours", judge=lambda n, r: {"recall": n + r}
    )
    assert clock.done[:3] == ["ours", "fast", "slow"]
    # Two rounds with all of them take 0.14 s; then five and a bit without the slow one.
    assert found["slow"]["runs"] == measure.FEWEST
    assert found["fast"]["runs"] == found["ours"]["runs"] == 8
    assert clock.done[-2:] in (["ours", "fast"], ["fast", "ours"])
    assert found["fast"]["cpu_median"] == pytest.approx(0.02)
    assert found["slow"]["wall_min"] == pytest.approx(0.04)
    assert found["ours"]["recall"] == "oursOURS"


def test_a_long_first_run_counts(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = module("search_measure")
    clock = _Clock(monkeypatch, measure)
    found = measure.in_turns({"long": clock.action("long", 3.0)}, seconds=1.0, least=3, threads=1)
    assert clock.done == ["long"] * 3
    assert found["long"]["runs"] == 3


def test_only_what_cannot_catch_up_is_left_out(module: Any) -> None:
    hopeless = module("search_measure").hopeless
    before = {
        name: {"wall_median": wall} for name, wall in {"ours": 9.0, "blas": 1.0, "scan": 4.0, "late": 4.0}.items()
    }
    gaining = {"ours": False, "blas": True, "scan": False, "late": True}
    assert hopeless(before, gaining, 8, 64, patience=1.0, ours="ours") == {"scan": "4.0 times the fastest peer at 8"}
    assert not hopeless(before, gaining, 8, 64, patience=33.0, ours="ours")


def test_ratios_are_to_the_best_peer(module: Any) -> None:
    figures = module("search_figures")

    def each(cpu: float, wall: float) -> dict[str, float]:
        return {"cpu_min": cpu, "cpu_median": cpu, "wall_min": wall, "wall_median": wall}

    methods = {"aifw": each(2, 2), "numpy": each(8, 4), "torch": each(6, 5), "usearch": {"left_out": "slow"}}
    ratio = figures.ratios(methods)
    assert (ratio["peer"], ratio["cpu_median"], ratio["wall_median"]) == ("torch", 3.0, 2.0)
    assert figures.ratios({"aifw": each(1, 1)}) is None
    assert figures.ratios({"numpy": each(1, 1)}) is None


def test_targets_and_the_default_of_faiss(module: Any) -> None:
    figures = module("search_figures")
    assert figures.target(1, 384, "cosine") == figures.target(1, 384, "inner_product") == 3.8
    assert figures.target(1, 384, "l2") == figures.target(1, 768, "cosine") == 3.3
    assert [figures.target(batch, 768, "l2") for batch in (8, 64, 1024, 7)] == [6.0, 2.7, 1.8, None]
    assert figures.faiss_default(128_000, 333, 384) == "FAISS scan"
    assert figures.faiss_default(128_000, 334, 384) == "FAISS BLAS"


def test_the_picture_shows_faiss_as_it_is_and_as_it_could_be(module: Any) -> None:
    figures = [
        {"batch": batch, "method": name, "cpu_median": seconds}
        for batch, of in {
            1: {"FAISS scan": 1.0, "FAISS BLAS": 3.0},
            400: {"FAISS scan": 400.0, "FAISS BLAS": 9.0},
        }.items()
        for name, seconds in of.items()
    ] + [{"batch": 400, "method": "usearch", "left_out": "slow"}]
    drawn = module("search_plot").lines(figures, "batch", 200_000, 384)
    assert drawn == {"FAISS, default": {1: 1.0, 400: 400.0}, "FAISS, better threshold": {1: 1.0, 400: 9.0}}


def test_sentences_are_prose(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = module("search_text")
    (tmp_path / "some.py").write_text(
        '"""Reads a table of numbers from a file. See also: x."""\ndef f():\n    """Reads a table of numbers from a file."""\n',
        encoding="utf-8",
    )
    (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "some.jsonl").write_text(
        json.dumps({"text": ["What is the price of five red apples?", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"]}),
        encoding="utf-8",
    )
    monkeypatch.setenv("AIFW_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(text.sysconfig, "get_path", lambda name: str(tmp_path))
    found, sources = text.sentences(100)
    assert sorted(found) == ["Reads a table of numbers from a file.", "What is the price of five red apples?"]
    assert sources == {"data": 1, "standard library": 1, "packages": 0}
    assert len(text.sentences(1)[0]) == 1


def test_all_parts_are_measured_and_shown(tmp_path: Path) -> None:
    script = str(BENCHMARKS / "search.py")
    saved = tmp_path / "found.json"
    small = "--rows 640 --dimensions 32 --data gaussian --batches 1 8 --sizes 100 320 --metrics l2 --threads 1"
    places = ["--cache", str(tmp_path), "--save", str(saved)]
    done = subprocess.run(
        [sys.executable, script, "--quick", "--json", *small.split(), "--methods", "aifw", "numpy", *places],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads(saved.read_text(encoding="utf-8"))
    assert found["machine"]["cores"] >= 1
    assert {"level", "usable", "compiler"} <= found["kernel"].keys()
    (compared,) = found["compare"]
    (each,) = compared["metrics"]
    assert {(one["batch"], one["method"]) for one in each["figures"]} == {
        (b, m) for b in (1, 8) for m in ("aifw", "numpy")
    }
    for one in each["figures"]:
        assert 0 < one["cpu_min"] <= one["cpu_median"]
        assert one["recall"] == 1.0
    assert compared["bandwidth"] > 0
    assert each["counters"]["1"]["rows"] == 640
    assert {one["rows"] for one in found["sizes"][0]["figures"]} == {100, 320}
    assert {one["batch"] for one in found["batches"][0]["metrics"][0]["figures"]} == {1, 2, 4, 8}
    (index,) = found["index"]
    assert index["file_bytes"] > index["float32_bytes"] * 640
    assert index["filter"]["figures"]["aifw, 1 % allowed, from ids"]["recall"] == 1.0
    assert not list(tmp_path.glob("aifw-bench-*"))

    shown = subprocess.run(
        [sys.executable, script, "--from", str(saved)], capture_output=True, text=True, check=True
    ).stdout
    for words in (
        "640 x 32, L2",
        "best peer",
        "memory gives",
        "bytes a vector",
        "Against vectors",
        "QUICK",
        "not measured",
    ):
        assert words in shown
