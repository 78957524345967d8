"""The engine with a machine whose memory the test sets: what waits, what is asked, what pauses and goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aifw.executors.fake import FakeExecutor
from aifw.hardware.machine import Cpu, Machine, Memory, Pressure
from aifw.job import Control
from aifw.kind import Estimate, Forecast
from aifw.plan.compile import compile  # noqa: A004 - the word of the design
from aifw.run import pool, pressure
from aifw.run.engine import Engine
from aifw.run.events import Events
from aifw.run.launch import Limits
from aifw.run.outcome import Outcome
from aifw.run.worker import perform
from aifw.spec.load import load
from aifw.state.layout import Layout
from aifw.state.store import Store

GIB = 1024**3
MIB = 1024**2
RESERVE = GIB
MACHINE = Machine("tested", Cpu("unknown", 4), Memory(16 * GIB, 16 * GIB))


@dataclass
class World:
    """A spec, a machine, and what is heard of a run."""

    folder: Path
    available: int = 12 * GIB
    psi: Pressure | None = None
    heard: list[dict[str, Any]] = field(default_factory=list)
    on: Callable[[dict[str, Any]], None] = lambda event: None
    engine: Engine | None = None

    def names(self, address: str | None = None) -> list[str]:
        quiet = {"job.progress", "job.checkpoint", "memory", "job.note"}
        return [
            each["event"]
            for each in self.heard
            if each["event"] not in quiet and (address is None or each.get("address") == address)
        ]

    def event(self, name: str) -> dict[str, Any]:
        return next(each for each in self.heard if each["event"] == name)

    def hear(self, event: Mapping[str, Any]) -> None:
        self.heard.append(dict(event))
        self.on(dict(event))

    def read(self) -> tuple[int, Pressure | None]:
        return self.available, self.psi

    def work(self, folder: Path, environment: Mapping[str, str], asked: Control) -> int:
        return perform(folder, asked)

    def run(self, body: str, **limits: Any) -> Outcome:
        spec_file = self.folder / "spec.yaml"
        profile = "conservative" if limits.get("conservative", True) else "aggressive"
        head = (
            "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: tested}\n"
            f"hardware: {{memory: {{profile: {profile}}}}}\nstages:\n"
        )
        spec_file.write_text(head + body.replace("FOLDER", str(self.folder)))
        spec = load([spec_file])
        layout = Layout(self.folder / ".aifw", spec.name)
        options = {"capacity": {"memory": 8 * GIB, "threads": 4}, "reserve": RESERVE, **limits}
        with closing(Store.open(layout)) as store, closing(FakeExecutor(self.work)) as executor:
            snapshot = store.snapshot(MACHINE, {}, ["toy_heavy"])
            run = store.begin_run(spec.digest, None)
            with closing(Events(layout.run(run), run, self.hear)) as events:
                plan = compile(spec, snapshot)
                engine = self.engine = Engine(
                    spec, plan, snapshot, store, run, executor, events, Limits(**options), self.read
                )
                outcome = engine.execute()
            store.end_run(run, outcome.state, {})
        assert engine._pool.ledger.used() == {}, "the ledger returns to zero"
        return outcome

    @property
    def done(self) -> Path:
        return self.folder / "done"


@pytest.fixture
def world(tmp_path: Path, toy_kinds: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # Nothing here is about how long things take.
    monkeypatch.setattr(pool, "_READ_EVERY", 0.0)
    monkeypatch.setattr(pressure, "_CALM_SECONDS", 0.3)
    monkeypatch.setattr(pressure, "_SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(pressure, "_WINDOW", 0.0)
    return World(tmp_path)


LATE = "{{kind: toy_heavy, text: {0}, hold: 0, steps: 2, pause: 0.05, until: FOLDER/done{1}}}"


def endless(*names: str, more: str = "") -> str:
    """Jobs that go on until the file `done` is there."""
    return "".join(f"  {name}: {LATE.format(name, more)}\n" for name in names)


def statuses(outcome: Outcome) -> dict[str, str]:
    return {address.removeprefix("stages."): result.status for address, result in outcome.results.items()}


def test_a_job_waits_for_memory_that_others_hold_and_says_so(world: World) -> None:
    world.available = RESERVE + 20 * MIB

    def give(event: dict[str, Any]) -> None:
        if event["event"] == "pool.waits":
            world.available = 12 * GIB

    world.on = give
    outcome = world.run("  a: {kind: toy_heavy, hold: 0, steps: 1}\n")
    assert statuses(outcome) == {"a": "done"}
    waits = world.event("pool.waits")
    assert waits["address"] == "stages.a"
    assert waits["available"] == 20 * MIB
    assert waits["needs"] == round(40 * MIB * 1.1)
    assert world.names("stages.a") == ["pool.waits", "job.started", "job.finished"]


def test_who_waits_in_vain_is_refused_with_numbers(world: World) -> None:
    world.available = RESERVE + 20 * MIB
    outcome = world.run("  a: {kind: toy_heavy, hold: 2GiB}\n  b: {kind: toy_heavy, text: b, hold: 0}\n", patience=0.2)
    assert statuses(outcome) == {"a": "failed", "b": "failed"}
    error = outcome.results["stages.a"].error
    assert error is not None
    assert error["code"] == "AIFW311"
    assert error["message"].startswith("needs 2.2 GiB of memory, and for 0.2 s other programs left only 20.0 MiB")
    assert "hardware.memory.reserve" in error["hint"]
    assert int(outcome.exit_status) == 4


def test_nothing_is_refused_while_jobs_of_the_run_hold_what_it_needs(world: World) -> None:
    world.available = RESERVE + 60 * MIB

    def finish(event: dict[str, Any]) -> None:
        if event["event"] == "pool.waits":
            threading.Timer(0.6, world.done.touch).start()
        if event["event"] == "job.finished":
            world.available = 12 * GIB

    world.on = finish
    outcome = world.run(endless("a", "b"), patience=0.2)
    assert statuses(outcome) == {"a": "done", "b": "done"}
    assert world.names("stages.b") == ["pool.waits", "job.started", "job.finished"]


def test_what_is_reserved_and_not_yet_held_is_not_given_twice(world: World) -> None:
    # Both fit the budget, and each by itself what is there.
    world.available = RESERVE + 3 * GIB

    def finish(event: dict[str, Any]) -> None:
        if event["event"] == "pool.waits":
            world.done.touch()

    world.on = finish
    body = "  a: {kind: toy, text: a, memory: 2GiB, steps: 8, pause: 0.05}\n  b: {kind: toy, text: b, memory: 2GiB}\n"
    outcome = world.run(body)
    assert statuses(outcome) == {"a": "done", "b": "done"}
    waits = world.event("pool.waits")
    assert (waits["address"], waits["available"]) == ("stages.b", 3 * GIB - round(2 * GIB * 1.1))
    assert world.names().index("job.finished") < world.names("stages.b").index("job.started") + 3


@pytest.mark.parametrize("conservative", [True, False])
def test_the_profile_decides_whether_highs_or_middles_fit_side_by_side(world: World, conservative: bool) -> None:
    body = "".join(
        f"  {name}: {{kind: toy, text: {name}, memory: 2GiB, steps: 4, pause: 0.1}}\n" for name in ("a", "b")
    )
    capacity = {"memory": round(4.2 * GIB), "threads": 4}
    outcome = world.run(body, capacity=capacity, conservative=conservative)
    assert statuses(outcome) == {"a": "done", "b": "done"}
    first = [name for name in world.names() if name in {"job.started", "job.finished"}][:2]
    assert first == ["job.started", "job.finished" if conservative else "job.started"]


def test_memory_that_gets_short_shrinks_then_pauses_the_youngest_which_goes_on_later(world: World) -> None:
    def play(event: dict[str, Any]) -> None:
        if event["event"] == "job.checkpoint" and event["address"] == "stages.b" and event["step"] == 3:
            world.available = RESERVE - 100 * MIB
        if event["event"] == "job.paused":
            world.available = 12 * GIB
        if event["event"] == "job.started" and event["resumed_from"]:
            world.done.touch()

    world.on = play
    outcome = world.run(endless("a", "b"))
    assert statuses(outcome) == {"a": "done", "b": "done"}
    asked = [event["address"] for event in world.heard if event["event"] == "job.shrink_asked"]
    assert sorted(asked) == ["stages.a", "stages.b"], "each is asked once"
    (paused,) = (event for event in world.heard if event["event"] == "job.paused")
    assert paused["address"] == "stages.b"
    assert "924 MiB" in paused["because"]
    again = [event for event in world.heard if event["event"] == "job.started" and event["resumed_from"]]
    assert [event["address"] for event in again] == ["stages.b"]
    assert again[0]["resumed_from"] == paused["checkpoint"]
    assert [event["level"] for event in world.heard if event["event"] == "pool.pressure"] == ["shrink", "ok"]
    notes = [event["text"] for event in world.heard if event["event"] == "job.note"]
    assert len(notes) == 2, "both shrank"


def test_nothing_starts_while_memory_is_short(world: World) -> None:
    def play(event: dict[str, Any]) -> None:
        if event["event"] == "job.started" and event["address"] == "stages.first":
            world.available, world.psi = 3 * RESERVE // 2, Pressure(20, 5, 0)
        if event["event"] == "pool.waits":
            world.psi = None

    world.on = play
    outcome = world.run("  first: {kind: toy, steps: 3, pause: 0.1}\n  then: {kind: toy, text: x, sources: [first]}\n")
    assert statuses(outcome) == {"first": "done", "then": "done"}
    assert world.event("pool.waits")["available"] > world.event("pool.waits")["needs"]
    kept = [name for name in world.names() if name.startswith("pool.")]
    assert kept == ["pool.pressure", "pool.waits", "pool.pressure"]
    assert world.event("pool.pressure")["psi"] == 20
    assert world.names("stages.then") == ["pool.waits", "job.started", "job.finished"]


def test_who_runs_alone_pauses_only_when_memory_is_about_to_end(world: World) -> None:
    seen: list[float] = []

    def play(event: dict[str, Any]) -> None:
        if event["event"] == "job.checkpoint":
            seen.append(event["step"])
            if event["step"] == 2:
                world.available = RESERVE // 3
            if event["step"] == 30:
                world.available = RESERVE // 10
        if event["event"] == "job.paused":
            world.available = 12 * GIB
            world.done.touch()

    world.on = play
    outcome = world.run(endless("a").replace("0.05", "0.02"))
    assert statuses(outcome) == {"a": "done"}
    assert world.event("job.paused")["checkpoint"] >= 30
    assert world.names().count("job.paused") == 1


def test_a_job_that_does_not_listen_is_not_ended_by_a_pause(world: World) -> None:
    def play(event: dict[str, Any]) -> None:
        if event["event"] == "job.progress" and event["address"] == "stages.b" and event["done"] == 2:
            world.available = RESERVE // 3
            threading.Timer(0.5, world.done.touch).start()

    world.on = play
    outcome = world.run(endless("a") + endless("b", more=", deaf: true"))
    assert statuses(outcome) == {"a": "done", "b": "done"}
    assert "job.paused" not in world.names("stages.b")
    assert world.names("stages.b")[-1] == "job.finished"


def test_a_job_that_saves_nothing_pauses_once_at_most(world: World) -> None:
    short = [False]

    def play(event: dict[str, Any]) -> None:
        if event["event"] == "job.progress" and event["address"] == "stages.b" and event["done"] == 3:
            world.available = RESERVE // 3
            short[0] = True
        if event["event"] == "job.paused":
            world.available = 12 * GIB
        if event["event"] == "job.progress" and event["address"] == "stages.b" and event["done"] == 20:
            world.done.touch()

    world.on = play
    outcome = world.run(endless("a") + endless("b", more=", forgetful: true"))
    assert statuses(outcome) == {"a": "done", "b": "done"}
    paused = [(each["address"], each["checkpoint"]) for each in world.heard if each["event"] == "job.paused"]
    assert paused[0] == ("stages.b", None)
    assert [address for address, _ in paused].count("stages.b") == 1


def test_an_interrupt_while_a_job_is_paused_leaves_it_stopped_and_the_next_run_goes_on(world: World) -> None:
    def play(event: dict[str, Any]) -> None:
        if event["event"] == "job.checkpoint" and event["address"] == "stages.b" and event["step"] == 3:
            world.available = RESERVE // 3
        if event["event"] == "job.paused":
            assert world.engine is not None
            world.engine.stop()

    world.on = play
    outcome = world.run(endless("a", "b"))
    assert statuses(outcome) == {"a": "stopped", "b": "stopped"}
    assert int(outcome.exit_status) == 130
    step = world.event("job.paused")["checkpoint"]
    stopped = {each["address"]: each["checkpoint"] for each in world.heard if each["event"] == "job.stopped"}
    assert stopped["stages.b"] == step
    world.heard.clear()
    world.on = lambda event: None
    world.available = 12 * GIB
    world.done.touch()
    assert statuses(world.run(endless("a", "b"))) == {"a": "done", "b": "done"}
    resumed = {each["address"]: each["resumed_from"] for each in world.heard if each["event"] == "job.started"}
    assert resumed["stages.b"] == step


def test_who_paused_and_finds_no_room_any_more_is_refused_with_its_checkpoint_kept(world: World) -> None:
    def play(event: dict[str, Any]) -> None:
        if event["event"] == "job.checkpoint" and event["step"] == 3:
            world.available = RESERVE // 10

    world.on = play
    outcome = world.run(endless("a"), patience=0.2)
    assert statuses(outcome) == {"a": "failed"}
    assert world.names("stages.a")[-3:] == ["job.paused", "pool.waits", "job.failed"]
    assert world.event("job.failed")["checkpoint"] == world.event("job.paused")["checkpoint"]


@pytest.mark.parametrize("conservative", [True, False])
def test_who_paused_reserves_what_it_held_when_it_goes_on(world: World, conservative: bool) -> None:
    reserved: list[int] = []

    def play(event: dict[str, Any]) -> None:
        engine = world.engine
        if event["event"] == "job.checkpoint" and event["step"] == 3 and engine is not None:
            for running in engine._running.values():
                running.meter.peak = 100 * MIB
            world.available = RESERVE // 10
        if event["event"] == "job.paused":
            world.available = 12 * GIB
        if event["event"] == "job.checkpoint" and event["step"] > 3 and "job.paused" in world.names() and engine:
            reserved.extend(each["memory"] for each in engine._pool.ledger.entries.values())
            world.done.touch()

    world.on = play
    assert statuses(world.run(endless("a"), conservative=conservative)) == {"a": "done"}
    assert reserved
    assert set(reserved) == {100 * MIB}


def test_a_job_that_takes_what_memory_there_is_takes_what_is_there_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy.kinds import Heavy

    def forecast(_kind: Any, _settings: Any, _inputs: Any, machine: Machine, _history: Any) -> Forecast:
        # As with a batch that is solved for: as much as fits, and no less than a gibibyte.
        return Forecast(Estimate.exact(max(GIB, machine.memory.pool)), Estimate.exact(1), work=1.0)

    monkeypatch.setattr(Heavy, "forecast", forecast)
    body = "  a: {kind: toy_heavy, text: a, hold: 0, steps: 1}\n"
    world.available = RESERVE + GIB - 1
    assert statuses(world.run(body, patience=0.2)) == {"a": "failed"}
    assert world.event("pool.waits")["needs"] == 8 * GIB
    world.available = RESERVE + 3 * GIB
    assert statuses(world.run(body, patience=0.2)) == {"a": "done"}
    assert world.event("job.started")["forecast"]["memory"]["high"] == 3 * GIB


def test_jobs_start_in_the_order_of_the_schedule(world: World) -> None:
    # The chain is the critical path: it starts before what the spec names first.
    body = (
        "  a: {kind: toy_heavy, text: a, hold: 0, steps: 1, pause: 0.01}\n"
        "  b: {kind: toy_heavy, text: b, hold: 0, steps: 1, pause: 0.01}\n"
        "  chain: {kind: toy, text: x, steps: 2, pause: 0.2}\n"
        "  end: {kind: toy, sources: [chain], steps: 2, pause: 0.2}\n"
    )
    outcome = world.run(body, capacity={"memory": 8 * GIB, "threads": 1})
    assert set(statuses(outcome).values()) == {"done"}
    started = [each["address"] for each in world.heard if each["event"] == "job.started"]
    spec = load([world.folder / "spec.yaml"])
    with closing(Store.open(Layout(world.folder / "fresh", spec.name))) as store:
        plan = compile(spec, store.snapshot(MACHINE, {}, []))
    order = sorted(range(4), key=lambda index: (plan.steps[index].start, index))
    assert started == [plan.steps[index].address for index in order]


def test_a_forecast_whose_high_is_beyond_the_budget_reserves_it_all_and_starts_with_its_middle(world: World) -> None:
    body = "  a: {kind: toy, text: a, memory: 460MiB}\n"
    for there, ends in ((450, "failed"), (465, "done")):
        world.available = RESERVE + there * MIB
        outcome = world.run(body, capacity={"memory": 480 * MIB, "threads": 4}, patience=0.2)
        assert statuses(outcome) == {"a": ends}


def test_waiting_ends_when_an_end_is_asked_for(world: World) -> None:
    world.available = RESERVE

    def play(event: dict[str, Any]) -> None:
        if event["event"] == "pool.waits":
            assert world.engine is not None
            world.engine.stop()

    world.on = play
    outcome = world.run("  a: {kind: toy_heavy, hold: 0}\n")
    assert outcome.interrupted
    assert outcome.results == {}
