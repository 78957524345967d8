from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aifw.run.apply import Request, apply
from aifw.run.launch import MAPPINGS
from aifw.spec.load import load
from aifw.state.layout import Layout


def text_of(stack: Any, address: str) -> str:
    with sqlite3.connect(stack.name_folder / "state.db") as connection:
        (digest,) = connection.execute("select artifact from binding where address = ?", (address,)).fetchone()
    connection.close()
    return (stack.state / "artifacts" / digest[:2] / digest[2:] / "text" / "text.txt").read_text()


def rows(stack: Any, query: str) -> list[Any]:
    with sqlite3.connect(stack.name_folder / "state.db") as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


CHAIN = """
stages:
  a: {kind: toy, text: one, witness: WITNESS}
  b: {kind: toy, text: two, sources: [a], witness: WITNESS}
"""


def test_second_apply_does_nothing(stack: Any) -> None:
    stack.write(CHAIN)
    first = stack.apply()
    assert first["results"] == {"stages.a": "done", "stages.b": "done"}
    assert text_of(stack, "stages.b") == "twoone"
    second = stack.apply()
    assert second["results"] == {}
    assert len(stack.witnessed()) == 2


def test_comments_budget_and_threads_change_nothing(stack: Any) -> None:
    stack.write(CHAIN)
    stack.apply()
    stack.write("# a comment\nhardware: {memory: {budget: 3GiB}, threads: 1}\n" + CHAIN.replace("  b:", "\n  b:  "))
    assert {action for action, _ in stack.plan().values()} == {"reuse"}


def test_early_cut_off_stops_where_the_content_is_the_same(stack: Any) -> None:
    body = """
stages:
  a: {kind: toy, text: TEXT, only_length: true, witness: WITNESS}
  b: {kind: toy, text: two, sources: [a], witness: WITNESS}
"""
    stack.write(body.replace("TEXT", "one"))
    stack.apply()
    stack.write(body.replace("TEXT", "six"))
    plan = stack.plan()
    assert plan["stages.a"] == ["update", ["text one → six"]]
    assert plan["stages.b"] == ["maybe", ["only if stages.a changes"]]
    result = stack.apply()
    assert result["results"] == {"stages.a": "done", "stages.b": "unchanged"}
    assert result["empty"]
    assert len(stack.witnessed()) == 3


def test_going_back_to_an_earlier_setting_reuses_what_was_made(stack: Any) -> None:
    stack.write(CHAIN)
    stack.apply()
    stack.write(CHAIN.replace("one", "other"))
    stack.apply()
    stack.write(CHAIN)
    assert {action for action, _ in stack.plan().values()} == {"reuse"}
    stack.apply()
    assert text_of(stack, "stages.b") == "twoone"
    assert len(stack.witnessed()) == 4


def test_a_plan_says_which_input_changed(stack: Any) -> None:
    body = """
stages:
  a: {kind: toy, text: one}
  other: {kind: toy, text: three}
  p: {kind: toy_pair, left: l, right: r}
  b: {kind: toy, text: two, sources: [SOURCES]}
"""
    stack.write(body.replace("SOURCES", "a, p.left"))
    stack.apply()
    stack.write(body.replace("SOURCES", "other, p.right"))
    action, reasons = stack.plan()["stages.b"]
    assert action == "update"
    assert reasons == ["sources.0 stages.a → stages.other", "sources.1 stages.p.left → stages.p.right"]
    stack.write(body.replace("SOURCES", "a, p.left").replace("left: l", "left: changed"))
    assert stack.plan()["stages.b"] == ["maybe", ["only if stages.p changes"]]
    stack.write(body.replace("SOURCES", "other, p.left").replace("left: l", "left: changed"))
    assert stack.plan()["stages.b"] == ["update", ["sources.0 stages.a → stages.other"]]


def test_an_older_result_is_checked_before_it_stands_again(stack: Any) -> None:
    stack.write(CHAIN)
    stack.apply()
    damaged = corrupt(stack, "stages.b")
    stack.write(CHAIN.replace("two", "other"))
    stack.apply()
    damaged.write_text("garbage")
    stack.write(CHAIN)
    assert stack.apply()["empty"]
    assert text_of(stack, "stages.b") == "twoone"


def test_what_was_made_while_its_source_changed_is_not_taken_for_what_was_planned(stack: Any) -> None:
    source = stack.folder / "data"
    source.write_text("old")
    stack.write("stages:\n  a: {kind: toy, file: data, steps: 10, pause: 0.1}\n")
    engine = stack.start()
    deadline = time.monotonic() + 30
    while not list(stack.name_folder.glob("checkpoints/*/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    source.write_text("changed")
    engine.communicate(timeout=60)
    assert text_of(stack, "stages.a") == "changed"
    source.write_text("old")
    assert stack.plan()["stages.a"] == ["update", ["what it reads changed while it was made"]]
    assert stack.apply()["empty"]
    assert text_of(stack, "stages.a") == "old"
    source.write_text("changed")
    assert stack.apply()["empty"]
    assert text_of(stack, "stages.a") == "changed"


def test_who_shares_a_key_stands_for_what_was_made_last_under_it(stack: Any) -> None:
    source = stack.folder / "source"
    source.write_text("1")
    stack.write("stages:\n  a: {kind: toy, unobserved: source}\n  b: {kind: toy, unobserved: source}\n")
    stack.apply()
    source.write_text("2")
    assert stack.apply("--replace", "stages.a")["empty"]
    stack.apply()
    assert (text_of(stack, "stages.a"), text_of(stack, "stages.b")) == ("2", "2")
    assert stack.plan()["stages.b"] == ["reuse", []]


def test_an_external_thing_is_left_alone_if_its_input_turns_out_the_same(stack: Any) -> None:
    body = """
stages:
  a: {kind: toy, text: TEXT, only_length: true}
storage:
  s: {kind: toy_cloud, path: FOLDER/s.json, source: a}
"""
    stack.write(body.replace("TEXT", "one"))
    stack.apply()
    stack.write(body.replace("TEXT", "six"))
    assert stack.plan()["storage.s"] == ["maybe", ["only if stages.a changes"]]
    result = stack.apply()
    assert result["results"] == {"stages.a": "done", "storage.s": "unchanged"}
    assert result["empty"]
    assert rows(stack, "select verb from job where address = 'storage.s'") == [("create",)]


def test_an_external_thing_cannot_become_something_else(stack: Any) -> None:
    stack.write("storage:\n  s: {kind: toy_cloud, path: FOLDER/s.json}\n")
    stack.apply()
    with sqlite3.connect(stack.name_folder / "state.db") as connection:
        connection.execute("update binding set kind = 'another_cloud'")
    connection.close()
    refused = stack.apply()
    assert (refused["status"], refused["error"]) == (4, "AIFW310")
    assert "another_cloud" in refused["message"]


def test_a_failure_stops_only_its_dependants(stack: Any) -> None:
    stack.write("""
stages:
  bad: {kind: toy, text: x, fail: crash}
  after: {kind: toy, sources: [bad]}
  apart: {kind: toy, text: y}
""")
    result = stack.apply()
    assert result["status"] == 1
    assert result["results"] == {"stages.bad": "failed", "stages.after": "skipped", "stages.apart": "done"}
    assert "ZeroDivisionError" in result["errors"]["stages.bad"]["message"]
    failed = [
        event
        for event in map(json.loads, (stack.name_folder / "runs/1/events.jsonl").read_text().splitlines())
        if event["event"] == "job.failed"
    ]
    assert any("about to divide" in line for line in failed[0]["log"])
    stack.write("""
stages:
  bad: {kind: toy, text: x}
  after: {kind: toy, sources: [bad]}
  apart: {kind: toy, text: y}
""")
    assert stack.apply()["results"] == {"stages.bad": "done", "stages.after": "done", "stages.apart": "unchanged"}


@pytest.mark.parametrize(("how", "words"), [("error", "told to fail"), ("exit", "signal 9")])
def test_ways_to_fail_are_told_apart(stack: Any, how: str, words: str) -> None:
    stack.write(f"stages:\n  bad: {{kind: toy, fail: {how}}}\n")
    result = stack.apply()
    assert result["status"] == 1
    assert words in result["errors"]["stages.bad"]["message"]


def test_a_job_over_the_memory_budget_is_ended(stack: Any) -> None:
    stack.write("hardware: {memory: {budget: 256MiB}}\nstages:\n  big: {kind: toy, fail: memory}\n")
    stack.apply()
    failed, exceeded = rows(stack, "select error, actual from job where address = 'stages.big'")[0]
    assert json.loads(failed)["code"] == "AIFW311"
    assert re.match(
        r"out of memory limit: used \S+ \S+, forecast high 1.1 MiB, limit 256 MiB", json.loads(failed)["message"]
    )
    assert json.loads(exceeded)["exceeded"]
    assert json.loads(exceeded)["memory"] > 256 * 1024**2
    stack.wait_for_workers()
    again = stack.apply()
    assert (again["status"], again["error"]) == (4, "AIFW311"), "the next plan knows what it takes"


def test_a_job_over_its_own_limit_is_ended_and_those_beside_it_go_on(stack: Any) -> None:
    stack.write("""
hardware: {memory: {budget: 800MiB}, threads: 2}
stages:
  honest: {kind: toy, text: a, fail: hungry, memory: 600MiB}
  modest: {kind: toy, text: b, fail: hungry}
""")
    result = stack.apply()
    assert result["results"] == {"stages.honest": "done", "stages.modest": "failed"}
    assert result["status"] == 4
    assert "forecast high 1.1 MiB, limit 256 MiB" in result["errors"]["stages.modest"]["message"]


def test_a_forecast_over_the_budget_is_refused(stack: Any) -> None:
    stack.write("hardware: {memory: {budget: 256MiB}}\nstages:\n  big: {kind: toy, memory: 1GiB}\n")
    result = stack.apply()
    assert (result["status"], result["error"]) == (4, "AIFW311")
    assert "stages.big" in result["message"]


def test_memory_decides_what_runs_side_by_side(stack: Any) -> None:
    body = """
hardware: {memory: {budget: BUDGET}, threads: 2}
stages:
  a: {kind: toy, text: a, steps: 4, pause: 0.1, memory: 400MiB}
  b: {kind: toy, text: b, steps: 4, pause: 0.1, memory: 400MiB}
"""

    def overlap() -> bool:
        spans = rows(stack, "select started, ended from job order by started")[-2:]
        return bool(spans[1][0] < spans[0][1])

    # The tight one first: what was measured makes the forecasts of later jobs smaller.
    stack.write(body.replace("BUDGET", "500MiB"))
    stack.apply()
    assert not overlap()
    stack.write(body.replace("BUDGET", "1GiB").replace("text: a", "text: c").replace("text: b", "text: d"))
    stack.apply()
    assert overlap()


def test_interrupted_run_resumes_from_its_checkpoint(stack: Any) -> None:
    stack.write("stages:\n  long: {kind: toy, text: x, steps: 40, pause: 0.1, witness: WITNESS}\n")
    engine = stack.start()
    deadline = time.monotonic() + 30
    while not list(stack.name_folder.glob("checkpoints/*/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    engine.send_signal(signal.SIGINT)
    out, _ = engine.communicate(timeout=30)
    assert engine.returncode == 130
    assert json.loads(out)["results"] == {"stages.long": "stopped"}
    action, reasons = stack.plan()["stages.long"]
    assert action == "resume"
    assert reasons[0].startswith("goes on from step ")
    stack.write("stages:\n  long: {kind: toy, text: x, steps: 40, pause: 0.0, witness: WITNESS}\n")
    assert stack.apply()["results"] == {"stages.long": "done"}
    events = [json.loads(line) for line in (stack.name_folder / "runs/2/events.jsonl").read_text().splitlines()]
    started = next(event for event in events if event["event"] == "job.started")
    assert started["resumed_from"] >= 1
    assert len(stack.witnessed()) == 1


def test_second_interrupt_ends_at_once(stack: Any) -> None:
    stack.write("stages:\n  slow: {kind: toy, steps: 1, pause: 60}\n")
    engine = stack.start()
    deadline = time.monotonic() + 30
    while not stack.workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    engine.send_signal(signal.SIGINT)
    time.sleep(0.3)
    engine.send_signal(signal.SIGINT)
    out, _ = engine.communicate(timeout=30)
    assert engine.returncode == 130
    assert json.loads(out)["results"] == {"stages.slow": "stopped"}
    stack.wait_for_workers()


def test_a_worker_does_not_outlive_its_engine(stack: Any) -> None:
    stack.write("stages:\n  slow: {kind: toy, steps: 1, pause: 60}\n")
    engine = stack.start(AIFW_GRACE_SECONDS="1")
    deadline = time.monotonic() + 30
    while not stack.workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    engine.kill()
    engine.communicate()
    stack.wait_for_workers()


def test_second_apply_is_refused_with_the_pid_of_the_first(stack: Any) -> None:
    stack.write("stages:\n  slow: {kind: toy, steps: 30, pause: 0.1}\n")
    engine = stack.start()
    deadline = time.monotonic() + 30
    while not stack.workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    refused = stack.apply()
    assert (refused["status"], refused["error"]) == (6, "AIFW301")
    assert f"pid {engine.pid}" in refused["message"]
    engine.send_signal(signal.SIGINT)
    engine.communicate(timeout=30)


def corrupt(stack: Any, address: str) -> Path:
    ((digest,),) = rows(stack, f"select artifact from binding where address = '{address}'")
    path: Path = stack.state / "artifacts" / digest[:2] / digest[2:] / "text" / "text.txt"
    path.chmod(0o644)
    return path


def test_a_corrupted_artifact_is_made_again(stack: Any) -> None:
    stack.write(CHAIN)
    stack.apply()
    corrupt(stack, "stages.a").write_text("garbage")
    plan = stack.plan()
    assert plan["stages.a"] == ["replace", ["text/text.txt is corrupted"]]
    assert plan["stages.b"][0] == "maybe"
    result = stack.apply()
    assert result["results"] == {"stages.a": "done", "stages.b": "unchanged"}
    assert result["empty"]
    assert text_of(stack, "stages.a") == "one"


def test_dependants_of_an_artifact_remade_differently_are_stale(stack: Any) -> None:
    (stack.folder / "input.txt").write_text("before")
    stack.write("stages:\n  a: {kind: toy, unobserved: input.txt}\n  b: {kind: toy, text: 'b ', sources: [a]}\n")
    stack.apply()
    corrupt(stack, "stages.a").write_text("damaged")
    (stack.folder / "input.txt").write_text("after")
    plan = stack.plan()
    assert (plan["stages.a"][0], plan["stages.b"][0]) == ("replace", "maybe")
    assert stack.apply()["results"] == {"stages.a": "done", "stages.b": "done"}
    assert text_of(stack, "stages.b") == "b after"


def test_equal_content_is_one_artifact_and_is_made_again_once(stack: Any) -> None:
    stack.write("stages:\n  a: {kind: toy, text: x}\n  b: {kind: toy, sources: [a]}\n")
    stack.apply()
    corrupt(stack, "stages.a").write_text("damaged")
    assert {action for action, _ in stack.plan().values()} == {"replace"}
    assert stack.apply()["empty"]
    assert (text_of(stack, "stages.a"), text_of(stack, "stages.b")) == ("x", "x")


def test_damage_that_leaves_times_alone_is_found_on_use(stack: Any) -> None:
    stack.write(CHAIN)
    stack.apply()
    path = corrupt(stack, "stages.a")
    status = path.stat()
    path.write_text("0ne")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert {action for action, _ in stack.plan().values()} == {"reuse"}
    stack.write(CHAIN.replace("text: two", "text: three"))
    result = stack.apply()
    assert result["results"] == {"stages.a": "done", "stages.b": "done"}
    assert text_of(stack, "stages.b") == "threeone"


FOUND_ON_USE = """
hardware: {threads: THREADS}
stages:
  base: {kind: toy, text: base}
  old: {kind: toy, text: old}
  user: {kind: toy, text: TEXT, sources: [old]}
aliases: {best: {initial: base}}
"""


def damage_on_use(stack: Any, address: str) -> None:
    path = corrupt(stack, address)
    status = path.stat()
    path.write_text("0ld")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_verdict_counts_although_a_new_plan_was_needed_after_it(stack: Any) -> None:
    body = FOUND_ON_USE.replace("THREADS", "1")
    stack.write(body.replace("TEXT", "before"))
    stack.apply()
    damage_on_use(stack, "stages.old")
    gate = '  candidate: {kind: toy, text: x}\n  gate: {kind: toy_gate, candidate: candidate, baseline: "@best", alias: best}\n'
    stack.write(body.replace("TEXT", "after").replace("  old:", f"{gate}  old:"))
    result = stack.apply()
    assert len(rows(stack, "select id from run")) == 3, "damage was found after the verdict"
    assert (result["results"]["stages.candidate"], result["results"]["stages.gate"]) == ("done", "held")
    assert result["status"] == 5


def test_what_was_asked_for_is_made_again_although_a_new_plan_was_needed_before(stack: Any) -> None:
    body = FOUND_ON_USE.replace("THREADS", "1").replace("aliases:", "  zoo: {kind: toy, witness: WITNESS}\naliases:")
    stack.write(body.replace("TEXT", "before"))
    stack.apply()
    damage_on_use(stack, "stages.old")
    stack.write(body.replace("TEXT", "after"))
    assert stack.apply("--replace", "stages.zoo")["empty"]
    assert len(stack.witnessed()) == 2


def test_an_interrupt_while_a_new_plan_is_needed_ends_the_apply(stack: Any) -> None:
    body = FOUND_ON_USE.replace("THREADS", "2").replace("old:", "a_slow: {kind: toy, steps: STEPS, pause: 0.1}\n  old:")
    stack.write(body.replace("TEXT", "before").replace("STEPS", "0"))
    stack.apply()
    damage_on_use(stack, "stages.old")
    stack.write(body.replace("TEXT", "after").replace("STEPS", "40"))
    engine = stack.start()
    deadline = time.monotonic() + 30
    while not list(stack.name_folder.glob("checkpoints/*/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    engine.send_signal(signal.SIGINT)
    out, _ = engine.communicate(timeout=60)
    assert engine.returncode == 130
    assert json.loads(out)["results"]["stages.a_slow"] == "stopped"
    assert "run.replanned" in (stack.name_folder / "runs" / "2" / "events.jsonl").read_text()
    assert stack.apply()["empty"]


def test_an_artifact_deleted_by_hand_is_made_again(stack: Any) -> None:
    import shutil

    stack.write(CHAIN)
    stack.apply()
    shutil.rmtree(corrupt(stack, "stages.b").parents[1])
    assert stack.plan()["stages.b"][0] == "replace"
    assert stack.apply()["results"] == {"stages.a": "unchanged", "stages.b": "done"}


GATE = """
stages:
  base: {kind: toy, text: base}
  new: {kind: toy, text: TEXT}
  gate: {kind: toy_gate, candidate: new, baseline: "@best", alias: best}
aliases: {best: {initial: base}}
"""


def best(stack: Any) -> str:
    return str(rows(stack, "select label from alias where name = 'best'")[0][0]).partition("@")[0]


def test_a_gate_promotes_once_and_then_rests(stack: Any) -> None:
    stack.write(GATE.replace("TEXT", "longer"))
    result = stack.apply()
    assert result["results"]["stages.gate"] == "moved"
    assert (best(stack), result["status"], result["empty"]) == ("new", 0, True)


def test_a_refusal_is_a_finished_result(stack: Any) -> None:
    stack.write(GATE.replace("TEXT", "no"))
    result = stack.apply()
    assert (result["status"], result["results"]["stages.gate"]) == (5, "held")
    assert result["empty"]
    assert best(stack) == "base"
    assert stack.plan()["stages.gate"] == ["held", ["held: not longer"]]
    assert stack.apply()["status"] == 0, "exit 5 comes only from the run that reached the verdict"


def test_rollback_holds_until_released(stack: Any) -> None:
    from aifw.state import aliases
    from aifw.state.layout import Layout
    from aifw.state.store import Store

    stack.write(GATE.replace("TEXT", "longer"))
    stack.apply()
    store = Store.open(Layout(stack.state, "tested"))
    left, now = aliases.rollback(store, "best")
    assert (left.label[:3], now.label[:4]) == ("new", "base")
    action, reasons = stack.plan()["stages.gate"]
    assert (action, "rolled back" in reasons[0]) == ("held", True)
    assert stack.apply()["results"] == {}
    assert best(stack) == "base"
    aliases.release(store, left.label)
    store.close()
    assert stack.plan()["stages.gate"][0] == "update"
    assert stack.apply()["results"]["stages.gate"] == "moved"
    assert best(stack) == "new"


def test_rollback_during_an_apply_is_respected(stack: Any) -> None:
    from aifw.state import aliases
    from aifw.state.layout import Layout
    from aifw.state.store import Store

    stack.write(GATE.replace("TEXT", "longer"))
    stack.apply()
    stack.write(GATE.replace("text: TEXT", "text: longest by far, steps: 15, pause: 0.1"))
    engine = stack.start()
    deadline = time.monotonic() + 30
    while not stack.workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    store = Store.open(Layout(stack.state, "tested"))
    aliases.rollback(store, "best")
    store.close()
    out, _ = engine.communicate(timeout=60)
    assert json.loads(out)["results"]["stages.gate"] == "held"
    assert best(stack) == "base"


def test_external_things_are_deleted_only_with_leave(stack: Any) -> None:
    stack.write("storage:\n  s: {kind: toy_cloud, path: FOLDER/s.json, witness: WITNESS}\n")
    stack.apply()
    stack.write("stages:\n  a: {kind: toy}\n")
    assert stack.plan()["storage.s"][0] == "delete"
    refused = stack.apply()
    assert (refused["status"], refused["error"]) == (4, "AIFW310")
    assert (stack.folder / "s.json").exists()
    assert stack.apply("--delete")["results"]["storage.s"] == "forgotten"
    assert not (stack.folder / "s.json").exists()
    assert [line.split()[0] for line in stack.witnessed()] == ["create", "delete"]


def small_disk(folder: Path, size: str) -> None:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.decode().strip()}")


@pytest.mark.parametrize("spare", [8, 48, 96, 160, 260, 400])
def test_a_full_disk_is_an_error_and_the_state_survives(stack: Any, spare: int) -> None:
    small_disk(stack.state, "1m")
    try:
        stack.write("stages:\n  a: {kind: toy, text: first}\n")
        assert stack.apply()["status"] == 0
        stack.write("stages:\n  a: {kind: toy, text: first}\n  b: {kind: toy, file: big.txt}\n")
        (stack.folder / "big.txt").write_text("x" * 300_000)
        usage = os.statvfs(stack.state)
        ballast = stack.state / "ballast"
        with ballast.open("wb") as file:
            file.write(b"x" * max(0, usage.f_bavail * usage.f_frsize - spare * 1024))
        result = stack.apply()
        assert result["status"] == 1, result
        text = json.dumps(result)
        assert "disk is full" in text
        assert "Traceback" not in result["stderr"]
        ballast.unlink()
        assert text_of(stack, "stages.a") == "first"
        assert stack.apply()["status"] == 0
        assert text_of(stack, "stages.b") == "x" * 300_000
    finally:
        stack.wait_for_workers()
        subprocess.run(["umount", "-l", str(stack.state)], check=True)


def test_saved_plan_is_refused_once_the_state_moved(stack: Any) -> None:
    from aifw.errors import PlanStale
    from aifw.plan import planfile
    from aifw.run.apply import Request, apply
    from aifw.run.planning import make_plan
    from aifw.spec.load import load
    from aifw.state.layout import Layout

    stack.write(CHAIN)
    (stack.folder / "plan").mkdir()
    spec = load([stack.spec])
    layout = Layout(stack.state, spec.name)
    path = stack.folder / "release.aifwplan"
    path.write_text(planfile.save(make_plan(spec, layout)))
    saved = planfile.load(path)
    stack.write(CHAIN.replace("one", "else"))
    stack.apply()
    with pytest.raises(PlanStale):
        apply(spec, layout, Request(saved=saved), lambda _: None, lambda _: True)


def test_a_saved_plan_makes_again_only_once(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from aifw.plan import planfile
    from aifw.run.apply import Request, apply
    from aifw.run.planning import make_plan
    from aifw.spec.load import load
    from aifw.state.layout import Layout

    stack.write(CHAIN)
    stack.apply()
    spec = load([stack.spec])
    layout = Layout(stack.state, spec.name)
    saved = planfile.document(make_plan(spec, layout, replaced=["stages.a", "stages.b"]))
    request = Request(saved=saved, replaced=saved["replaced"])
    monkeypatch.setenv("PYTHONPATH", stack.environment()["PYTHONPATH"])
    for _ in range(2):
        assert apply(spec, layout, request, lambda _: None, lambda _: True) is not None
        assert len(stack.witnessed()) == 4


def test_a_verdict_outlives_its_entry_and_a_collection(stack: Any) -> None:
    from aifw.run.collect import collect

    stack.write(GATE.replace("TEXT", "no"))
    assert stack.apply()["status"] == 5
    stack.write(
        "stages:\n  base: {kind: toy, text: base}\n  new: {kind: toy, text: no}\naliases: {best: {initial: base}}\n"
    )
    stack.apply()
    collect(stack.state, keep=0, older_than=0, dry_run=False)
    stack.write(GATE.replace("TEXT", "no"))
    result = stack.apply()
    assert result["status"] == 0, "a decided candidate is never judged twice"
    assert stack.plan()["stages.gate"][0] == "held"


def test_an_external_thing_is_not_made_again_in_place(stack: Any) -> None:
    stack.write("storage:\n  s: {kind: toy_cloud, path: FOLDER/s.json}\n")
    stack.apply()
    refused = stack.apply("--replace", "storage.s")
    assert (refused["status"], refused["error"]) == (64, "AIFW900")


def test_files_that_were_touched_and_are_sound_get_their_times_noted(stack: Any) -> None:
    stack.write(CHAIN)
    stack.apply()
    own = "select a.fingerprint from artifact a join binding b on b.artifact = a.digest where b.address = 'stages.a'"
    before = rows(stack, own)
    os.utime(corrupt(stack, "stages.a"), ns=(1, 1))
    stack.write(CHAIN.replace("two", "other"))
    assert stack.apply()["results"]["stages.a"] == "unchanged"
    assert rows(stack, own) != before


def test_a_job_computes_where_it_was_placed_and_with_no_more_threads_than_that(stack: Any) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    stack.write("hardware: {threads: 1}\nstages:\n  a: {kind: toy_where}\n")
    stack.apply()
    found = json.loads(text_of(stack, "stages.a"))
    assert (found["told"], found["environment"], found["device"]) == (1, "1", "cpu")
    stack.write("stages:\n  a: {kind: toy_where, text: more}\n")
    stack.apply()
    found = json.loads(text_of(stack, "stages.a"))
    assert 1 <= found["told"] <= len(allowed)
    assert found["environment"] == str(found["told"])
    assert all(set(each) <= set(allowed) and len(each) >= found["told"] for each in found["threads"])
    (order,) = [json.loads(path.read_text()) for path in stack.name_folder.glob("jobs/2-*/job.json")]
    assert set(order["cpus"]) <= set(allowed)
    assert all(set(each) == set(order["cpus"] or allowed) for each in found["threads"])


def test_tensors_of_a_job_get_mappings_of_their_own_unless_the_user_chose_otherwise(
    stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    stack.write("stages:\n  a: {kind: toy_where}\n")
    stack.apply(MALLOC_MMAP_THRESHOLD_="4194304")
    assert json.loads(text_of(stack, "stages.a"))["mapped_from"] == "4194304"
    stack.write("stages:\n  a: {kind: toy_where, text: more}\n")
    stack.apply()
    assert json.loads(text_of(stack, "stages.a"))["mapped_from"] == MAPPINGS["MALLOC_MMAP_THRESHOLD_"]


def test_what_was_to_be_the_same_as_another_is_made_where_the_other_became_something_else(
    tmp_path: Path, toy_kinds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(toy_kinds))
    (tmp_path / "input.txt").write_text("before")
    twin = "{kind: toy, file: input.txt, steps: 4, pause: 0.05}"
    (tmp_path / "spec.yaml").write_text(
        f"apiVersion: aifw/v1\nkind: Stack\nmetadata: {{name: tested}}\nstages:\n  a: {twin}\n  b: {twin}\n"
    )
    spec = load([tmp_path / "spec.yaml"])

    def change(event: Mapping[str, Any]) -> None:
        if event["event"] == "job.started" and event["address"] == "stages.a":
            (tmp_path / "input.txt").write_text("changed meanwhile")

    outcome = apply(spec, Layout(tmp_path / ".aifw", spec.name), Request(), change, lambda plan: True)
    assert outcome is not None
    assert {address: result.status for address, result in outcome.results.items()} == {
        "stages.a": "done",
        "stages.b": "done",
    }
