from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Test modules are imported by path, so what they share has to be found some other way.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "evaluation")]

from evaluated import VERDICT, Evaluated, classified, timed  # noqa: E402

from aifw.state.layout import Layout  # noqa: E402

PLUGIN = Path(__file__).parents[1] / "plugin"
GOLDEN = Path(__file__).with_name("golden")

HEAD = "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: tested}\nhardware: {threads: 1, memory: {budget: 512MiB}}\n"
BODY = """
stages:
  a: {kind: toy, text: hello}
  b: {kind: toy, text: " world", sources: [a], steps: 2}
  p: {kind: toy_pair, left: x, right: y}
  c: {kind: toy, sources: [b, p.left]}
  g: {kind: toy_gate, candidate: c, baseline: "@best", alias: best}
aliases:
  best: {initial: a}
"""


@dataclass
class Ended:
    """How a call of the command ended."""

    status: int
    out: str
    err: str


@dataclass
class Shell:
    """A folder with a spec, and the command, called in it."""

    folder: Path
    _run: Callable[..., Ended]

    def write(self, body: str = BODY) -> None:
        (self.folder / "spec.yaml").write_text(HEAD + body.replace("FOLDER", str(self.folder)))

    def aifw(self, *arguments: str, status: int = 0) -> Ended:
        ended = self._run(*arguments)
        assert ended.status == status, f"{ended.status}\n{ended.out}\n{ended.err}"
        return ended

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AIFW_")}
        return {**clean, "PYTHONPATH": str(PLUGIN), "AIFW_GRACE_SECONDS": "5", "TERM": "xterm"}

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        """The command in a process of its own."""
        chosen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen(
            [sys.executable, "-m", "aifw", *arguments],
            cwd=self.folder,
            env=self.environment,
            **chosen,  # type: ignore[call-overload]
        )


@pytest.fixture
def shell(
    tmp_path: Path, toy_kinds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """A folder with a spec of toy kinds, in which the command is called."""
    from aifw.cli.main import run

    monkeypatch.chdir(tmp_path)
    # Workers are processes of their own and find the toy kinds this way.
    monkeypatch.setenv("PYTHONPATH", str(toy_kinds))
    monkeypatch.setenv("AIFW_GRACE_SECONDS", "5")

    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(list(arguments))
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Ended(stop.value.code, captured.out, captured.err)

    made = Shell(tmp_path, call)
    made.write()
    return made


_NORMAL = (
    (re.compile(r" · \S+: [\d.]+ [KMGT]iB pool[^\n]*"), " · MACHINE"),
    (re.compile(r"state #\d+ · \S+$", re.MULTILINE), "state #N · MACHINE"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "DIGEST"),
    (re.compile(r"spec [0-9a-f]{6}\b"), "spec DIGEST"),
    (re.compile(r"@[0-9a-f]{4}\b"), "@NNNN"),
)
_MEASURED = (
    # What earlier jobs of the same run took corrects what is expected of later ones.
    (re.compile(r"(?<= · )[^·\n]*(?= expected$)", re.MULTILINE), "TIME"),
    (re.compile(r"[\d.]+ (?:ms|s)(?= \(| ·|\. Peak|$)", re.MULTILINE), "TIME"),
    (re.compile(r"(?<=\()(?:[\d.]+(?: ms)?\u2013)?[\d.]+ (?:ms|s)(?=\)$)", re.MULTILINE), "TIME"),
    (re.compile(r"(?:[\d.]+(?: [KMG]iB)?\u2013)?(?:[\d.]+|<) [KMG]iB"), "SIZE"),
    (re.compile(r"  +"), "  "),
)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compares a text with `golden/NAME.txt`; `AIFW_UPDATE_GOLDEN=1` writes it anew.

    What differs between machines and runs is replaced by words: digests, the machine and, if asked, what was measured.
    """

    def check(name: str, text: str, *, measured: bool = False) -> None:
        for pattern, word in (*_NORMAL, *(_MEASURED if measured else ())):
            text = pattern.sub(word, text)
        path = GOLDEN / f"{name}.txt"
        if os.environ.get("AIFW_UPDATE_GOLDEN"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluated:
    """Three runs of one evaluation with a baseline, one of another, and two verdicts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text("metadata: {name: field}\n")
    made = Evaluated(tmp_path, Layout(tmp_path / ".aifw", "field"))
    for run, skill in ((1, 0.5), (2, 0.6), (3, 0.9)):
        rows = {
            "classification": (classified(skill, run), classified(0.5, 0)),
            "latency": (timed(0.08, run), timed(0.1, 0)),
        }
        made.add(run, rows, contended=run == 2)
    made.add(3, {"latency": (timed(0.05, 9), None)}, address="stages.speed", baseline=None)
    made.judge(1, {**VERDICT, "candidate": "a" * 64, "decision": "worse", "promote": False, "guards": []}, moved=False)
    made.judge(3, VERDICT, moved=True)
    return made


@pytest.fixture
def aifw(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command, called in the current folder."""
    from aifw.cli.main import run

    def call(*arguments: str, status: int = 0) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(list(arguments))
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        ended = Ended(stop.value.code, captured.out, captured.err)
        assert ended.status == status, f"{ended.status}\n{ended.out}\n{ended.err}"
        return ended

    return call
