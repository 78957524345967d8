"""Where work can be done on a machine, and where it is best done: the places of a machine and the placement matrix.

The matrix is data (`placement.yaml` beside this module). It rates *columns*, sorts of devices; a machine has *places*, each in one
column. Which place a job takes is decided in `aifw.plan.place`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aifw.errors import UsageError
from aifw.hardware.machine import Machine
from aifw.hardware.processor.cores import Cores
from aifw.hardware.workloads import COLUMNS, RATINGS, WORKLOADS, Column, Rating

Matrix = Mapping[str, Mapping[Column, Rating]]
"""Rating by workload and column; a column that is not there is `never`."""

LABELS: Mapping[Column, str] = MappingProxyType(
    {
        "npu": "NPU",
        "integrated_gpu": "iGPU",
        "discrete_gpu": "GPU",
        "ncs2": "NCS2",
        "performance_cores": "P-cores",
        "efficient_cores": "E-cores",
        "cloud": "cloud",
    }
)
"""What a column is called in a plan."""

_COLUMN_OF_FAMILY: Mapping[str, Column] = MappingProxyType(
    {"xpu": "integrated_gpu", "cuda": "discrete_gpu", "npu": "npu", "ncs2": "ncs2"}
)
"""Column of a device that the probe did not list and a library can compute on nevertheless."""
_EFFICIENT = 0.5
"""An efficient core beside a performance core, where only both together were measured: those of Alder Lake to Meteor Lake have
half the width of vectors. Earlier runs correct what follows from it."""
_REINSTALL = "this installation of aifw is damaged; install it again"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job can compute on a machine.

    Attributes:
        column: Of the placement matrix.
        label: For people, short: `P-cores`, `iGPU`, `cpu`.
        device: As a job names it: `cpu`, `xpu:0`.
        cpus: Processors a worker there is kept on; empty does not restrict it.
        threads: How many it may compute with: one for each core of the place, and never more than the control group's quota.
    """

    column: Column
    label: str
    device: str
    cpus: tuple[int, ...]
    threads: int


@cache
def shipped() -> Matrix:
    """The matrix that comes with aifw.

    Raises:
        UsageError: It is not there or not as it was shipped.
    """
    # Here, since a plan with nothing to place needs no matrix.
    from yaml import CSafeLoader, YAMLError, load

    path = Path(__file__).with_name("placement.yaml")
    try:
        found = load(path.read_text(encoding="utf-8"), Loader=CSafeLoader)
    except (OSError, YAMLError) as error:
        raise UsageError(f"the placement matrix cannot be read: {error}", hint=_REINSTALL) from error
    return MappingProxyType({workload: MappingProxyType(row) for workload, row in _checked(found).items()})


def _checked(found: Any) -> dict[str, dict[Column, Rating]]:
    if not isinstance(found, dict) or set(found) != set(WORKLOADS):
        raise UsageError("the placement matrix does not have the workloads it should have", hint=_REINSTALL)
    for workload, row in found.items():
        if not isinstance(row, dict) or not set(row) <= set(COLUMNS) or not set(row.values()) <= set(RATINGS):
            raise UsageError(f"the placement matrix says something unknown about {workload}", hint=_REINSTALL)
    return found


def overridden(matrix: Matrix, changes: Mapping[Any, Mapping[Column, Rating]]) -> Matrix:
    """The matrix with single ratings changed.

    Args:
        matrix: What holds where `changes` says nothing.
        changes: Ratings by workload and column.
    """
    if not changes:
        return matrix
    return {workload: {**matrix.get(workload, {}), **changes.get(workload, {})} for workload in {**matrix, **changes}}


def places(machine: Machine) -> tuple[Place, ...]:
    """Where something can compute here: first the accelerators the installed libraries can use, then the processor.

    A processor with performance and efficient cores is two places. One whose cores are of one kind, or of a kind nobody knows, is
    the single place `performance_cores`, called `cpu`. Low-power cores count as efficient ones.
    """
    return (*_accelerators(machine), *_processor(machine))


def seen_from(machine: Machine, place: Place) -> Machine:
    """The machine as a job at a place sees it: one device, and the processors it may compute with there.

    The whole processor was measured, with every processor there was to use; of that a place has the share of its cores.
    """
    measured = machine.measured
    known = measured.get(place.device)
    if place.device == "cpu" and known is not None:
        share = min(1.0, _strength(place) / sum(_strength(each) for each in _processor(machine)))
        throughput = {name: share * speed for name, speed in known.throughput.items()}
        measured = {**measured, place.device: replace(known, throughput=throughput)}
    return replace(machine, devices=(place.device,), cpu=replace(machine.cpu, cores=place.threads), measured=measured)


def _strength(place: Place) -> float:
    return place.threads * (_EFFICIENT if place.column == "efficient_cores" else 1.0)


def column_of(machine: Machine, device: str) -> Column:
    """Column of an accelerator: by what the probe found it to be, else by its name."""
    known = next((each for each in machine.detected if each.name == device), None)
    return known.kind if known is not None else _COLUMN_OF_FAMILY.get(device.partition(":")[0], "discrete_gpu")


def _accelerators(machine: Machine) -> tuple[Place, ...]:
    columns = [(device, column_of(machine, device)) for device in machine.devices if device != "cpu"]
    several = {column for column in LABELS if sum(each == column for _, each in columns) > 1}
    return tuple(
        # One thread feeds the device; the kernel chooses where.
        Place(
            column,
            f"{LABELS[column]} {device.partition(':')[2] or '0'}" if column in several else LABELS[column],
            device,
            (),
            1,
        )
        for device, column in columns
    )


def _processor(machine: Machine) -> tuple[Place, ...]:
    if "cpu" not in machine.devices:
        return ()
    cores, layout = machine.cpu.cores, machine.cpu.layout
    if layout is None:
        return (Place("performance_cores", "cpu", "cpu", (), cores),)
    strong, spare = layout.of("performance"), (*layout.of("efficient"), *layout.of("low-power"))
    if not strong or not spare or layout.of("unknown"):
        return (Place("performance_cores", "cpu", "cpu", (), min(cores, _physical(layout, layout.all()))),)
    return (
        Place("performance_cores", LABELS["performance_cores"], "cpu", strong, min(cores, _physical(layout, strong))),
        Place("efficient_cores", LABELS["efficient_cores"], "cpu", spare, min(cores, _physical(layout, spare))),
    )


def _physical(layout: Cores, cpus: Iterable[int]) -> int:
    """Cores that these processors are threads of."""
    among = frozenset(cpus)
    return len(among) - sum(max(0, len(among.intersection(group)) - 1) for group in layout.siblings)
