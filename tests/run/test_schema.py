"""Whatever is told of a run is as the published schema says."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aifw.job import Job
from aifw.run import events as listed
from aifw.run import schema
from aifw.run.apply import Request, apply
from aifw.run.destroy import destroy
from aifw.run.events import Events, Listener
from aifw.spec.load import load
from aifw.state.layout import Layout

PACKAGE = Path(schema.__file__).parents[1]
VALIDATOR = jsonschema.Draft7Validator(schema.schema())
NAMES = set(schema.schema()["properties"]["event"]["enum"])


class Heard(list[dict[str, Any]]):
    """Events, as a program reads them."""

    def hear(self, event: Mapping[str, Any]) -> None:
        self.append(json.loads(json.dumps(event)))

    @property
    def names(self) -> set[str]:
        return {event["event"] for event in self}

    def check(self) -> None:
        assert self
        for event in self:
            assert [each.message for each in VALIDATOR.iter_errors(event)] == [], event


def applied(folder: Path, body: str, listener: Listener, **options: Any) -> None:
    path = folder / "spec.yaml"
    path.write_text(
        "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: tested}\n" + body.replace("FOLDER", str(folder))
    )
    spec = load([path])
    apply(spec, Layout(folder / ".aifw", spec.name), Request(**options), listener, lambda plan: True)


@pytest.fixture
def heard(toy_kinds: Path, monkeypatch: pytest.MonkeyPatch) -> Heard:
    # Workers are processes of their own and find the toy kinds this way.
    monkeypatch.setenv("PYTHONPATH", str(toy_kinds))
    monkeypatch.setenv("AIFW_GRACE_SECONDS", "5")
    return Heard()


def test_it_is_draft_7_and_all_references_lead_somewhere() -> None:
    document = schema.schema()
    jsonschema.Draft7Validator.check_schema(document)
    for name in re.findall(r'"#/definitions/([^"]+)"', json.dumps(document)):
        assert name in document["definitions"]


def test_a_run_with_everything_that_goes_well(tmp_path: Path, heard: Heard) -> None:
    gate = '  g: {kind: toy_gate, candidate: b, baseline: "@best", alias: best}\naliases: {best: {initial: a}}\n'
    cloud = (
        "storage:\n  s: {kind: toy_cloud, path: FOLDER/world.json, witness: FOLDER/witness, source: a, size: SIZE}\n"
    )
    body = "stages:\n  a: {kind: toy, text: hello, only_length: true}\n  b: {kind: toy, text: TEXT, sources: [a], steps: 2}\n"
    applied(tmp_path, cloud.replace("SIZE", "1") + body.replace("TEXT", "longer") + gate, heard.hear)
    applied(tmp_path, cloud.replace("SIZE", "2") + body.replace("sources: [a]", "sources: []") + gate, heard.hear)
    # Another text of the same length: what is made of its length stands again.
    applied(tmp_path, body.replace("TEXT", "longer").replace("hello", "world") + gate, heard.hear, allow_delete=True)
    destroy(Layout(tmp_path / ".aifw", "tested"), tmp_path, heard.hear, lambda plan: True)
    heard.check()
    verbs = {event["verb"] for event in heard if event["event"] == "job.started"}
    assert verbs == {"run", "create", "update", "delete"}
    assert heard.names >= {
        *("run.started", "run.finished", "alias.moved", "alias.held", "memory", "resource.reused"),
        *("resource.forgotten", "job.started", "job.progress", "job.checkpoint", "job.finished"),
    }


def test_a_run_with_everything_that_does_not(tmp_path: Path, heard: Heard) -> None:
    def interrupt(event: Mapping[str, Any]) -> None:
        heard.hear(event)
        if event["event"] == "job.progress" and event["address"] == "stages.slow" and event["done"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    bad = "  bad: {kind: toy, fail: HOW}\n  after: {kind: toy, sources: [bad]}\n"
    for how in ("error", "crash", "exit"):
        applied(tmp_path, "stages:\n" + bad.replace("HOW", how), heard.hear)
    # More than there is: it cannot start.
    applied(
        tmp_path,
        "hardware: {memory: {budget: 64MiB}}\nstages:\n  big: {kind: toy, token: {env: NOT_SET}}\n",
        heard.hear,
    )
    applied(tmp_path, "stages:\n  slow: {kind: toy, steps: 200, pause: 0.05}\n", interrupt)
    heard.check()
    assert heard.names >= {"job.failed", "resource.skipped", "run.stopping", "job.stopped"}
    assert {event["state"] for event in heard if event["event"] == "run.finished"} == {"failed", "interrupted"}


def test_a_run_whose_plan_does_not_hold(tmp_path: Path, heard: Heard) -> None:
    body = "stages:\n  a: {kind: toy, text: hello}\n  b: {kind: toy, text: TEXT, sources: [a], witness: FOLDER/w}\n"

    def spoil(event: Mapping[str, Any]) -> None:
        heard.hear(event)
        if event["event"] == "run.started" and event["run"] == 2:
            path = next((tmp_path / ".aifw/artifacts").glob("*/*/text/text.txt"))
            path.chmod(0o644)
            path.write_text("HELLO")

    applied(tmp_path, "stages:\n  a: {kind: toy, text: hello}\n", heard.hear)
    applied(tmp_path, body.replace("TEXT", "x"), spoil)
    heard.check()
    assert "run.replanned" in heard.names


def test_what_a_job_can_report(tmp_path: Path) -> None:
    heard = Heard()
    events = Events(tmp_path / "run", 1, heard.hear)
    job: Job[None] = Job(
        None, tmp_path / "out", report=lambda name, data: events.emit(f"job.{name}", "stages.a", **data)
    )
    job.progress(1)
    job.progress(0.5, 3, "batch", loss=0.1, rate=2)
    job.metric("loss", 0.3)
    job.metric("loss", 1, 7)
    job.note("skipped 3 rows")
    with job.checkpoint(3):
        pass
    events.close()
    heard.check()
    assert heard.names == {"job.progress", "job.metric", "job.note", "job.checkpoint"}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"time": "2026-01-01T00:00:00.000Z", "run": 1, "event": "job.note"},
        {"time": "2026-01-01T00:00:00.000Z", "run": 1, "event": "job.note", "address": "a.b", "text": 3},
        {"time": "2026-01-01T00:00:00.000Z", "run": 1, "event": "job.sang", "address": "a.b"},
        {"time": 3, "run": 1, "event": "memory", "used": 1, "budget": 2},
        {"time": "2026-01-01T00:00:00.000Z", "run": 1, "event": "memory", "used": 1, "budget": 2, "free": 1},
    ],
)
def test_anything_else_does_not_fit(event: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(event)


def _told() -> set[str]:
    """Names of the events that the code of the engine tells, and of those that a job reports."""
    found = set()
    for path in [*(PACKAGE / "run").glob("*.py"), PACKAGE / "job.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                name = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
                if node.func.attr in {"emit", "tell"} and name:
                    found.add(name)
                elif node.func.attr == "report":
                    found.add(f"job.{name}")
    return found


def test_every_event_that_is_told_is_in_it_and_in_the_list() -> None:
    assert _told() == NAMES
    assert set(re.findall(r"(?<![.\w])(?:run|resource|alias|job|pool)\.[a-z_]+\b", listed.__doc__ or "")) == NAMES - {
        "memory"
    }


def test_it_is_published() -> None:
    path = Path(__file__).parents[2] / "schemas" / schema.NAME
    assert json.loads(path.read_text(encoding="utf-8")) == schema.schema()
