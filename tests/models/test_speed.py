"""How measured speeds, and those assumed where nothing was measured, become seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aifw.hardware.machine import Cpu, Machine, Measured, Memory
from aifw.models.speed import seconds_for
from aifw.models.work import Work

HERE = Machine("here", Cpu("unknown", 1), Memory(1, 1))
SOME = Work(operations=1e12, read=1e10, made=1e9, calls=1e5)


def test_every_part_of_the_work_takes_time() -> None:
    whole, known = seconds_for(SOME, HERE)
    assert not known
    parts = [Work(operations=SOME.operations), Work(read=SOME.read), Work(made=SOME.made), Work(calls=SOME.calls)]
    assert sum(seconds_for(each, HERE)[0] for each in parts) == pytest.approx(whole)
    assert all(seconds_for(each, HERE)[0] > 0 for each in parts)


def test_more_cores_are_faster_except_at_calling() -> None:
    four = replace(HERE, cpu=Cpu("unknown", 4))
    calls = Work(calls=SOME.calls)
    assert seconds_for(SOME, HERE)[0] / 4 < seconds_for(SOME, four)[0] < seconds_for(SOME, HERE)[0]
    assert seconds_for(calls, four) == seconds_for(calls, HERE)


def test_what_was_measured_counts_instead() -> None:
    slow = replace(HERE, measured={"cpu": Measured(bandwidth=1e9, throughput={"fp32": 1e10, "int8": 4e10})})
    products, reading = Work(operations=SOME.operations), Work(read=SOME.read)
    assert seconds_for(SOME, slow)[1]
    assert seconds_for(products, slow)[0] == 4 * seconds_for(products, slow, "int8")[0]
    assert seconds_for(products, slow)[0] > seconds_for(products, HERE)[0]
    assert seconds_for(reading, slow)[0] == SOME.read / 1e9
    assert seconds_for(products, slow, "bf16") == seconds_for(products, HERE, "bf16")


def test_nothing_measured_is_taken_for_nothing() -> None:
    broken = replace(HERE, measured={"cpu": Measured(bandwidth=0.0, throughput={"fp32": 0.0})})
    assert seconds_for(SOME, broken) == seconds_for(SOME, HERE)


def test_an_accelerator_is_assumed_to_be_faster_than_a_core() -> None:
    assert seconds_for(SOME, replace(HERE, devices=("xpu:0",)))[0] < seconds_for(SOME, HERE)[0]
