"""The benchmarks run at the smallest size and print what they promise. No figure is checked: those belong to the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _run(script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--json", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["cpu"]
    assert {"python", "sqlite", "aifw", "pydantic"} <= found["versions"].keys()
    assert found["threads"] == 1
    assert len(found["load_before"]) == len(found["load_after"]) == 3
    return found


def test_plan_is_measured_beside_the_floor(tmp_path: Path) -> None:
    found = _run("plan.py", "--sizes", "3", "7", "--runs", "1", "--peers", str(tmp_path / "nowhere"))
    assert {found["versions"][name] for name in ("snakemake", "dvc")} == {"not installed"}
    commands = {"floor", "aifw --help", "aifw validate", "aifw plan, anew", "aifw plan"}
    assert {(each["resources"], each["command"]) for each in found["figures"]} == {
        (size, command) for size in (3, 7) for command in commands
    }
    for each in found["figures"]:
        assert 0 < each["cpu_least"] <= each["cpu"] <= each["cpu_most"]
        assert each["memory"] > 1024**2
        assert each["runs"] == 1
    (bound,) = found["bounds"]
    assert bound.keys() == {"bound", "value", "at_most", "met"}
    assert bound["met"] == (bound["value"] <= bound["at_most"])


def test_gates_are_measured_by_the_real_gate() -> None:
    found = _run("gates.py", "--replicates", "2", "--cycles", "3", "--candidates", "2", "--no-engine")
    assert found["nothing"]["any promotion"].keys() == {"share", "low", "high", "count", "of"}
    assert len(found["poisoned"]) == 4
    for each in found["real"]:
        assert each["gain"] == 2 * each["detectable"] > 0
    assert found["checked by files"] >= 0
    assert found["cycles"] == 2 * 3 + 4 * 2 + 7 * 2
    assert len(found["bounds"]) == 1 + 4 + 7


def test_overhead_is_measured_around_jobs_and_steps(tmp_path: Path) -> None:
    found = _run("overhead.py", "--jobs", "2", "--runs", "1", "--steps", "3", "--disk", str(tmp_path))
    assert "disk" in found["places"]
    for place in found["places"].values():
        assert place["filesystem"] != "unknown"
        assert place["engine"]["memory"] > 1024**2
        assert place["engine"]["cpu_per_job"] > 0
        assert place["worker"].keys() == {"interpreter", "imports", "kind", "protocol", "worker"}
        assert place["steps"].keys() == {"bare SQLite commit", "job intended", "job launched"}
        assert all(step["wall"] > 0 for step in place["steps"].values())


def test_a_report_is_measured_as_commands_and_as_bytes() -> None:
    found = _run("report.py", "--items", "40", "--runs", "1")
    assert [each["command"] for each in found["figures"]] == ["measure", "report", "report --html", "compare"]
    assert all(each["cpu"] > 0 and each["memory"] > 1024**2 for each in found["figures"])
    assert found["sizes"].keys() == {"report.json", "items.jsonl", "page.html"}
    assert [bound["met"] for bound in found["bounds"]] == [
        bound["value"] <= bound["at_most"] for bound in found["bounds"]
    ]
