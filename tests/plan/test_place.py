"""Where a job is put, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import MemoryRefused, Refused, UsageError
from aifw.hardware.machine import Accelerator, Cpu, Machine, Memory
from aifw.hardware.placement import column_of, overridden, shipped
from aifw.hardware.processor.cores import Cores
from aifw.hardware.workloads import COLUMNS, RATINGS, WORKLOADS
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Output
from aifw.plan.model import Placement
from aifw.plan.place import Surroundings, choose
from aifw.plan.snapshot import Snapshot
from aifw.settings import Settings
from aifw.spec.hardware import HardwareSettings
from aifw.spec.models import Resource, Spec

GIB = 1024**3
EVERYWHERE = ("cpu", "xpu", "cuda", "npu", "ncs2")
HYBRID = Cores(
    {**dict.fromkeys(range(12), "performance"), **dict.fromkeys(range(12, 20), "efficient")},
    "",
    tuple((first, first + 1) for first in range(0, 12, 2)),
)
KINDS = {"xpu:0": "integrated_gpu", "xpu:1": "discrete_gpu", "cuda:0": "discrete_gpu", "npu": "npu", "ncs2": "ncs2"}


@dataclass(frozen=True)
class Needs:
    """Memory and seconds by device; what is not named takes 2 GiB and ten seconds."""

    memory: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def resource(
    workload: str = "dpo", runs_on: tuple[str, ...] = EVERYWHERE, needs: Needs = Needs(), cores: str = "all"
) -> Resource:
    class Asked(ArtifactKind[Settings]):
        name = "asked"
        section = "stages"
        settings = Settings
        produces: ClassVar[Mapping[str, type[Output]]] = {}

        def forecast(
            self, settings: Settings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
        ) -> Forecast:
            (device,) = machine.devices
            memory = needs.memory.get(device, 2 * GIB)
            return Forecast(
                Estimate(memory / 2, memory, memory * 1.5), Estimate.exact(needs.seconds.get(device, 10.0)), work=1.0
            )

    kind = Asked()
    type(kind).workload, type(kind).runs_on, type(kind).cores = workload, runs_on, cores  # type: ignore[assignment]
    return Resource("stages.asked", kind, Settings())


def machine(
    *devices: str, unusable: Mapping[str, str] | None = None, layout: Cores | None = HYBRID, cores: int = 20
) -> Machine:
    """A hybrid laptop with these devices usable, and others there for a reason not usable."""
    detected = (
        *(Accelerator(name, name, kind=KINDS[name], unusable="") for name in devices if name in KINDS),  # type: ignore[arg-type]
        *(Accelerator(name, name, kind=KINDS[name], unusable=why) for name, why in (unusable or {}).items()),  # type: ignore[arg-type]
    )
    return Machine(
        "laptop", Cpu("unknown", cores, layout=layout), Memory(64 * GIB, 64 * GIB), (*devices, "cpu"), detected
    )


def around(here: Machine, **hardware: Any) -> Surroundings:
    settings = HardwareSettings.model_validate(hardware)
    spec = Spec("tested", Path(), (), {}, {}, "", hardware=settings)
    return Surroundings(spec, Snapshot(here))


def placed(asked: Resource, here: Machine, **hardware: Any) -> Placement:
    return choose(asked, {}, History(), around(here, **hardware), {})[0]


@pytest.mark.parametrize(
    ("workload", "devices", "column", "because"),
    [
        ("dpo", ("xpu:0", "npu"), "integrated_gpu", "best for DPO"),
        ("dpo", (), "performance_cores", "acceptable for DPO"),
        ("vector_search", ("xpu:0", "npu"), "performance_cores", "best for vector search"),
        ("embeddings", ("xpu:0", "npu"), "npu", "best for embedding"),
        ("embeddings", ("xpu:0",), "integrated_gpu", "good for embedding"),
        ("reranking", ("ncs2", "npu"), "ncs2", "best for reranking"),
        ("data", ("xpu:0", "npu"), "efficient_cores", "best for reading and preparing data"),
        ("int8_inference", (), "performance_cores", "acceptable for INT8 inference"),
    ],
)
def test_the_best_rated_place_that_is_here(workload: str, devices: tuple[str, ...], column: str, because: str) -> None:
    found = placed(resource(workload), machine(*devices))
    assert (found.column, found.because) == (column, because)


def test_processors_and_threads_are_those_of_the_place() -> None:
    strong = placed(resource("vector_search"), machine())
    assert (strong.label, strong.device, strong.threads) == ("P-cores", "cpu", 6)
    assert sorted(strong.cpus) == list(range(12))
    spare = placed(resource("data", cores="one"), machine())
    assert (spare.label, spare.cpus, spare.threads) == ("E-cores", tuple(range(12, 20)), 1)
    assert placed(resource("vector_search"), machine(), threads=2).threads == 2
    assert placed(resource("vector_search"), machine(cores=3)).threads == 3
    assert placed(resource("dpo"), machine("xpu:0")).threads == 1


def test_what_is_too_large_for_the_budget_goes_to_the_next_best() -> None:
    asked = resource("embeddings", needs=Needs(memory={"npu": 11 * GIB}))
    found = placed(asked, machine("npu", "xpu:0"), memory={"budget": "8GiB"})
    assert (found.label, found.because) == ("iGPU", "good for embedding")
    assert found.next_best == (
        "NPU: best, but needs 11.0 GiB of the 8.0 GiB budget; P-cores: good too; GPU: better, but none known here"
    )


def test_what_is_too_large_for_the_memory_of_the_device_goes_to_the_next_best() -> None:
    here = machine("cuda:0")
    here = replace(here, detected=(replace(here.detected[0], memory=8 * GIB),))
    asked = resource(needs=Needs(memory={"cuda:0": 11 * GIB}))
    found = placed(asked, here)
    assert found.label == "P-cores"
    assert "GPU: best, but needs 11.0 GiB of its 8.0 GiB" in found.next_best
    with pytest.raises(MemoryRefused, match=r"5\.5 GiB to 16\.5 GiB of memory, and GPU has 8\.0 GiB"):
        placed(asked, here, devices=["cuda"])


@pytest.mark.parametrize("memory", [{"reserve": "60GiB"}, {"reserve": "60GiB", "budget": "48GiB"}])
def test_where_no_budget_of_the_spec_is_the_limit_the_machine_and_the_reserve_are_named(memory: Any) -> None:
    here = machine()
    here = replace(here, memory=replace(here.memory, total=64 * GIB, available=64 * GIB, limit=None))
    asked = resource(needs=Needs(memory={"cpu": 10 * GIB}))
    with pytest.raises(
        MemoryRefused, match=r"and the 64\.0 GiB here, less the reserve of 60\.0 GiB, leave 4\.0 GiB"
    ) as refused:
        placed(asked, here, memory=memory)
    assert "lower hardware.memory.reserve" in str(refused.value.hint)
    with pytest.raises(MemoryRefused, match=r"leave nothing"):
        placed(asked, here, memory={"reserve": "70GiB"})


def test_an_input_that_is_not_certain_gives_the_benefit_of_the_doubt() -> None:
    asked = resource("vector_search", needs=Needs(memory={"cpu": 10 * GIB}))
    here = around(machine(), memory={"budget": "6GiB"})
    for certain in (True, False):
        inputs = {"model": InputFacts("models.base", {}, certain)}
        if certain:
            with pytest.raises(MemoryRefused, match=r"on P-cores, where it needs least, the budget is 6\.0 GiB"):
                choose(asked, inputs, History(), here, {})
        else:
            assert choose(asked, inputs, History(), here, {})[0].label == "P-cores"


def test_equally_rated_places_are_told_apart_by_time() -> None:
    asked = resource(needs=Needs(seconds={"xpu:0": 2400, "xpu:1": 1200}))
    found = placed(asked, machine("xpu:0", "xpu:1"))
    assert (found.device, found.because) == ("xpu:1", "best for DPO")
    assert found.next_best == "iGPU: best too, but 40 min instead of 20 min"
    assert placed(resource(), machine("xpu:0", "xpu:1")).device == "xpu:0"


def test_of_equally_fast_places_the_one_with_least_planned_is_taken() -> None:
    here = around(machine("xpu:0", "xpu:1"))
    assert choose(resource(), {}, History(), here, {"xpu:0": 1.0})[0].device == "xpu:1"
    assert choose(resource(), {}, History(), here, {"xpu:0": 1.0, "xpu:1": 1.0})[0].device == "xpu:0"


def test_why_a_better_place_is_not_used() -> None:
    asked = "not asked yet"
    text = placed(resource(), machine(unusable={"xpu:0": asked})).next_best
    assert "iGPU: best, but whether the libraries can use it is not known yet: aifw hardware --refresh" in text
    assert "GPU: better, but none known here" in text
    assert "cloud: good, but no provider in the spec" in text
    text = placed(resource(), machine(unusable={"xpu:0": "torch was built without XPU"})).next_best
    assert "iGPU: best, but torch was built without XPU" in text
    text = placed(resource("embeddings", runs_on=("cpu",)), machine("npu")).next_best
    assert "NPU: best, but asked does not run there" in text
    text = placed(resource(), machine("xpu:0"), devices=["cpu"]).next_best
    assert "iGPU: best, but `hardware.devices` leaves it out" in text
    text = placed(resource(), machine("xpu:0"), devices={"cpu": "all", "xpu": ["embeddings"]}).next_best
    assert "iGPU: best, but `hardware.devices` does not give it dpo" in text


def test_what_is_said_of_one_kind_is_not_said_of_another() -> None:
    here = around(machine("npu"))
    one, other = resource("embeddings", runs_on=("cpu",)), resource("embeddings", runs_on=("cpu",))
    type(other.kind).name = "other"
    said = [choose(each, {}, History(), here, {})[0].next_best for each in (one, other)]
    assert "asked does not run there" in said[0]
    assert "other does not run there" in said[1]


def test_nothing_else_is_said_to_be_nothing_else() -> None:
    found = placed(resource("data"), machine(layout=None), placement={"data": {"efficient_cores": "never"}}, threads=1)
    assert (found.label, found.next_best) == ("cpu", "nothing else here is rated for reading and preparing data")


@pytest.mark.parametrize(
    ("devices", "used"),
    [
        ("auto", "xpu:0"),
        (["cpu"], "cpu"),
        (["xpu"], "xpu:0"),
        (["xpu:0"], "xpu:0"),
        (["xpu:1", "cpu"], "cpu"),
        (["integrated_gpu"], "xpu:0"),
        ({"cpu": ["dpo"]}, "cpu"),
        ({"xpu": ["embeddings", "dpo"], "cpu": "all"}, "xpu:0"),
        ({"xpu": ["embeddings"], "integrated_gpu": ["dpo"]}, "xpu:0"),
        ({"npu": "all", "performance_cores": "all"}, "cpu"),
    ],
)
def test_the_spec_says_what_may_be_used(devices: Any, used: str) -> None:
    assert placed(resource(), machine("xpu:0", "npu"), devices=devices).device == used


def test_the_spec_changes_ratings() -> None:
    assert placed(resource(), machine("xpu:0"), placement={"dpo": {"integrated_gpu": "fallback"}}).label == "P-cores"
    assert placed(resource(), machine("xpu:0", "npu"), placement={"dpo": {"npu": "best"}}).device == "xpu:0"
    changed = {"dpo": {"npu": "best", "integrated_gpu": "never"}}
    assert placed(resource(), machine("xpu:0", "npu"), placement=changed).device == "npu"


def test_nowhere_to_run_is_refused_with_what_is_here_and_what_would_do() -> None:
    with pytest.raises(Refused) as refused:
        placed(resource(), machine("npu", layout=None), devices=["npu"])
    said = str(refused.value)
    assert "stages.asked has nowhere to run. Here: NPU (npu), cpu. The spec allows npu." in said
    assert "cpu: acceptable, but `hardware.devices` leaves it out" in said
    assert "iGPU: best, but none known here" in said
    assert "hardware.devices" in str(refused.value.hint)
    with pytest.raises(Refused, match="every device is rated `never`"):
        placed(resource("gating"), machine(), placement={"gating": dict.fromkeys(COLUMNS, "never")})
    never = {"dpo": {"performance_cores": "never"}}
    with pytest.raises(
        Refused, match="iGPU: best, but none known here; GPU: best, but none known here; P-cores, E-cores: never"
    ):
        placed(resource(), machine(), placement=never)
    with pytest.raises(Refused, match="The spec allows none"):
        placed(resource(), machine(), devices=[])


def test_a_kind_with_a_workload_nobody_knows_is_a_mistake_of_the_kind() -> None:
    with pytest.raises(UsageError, match="its work is `knitting`") as caught:
        placed(resource("knitting"), machine())
    assert "vector_search" in str(caught.value.hint)


DEVICES = st.lists(st.sampled_from(sorted(KINDS)), unique=True, max_size=5).map(tuple)
MACHINES = st.builds(
    lambda devices, hybrid, cores: machine(*devices, layout=HYBRID if hybrid else None, cores=cores),
    DEVICES,
    st.booleans(),
    st.integers(1, 20),
)
ANYWHERE = st.sampled_from([*EVERYWHERE, "cpu", "cpu"])
ASKED = st.builds(
    resource,
    st.sampled_from(WORKLOADS),
    st.lists(ANYWHERE, min_size=1, max_size=5).map(tuple),
    st.builds(
        Needs,
        st.dictionaries(st.sampled_from([*KINDS, "cpu"]), st.integers(1, 60).map(lambda size: size * GIB)),
        st.dictionaries(st.sampled_from([*KINDS, "cpu"]), st.floats(0.1, 1e5)),
    ),
    st.sampled_from(["one", "all"]),
)
BUDGETS = st.integers(1, 63).map(lambda size: size * GIB)
CHANGES = st.dictionaries(
    st.sampled_from(WORKLOADS), st.dictionaries(st.sampled_from(COLUMNS), st.sampled_from(RATINGS))
)
NAMES = st.sampled_from(["cpu", "xpu", "cuda", "npu", "xpu:1", "integrated_gpu", "efficient_cores"])
ALLOWED = st.one_of(
    st.just("auto"),
    st.lists(NAMES, max_size=4),
    st.dictionaries(NAMES, st.one_of(st.just("all"), st.lists(st.sampled_from(WORKLOADS))), max_size=4),
)


def tried(asked: Resource, here: Machine, **hardware: Any) -> Placement | None:
    try:
        return placed(asked, here, **hardware)
    except Refused:
        return None


def rank(asked: Resource, found: Placement | None, changes: Any) -> int:
    """Of the rating of the place; worse than every rating if there is none."""
    if found is None:
        return len(RATINGS)
    row = overridden(shipped(), changes)[asked.kind.workload]
    return RATINGS.index(row.get(found.column, "never"))  # type: ignore[call-overload]


@given(ASKED, MACHINES, BUDGETS, CHANGES, ALLOWED, st.integers(1, 64))
def test_a_job_is_put_only_where_it_can_run_is_allowed_is_rated_and_fits(
    asked: Resource, here: Machine, budget: int, changes: Any, allowed: Any, threads: int
) -> None:
    hardware = {"memory": {"budget": budget}, "placement": changes, "devices": allowed, "threads": threads}
    found = tried(asked, here, **hardware)
    assert found == tried(asked, here, **hardware)
    if found is None:
        return
    assert found.device in here.devices
    assert found.device.partition(":")[0] in asked.kind.runs_on
    assert rank(asked, found, changes) < RATINGS.index("never")
    if allowed != "auto":
        assert {found.device, found.device.partition(":")[0], found.column} & set(allowed)
    assert 1 <= found.threads <= min(here.cpu.cores, threads)
    assert not found.cpus or found.threads <= len(found.cpus)
    assert set(found.cpus) <= set(HYBRID.kinds)
    assert asked.kind.cores == "all" or found.threads == 1
    assert found.device == "cpu" or column_of(here, found.device) == found.column
    assert found.because
    assert found.next_best


@given(ASKED, MACHINES, BUDGETS, BUDGETS, CHANGES)
def test_more_memory_never_makes_the_place_worse(
    asked: Resource, here: Machine, one: int, other: int, changes: Any
) -> None:
    ranks = [
        rank(asked, tried(asked, here, memory={"budget": budget}, placement=changes), changes)
        for budget in sorted((one, other))
    ]
    assert ranks[1] <= ranks[0]


@given(ASKED, DEVICES, st.sampled_from(sorted(KINDS)), BUDGETS, CHANGES)
def test_another_device_never_makes_the_place_worse(
    asked: Resource, devices: tuple[str, ...], more: str, budget: int, changes: Any
) -> None:
    hardware = {"memory": {"budget": budget}, "placement": changes}
    before = rank(asked, tried(asked, machine(*devices), **hardware), changes)
    after = rank(asked, tried(asked, machine(*dict.fromkeys((*devices, more))), **hardware), changes)
    assert after <= before


@pytest.mark.parametrize(
    ("devices", "budget", "most"), [((), "8GiB", 8 * GIB), ((), None, 63 * GIB), (("cuda:0",), None, 6 * GIB)]
)
def test_a_job_that_takes_what_memory_there_is_takes_no_more_than_it_may_have(
    devices: tuple[str, ...], budget: str | None, most: int
) -> None:
    class Greedy(ArtifactKind[Settings]):
        name = "greedy"
        section = "stages"
        settings = Settings
        produces: ClassVar[Mapping[str, type[Output]]] = {}
        runs_on = EVERYWHERE
        workload = "dpo"

        def forecast(
            self, settings: Settings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
        ) -> Forecast:
            return Forecast(Estimate.exact(machine.memory.pool), Estimate.exact(1))

    here = machine(*devices)
    here = replace(here, detected=tuple(replace(each, memory=6 * GIB) for each in here.detected))
    limited = around(here, memory={"budget": budget})
    placement, forecast = choose(Resource("stages.greedy", Greedy(), Settings()), {}, History(), limited, {})
    assert forecast.memory.high == most
    assert placement.device == (*devices, "cpu")[0]
