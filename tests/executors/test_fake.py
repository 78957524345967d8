from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from aifw import kind
from aifw.executors import conformance
from aifw.executors.base import Executor
from aifw.executors.conformance import Conformance, Conforming
from aifw.executors.fake import FakeExecutor
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Control
from aifw.plan.compile import compile  # noqa: A004 - the word of the design
from aifw.run.engine import Engine
from aifw.run.events import Events
from aifw.run.launch import Limits
from aifw.run.outcome import Outcome
from aifw.run.worker import perform
from aifw.spec.load import load
from aifw.state.layout import Layout
from aifw.state.store import Store


def real(folder: Path, environment: Mapping[str, str], asked: Control) -> int:
    """The work of a real worker, without its process."""
    return perform(folder, asked)


class TestFakeExecutor(Conformance):
    @pytest.fixture(autouse=True)
    def _announced(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A thread finds the kind where the tests run, and no new package can be announced there."""
        monkeypatch.setattr(kind, "_plugins", lambda: {Conforming.name: Conforming()})
        yield
        deadline = time.monotonic() + 30
        while any(thread.daemon and "_run" in thread.name for thread in threading.enumerate()):
            assert time.monotonic() < deadline, "a job goes on after its executor was closed"
            time.sleep(0.02)

    def make(self) -> Executor:
        return FakeExecutor(real)


def test_a_script_can_play_any_end(tmp_path: Path) -> None:
    def script(folder: Path, environment: Mapping[str, str], asked: Control) -> int:
        (folder / "result.json").write_text(json.dumps({"status": environment["END"]}))
        return int(environment["STATUS"])

    with closing(FakeExecutor(script)) as executor:
        handles = []
        for status in (0, 3, -11):
            folder = tmp_path / str(status)
            folder.mkdir()
            handles.append(executor.launch(folder, {"END": "done", "STATUS": str(status)}))
        found = {}
        while len(found) < 3:
            found.update({ended.handle.pid: ended.status for ended in executor.wait(1)})
        assert found == {handle.pid: status for handle, status in zip(handles, (0, 3, -11), strict=True)}


def test_a_job_that_was_ended_has_no_result(tmp_path: Path) -> None:
    def script(folder: Path, environment: Mapping[str, str], asked: Control) -> int:
        while not asked.stop:
            time.sleep(0.01)
        (folder / "result.json").write_text("{}")
        return 0

    with closing(FakeExecutor(script)) as executor:
        handle = executor.launch(tmp_path, {})
        executor.end(handle)
        (ended,) = executor.wait(30)
        assert ended.status == -9
        assert not (tmp_path / "result.json").exists()


def test_what_a_job_raises_is_in_its_log(tmp_path: Path) -> None:
    def script(folder: Path, environment: Mapping[str, str], asked: Control) -> int:
        raise ZeroDivisionError("on purpose")

    with closing(FakeExecutor(script)) as executor:
        executor.launch(tmp_path, {})
        (ended,) = executor.wait(30)
        assert ended.status == 1
        assert "on purpose" in (tmp_path / "log").read_text()


@pytest.mark.usefixtures("toy_kinds")
def test_an_engine_runs_a_whole_spec_on_it(tmp_path: Path) -> None:
    assert conformance.Conforming.name not in {each.name for each in kind.all_kinds()}, "tests announce it, nobody else"
    spec_file = tmp_path / "spec.yaml"
    spec_file.write_text(
        "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: tested}\n"
        "stages:\n  one: {kind: toy, text: a}\n  two: {kind: toy, text: b, sources: [one]}\n"
        "  bad: {kind: toy, text: c, fail: error}\n  after: {kind: toy, sources: [bad]}\n"
    )
    spec = load([spec_file])
    layout = Layout(tmp_path / ".aifw", spec.name)
    machine = Machine("tested", Cpu("unknown", 2), Memory(2**34, 2**34))

    def execute() -> Outcome:
        with closing(Store.open(layout)) as store, closing(FakeExecutor(real)) as executor:
            snapshot = store.snapshot(machine, {}, ["toy"])
            run = store.begin_run(spec.digest, None)
            with closing(Events(layout.run(run), run, lambda _: None)) as events:
                plan = compile(spec, snapshot)
                return Engine(
                    spec, plan, snapshot, store, run, executor, events, Limits({"memory": 2**33, "threads": 2})
                ).execute()

    first = {address: result.status for address, result in execute().results.items()}
    assert first == {"stages.one": "done", "stages.two": "done", "stages.bad": "failed", "stages.after": "skipped"}
    again = {address: result.status for address, result in execute().results.items()}
    assert again == {**first, "stages.one": "unchanged", "stages.two": "unchanged"}
