from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.kind import Observation, Past
from aifw.plan.snapshot import Binding, OutputRecord, Pointer
from aifw.state import aliases, jobs
from aifw.state.jobs import JobEntry
from aifw.state.layout import Layout
from aifw.state.store import Made, Store

MACHINE = Machine("tested", Cpu("unknown", 4), Memory(10, 5))

Commit = Callable[..., Made]


def entry(run: int, number: int = 1, **changes: str) -> JobEntry:
    fields = {"address": "stages.one", "kind": "toy", "verb": "run", "key": "key", "recipe": "r", "identity": "{}"}
    return JobEntry(f"{run}-{number}", run, **{**fields, **changes}, inputs="{}", pid=None, pid_start=None)


# Snapshots


def test_an_empty_state_is_an_empty_snapshot(store: Store) -> None:
    seen = {"stages.a": Observation("f", "1 byte")}
    snapshot = store.snapshot(MACHINE, seen, ["toy"])
    assert (snapshot.machine, snapshot.observations, snapshot.serial) == (MACHINE, seen, 0)
    assert not any([snapshot.bindings, snapshot.made, snapshot.artifacts, snapshot.aliases, snapshot.quarantined])
    assert snapshot.history["toy"].past == ()


def test_a_snapshot_has_all_that_was_committed(layout: Layout, store: Store, commit: Commit) -> None:
    made = commit(store, "stages.one", "hello", length=5)
    digest = made.manifest["outputs"]["text"]["digest"]
    pointer = Pointer(made.digest, "text", digest, "one@1234")
    aliases.initialise(store, "champion", pointer, 1)
    with closing(Store.open(layout)) as again:
        snapshot = again.snapshot(MACHINE, {}, ["toy"])
    assert snapshot.bindings["stages.one"] == Binding(
        "stages.one", "toy", "artifact", made.digest, "key-stages.one-hello", "recipe-hello", "{}"
    )
    assert snapshot.made == {"key-stages.one-hello": made.digest}
    (record,) = snapshot.artifacts.values()
    assert (record.digest, record.kind, record.damage) == (made.digest, "toy", "")
    assert record.outputs == {"text": OutputRecord(digest, '{"length": 5}')}
    assert record.outputs["text"].facts == {"length": 5}
    assert snapshot.aliases == {"champion": pointer}
    assert snapshot.serial == 2
    assert snapshot.history["toy"].past == (Past(10, 1.0, 2.0, {}),)


def test_damage_shows_in_the_snapshot_of_what_is_bound_or_pointed_to(store: Store, commit: Commit) -> None:
    bound, pointed, loose = (commit(store, f"stages.{name}", name) for name in ("bound", "pointed", "loose"))
    pointer = Pointer(pointed.digest, "text", pointed.manifest["outputs"]["text"]["digest"])
    aliases.initialise(store, "champion", pointer, 1)
    for name in ("pointed", "loose"):
        store.forget(f"stages.{name}", 1)
    for made in (bound, pointed, loose):
        (store.artifacts.path(made.digest) / "text" / "text.txt").unlink()
    records = store.snapshot(MACHINE, {}, []).artifacts
    assert records[bound.digest].damage == records[pointed.digest].damage == "text/text.txt is missing"
    assert records[loose.digest].damage == "", "what nothing refers to is not looked at"


def test_a_touched_file_with_the_same_bytes_is_no_damage(store: Store, commit: Commit) -> None:
    made = commit(store, "stages.one")
    os.utime(store.artifacts.path(made.digest) / "text" / "text.txt", (1, 1))
    assert store.snapshot(MACHINE, {}, []).artifacts[made.digest].damage == ""


def test_damage_found_on_use_is_remembered_until_it_is_made_again(store: Store, commit: Commit) -> None:
    made = commit(store, "stages.one")
    store.mark_damaged(made.digest, "text/text.txt is corrupted")
    assert store.snapshot(MACHINE, {}, []).artifacts[made.digest].damage == "text/text.txt is corrupted"
    commit(store, "stages.one")
    assert store.snapshot(MACHINE, {}, []).artifacts[made.digest].damage == ""


def test_the_last_checkpoint_of_each_key_is_seen(store: Store) -> None:
    for key, steps in {"one": (3, 12, 7), "two": (1,), "three": ()}.items():
        for step in steps:
            (store.layout.checkpoints(key) / f"step-{step:09d}").mkdir(parents=True)
    (store.layout.checkpoints("three") / "writing-5-99").mkdir(parents=True)
    assert store.snapshot(MACHINE, {}, []).checkpoints == {"one": 12, "two": 1}


def test_forgetting_leaves_the_bytes_and_the_key(store: Store, commit: Commit) -> None:
    made = commit(store, "stages.one")
    store.forget("stages.one", 1)
    snapshot = store.snapshot(MACHINE, {}, [])
    assert snapshot.bindings == {}
    assert list(snapshot.made.values()) == [made.digest]
    assert store.artifacts.damage(made.digest) == ""


# Serial numbers


def test_a_state_that_moved_only_by_a_plan_is_told_from_one_that_moved_otherwise(store: Store, commit: Commit) -> None:
    mine, other = store.begin_run("spec", "plan-1"), store.begin_run("spec", None)
    again = store.begin_run("spec", "plan-1")
    before = store.serial
    assert store.moved_only_by("plan-1", before)
    commit(store, "stages.one", run=mine)
    commit(store, "stages.two", run=again)
    assert store.serial == before + 2
    assert store.moved_only_by("plan-1", before)
    assert not store.moved_only_by("plan-2", before)
    commit(store, "stages.three", run=other)
    assert not store.moved_only_by("plan-1", before)
    assert store.moved_only_by("plan-1", store.serial)


def test_a_rollback_by_hand_is_a_move_of_its_own(store: Store, point: Callable[[Store, str], Pointer]) -> None:
    run = store.begin_run("spec", "plan-1")
    before = store.serial
    aliases.initialise(store, "champion", point(store, "aaaa"), run)
    aliases.promote(store, "champion", "aaaa", point(store, "bbbb"), run, {})
    assert store.moved_only_by("plan-1", before)
    aliases.rollback(store, "champion")
    assert not store.moved_only_by("plan-1", before)


# Jobs and runs


def test_a_job_is_in_the_journal_from_intent_to_end(store: Store, commit: Commit) -> None:
    run = store.begin_run("spec", None)
    for number in (1, 2):
        jobs.intended(store, entry(run, number), "{}", {"seconds": 1}, "local")
    jobs.launched(store, f"{run}-2", 42, 77)
    found = jobs.unfinished(store)
    assert [(each.id, each.pid, each.pid_start) for each in found] == [(f"{run}-1", None, None), (f"{run}-2", 42, 77)]
    jobs.ended(store, f"{run}-1", "failed", {"seconds": 1}, {"code": "AIFW500"})
    jobs.ended(store, f"{run}-2", "lost")
    assert jobs.unfinished(store) == []
    assert store.rows("select state, error from job order by id") == [("failed", '{"code": "AIFW500"}'), ("lost", None)]


def test_history_is_of_finished_jobs_newest_first_and_not_of_resumed_ones(store: Store) -> None:
    run = store.begin_run("spec", None)
    for number in range(25):
        jobs.intended(store, entry(run, number), '{"batch": 4}', None, "local")
        actual = {"seconds": float(number), "memory": 1, "cpu": 0, "work": 1.0, "resumed": number == 23}
        jobs.ended(store, f"{run}-{number}", "failed" if number == 24 else "done", actual)
        with store.transaction() as connection:
            connection.execute(
                "update job set ended = ? where id = ?", (f"2030-01-01T00:00:{number:02}", f"{run}-{number}")
            )
    past = store.history("toy").past
    assert [each.seconds for each in past] == [float(number) for number in range(22, 2, -1)]
    assert past[0].settings == {"batch": 4}
    assert store.history("toy").rate() == 13.0
    assert store.history("another").past == ()


def test_a_run_is_registered_and_closed(store: Store) -> None:
    run = store.begin_run("spec-digest", "plan-digest")
    assert store.rows("select state, pid, spec, plan from run") == [
        ("running", os.getpid(), "spec-digest", "plan-digest")
    ]
    store.end_run(run, "held", {"exit": 5})
    ((state, ended, summary),) = store.rows("select state, ended, summary from run")
    assert (state, json.loads(summary)) == ("held", {"exit": 5})
    assert ended.endswith("Z")


# Files that were looked at


def test_a_file_is_read_again_only_if_it_looks_different(layout: Layout, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("one")
    os.utime(path, (0, 0))
    digest = store.digest_of()(path)
    store.remember_observed({str(path): digest})
    with closing(Store.open(layout)) as again:
        with again.transaction() as connection:
            connection.execute("update observed set digest = 'remembered'")
        assert again.digest_of()(path) == "remembered"
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        assert again.digest_of()(path) == digest
        path.write_text("two")
        assert again.digest_of()(path) not in {"remembered", digest}


def test_a_file_that_changes_after_it_was_read_is_not_taken_for_what_was_read(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("one")
    os.utime(path, (0, 0))
    digest = store.digest_of()(path)
    path.write_text("two, longer")
    store.remember_observed({str(path): digest})
    assert store.digest_of()(path) != digest


def test_a_file_that_changed_a_moment_ago_is_read_again(store: Store, tmp_path: Path) -> None:
    """It may change once more within the same tick of the clock, and look the same."""
    path = tmp_path / "data"
    path.write_text("one")
    look = path.stat()
    store.remember_observed({str(path): store.digest_of()(path)})
    path.write_text("two")
    os.utime(path, ns=(look.st_atime_ns, look.st_mtime_ns))
    assert path.stat().st_ino == look.st_ino
    assert store.digest_of()(path) == sha256(b"two").hexdigest()


def test_a_file_that_is_gone_when_it_would_be_remembered_is_no_error(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("one")
    digest = store.digest_of()(path)
    path.unlink()
    store.remember_observed({str(path): digest, str(tmp_path / "never"): "digest"})
    with pytest.raises(FileNotFoundError):
        store.digest_of()(path)


def test_states_of_one_folder_share_artifacts_and_nothing_else(tmp_path: Path) -> None:
    one, two = Layout(tmp_path, "one"), Layout(tmp_path, "two")
    assert one.artifacts == two.artifacts
    paths = [
        [each.folder, each.database, each.lock, each.run(1), each.job("j"), each.checkpoints("k")]
        for each in (one, two)
    ]
    assert not set(paths[0]) & set(paths[1])
    assert all(
        path.is_relative_to(each.folder) for each, found in zip((one, two), paths, strict=True) for path in found
    )


# History


def ended_job(
    store: Store,
    number: int,
    state: str = "done",
    forecast: dict[str, Any] | None = None,
    *,
    run: int | None = None,
    **actual: Any,
) -> None:
    """A job that ended in a state, with what it took."""
    began = store.begin_run("spec", None) if run is None else run
    one = entry(began, number, address=f"stages.job{number}")
    jobs.intended(store, one, '{"text": "x"}', forecast, "local")
    jobs.ended(
        store, one.id, state, {"seconds": 1.0, "memory": 10, "cpu": 0.5, "work": 2.0, "resumed": False, **actual}
    )


def stated(memory: float, seconds: float, **more: Any) -> dict[str, Any]:
    return {"memory": {"low": 1, "mid": memory, "high": 99}, "seconds": {"low": 1, "mid": seconds, "high": 99}, **more}


def test_history_says_where_a_job_ran_and_what_its_kind_had_stated(store: Store) -> None:
    ended_job(store, 1, forecast=stated(8.0, 3.0, uncorrected=None), device="xpu:0", exceeded=False)
    ended_job(store, 2, forecast=stated(8.0, 3.0, uncorrected=[4.0, 6.0]), device="cpu", exceeded=False)
    newest, oldest = store.history("toy").past
    assert oldest == Past(10, 1.0, 2.0, {"text": "x"}, "xpu:0", 8.0, 3.0, age=1)
    assert newest == Past(10, 1.0, 2.0, {"text": "x"}, "cpu", 4.0, 6.0, age=0)


def test_a_job_that_exceeded_its_memory_is_part_of_history_and_other_failures_are_not(store: Store) -> None:
    ended_job(store, 1, "failed", stated(8.0, 3.0), device="cpu", exceeded=True, memory=30)
    ended_job(store, 2, "failed", stated(8.0, 3.0), device="cpu", exceeded=False)
    ended_job(store, 3, "stopped", stated(8.0, 3.0), device="cpu")
    ended_job(store, 4, "done", stated(8.0, 3.0), device="cpu", resumed=True)
    (past,) = store.history("toy").past
    assert (past.exceeded, past.memory, past.expected_memory) == (True, 30, 8.0)


def test_jobs_of_one_run_are_of_one_age(store: Store) -> None:
    first, _, third = (store.begin_run("spec", None) for _ in range(3))
    for number, run in enumerate((first, first, third)):
        ended_job(store, number, run=run)
    assert [past.age for past in store.history("toy").past] == [0, 2, 2]


def test_what_an_older_state_does_not_say_is_unknown(store: Store) -> None:
    ended_job(store, 1, forecast=stated(8.0, 3.0))
    run = store.begin_run("spec", None)
    jobs.intended(store, entry(run), "{}", None, "local")
    jobs.ended(store, entry(run).id, "done", {"seconds": 1.0, "memory": None, "recovered": True})
    bare, older = store.history("toy").past
    assert (older.device, older.expected_memory, older.expected_seconds) == ("cpu", None, 3.0)
    assert (bare.memory, bare.work, bare.expected_memory, bare.expected_seconds) == (0.0, 0.0, None, None)


def test_history_is_of_the_newest_jobs_that_say_something(store: Store) -> None:
    run = store.begin_run("spec", None)
    for number in range(40):
        ended_job(store, number, resumed=number >= 30, run=run, work=float(number + 1))
    found = [past.work for past in store.history("toy").past]
    assert len(found) == 20
    assert max(found) <= 30


def test_a_deletion_says_nothing_of_a_creation(store: Store) -> None:
    run = store.begin_run("spec", None)
    gone = entry(run, verb="delete")
    jobs.intended(store, gone, "{}", None, "local")
    jobs.ended(store, gone.id, "done", {"seconds": 1.0, "memory": 10, "resumed": False, "device": "cpu"})
    assert store.history("toy").past == ()
