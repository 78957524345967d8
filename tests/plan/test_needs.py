"""What jobs take of what there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from world import GIB, machine, spec_of, stages, with_kind

from aifw.hardware.machine import Machine
from aifw.hardware.processor.cores import Cores
from aifw.kind import Estimate, Forecast
from aifw.plan.model import Action, Placement, Step
from aifw.plan.needs import beyond, capacity, needs
from aifw.plan.snapshot import Snapshot
from aifw.spec.models import Spec

pytestmark = pytest.mark.usefixtures("toy_kinds")

LAYOUT = Cores(
    {**dict.fromkeys(range(4), "performance"), **dict.fromkeys(range(4, 10), "efficient")}, "", ((0, 1), (2, 3))
)
FORECAST = Forecast(Estimate(GIB, 2 * GIB, 3 * GIB), Estimate.exact(1.0))
STEP = Step("stages.a", "toy", Action.CREATE, ())
STRONG = Placement("performance_cores", "P-cores", "cpu", (0, 1, 2, 3), 2)


def hybrid(cores: int = 10) -> Machine:
    here = machine(16 * GIB)
    return replace(here, cpu=replace(here.cpu, cores=cores, layout=LAYOUT), devices=("xpu:0", "cpu"))


def spec(greedy: bool = False, **hardware: Any) -> Spec:
    found = spec_of(stages(a={}), hardware=hardware)
    if not greedy:
        return found
    kind = type(found.resources["stages.a"].kind)

    class Greedy(kind):  # type: ignore[misc,valid-type]
        cores: ClassVar[str] = "all"

    return with_kind(found, "stages.a", Greedy())


def test_what_there_is_is_counted_by_kind_of_core_and_device() -> None:
    assert capacity(spec(), Snapshot(hybrid())) == {
        "memory": 15 * GIB,
        "threads": 10,
        "performance_cores": 4,
        "efficient_cores": 6,
        "xpu:0": 1,
    }


def test_threads_of_the_spec_and_the_quota_limit_every_kind() -> None:
    limited = {"threads": 3, "performance_cores": 3, "efficient_cores": 3}
    assert capacity(spec(threads=3), Snapshot(hybrid())).items() >= limited.items()
    assert capacity(spec(), Snapshot(hybrid(cores=3))).items() >= limited.items()
    assert capacity(spec(threads=64), Snapshot(hybrid()))["threads"] == 10


def test_a_job_that_keeps_all_cores_busy_takes_every_processor_of_its_place() -> None:
    one = spec(greedy=True)
    found = needs(one, replace(STEP, placement=STRONG), FORECAST, capacity(one, Snapshot(hybrid())))
    assert found == {"memory": 3 * GIB, "threads": 4, "performance_cores": 4}


def test_a_job_of_one_core_takes_one_and_one_on_an_accelerator_the_accelerator() -> None:
    limits = capacity(spec(), Snapshot(hybrid()))
    assert needs(spec(), replace(STEP, placement=STRONG), FORECAST, limits) == {
        "memory": 3 * GIB,
        "threads": 1,
        "performance_cores": 1,
    }
    gpu = replace(STEP, placement=Placement("integrated_gpu", "iGPU", "xpu:0", (), 1))
    assert needs(spec(), gpu, FORECAST, limits) == {"memory": 3 * GIB, "xpu:0": 1}
    assert needs(spec(), STEP, FORECAST, limits) == {"memory": 3 * GIB, "threads": 1}


def test_the_aggressive_profile_reserves_the_middle() -> None:
    aggressive = spec(memory={"profile": "aggressive"})
    assert needs(aggressive, STEP, FORECAST, capacity(aggressive, Snapshot(hybrid())))["memory"] == 2 * GIB


def test_no_job_needs_more_than_there_is() -> None:
    small = spec(memory={"budget": "1GiB"}, threads=2, greedy=True)
    limits = capacity(small, Snapshot(hybrid()))
    found = needs(small, replace(STEP, placement=STRONG), FORECAST, limits)
    assert found == {"memory": GIB, "threads": 2, "performance_cores": 2}


def test_what_is_asked_for_beyond_what_exists_is_said() -> None:
    assert beyond(spec(memory={"budget": "15GiB"}, threads=10), Snapshot(hybrid())) == ()
    said = beyond(spec(memory={"budget": "48GiB"}, threads=64), Snapshot(hybrid()))
    assert said == (
        "hardware.memory.budget is 48.0 GiB, but there are only 15.0 GiB here: 16.0 GiB less the reserve of 1.0 GiB",
        "hardware.threads is 64, but this process may use only 10 processors (cpuset and quota)",
    )
