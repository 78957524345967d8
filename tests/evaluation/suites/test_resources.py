from __future__ import annotations

import math
from typing import Any

import pytest

from aifw.errors import InputInvalid
from aifw.evaluation.measures import SUITES
from aifw.evaluation.suites.resources import SUITE, row_of
from aifw.hardware.consumption import consumption

FULL: dict[str, Any] = {
    "id": "run",
    "items": 10,
    "peak_memory": 2**30,
    "gpu_memory": 2**29,
    "cpu_seconds": 5.0,
    "gpu_seconds": 2.0,
    "joules": 100.0,
}


def test_what_is_known() -> None:
    SUITE.check(FULL)
    assert SUITE.observed([FULL]) == {
        "peak_memory": 2.0**30,
        "gpu_memory": 2.0**29,
        "cpu_seconds_per_item": 0.5,
        "gpu_seconds_per_item": 0.2,
        "energy_per_item": 10.0,
    }
    assert SUITE.observed([FULL]).keys() == SUITES["resources"].keys()
    assert SUITE.details([FULL])["notes"] == {}


def test_what_could_not_be_read_is_absent_with_a_reason() -> None:
    row = {"id": "run", "items": 4, "cpu_seconds": 2.0, "joules": None, "unknown": {"joules": "permission denied"}}
    SUITE.check(row)
    assert SUITE.observed([row]) == {"cpu_seconds_per_item": 0.5}
    notes = SUITE.details([row])["notes"]
    assert notes.keys() == SUITES["resources"].keys() - {"cpu_seconds_per_item"}
    assert notes["energy_per_item"] == "permission denied"
    assert notes["gpu_memory"] == "it was not read"


def test_several_runs_have_the_highest_peak_and_the_mean_of_the_rest() -> None:
    other = FULL | {"id": "other", "items": 30, "peak_memory": 2**31, "joules": 500.0}
    found = SUITE.observed([FULL, other])
    assert (found["peak_memory"], found["energy_per_item"]) == (2.0**31, 15.0)


def test_what_one_run_does_not_know_all_do_not() -> None:
    other = {"id": "other", "items": 1, "unknown": {"joules": "started again"}}
    assert SUITE.observed([FULL, other]) == {}
    assert SUITE.details([FULL, other])["notes"]["energy_per_item"] == "started again"


def test_no_run_is_said() -> None:
    assert SUITE.observed([]) == {}
    assert {*SUITE.details([])["notes"].values()} == {"there is no run"}


def test_a_run_of_this_process() -> None:
    with consumption() as taken:
        kept = [sum(range(20_000)) for _ in range(50)]
    row = row_of(taken, len(kept)) | {"id": "run"}
    SUITE.check(row)
    found, notes = SUITE.observed([row]), SUITE.details([row])["notes"]
    assert found["cpu_seconds_per_item"] > 0
    assert found["peak_memory"] > 2**20
    assert found.keys() | notes.keys() == SUITES["resources"].keys()
    assert not found.keys() & notes.keys()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("items", 0),
        ("items", 2.5),
        ("items", None),
        ("joules", 0),
        ("gpu_memory", 0),
        ("peak_memory", -1),
        ("cpu_seconds", math.nan),
        ("gpu_seconds", "long"),
        ("unknown", ["joules"]),
        ("unknown", {"joules": ""}),
    ],
)
def test_a_bad_row_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputInvalid, match=f"`{field}` of item 'run'"):
        SUITE.check(FULL | {field: value})
