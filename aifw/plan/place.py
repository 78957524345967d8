"""Where a job computes: the best rated place that its kind can use, the spec allows and its memory fits.

Ratings come from the placement matrix (`aifw/hardware/placement.yaml`, changed by `hardware.placement` of the spec). Places with the
same rating are told apart by how long the job would take there. Everything here is a pure function of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from aifw.errors import MemoryRefused, Refused, UsageError
from aifw.hardware.machine import Machine
from aifw.hardware.placement import LABELS, Place, overridden, places, shipped
from aifw.hardware.workloads import COLUMNS, RATINGS, WORKLOAD_WORDS, Column, Rating
from aifw.kind import AnyKind, Forecast, History, InputFacts
from aifw.plan.columns import about
from aifw.plan.forecast import forecast_at
from aifw.plan.model import Placement
from aifw.plan.needs import memory_budget, total_threads
from aifw.plan.snapshot import Snapshot
from aifw.spec.models import Resource, Spec
from aifw.units import format_bytes

_RANK: Mapping[str, int] = {rating: rank for rank, rating in enumerate(RATINGS)}
_MOST_TOLD = 3
"""Places told of beside the one chosen."""


@dataclass(frozen=True, slots=True)
class Other:
    """A place that was not chosen, or a sort of device there is none of.

    Attributes:
        rank: Of its rating; 0 is best.
        text: What is said of it.
        usable: The job could have gone there.
    """

    rank: int
    text: str
    usable: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """Where the jobs of a kind can go on a machine.

    Attributes:
        workload: For people.
        ranked: Places by rating, best first, and in the machine's order where it is the same.
        unusable: What is rated for the workload and cannot be used, with the reason.
        absent: Columns rated for the workload of which the machine has nothing.
        never: Places that are here and not rated for it.
    """

    workload: str
    ranked: tuple[tuple[Rating, Place], ...]
    unusable: tuple[Other, ...]
    absent: tuple[tuple[Rating, Column], ...]
    never: tuple[str, ...] = ()


class Surroundings:
    """What of a spec and a snapshot decides about places; the same for every resource, so it is worked out once.

    Args:
        spec: Its hardware section limits what may be used.
        snapshot: With the machine.
    """

    def __init__(self, spec: Spec, snapshot: Snapshot) -> None:
        self.machine: Machine = snapshot.machine
        self.budget = memory_budget(spec, snapshot)
        self._hardware = spec.hardware
        self._threads = total_threads(spec, snapshot)
        self._options: dict[tuple[str, str, tuple[str, ...]], Options] = {}

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Places here, with no more threads than the spec allows."""
        return tuple(replace(each, threads=min(each.threads, self._threads)) for each in places(self.machine))

    def options(self, kind: AnyKind) -> Options:
        """Where jobs of a kind can go.

        Raises:
            UsageError: The kind names a workload that the matrix does not have.
        """
        key = (kind.name, kind.workload, kind.runs_on)
        if key not in self._options:
            self._options[key] = self._found(kind)
        return self._options[key]

    def own_memory(self, place: Place) -> int | None:
        """Bytes of a device that has memory of its own, as far as that is known."""
        return next((each.memory for each in self.machine.detected if each.name == place.device), None)

    def seen(self, place: Place, most: int | None = None) -> Machine:
        """The machine with no more memory than a job at a place may have, so that one that takes what there is takes no more.

        Args:
            place: Where it would compute.
            most: Bytes it may have in any case, where that is less than the budget.
        """
        limit = min(each for each in (self.budget, self.own_memory(place), most) if each is not None)
        return replace(self.machine, memory=replace(self.machine.memory, limit=limit))

    def allowed(self) -> str:
        """Devices the spec allows, for people."""
        devices = self._hardware.devices
        return "every device" if devices == "auto" else ", ".join(devices) or "none"

    def limit(self) -> tuple[str, str]:
        """What a job that is too large exceeds, and what to do about it."""
        memory, pool = self._hardware.memory, self.machine.memory.pool
        if memory.budget is not None and memory.budget <= self.budget:
            return f"the budget is {format_bytes(self.budget)}", "raise hardware.memory.budget, or make the job smaller"
        here = f"the {format_bytes(pool)} here, less the reserve of {format_bytes(memory.reserve)}"
        return (
            f"and {here}, leave {format_bytes(self.budget) if self.budget else 'nothing'}",
            "lower hardware.memory.reserve, or make the job smaller",
        )

    def _found(self, kind: AnyKind) -> Options:
        matrix = overridden(shipped(), self._hardware.placement)
        if kind.workload not in matrix:
            raise UsageError(
                f"kind {kind.name} says that its work is `{kind.workload}`, which the placement matrix does not have",
                hint=f"workloads: {', '.join(matrix)}",
            )
        row = {column: rating for column, rating in matrix[kind.workload].items() if rating != "never"}
        ranked: list[tuple[Rating, Place]] = []
        unusable: list[Other] = []
        never: list[str] = []
        here: set[Column] = set()
        for place in self.places:
            if place.column not in row:
                never.append(place.label)
                continue
            here.add(place.column)
            why = self._refusal(kind, place.device, place.column)
            if why:
                unusable.append(_other(row[place.column], place.label, f"but {why}"))
            else:
                ranked.append((row[place.column], place))
        for accelerator in self.machine.detected:
            if accelerator.name in self.machine.devices or accelerator.kind not in row:
                continue
            here.add(accelerator.kind)
            why = self._refusal(kind, accelerator.name, accelerator.kind) or accelerator.unusable
            if why == "not asked yet":
                why = "whether the libraries can use it is not known yet: aifw hardware --refresh"
            unusable.append(_other(row[accelerator.kind], LABELS[accelerator.kind], f"but {why}"))
        if "cloud" in row:
            here.add("cloud")
            unusable.append(_other(row["cloud"], LABELS["cloud"], "but no provider in the spec"))
        return Options(
            workload=WORKLOAD_WORDS[kind.workload],
            ranked=tuple(sorted(ranked, key=lambda each: _RANK[each[0]])),
            unusable=tuple(unusable),
            absent=tuple((row[column], column) for column in COLUMNS if column in row and column not in here),
            never=tuple(never),
        )

    def _refusal(self, kind: AnyKind, device: str, column: Column) -> str:
        """Why jobs of a kind do not go to a device, or nothing."""
        if device.partition(":")[0] not in kind.runs_on:
            return f"{kind.name} does not run there"
        devices = self._hardware.devices
        if devices == "auto":
            return ""
        named = {device, device.partition(":")[0], column}.intersection(devices)
        if not named:
            return "`hardware.devices` leaves it out"
        if isinstance(devices, list) or any(
            (uses := devices[each]) == "all" or kind.workload in uses for each in named
        ):
            return ""
        return f"`hardware.devices` does not give it {kind.workload}"


def choose(
    resource: Resource,
    inputs: Mapping[str, InputFacts],
    history: History,
    around: Surroundings,
    planned: Mapping[str, float],
) -> tuple[Placement, Forecast]:
    """Choose the place for a job.

    It is the best rated one whose forecast fits the memory budget, on a device with memory of its own that too: the middle of the
    forecast, or its low end while inputs are not known for certain. Among equally rated ones the fastest comes first, then the one
    with the least planned on it, then the one the machine names first.

    Args:
        resource: What is to be made.
        inputs: What its forecast may know, by reference field.
        history: Finished jobs of its kind.
        around: Machine and spec.
        planned: Seconds of work already planned for each device.

    Raises:
        Refused: No place here can do it.
        MemoryRefused: It fits nowhere.
    """
    options = around.options(resource.kind)
    others: list[Other] = list(options.unusable)
    tried: list[tuple[Place, Forecast]] = []
    certain = all(each.certain for each in inputs.values())
    remaining = list(_groups(options))
    for position, (rating, group) in enumerate(remaining):
        found = [
            (forecast_at(resource.kind, resource.settings, inputs, around.seen(place), history, place), place)
            for place in group
        ]
        tried += [(place, forecast) for forecast, place in found]
        fitting = []
        for forecast, place in found:
            excess = _excess(forecast, certain, around.budget, around.own_memory(place))
            if excess:
                others.append(_other(rating, place.label, f"but {excess}"))
            else:
                fitting.append((forecast, place))
        if not fitting:
            continue
        fitting.sort(key=lambda each: (each[0].seconds.mid, planned.get(each[1].device, 0.0)))
        (forecast, place), *slower = fitting
        others += [_slower(rating, each, than=forecast, seconds=other.seconds.mid) for other, each in slower]
        others += [
            Other(_RANK[lower], f"{each.label}: {lower}", usable=True)
            for lower, several in remaining[position + 1 :]
            for each in several
        ]
        placement = Placement(
            column=place.column,
            label=place.label,
            device=place.device,
            cpus=place.cpus,
            threads=place.threads if resource.kind.cores == "all" else 1,
            because=f"{rating} for {options.workload}",
            next_best=_next_best(others, options, _RANK[rating]),
        )
        return placement, forecast
    if not tried:
        raise _nowhere(resource, options, around)
    raise _too_large(resource, tried, around)


def _groups(options: Options) -> Iterator[tuple[Rating, list[Place]]]:
    for rating in RATINGS:
        group = [place for each, place in options.ranked if each == rating]
        if group:
            yield rating, group


def _excess(forecast: Forecast, certain: bool, budget: int, own: int | None) -> str:
    """How a forecast does not fit, or nothing."""
    needed = forecast.memory.mid if certain else forecast.memory.low
    if needed > budget:
        return f"needs {format_bytes(needed)} of the {format_bytes(budget)} budget"
    if own is not None and needed > own:
        return f"needs {format_bytes(needed)} of its {format_bytes(own)}"
    return ""


def _other(rating: Rating, label: str, why: str) -> Other:
    return Other(_RANK[rating], f"{label}: {rating}, {why}")


def _slower(rating: Rating, place: Place, *, than: Forecast, seconds: float) -> Other:
    text = f"{place.label}: {rating} too"
    if about(seconds) != about(than.seconds.mid):
        text += f", but {about(seconds)} instead of {about(than.seconds.mid)}"
    return Other(_RANK[rating], text, usable=True)


def _next_best(others: list[Other], options: Options, chosen: int) -> str:
    """What came next, as far as the first place that could have been taken, and what is better and not there."""
    told: list[str] = []
    for each in sorted(others, key=lambda other: other.rank)[:_MOST_TOLD]:
        told.append(each.text)
        if each.usable:
            break
    lacking = [LABELS[column] for rating, column in options.absent if _RANK[rating] < chosen]
    if lacking:
        told.append(f"{', '.join(lacking)}: better, but none known here")
    return "; ".join(told) or f"nothing else here is rated for {options.workload}"


def _nowhere(resource: Resource, options: Options, around: Surroundings) -> Refused:
    here = ", ".join(
        f"{each.label} ({each.device})" if each.label != each.device else each.label for each in around.places
    )
    wanted = [
        *(each.text for each in options.unusable),
        *(f"{LABELS[column]}: {rating}, but none known here" for rating, column in options.absent),
    ]
    if wanted and options.never:
        wanted.append(f"{', '.join(options.never)}: never")
    return Refused(
        f"{resource.address} has nowhere to run. Here: {here or 'nothing that computes'}. The spec allows {around.allowed()}. "
        f"For {options.workload}: {'; '.join(wanted) or 'every device is rated `never`'}",
        hint="allow another device in `hardware.devices`, or rate one in `hardware.placement`",
    )


def _too_large(resource: Resource, tried: list[tuple[Place, Forecast]], around: Surroundings) -> MemoryRefused:
    place, forecast = min(tried, key=lambda each: each[1].memory.mid)
    memory = forecast.memory
    needed = f"{resource.address} needs {format_bytes(memory.low)} to {format_bytes(memory.high)} of memory"
    if len(tried) > 1:
        needed += f" on {place.label}, where it needs least"
    own = around.own_memory(place)
    if own is not None and own < around.budget:
        needed += f", and {place.label} has {format_bytes(own)}"
        advice = "allow another device in `hardware.devices`, or make the job smaller"
    else:
        limit, advice = around.limit()
        needed += f", {limit}"
    return MemoryRefused(needed, hint=f"{advice}. Basis: {forecast.basis}")
