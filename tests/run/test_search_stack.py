"""Vectors and an index over them, from a spec to searches, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from aifw.search import Index

EXAMPLE = Path(__file__).parents[2] / "examples/search"

BODY = """
retrieval:
  vectors: {kind: vectors, path: v.npy, ids: ids.npy}
  docs: {kind: index, vectors: vectors, metric: METRIC}
"""


def write(stack: Any, vectors: np.ndarray, ids: np.ndarray, metric: str = "cosine") -> None:
    stack.write(BODY.replace("METRIC", metric))
    for name, numbers in (("v.npy", vectors), ("ids.npy", ids)):
        np.save(stack.folder / name, numbers)
        # As if it were written some time ago: what changed a moment ago is read again by every plan.
        os.utime(stack.folder / name, (1e9 + len(numbers), 1e9 + len(numbers)))


def random(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 24)).astype(np.float32)


def ask(stack: Any, query: str, *values: str) -> list[Any]:
    with closing(sqlite3.connect(stack.name_folder / "state.db")) as connection:
        return connection.execute(query, values).fetchall()


def folder_of(stack: Any, address: str) -> Path:
    ((digest,),) = ask(stack, "select artifact from binding where address = ?", address)
    return Path(stack.state / "artifacts" / digest[:2] / digest[2:])


def index_of(stack: Any) -> Index:
    return Index.open(folder_of(stack, "retrieval.docs") / "index", verify=True)


def notes(stack: Any) -> list[str]:
    found = []
    for path in sorted(stack.name_folder.glob("runs/*/events.jsonl"), key=lambda each: int(each.parent.name)):
        events = map(json.loads, path.read_text().splitlines())
        found += [event["text"] for event in events if event["event"] == "job.note"]
    return found


def test_an_index_is_built_and_goes_on_when_vectors_are_added(stack: Any) -> None:
    vectors, ids = random(3000), np.arange(3000) * 2
    write(stack, vectors[:2500], ids[:2500])
    assert stack.apply()["results"] == {"retrieval.vectors": "done", "retrieval.docs": "done"}
    assert stack.apply()["results"] == {}
    first = folder_of(stack, "retrieval.docs")
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    write(stack, vectors, ids)
    assert stack.plan() == {
        "retrieval.vectors": ["update", ["2,500 x 24 float32 → 3,000 x 24 float32"]],
        "retrieval.docs": ["maybe", ["only if retrieval.vectors changes"]],
    }
    assert stack.apply()["empty"]
    assert notes(stack) == ["made from the former index of 2,500 vectors: 500 added"]
    assert {path: path.read_bytes() for path in before} == before
    found, scores = index_of(stack).search(vectors[::100], 3)
    expected = Index.build(vectors, ids).search(vectors[::100], 3)
    assert np.array_equal(found, expected[0])
    assert scores.tobytes() == expected[1].tobytes()


def test_threads_make_no_new_index_and_another_metric_does(stack: Any) -> None:
    write(stack, random(100), np.arange(100))
    stack.apply()
    write(stack, random(100), np.arange(100), "cosine, threads: 1")
    assert {action for action, _ in stack.plan().values()} == {"reuse"}
    write(stack, random(100), np.arange(100), "l2")
    assert stack.plan()["retrieval.docs"] == ["update", ["metric cosine → l2"]]
    assert stack.apply()["results"]["retrieval.docs"] == "done"
    assert index_of(stack).metric == "l2"


def test_a_vector_that_is_not_finite_fails_the_job_and_nothing_else(stack: Any) -> None:
    vectors = random(100)
    write(stack, vectors, np.arange(100))
    stack.apply()
    vectors[17, 3] = np.nan
    write(stack, np.concatenate([vectors, random(1, seed=1)]), np.arange(101))
    ended = stack.apply()
    assert ended["status"] == 1
    assert ended["results"] == {"retrieval.vectors": "failed", "retrieval.docs": "skipped"}
    assert "row 17 of" in ended["errors"]["retrieval.vectors"]["message"]
    assert len(index_of(stack)) == 100


def test_a_damaged_index_is_made_again(stack: Any) -> None:
    write(stack, random(100), np.arange(100))
    stack.apply()
    (segment,) = folder_of(stack, "retrieval.docs").rglob("*.segment")
    raw = segment.read_bytes()
    segment.chmod(0o644)
    segment.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert stack.plan()["retrieval.docs"][0] == "replace"
    assert stack.apply()["empty"]
    assert np.array_equal(index_of(stack).vectors(np.arange(100)), random(100))


def test_planning_neither_imports_numpy_nor_reads_a_pickle(stack: Any) -> None:
    write(stack, random(100), np.arange(100))
    script = (
        "import sys\n"
        "from aifw.cli.main import run\n"
        "try: run(['plan'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert 'aifw.search.kinds' in sys.modules\n"
        "print('\\n' + ' '.join(sys.modules))"
    )

    def imported() -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=stack.folder,
            env=stack.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return set(done.stdout.splitlines()[-1].split())

    assert not imported() & {"numpy", "safetensors", "pickle", "aifw.search.index", "aifw.search._kernel"}
    stack.apply()
    write(stack, random(101), np.arange(101))
    assert not imported() & {"numpy", "safetensors", "pickle", "aifw.search.index", "aifw.search._kernel"}


def test_the_example_finds_what_a_question_is_about(tmp_path: Path) -> None:
    for path in EXAMPLE.glob("*.*"):
        if path.suffix in {".py", ".txt", ".yaml"}:
            shutil.copy(path, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "40 vectors of 512 dimensions" in run("vectors.py")
    assert "✓ retrieval.passages" in run("-m", "aifw", "apply", "--yes")
    assert run("ask.py", "why does bread rise").splitlines()[0].endswith("gluten holds the bubbles.")
    with (tmp_path / "passages.txt").open("a", encoding="utf-8") as file:
        file.write("41\tA sourdough loaf keeps for a week.\n")
    run("vectors.py")
    assert "made from the former index of 40 vectors: 1 added" in run("-m", "aifw", "apply", "--yes")
    assert run("ask.py", "how long does a sourdough loaf keep").splitlines()[0].endswith("keeps for a week.")
