"""The command line itself: verbs, exit statuses, messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

import aifw
from aifw.cli import main as command_line
from aifw.cli.main import VERBS, main, run
from aifw.errors import ExitStatus, LockHeld, UsageError


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        run(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A verb `plan` that does what a test puts under `does`."""
    behaviour: dict[str, object] = {}

    @click.command()
    @click.option("--count", type=int)
    def command(count: int | None) -> object:
        does = behaviour["does"]
        if isinstance(does, BaseException):
            raise does
        return does

    monkeypatch.setattr(command_line.Verbs, "get_command", lambda self, ctx, name: command)
    return behaviour


def test_help_lists_every_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--help") == 0
    text = capsys.readouterr().out
    for name, (group, what) in VERBS.items():
        assert f"{group}:" in text
        assert name in text
        assert what in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--version") == 0
    assert aifw.__version__ in capsys.readouterr().out


def test_no_verb_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run() == ExitStatus.USAGE
    printed = capsys.readouterr()
    assert "Usage:" in printed.out + printed.err


def test_a_misspelt_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("aply") == ExitStatus.USAGE
    assert "there is no verb `aply`. Did you mean `apply`?" in capsys.readouterr().err


def test_a_verb_like_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("xyzzy") == ExitStatus.USAGE
    assert "`aifw --help` lists the verbs" in capsys.readouterr().err


def test_a_wrong_option_is_usage(verb: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("plan", "--count", "many") == ExitStatus.USAGE
    assert "many" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("result", "status"), [(None, 0), (ExitStatus.CHANGES, 2), (ExitStatus.GATE_SAID_NO, 5), ("text", 0)]
)
def test_what_a_verb_returns_is_the_status(verb: dict[str, object], result: object, status: int) -> None:
    verb["does"] = result
    assert _run("plan") == status


def test_errors_show_code_message_and_hint(verb: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    verb["does"] = LockHeld("held by process 4711", hint="wait for it")
    assert _run("plan") == ExitStatus.STALE_OR_LOCKED
    assert capsys.readouterr().err == "error[AIFW301]: held by process 4711\n  = wait for it\n"


def test_errors_without_a_hint(verb: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    verb["does"] = UsageError("no such thing")
    assert _run("plan") == ExitStatus.USAGE
    assert capsys.readouterr().err == "error[AIFW900]: no such thing\n"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), click.Abort()])
def test_interrupted(verb: dict[str, object], interruption: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    verb["does"] = interruption
    assert _run("plan") == ExitStatus.INTERRUPTED
    assert capsys.readouterr().err.strip() == "interrupted"


def test_a_defect_keeps_its_traceback(verb: dict[str, object]) -> None:
    verb["does"] = ZeroDivisionError("a defect is not a user's mistake")
    with pytest.raises(ZeroDivisionError):
        run(["plan"])


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m aifw --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_there_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(name, "--help") == 0
    assert "Usage:" in capsys.readouterr().out


def test_every_verb_is_a_module() -> None:
    context = click.Context(main)
    assert [main.get_command(context, name) is not None for name in main.list_commands(context)] == [True] * len(VERBS)
    assert main.get_command(context, "no-such-verb") is None
