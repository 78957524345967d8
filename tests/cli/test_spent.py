"""What was spent on held-out sets, and targets, as `aifw status` and `aifw show` tell them."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aifw.cli.spent import document, texts
from aifw.state.aliases import record_verdict
from aifw.state.layout import Layout
from aifw.state.looks import reserve
from aifw.state.store import Store

LOOKING = """
stages:
  a: {kind: toy, text: hello}
  b: {kind: toy, text: longer than hello}
  m: {kind: toy, text: m, holdout: h}
  g: {kind: toy_gate, candidate: b, baseline: "@best", alias: best, evidence: m}
aliases: {best: {initial: a}}
"""
TARGETS = """
targets:
  long: {measure: length, of: b, value: 10, description: long enough}
  short: {measure: length, of: b, value: 10, better: lower}
  twice: {formula: length / 2 - 1, of: b, value: 7}
  fast: {measure: speed, value: 5x}
  odd: {measure: speed, of: b, value: 5x}
"""


def test_looks_are_shown_of_an_alias(shell: Any) -> None:
    shell.write(LOOKING)
    assert "look" not in shell.aifw("status").out
    shell.aifw("apply")
    assert "@best: 1 look at the held-out set " in shell.aifw("status").out
    assert "1 look at the held-out set " in shell.aifw("show", "@best").out
    (spent,) = json.loads(shell.aifw("show", "@best", "--json").out)["spent"]
    assert (spent["looks"], spent["planned"], spent["alpha_spent"]) == (1, None, None)
    (same,) = json.loads(shell.aifw("status", "--json").out)["spent"]
    assert same == {"alias": "best", **spent}


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        (1, "1 look at the held-out set abcdefgh of 3, 1.7 of 5 % alpha spent"),
        (3, "3 looks at the held-out set abcdefgh, all that alpha 5 % was to last for: a new held-out set is needed"),
    ],
)
def test_what_is_left_of_alpha_is_told(tmp_path: Path, looks: int, said: str) -> None:
    with closing(Store.open(Layout(tmp_path, "tested"))) as store:
        for number in range(1, looks + 1):
            reserve(store, "best", "abcdefghij", [], str(number), "stages.g", 1)
            verdict = {"alias": "best", "data": "abcdefghij", "look": number, "looks": 3}
            spent = {"alpha_spent": 0.05 * number / 3, "alpha_total": 0.05}
            record_verdict(store, "stages.g", verdict | spent, 1)
        assert list(texts(store, "best")) == [said]
        (found,) = document(store, "best")
        assert (found["looks"], found["planned"], found["alpha_total"]) == (looks, 3, 0.05)
        assert list(texts(store, "other")) == []


def test_targets_stand_in_the_status(shell: Any) -> None:
    shell.write(LOOKING + TARGETS)
    assert shell.aifw("validate").status == 0
    shell.aifw("apply")
    out = shell.aifw("status").out
    assert "target" in out
    found = {each["name"]: each for each in json.loads(shell.aifw("status", "--json").out)["targets"]}
    assert {name: each["status"] for name, each in found.items()} == {
        "long": "met",
        "short": "not met",
        "twice": "met",
        "fast": "not measured",
        "odd": "not measured",
    }
    assert found["long"]["measured"] == len("longer than hello")
    assert found["odd"]["note"] == "stages.b does not measure speed"
    assert len(found["long"]["trend"]) == 1
    shell.write(LOOKING.replace("longer than hello", "much longer than hello") + TARGETS)
    shell.aifw("apply")
    (target, *_) = json.loads(shell.aifw("status", "--json").out)["targets"]
    assert [point["value"] for point in target["trend"]] == [17, 22]
    assert "2 runs, first 17" in shell.aifw("status").out


def test_a_broken_spec_shows_no_targets_and_everything_else(shell: Any) -> None:
    shell.write(LOOKING + TARGETS)
    shell.aifw("apply")
    shell.write(LOOKING + "targets:\n  long: {measure: length, of: nothing, value: 10}\n")
    out = shell.aifw("status").out
    assert "target " not in out
    assert "Last run: 1, done" in out


def test_targets_change_nothing_of_a_plan(shell: Any) -> None:
    shell.write(LOOKING)
    shell.aifw("apply")
    shell.write(LOOKING + TARGETS)
    assert "Nothing to do" in shell.aifw("plan").out
