"""The tree of errors: complete in its own docstring, codes unique, safe to send between processes."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator

import pytest

import aifw
from aifw import errors
from aifw.errors import AifwError, ExitStatus
from aifw.kind import builtin_kinds

for _room in ("spec", "plan", "state", "run", "executors", "data", "models", "training", "evaluation", "cli"):
    for _module in pkgutil.iter_modules([f"{path}/{_room}" for path in aifw.__path__]):
        if _module.name in {"diagnose", "errors", "kinds"}:
            importlib.import_module(f"aifw.{_room}.{_module.name}")


def _tree(error: type[AifwError]) -> Iterator[type[AifwError]]:
    yield error
    for below in error.__subclasses__():
        if below.__module__.startswith("aifw."):
            yield from _tree(below)


TREE = list(dict.fromkeys(_tree(AifwError)))
ROW = re.compile(r"^[\s│├└─]*(\w+)\s+(AIFW\d{3}|\(many\))\s+(\d+)", re.MULTILINE)
DRAWN = {name: (code, int(status)) for name, code, status in ROW.findall(errors.__doc__ or "")}


def test_the_docstring_draws_every_error() -> None:
    assert {error.__name__ for error in TREE} - {"AifwError"} == set(DRAWN)


@pytest.mark.parametrize("error", [error for error in TREE if error is not AifwError], ids=lambda error: error.__name__)
def test_the_docstring_tells_code_and_exit_status(error: type[AifwError]) -> None:
    code, status = DRAWN[error.__name__]
    assert code in {error.code, "(many)"}
    assert status == error.exit_status


def test_codes_are_unique() -> None:
    counted = Counter(error.code for error in TREE)
    assert [code for code, count in counted.items() if count > 1] == []
    assert all(re.fullmatch(r"AIFW\d{3}", code) for code in counted)


def test_every_error_says_what_it_means() -> None:
    assert [error.__name__ for error in TREE if not error.__doc__] == []


def test_exit_statuses_are_the_documented_ones() -> None:
    assert {status.name: int(status) for status in ExitStatus} == {
        "DONE": 0,
        "JOB_FAILED": 1,
        "CHANGES": 2,
        "SPEC_INVALID": 3,
        "REFUSED": 4,
        "GATE_SAID_NO": 5,
        "STALE_OR_LOCKED": 6,
        "ABSTAINED": 7,
        "USAGE": 64,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(
    "error", [error for error in TREE if error.__name__ != "SpecInvalid"], ids=lambda e: e.__name__
)
def test_errors_cross_processes_whole(error: type[AifwError]) -> None:
    copy = pickle.loads(pickle.dumps(error("what is wrong", hint="what to do")))
    assert type(copy) is error
    assert (copy.message, copy.hint, str(copy)) == ("what is wrong", "what to do", "what is wrong")


def test_kinds_raise_no_errors_of_their_own() -> None:
    modules = {type(kind).__module__ for kind in builtin_kinds()}
    assert not [error for error in TREE if error.__module__ in modules]
