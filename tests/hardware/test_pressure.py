"""Pressure on memory: of the machine and of the own group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware.machine import Pressure
from aifw.hardware.pressure import find_pressure, read_pressure
from aifw.hardware.tree import Tree

Own = Callable[..., Path]
MACHINE = "proc/pressure/memory"
OWN = "sys/fs/cgroup/job/memory.pressure"
GROUP = {
    "proc/self/cgroup": "0::/job",
    "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
}


def _text(some_10s: float, some_60s: float, full_10s: float) -> str:
    return (
        f"some avg10={some_10s:.2f} avg60={some_60s:.2f} avg300=0.00 total=5\n"
        f"full avg10={full_10s:.2f} avg60=0.00 avg300=0.00 total=3"
    )


def test_each_figure_is_the_higher_one(own_tree: Own) -> None:
    root = own_tree(files=GROUP | {MACHINE: _text(3, 9, 0.5), OWN: _text(7, 2, 0.25)})
    assert read_pressure(root) == Pressure(7, 9, 0.5)


def test_one_of_both_is_enough(own_tree: Own) -> None:
    assert read_pressure(own_tree(files=GROUP | {OWN: _text(7, 2, 1)})) == Pressure(7, 2, 1)
    (own_tree() / OWN).unlink()
    assert read_pressure(own_tree(files={MACHINE: _text(1, 2, 3)})) == Pressure(1, 2, 3)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("core-ultra-7-155h", Pressure(0.61, 0.20, 0.42)),
        ("core-ultra-7-258v", None),
        ("xeon-silver-4410y", Pressure(0, 0, 0)),
        ("ryzen-9-7950x", Pressure(1.25, 0.75, 1.0)),
    ],
)
def test_machines(captured: Callable[[str], Path], machine: str, expected: Pressure | None) -> None:
    assert read_pressure(captured(machine)) == expected


def test_a_kernel_without_it_says_how_to_get_it(captured: Callable[[str], Path]) -> None:
    found = find_pressure(Tree(captured("core-ultra-7-258v")))
    assert (found.memory, found.cpu, found.io, found.own_memory) == (None, None, None, None)
    assert len(found.unknown) == 4
    assert "psi=1" in found.unknown[0]


def test_older_kernels_have_no_second_line_for_processors(own_tree: Own) -> None:
    root = own_tree(files={f"proc/pressure/{what}": _text(1, 2, 3).splitlines()[0] for what in ("cpu", "memory")})
    found = find_pressure(Tree(root))
    assert found.cpu == Pressure(1, 2, 0)
    assert found.memory is None
    assert any("/proc/pressure/memory has no line `full`" in why for why in found.unknown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "some",
        "some avg10= avg60= avg300= total=",
        _text(101, 0, 0),
        _text(0, 0, 0).replace("avg10=0.00", "avg10=nan"),
        _text(0, 0, 0).replace("avg10=0.00", "avg10=-1.00"),
        _text(0, 0, 0).replace("avg10=0.00", "avg10=1.0.0"),
        _text(0, 0, 0).replace("avg10=0.00", f"avg10={'9' * 400}"),
        "\0" * 100,
    ],
)
def test_what_cannot_be_is_unknown(own_tree: Own, text: str) -> None:
    root = own_tree(files={MACHINE: text})
    assert read_pressure(root) is None
    assert any(
        why.startswith("pressure on memory is unknown: /proc/pressure/memory ")
        for why in find_pressure(Tree(root)).unknown
    )
