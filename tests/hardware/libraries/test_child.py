"""Children that answer, and children that crash, hang, print or flood."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aifw.hardware.libraries.child import converse

ANSWER = "from aifw.hardware.libraries.child import answers\nanswer = answers()\n"


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a text as a child; returns its answers and why it did not end well."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])]))

    def run(text: str, seconds: float = 30.0) -> tuple[list[Mapping[str, Any]], str]:
        (tmp_path / "the_child.py").write_text(text)
        heard: list[Mapping[str, Any]] = []
        return heard, converse("the_child", [], seconds, heard.append)

    return run


def test_answers_come_in_order_and_prints_do_not_mix_in(ask: Any) -> None:
    text = ANSWER + "answer({'a': 1})\nprint('{\"b\": 2}')\nimport os\nos.system('echo 3')\nanswer({'c': 4})\n"
    assert ask(text) == ([{"a": 1}, {"c": 4}], "")


def test_what_was_answered_before_a_crash_is_kept(ask: Any) -> None:
    heard, why = ask(ANSWER + "answer({'a': 1})\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert heard == [{"a": 1}]
    assert why == "crashed: SIGSEGV"


def test_an_exception_is_told_by_its_last_line(ask: Any) -> None:
    assert ask(ANSWER + "raise RuntimeError('no driver')\n") == ([], "failed: RuntimeError: no driver")
    assert ask("import sys; sys.exit(7)\n") == ([], "failed: exit status 7")


def test_garbage_is_a_finding(ask: Any) -> None:
    heard, why = ask("print('\\x00\\xff garbage'); print('{\"a\": 1}'); print('[1]'); print('[' * 100000)\n")
    assert heard == [{"a": 1}]
    assert "garbage" in why


def test_a_child_that_hangs_is_ended_with_what_it_started(ask: Any, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    text = (
        ANSWER + "import subprocess, time\nanswer({'a': 1})\n"
        f"open({str(pid)!r}, 'w').write(str(subprocess.Popen(['sleep', '100']).pid))\ntime.sleep(100)\n"
    )
    heard, why = ask(text, 3.0)
    assert (heard, why) == ([{"a": 1}], "gave no answer within 3 s")
    for _ in range(200):
        # It may be waited for by nobody but init, which takes its time.
        stat = Path(f"/proc/{pid.read_text()}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the child started lives on")


def test_a_child_that_closes_its_output_and_hangs_is_ended(ask: Any) -> None:
    heard, why = ask("import os, time\nos.close(1)\ntime.sleep(100)\n", 2.0)
    assert (heard, why) == ([], "gave no answer within 2 s")


def test_an_endless_line_is_not_kept(ask: Any) -> None:
    heard, why = ask("import sys\nfor _ in range(64): sys.stdout.write('x' * 65536)\n")
    assert heard == []
    assert why.startswith("printed what is no answer")


def test_a_module_that_is_not_there(ask: Any) -> None:
    assert "No module named" in converse("aifw.hardware.no_such_module", [], 30.0, lambda line: None)
