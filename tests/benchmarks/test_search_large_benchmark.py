"""The benchmark of a large index makes the same vectors however they are asked for, finds wrong answers, and leaves nothing behind."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = ["--rows", "9008", "--dimensions", "32", "--batches", "1", "4", "--checked", "3"]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("search_large_parts")


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(BENCHMARKS / "search_large.py")
    return subprocess.run(
        [sys.executable, script, "--folder", str(folder), *SMALL, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_vectors_do_not_depend_on_the_slices(parts: ModuleType) -> None:
    whole = parts.Rows(10_000, 8)[0:10_000]
    assert whole.shape == (10_000, 8)
    assert len(np.unique(whole, axis=0)) == 10_000
    rows = parts.Rows(10_000, 8)
    cuts = [0, 1, 4095, 4097, 4098, 9000, 10_000]
    pieces = [rows[first:last] for first, last in itertools.pairwise(cuts)]
    assert (np.vstack(pieces) == whole).all()
    assert (rows[100:200] == whole[100:200]).all()
    assert rows.wall > 0


def test_the_scan_finds_the_exact_best(parts: ModuleType) -> None:
    random = np.random.default_rng(1)
    rows = np.round(random.standard_normal((500, 6)) * 4).astype(np.float32)
    query = np.round(random.standard_normal(6) * 4).astype(np.float32)
    best = parts.Best(query, 12)
    for first in range(0, 500, 90):
        block = rows[first : first + 90].astype(np.float64)
        best.look(block, np.arange(first, first + len(block)), float(np.linalg.norm(block, axis=1).max()))
    # Integers: many ties, of which the smaller id comes first.
    scores = [math.fsum((row.astype(np.float64) * query).tolist()) for row in rows]
    assert len(set(scores)) < 400
    assert best.found == sorted(zip(scores, range(500), strict=True), key=lambda each: (-each[0], each[1]))[:12]


def test_a_large_index_is_built_searched_checked_and_removed(tmp_path: Path) -> None:
    done = _run(tmp_path, "--json", "--save", str(tmp_path / "saved.json"))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "saved.json").read_text(encoding="utf-8"))
    assert [each.name for each in tmp_path.iterdir()] == ["saved.json"]
    assert found["rows"] == 9008
    assert found["build"]["file_bytes"] > 9008 * 32 * 5
    for part in ("build", "search", "filtered"):
        assert 1 << 20 < found[part]["own_memory"] < found[part]["resident"]
    assert {(each["threads"], each["batch"]) for each in found["search"]["figures"]} == {
        (threads, batch) for threads in (1, 2) for batch in (1, 4)
    }
    assert all(each["counters"]["rows"] == 9008 * each["batch"] for each in found["search"]["figures"])
    assert found["filtered"]["allowed"] == 90
    assert found["search"]["agree"] is True
    assert found["truth"]["checked"] == found["truth"]["search"] == found["truth"]["filtered"] == 3
    shown = _run(tmp_path, "--own-ids").stdout
    assert "ids given" in shown
    assert "3 of 3 answers" in shown
    assert "3 of 3 with the filter" in shown


def test_nothing_stays_when_a_part_fails(tmp_path: Path) -> None:
    done = _run(tmp_path, "-k", "0")
    assert done.returncode != 0
    assert "search ended with" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_noticed_beforehand(tmp_path: Path) -> None:
    rows = shutil.disk_usage(tmp_path).total // 32
    done = _run(tmp_path, "--rows", str(rows))
    assert done.returncode != 0
    assert "fewer --rows?" in done.stderr
    assert not list(tmp_path.iterdir())
