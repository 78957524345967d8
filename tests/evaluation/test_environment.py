"""What an evaluation ran on, from captured trees of /proc."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import jsonschema
import pytest

import aifw
from aifw.evaluation.environment import Environment, packages
from aifw.evaluation.schema import schema
from aifw.job import Job


def tree(root: Path, cpu: float | None, memory: float = 0.0) -> Path:
    """As much of a machine as is looked at."""
    shutil.rmtree(root, ignore_errors=True)
    folder = root / "proc/pressure"
    folder.mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 16384000 kB\nMemAvailable: 8192000 kB\n")
    (root / "proc/cpuinfo").write_text("processor : 0\nmodel name : Some processor\nflags : avx2\n\n")
    for name, some in (("cpu", cpu), ("memory", memory), ("io", 0.0)):
        if some is not None:
            text = "".join(f"{line} avg10={some:.2f} avg60=0.00 avg300=0.00 total=1\n" for line in ("some", "full"))
            (folder / name).write_text(text)
    return root


def test_everything_a_report_wants_is_there(tmp_path: Path) -> None:
    job = Job(None, tmp_path, device="cpu", threads=3, seed=11)
    found = Environment.begin(job, tree(tmp_path / "quiet", 1.5)).end()
    jsonschema.validate(found, schema()["properties"]["environment"])
    assert found["time"].endswith("Z")
    assert found["aifw"] == aifw.__version__
    assert found["python"] == platform.python_version()
    assert found["hardware"]["processor"] == "Some processor"
    assert found["hardware"]["memory"] == 16384000 * 1024
    assert (found["threads"], found["device"], found["seed"]) == (3, "cpu", 11)
    assert found["contention"]["before"]["cpu"] == 1.5
    assert not found["contention"]["contended"]
    assert "numpy" in packages()


@pytest.mark.parametrize(
    ("before", "after", "memory", "contended"), [(1, 1, 0, False), (30, 1, 0, True), (1, 30, 0, True), (1, 1, 20, True)]
)
def test_contention_before_or_after_counts(
    tmp_path: Path, before: float, after: float, memory: float, contended: bool
) -> None:
    environment = Environment.begin(Job(None, tmp_path), tree(tmp_path / "machine", before))
    tree(tmp_path / "machine", after, memory)
    assert environment.end()["contention"]["contended"] is contended


@pytest.mark.parametrize(("load", "overloaded"), [(0.5, False), (1000.0, True)])
def test_where_waiting_is_not_told_the_load_stands_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: float, overloaded: bool
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    found = Environment.begin(Job(None, tmp_path), tree(tmp_path / "machine", None)).end()["contention"]
    assert found["before"]["cpu"] is None
    assert "pressure on cpu is unknown" in found["before"]["reason"]
    assert found["contended"] is overloaded
