from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aifw.plan.snapshot import Pointer
from aifw.state.artifacts import build_manifest
from aifw.state.jobs import JobEntry, committed, intended
from aifw.state.layout import Layout
from aifw.state.store import Made, Store


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / ".aifw", "tested")


@pytest.fixture
def store(layout: Layout) -> Iterator[Store]:
    with closing(Store.open(layout)) as opened:
        yield opened


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Puts an artifact with one text into a store; its bytes are there, nothing is registered."""

    def keep(store: Store, text: str = "text", **facts: Any) -> Made:
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        (out / "text").mkdir(parents=True)
        (out / "text" / "text.txt").write_text(text)
        manifest = build_manifest(out, "toy", ("text",), {"text": facts})
        digest = store.artifacts.keep(out, manifest)
        return Made(digest, len(text), store.artifacts.fingerprint(digest), json.loads(json.dumps(manifest)))

    return keep


@pytest.fixture
def commit(make: Callable[..., Made]) -> Callable[..., Made]:
    """Registers the artifact of a job that made one, as the engine does."""

    def register(store: Store, address: str, text: str = "text", *, run: int | None = None, **facts: Any) -> Made:
        if run is None:
            run = store.begin_run("spec", None)
        made = make(store, text, **facts)
        key = f"key-{address}-{text}"
        number = store.rows("select count(*) from job")[0][0]
        entry = JobEntry(f"{run}-{number}", run, address, "toy", "run", key, f"recipe-{text}", "{}", "{}", None, None)
        intended(store, entry, "{}", None, "local")
        actual = {"seconds": 1.0, "memory": 10, "cpu": 0.5, "work": 2.0, "resumed": False}
        committed(store, entry, made, actual, {})
        return made

    return register


@pytest.fixture
def point() -> Callable[[Store, str], Pointer]:
    """A pointer to an artifact whose folder is there."""

    def pointer(store: Store, digest: str) -> Pointer:
        store.artifacts.path(f"{digest}-artifact").mkdir(parents=True, exist_ok=True)
        return Pointer(f"{digest}-artifact", "model", digest, f"dpo@{digest[:4]}")

    return pointer


@pytest.fixture
def python() -> Callable[..., subprocess.Popen[str]]:
    """Starts a process that runs Python code with arguments, for what only shows between processes."""

    def start(code: str, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(os.fspath, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    return start
