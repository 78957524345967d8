"""When jobs run: never more of anything at once than there is, whatever it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from hypothesis import given
from hypothesis import strategies as st

from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.hardware.placement import places
from aifw.hardware.processor.cores import Cores
from aifw.kind import ArtifactKind, Estimate, Forecast, Output
from aifw.plan.model import Action, Placement, Step
from aifw.plan.needs import capacity, needs
from aifw.plan.snapshot import Snapshot
from aifw.plan.timetable import cautions, timed
from aifw.settings import Settings
from aifw.spec.hardware import HardwareSettings
from aifw.spec.models import Resource, Spec

MIB = 1024**2
LAYOUT = Cores(
    {**dict.fromkeys(range(4), "performance"), **dict.fromkeys(range(4, 8), "efficient")}, "", ((0, 1), (2, 3))
)
MACHINE = Machine("laptop", Cpu("unknown", 8, layout=LAYOUT), Memory(64 * MIB, 64 * MIB), ("xpu:0", "npu", "cpu"))
PLACES = places(MACHINE)


class One(ArtifactKind[Settings]):
    name = "one"
    section = "stages"
    settings = Settings
    produces: ClassVar[dict[str, type[Output]]] = {}


class All(One):
    cores: ClassVar[Literal["one", "all"]] = "all"


@st.composite
def jobs(draw: st.DrawFn) -> list[tuple[Step, Resource]]:
    found: list[tuple[Step, Resource]] = []
    for index in range(draw(st.integers(1, 8))):
        address = f"stages.s{index}"
        place = draw(st.sampled_from(PLACES))
        memory, seconds = draw(st.integers(1, 80)) * MIB, draw(st.integers(1, 9))
        after = draw(st.lists(st.sampled_from([step.address for step, _ in found]), unique=True)) if found else []
        step = Step(
            address,
            "one",
            draw(st.sampled_from([Action.CREATE, Action.MAYBE, Action.REUSE])),
            (),
            after=tuple(after),
            device=place.device,
            placement=Placement(place.column, place.label, place.device, place.cpus, place.threads),
            forecast=Forecast(Estimate(memory / 2, memory * 0.8, memory), Estimate(seconds / 2, seconds, seconds * 2)),
        )
        if step.action is Action.REUSE:
            step = replace(step, placement=None, forecast=None)
        kind = draw(st.sampled_from([One, All]))
        found.append((step, Resource(address, kind(), Settings())))
    return found


def spec_of(found: list[tuple[Step, Resource]], **hardware: Any) -> Spec:
    resources = {resource.address: resource for _, resource in found}
    settings = HardwareSettings.model_validate({"memory": {"reserve": 0}, **hardware})
    return Spec("tested", Path(), (), resources, {}, "", hardware=settings)


@given(jobs(), st.sampled_from(["auto", 1, 3]))
def test_no_instant_takes_more_of_anything_than_there_is(found: list[tuple[Step, Resource]], threads: Any) -> None:
    spec = spec_of(found, threads=threads)
    limits = capacity(spec, Snapshot(MACHINE))
    steps, totals = timed(spec, [step for step, _ in found], limits)
    running = [
        (step.start, step.start + step.forecast.seconds.mid, needs(spec, step, step.forecast, limits))
        for step in steps
        if step.forecast is not None and step.start is not None
    ]
    assert len(running) == sum(step.forecast is not None for step in steps)
    for instant, _, _ in running:
        now = [needed for start, end, needed in running if start <= instant < end]
        for name, limit in limits.items():
            assert sum(needed.get(name, 0) for needed in now) <= limit, name
    assert totals.memory <= totals.budget == 64 * MIB
    assert totals.seconds_low <= totals.seconds_mid <= totals.seconds_high


@given(jobs())
def test_jobs_on_different_places_run_side_by_side(found: list[tuple[Step, Resource]]) -> None:
    free = [
        (replace(step, after=(), forecast=replace(step.forecast, memory=Estimate.exact(MIB))), resource)
        for step, resource in found
        if step.forecast is not None
    ]
    devices = {step.placement.column: (step, resource) for step, resource in free if step.placement is not None}
    one_each = list(devices.values())
    if one_each:
        spec = spec_of(one_each)
        steps, _ = timed(spec, [step for step, _ in one_each], capacity(spec, Snapshot(MACHINE)))
        assert {step.start for step in steps} == {0.0}


def test_what_may_take_more_than_the_budget_is_said() -> None:
    place = PLACES[-1]
    step = Step(
        "stages.a",
        "one",
        Action.CREATE,
        (),
        placement=Placement(place.column, place.label, place.device, place.cpus, place.threads),
        forecast=Forecast(Estimate(MIB, MIB, 3 * MIB), Estimate.exact(1.0)),
    )
    assert cautions([step], {"memory": 3 * MIB}) == ()
    (caution,) = cautions([step], {"memory": 2 * MIB})
    assert caution == "stages.a may need up to 3.0 MiB, 1.0 MiB more than the budget; it is ended if it does"
