"""Forecasts that learn from what earlier jobs of the same kind took on this machine.

A kind states what it expects; here that is corrected by the ratio of what was measured to what the kind had stated then. Only the
part above an idle worker is scaled: importing an interpreter takes the same whatever the job is.

Three rules, each for memory and for time:

- The middle is scaled by the weighted median of the ratios, which one odd run cannot move far. A run counts more the more its size
  and settings resemble those of the job and the fewer runs of the engine have passed since. The fewer there are, the more the median
  is drawn towards no correction, as normal shrinkage has it: little, since kinds err by far more than repeated runs differ.
- The range is a prediction interval on the logarithms of the ratios, with 5 % on either side. Its scatter is a conjugate estimate
  (Gelman et al., Bayesian Data Analysis, 2.6: a scaled inverse chi-square prior): what half of the range that the kind states would
  mean, worth four runs, and the scatter that was seen. So it narrows with runs that agree, widens with runs that do not, and never
  gets narrower than repeated runs of one job differ.
- A job that was ended because it exceeded its memory would have needed more than was seen, and nobody knows how much: the middle is at
  least what it held, and the upper end a fifth above, the step by which the vertical autoscaler of Kubernetes raises a container that
  ran out of memory. That holds until a later run of a job like it was measured to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import exp, fsum, inf, log, sqrt
from typing import Any, NamedTuple, TypeGuard

from aifw.hardware.machine import Machine
from aifw.hardware.placement import Place, seen_from
from aifw.kind import Estimate, Facts, Forecast, History, InputFacts, Kind, Past

WORKER = "worker"
"""Name of the part of a forecast's memory that is there before the job does anything."""
WORKER_BYTES = 32 * 1024**2
"""Anonymous and shared memory of a worker that does nothing: an interpreter with pydantic. Measured with Python 3.11 on x86_64."""
WORKER_SECONDS = 0.25
"""From starting a worker that does nothing to its end; the same measurement."""

_FIXED = 0.75
"""Share of an idle worker that no ratio scales. Less than all of it, since idle workers differ from machine to machine."""
_FOUR_TIMES = log(4)
"""A run of a job four times as large counts half."""
_UNLIKE_SETTINGS = 0.25
"""What a run counts if none of its settings is that of the job."""
_HALF_LIFE = 5
"""Runs of the engine after which a measurement counts half."""
_PRIOR_RUNS = 4
_ONE_SIDE = 1.6448536269514722
"""Quantile of the normal distribution for 95 %."""
_MOST_DEVIATION = 3.0
"""A run adds no more to the scatter than one this many typical deviations away."""
_AFTER_EXCEEDED = 1.2


@dataclass(frozen=True, slots=True)
class _Quantity:
    """What is known of memory or time before anything was measured.

    Attributes:
        idle: What an idle worker takes of it.
        fixed: What no ratio scales.
        scatter: Standard deviation of the logarithm over repeated runs of one job on a machine that does other things as well.
        mistake: The same of what kinds state where nothing was measured: a quarter for memory, which follows from shapes, a factor of
            four for time, which follows from a machine nobody has looked at.
        least: The logarithm by which either end of the range is at least away from the middle.
    """

    idle: float
    fixed: float
    scatter: float
    mistake: float
    least: float

    @property
    def doubt(self) -> float:
        """Runs that the expectation of no correction is worth."""
        share = self.scatter / self.mistake
        return share * share

    def above(self, value: float) -> float:
        """What a ratio scales."""
        return max(self.idle, value) - self.fixed


class _Run(NamedTuple):
    """What one run says of a quantity.

    Attributes:
        ratio: Logarithm of measured over stated.
        likeness: Of its job to the one forecast, 1 for the same one.
        age: Runs of the engine since.
    """

    ratio: float
    likeness: float
    age: int


def forecast_at(
    kind: Kind[Any], settings: Any, inputs: Mapping[str, InputFacts], machine: Machine, history: History, place: Place
) -> Forecast:
    """What a job needs at a place: what its kind states, corrected by what earlier runs took there.

    Args:
        kind: Of the job.
        settings: Of the resource, an instance of the kind's settings.
        inputs: By reference field.
        machine: The whole machine.
        history: Finished jobs of the kind.
        place: Where it would compute.
    """
    seen = seen_from(machine, place)
    stated = kind.forecast(settings, inputs, seen, history)
    if not history.past:
        return stated
    words = settings.model_dump(mode="json", by_alias=True, exclude_unset=True)
    forecast = corrected(stated, history, place.device, words)
    pool = seen.memory.pool
    if stated.memory.high <= pool < forecast.memory.high:
        # A kind that makes a job as large as memory allows is told of less, by as much as it is known to err.
        less = replace(seen.memory, limit=int(pool * stated.memory.high / forecast.memory.high))
        smaller = kind.forecast(settings, inputs, replace(seen, memory=less), history)
        forecast = min(forecast, corrected(smaller, history, place.device, words), key=lambda each: each.memory.high)
    return forecast


def corrected(forecast: Forecast, history: History, device: str, settings: Facts | None = None) -> Forecast:
    """A kind's forecast, corrected by what jobs of that kind took on a device.

    Args:
        forecast: As the kind states it. `parts["worker"]` is what its worker holds before the job does anything; where the kind
            does not say, `WORKER_BYTES`.
        history: Finished jobs of the kind; the order of those of one run does not matter.
        device: Where the job would compute; only runs there count.
        settings: Of the job, as `Past.settings` has them; None if they say nothing.

    Returns:
        The same forecast if no run says anything, else one whose `uncorrected` is what the kind stated.
    """
    there = [past for past in history.past if past.device == device]
    if not there:
        return forecast
    worker = float(forecast.parts.get(WORKER, WORKER_BYTES))
    bytes_ = _Quantity(worker, worker * _FIXED, 0.05, log(1.25), log(1.05))
    seconds_ = _Quantity(WORKER_SECONDS, WORKER_SECONDS * _FIXED, 0.15, log(4), log(1.1))
    alike = {id(past): _same_settings(settings, past.settings) for past in there}
    measured = _memory_runs(forecast, there, alike, bytes_)
    exceeded = _exceeded_runs(forecast, there, alike, bytes_)
    timed = _time_runs(forecast, there, alike, seconds_)
    if not measured and not exceeded and not timed:
        return forecast
    memory = _scaled(forecast.memory, bytes_, measured, exceeded)
    seconds = _scaled(forecast.seconds, seconds_, timed, [])
    return replace(
        forecast,
        memory=memory,
        seconds=seconds,
        basis=_basis(forecast, memory, seconds, len(measured), len(exceeded), len(timed)),
        uncorrected=(forecast.memory.mid, forecast.seconds.mid),
    )


def _memory_runs(
    forecast: Forecast, there: Iterable[Past], alike: Mapping[int, float], quantity: _Quantity
) -> list[_Run]:
    now = quantity.above(forecast.memory.mid)
    found = []
    for past in there:
        if past.exceeded or not _known(past.memory) or not _known(past.expected_memory):
            continue
        stated = quantity.above(past.expected_memory)
        ratio = log(quantity.above(past.memory) / stated)
        found.append(_Run(ratio, alike[id(past)] * _near(now / stated), past.age))
    return found


def _exceeded_runs(
    forecast: Forecast, there: Iterable[Past], alike: Mapping[int, float], quantity: _Quantity
) -> list[_Run]:
    now = quantity.above(forecast.memory.mid)
    found = []
    for past in there:
        if not past.exceeded or not _known(past.memory):
            continue
        stated = quantity.above(past.expected_memory) if _known(past.expected_memory) else now
        ratio = log(quantity.above(past.memory) / stated)
        found.append(_Run(ratio, alike[id(past)] * _near(now / stated), past.age))
    return found


def _time_runs(
    forecast: Forecast, there: Iterable[Past], alike: Mapping[int, float], quantity: _Quantity
) -> list[_Run]:
    now = quantity.above(forecast.seconds.mid)
    worked = _known(forecast.work)
    found = []
    for past in there:
        if past.exceeded or not _known(past.seconds):
            continue
        # Without work a job is as large as the time stated for it.
        more_work = forecast.work / past.work if worked and _known(past.work) else None
        if _known(past.expected_seconds):
            stated = quantity.above(past.expected_seconds)
        elif more_work is not None:
            stated = now / more_work
        else:
            continue
        likeness = alike[id(past)]
        if more_work is None:
            likeness *= _near(now / stated)
        else:
            # A kind that states another speed than it did then has learnt something else of the machine since.
            likeness *= _near(more_work) * _near(now / stated / more_work)
        found.append(_Run(log(quantity.above(past.seconds) / stated), likeness, past.age))
    return found


def _known(value: float | None) -> TypeGuard[float]:
    """Whether a number read back says anything: one that is nothing or no number does not."""
    return value is not None and 0 < value < inf


def _near(factor: float) -> float:
    """How much a run counts whose job differs in size by a factor: a Cauchy kernel on its logarithm."""
    distance = log(factor) / _FOUR_TIMES
    return 1 / (1 + distance * distance)


def _same_settings(settings: Facts | None, others: Facts) -> float:
    """How much a run with such settings counts."""
    if settings is None or settings == others:
        return 1.0
    names = {*settings, *others}
    absent = object()
    equal = [name for name in names if settings.get(name, absent) == others.get(name, absent)]
    return _UNLIKE_SETTINGS + (1 - _UNLIKE_SETTINGS) * len(equal) / len(names)


def _scaled(estimate: Estimate, quantity: _Quantity, runs: list[_Run], exceeded: list[_Run]) -> Estimate:
    """An estimate as the runs correct it."""
    if not runs and not exceeded:
        return estimate
    weights = _weights(runs)
    count = fsum(weights)
    median = _weighted_median([run.ratio for run in runs], weights) if runs else 0.0
    least = max((each.ratio * each.likeness for each in exceeded if _still_holds(each, runs)), default=-inf)
    ratio = max(median * count / (count + quantity.doubt), least)
    middle = quantity.above(estimate.mid)
    known_wrong = min(abs(ratio), 2 * _ONE_SIDE * quantity.scatter)
    spread = _spread(runs, weights, count, median, quantity)

    def away(end: float) -> float:
        """Logarithm by which an end of the range is away from the middle."""
        stated = max(abs(log(quantity.above(end) / middle)), known_wrong)
        half = _prediction(max(stated / 2 / _ONE_SIDE, quantity.scatter), count)
        return max(quantity.least, sqrt(min(stated, half) ** 2 + spread**2))

    mid = exp(ratio) * middle
    high = mid * exp(away(estimate.high))
    if least > -inf:
        high = max(high, _AFTER_EXCEEDED * exp(least) * middle)
    return Estimate(quantity.fixed + mid * exp(-away(estimate.low)), quantity.fixed + mid, quantity.fixed + high)


def _weights(runs: list[_Run]) -> list[float]:
    youngest = min((run.age for run in runs), default=0)
    return [run.likeness * 0.5 ** ((run.age - youngest) / _HALF_LIFE) for run in runs]


def _still_holds(exceeded: _Run, runs: Iterable[_Run]) -> bool:
    """Whether no later run of a job as much like this one was measured to its end."""
    return not any(run.age < exceeded.age and run.likeness >= exceeded.likeness for run in runs)


def _prediction(scatter: float, count: float) -> float:
    """Half of the interval in which the next run falls, from a prior scatter alone, after so many runs that agreed."""
    if not count:
        return inf
    freedom = _PRIOR_RUNS + count
    return _student(freedom) * scatter * sqrt((1 + 1 / count) * _PRIOR_RUNS / freedom)


def _spread(runs: list[_Run], weights: list[float], count: float, median: float, quantity: _Quantity) -> float:
    """What the scatter that was seen adds to the interval."""
    if not runs:
        return 0.0
    deviations = [abs(run.ratio - median) for run in runs]
    # The median deviation of normal values is 0.6745 standard deviations.
    typical = max(_weighted_median(deviations, weights) / 0.6745, quantity.scatter)
    squares = fsum(
        weight * min(each, _MOST_DEVIATION * typical) ** 2 for each, weight in zip(deviations, weights, strict=True)
    )
    freedom = _PRIOR_RUNS + count
    return _student(freedom) * sqrt((1 + 1 / count) * squares / freedom)


def _student(freedom: float) -> float:
    """Quantile of Student's distribution for 95 %, to half a percent from 4 degrees of freedom on.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = _ONE_SIDE
    return z + (z**3 + z) / 4 / freedom + (5 * z**5 + 16 * z**3 + 3 * z) / 96 / freedom**2


def _weighted_median(values: list[float], weights: list[float]) -> float:
    """The value with half of the weight on either side; halfway where two are."""
    pairs = sorted(zip(values, weights, strict=True))
    half = fsum(weights) / 2
    below = 0.0
    for index, (value, weight) in enumerate(pairs):
        below += weight
        if abs(below - half) <= 1e-9 * half and index + 1 < len(pairs):
            return (value + pairs[index + 1][0]) / 2
        if below > half:
            return value
    return pairs[-1][0]


def _basis(stated: Forecast, memory: Estimate, seconds: Estimate, measured: int, exceeded: int, timed: int) -> str:
    changes = []
    if measured or exceeded:
        changes.append(f"memory x{memory.mid / stated.memory.mid:.2f}" if stated.memory.mid > 0 else "memory")
    if timed:
        changes.append(f"time x{seconds.mid / stated.seconds.mid:.2f}" if stated.seconds.mid > 0 else "time")
    count = max(measured, timed) + exceeded
    runs = f"{count} earlier run" + ("s" if count > 1 else "")
    if exceeded:
        runs += (
            f", {exceeded} of which exceeded {'their' if exceeded > 1 else 'its'} memory"
            if count > 1
            else ", which exceeded its memory"
        )
    return f"{stated.basis}; corrected by {runs} ({', '.join(changes)})"
