"""`kill -9` at every journal boundary and at random instants: the next plan and apply just work, and nothing happens twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import aifw
from aifw.state.artifacts import ArtifactStore

PACKAGE = Path(aifw.__file__).parent

FIRST = """
stages:
  base: {kind: toy, text: base, witness: WITNESS}
  better: {kind: toy, text: longer than, sources: [base], steps: 2, witness: WITNESS}
  measured: {kind: toy, text: measured, holdout: h}
  gate: {kind: toy_gate, candidate: better, baseline: "@best", alias: best, evidence: measured}
storage:
  kept: {kind: toy_cloud, path: FOLDER/kept.json, witness: WITNESS}
  dropped: {kind: toy_cloud, path: FOLDER/dropped.json, witness: WITNESS}
aliases: {best: {initial: base}}
"""
SECOND = """
stages:
  base: {kind: toy, text: base, witness: WITNESS}
  better: {kind: toy, text: much longer than, sources: [base], steps: 2, witness: WITNESS}
  measured: {kind: toy, text: measured, holdout: h}
  gate: {kind: toy_gate, candidate: better, baseline: "@best", alias: best, evidence: measured}
storage:
  kept: {kind: toy_cloud, path: FOLDER/kept.json, size: 2, witness: WITNESS}
aliases: {best: {initial: base}}
"""


def boundaries() -> list[str]:
    """Every boundary of the engine, read from the code. Those of a capability, which has a `kinds.py`, are crossed by its own tests."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if (path.parent / "kinds.py").exists():
            continue
        found |= set(re.findall(r'\bboundary\("([\w.]+)"\)', path.read_text()))
    return sorted(found)


def check_intact(stack: Any, *, replaced: bool = False) -> None:
    """Nothing is half there."""
    stack.wait_for_workers()
    with sqlite3.connect(stack.name_folder / "state.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        unfinished = connection.execute("select id from job where state in ('intended', 'launched')").fetchall()
        assert unfinished == []
        open_effects = connection.execute("select key from effect where state = 'intended'").fetchall()
        assert open_effects == []
        registered = {row[0] for row in connection.execute("select digest from artifact")}
        done = connection.execute("select key from job where state = 'done' and verb = 'run'").fetchall()
    connection.close()
    store = ArtifactStore(stack.state / "artifacts")
    assert set(store.digests()) == registered
    assert {digest: store.damage(digest) for digest in registered if store.damage(digest)} == {}
    assert list(stack.state.glob("artifacts/deleting-*")) == []
    assert [path for path in stack.name_folder.glob("checkpoints/*") if (path.name,) in done] == []
    assert list(stack.name_folder.glob("jobs/*/out")) == []
    repeated = [key for key, count in Counter(done).items() if count > 1]
    assert replaced or repeated == [], "a finished job ran again"


def finish(stack: Any, *arguments: str) -> dict[str, Any]:
    """Apply without a flag until nothing is left; once must be enough."""
    stack.apply("--plan")
    result = stack.apply(*arguments)
    assert result["status"] == 0, result
    assert result["empty"], result
    return result


def check_effects(stack: Any, *, again_allowed: bool) -> None:
    """What the outside world saw: every effect once, every job once unless it died before its result was on disk."""
    lines = Counter(stack.witnessed())
    effects = {line: count for line, count in lines.items() if " " in line}
    assert all(count == 1 for count in effects.values()), effects
    assert len(effects) == 4, "two created, one updated, one deleted"
    jobs = {line: count for line, count in lines.items() if " " not in line}
    assert len(jobs) == 3
    # A worker that is killed at the boundary dies each time one gets there, in both runs of the scenario.
    assert sum(jobs.values()) <= (6 if again_allowed else 3), jobs


@pytest.mark.parametrize("name", boundaries())
def test_killed_at_boundary(stack: Any, name: str) -> None:
    log = stack.folder / "reached"
    crash = {"AIFW_CRASH_AT": name, "AIFW_BOUNDARY_LOG": str(log)}
    replaced: tuple[str, ...] = ()
    stack.write(FIRST)
    if name.startswith("recover."):
        assert stack.apply(AIFW_CRASH_AT="job.launched") == {"killed": True}
    stack.apply(**crash)
    finish(stack)
    stack.write(SECOND)
    if name == "artifact.known":
        replaced = ("--replace", "stages.base")
    stack.apply("--delete", *replaced, **crash)
    finish(stack, "--delete")
    assert name in log.read_text().splitlines(), f"the scenario does not reach {name}"
    check_intact(stack, replaced=bool(replaced))
    if not replaced:
        check_effects(stack, again_allowed=name in {"worker.worked", "worker.started"})


def test_every_boundary_kills(stack: Any) -> None:
    """The test above would pass if a boundary did nothing: at least those of the engine must end it."""
    stack.write(FIRST)
    assert stack.apply(AIFW_CRASH_AT="job.before_commit") == {"killed": True}
    assert stack.plan()["stages.base"][0] == "reuse", "recovery keeps what was finished, already for a plan"


def test_second_crash_while_recovering(stack: Any) -> None:
    stack.write(FIRST)
    assert stack.apply(AIFW_CRASH_AT="artifact.renamed") == {"killed": True}
    assert stack.apply(AIFW_CRASH_AT="job.before_commit") == {"killed": True}
    assert stack.apply(AIFW_CRASH_AT="recover.settled") == {"killed": True}
    finish(stack)
    check_intact(stack)


CREATED = "storage:\n  s: {kind: toy_cloud, path: FOLDER/s.json, size: SIZE, witness: WITNESS}\n"


def test_a_creation_nobody_recorded_is_adopted(stack: Any) -> None:
    stack.write(CREATED.replace("SIZE", "1"))
    assert stack.apply(AIFW_CRASH_AT="effect.acted") == {"killed": True}
    finish(stack)
    assert [line.split()[0] for line in stack.witnessed()] == ["create"]
    check_intact(stack)


def test_a_creation_nobody_recorded_is_undone_if_something_else_is_wanted(stack: Any) -> None:
    stack.write(CREATED.replace("SIZE", "1"))
    assert stack.apply(AIFW_CRASH_AT="effect.intended") == {"killed": True}
    stack.write(CREATED.replace("SIZE", "1"))
    assert stack.apply(AIFW_CRASH_AT="worker.worked")["status"] == 1
    stack.write(CREATED.replace("SIZE", "2"))
    finish(stack)
    assert [line.split()[0] for line in stack.witnessed()] == ["create", "delete", "create"]
    check_intact(stack)


def test_a_creation_nobody_recorded_is_deleted_with_its_entry(stack: Any) -> None:
    stack.write(CREATED.replace("SIZE", "1"))
    assert stack.apply(AIFW_CRASH_AT="effect.acted") == {"killed": True}
    stack.write("stages:\n  a: {kind: toy}\n")
    assert stack.apply()["error"] == "AIFW310", "deleting needs leave, also after a crash"
    finish(stack, "--delete")
    assert [line.split()[0] for line in stack.witnessed()] == ["create", "delete"]
    check_intact(stack)


def test_an_update_nobody_recorded_is_done_again_even_if_it_was_taken_back(stack: Any) -> None:
    stack.write(CREATED.replace("SIZE", "1"))
    stack.apply()
    stack.write(CREATED.replace("SIZE", "2"))
    assert stack.apply(AIFW_CRASH_AT="effect.acted") == {"killed": True}
    stack.write(CREATED.replace("SIZE", "1"))
    finish(stack)
    assert '"size": 1' in (stack.folder / "s.json").read_text()
    check_intact(stack)


def test_a_deletion_nobody_recorded_does_not_keep_it_from_being_wanted_again(stack: Any) -> None:
    stack.write(CREATED.replace("SIZE", "1"))
    stack.apply()
    stack.write("stages:\n  a: {kind: toy}\n")
    assert stack.apply("--delete", AIFW_CRASH_AT="worker.worked")["status"] == 1
    assert not (stack.folder / "s.json").exists()
    stack.write(CREATED.replace("SIZE", "1"))
    finish(stack)
    assert [line.split()[0] for line in stack.witnessed()] == ["create", "delete", "create"]
    check_intact(stack)


def kill_at_random(stack: Any, times: int, seed: int) -> None:
    chance = random.Random(seed)
    for instant in range(times):
        stack.write(f"""
stages:
  a: {{kind: toy, text: "{instant // 5}", steps: 4, pause: 0.05, witness: WITNESS}}
  b: {{kind: toy, text: b, sources: [a], witness: WITNESS}}
  c: {{kind: toy, text: "{instant // 3}", steps: 3, pause: 0.05, witness: WITNESS}}
storage:
  s: {{kind: toy_cloud, path: FOLDER/s.json, size: {1 + instant // 4}, witness: WITNESS}}
""")
        engine = stack.start()
        time.sleep(chance.uniform(0.0, 2.5))
        victims = stack.workers()
        if victims and chance.random() < 0.3:
            victim = chance.choice(victims)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            engine.communicate(timeout=60)
        else:
            engine.kill()
            engine.communicate(timeout=60)
    finish(stack)
    check_intact(stack)
    effects = Counter(line for line in stack.witnessed() if " " in line)
    assert all(count == 1 for count in effects.values()), effects


def test_killed_at_random_instants(stack: Any) -> None:
    kill_at_random(stack, 20, seed=1)


PAUSED = """
hardware: {threads: 2}
stages:
  a: {kind: toy_heavy, text: a, hold: 0, steps: 5, pause: 0.05, until: FOLDER/done}
  b: {kind: toy_heavy, text: b, hold: 0, steps: 5, pause: 0.05, until: FOLDER/done}
"""


def started(stack: Any, run: int) -> dict[str, int | None]:
    """Step of the checkpoint that each job of a run went on from."""
    lines = (stack.name_folder / "runs" / str(run) / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return {event["address"]: event["resumed_from"] for event in events if event["event"] == "job.started"}


def paused_run(stack: Any, **crash: str) -> Any:
    """An engine one of whose two jobs is asked to pause, once both have saved something."""
    memory = stack.folder / "memory"
    memory.write_text(str(2**40))
    stack.write(PAUSED)
    engine = stack.start("--hasty", "--memory", str(memory), **crash)
    deadline = time.monotonic() + 60
    while len({path.parent for path in stack.name_folder.glob("checkpoints/*/step-*")}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    memory.with_suffix(".new").write_text(str(2**29 - 2**20))
    memory.with_suffix(".new").rename(memory)
    return engine


def wait_for_pause(stack: Any) -> None:
    log = stack.name_folder / "runs" / "1" / "events.jsonl"
    deadline = time.monotonic() + 60
    while '"job.paused"' not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_goes_on(stack: Any) -> None:
    """Both jobs go on from where they were, with nothing done twice."""
    (stack.folder / "done").touch()
    finish(stack)
    assert [address for address, step in started(stack, 2).items() if step is None] == []
    check_intact(stack)


def test_killed_while_a_job_is_paused(stack: Any) -> None:
    engine = paused_run(stack)
    wait_for_pause(stack)
    engine.kill()
    engine.communicate(timeout=60)
    stack.wait_for_workers()
    check_goes_on(stack)


@pytest.mark.parametrize("name", ["job.before_end", "job.ended"])
def test_killed_at_a_boundary_of_a_pause(stack: Any, name: str) -> None:
    engine = paused_run(stack, AIFW_CRASH_AT=name)
    engine.communicate(timeout=60)
    assert engine.returncode == -signal.SIGKILL
    check_goes_on(stack)


def test_interrupted_while_a_job_is_paused(stack: Any) -> None:
    engine = paused_run(stack)
    wait_for_pause(stack)
    engine.send_signal(signal.SIGINT)
    out, _ = engine.communicate(timeout=60)
    assert engine.returncode == 130
    assert json.loads(out)["results"] == {"stages.a": "stopped", "stages.b": "stopped"}
    check_goes_on(stack)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_many_random_instants(stack: Any, seed: int) -> None:
    kill_at_random(stack, 20, seed=100 + seed)
