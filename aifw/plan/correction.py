"""How measured runs correct an estimate: the middle, and the range in which the next run will be.

Three rules, each for memory and for time:

- The middle is scaled by the weighted median of the ratios, which one odd run cannot move far. A run counts more the more its size
  and settings resemble those of the job and the fewer runs of the engine have passed since. The fewer there are, the more the median
  is drawn towards no correction, as normal shrinkage has it: little by runs of the same job, since kinds err by far more than repeated
  runs differ, and more by runs of other jobs, where a kind errs differently from job to job.
- The range is a prediction interval on the logarithms of the ratios, with 5 % on either side. Its scatter is a conjugate estimate
  (Gelman et al., Bayesian Data Analysis, 2.6: a scaled inverse chi-square prior): what half of the range that the kind states would
  mean, worth four runs, and the scatter that was seen. So it narrows with runs that agree, widens with runs that do not, and never
  gets narrower than repeated runs of one job differ.
- A job that was ended because it exceeded its memory would have needed more than was seen, and nobody knows how much: the middle is at
  least what it held, and the upper end a fifth above, the step by which the vertical autoscaler of Kubernetes raises a container that
  ran out of memory. That holds until a later run of a job like it was measured to its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, fsum, hypot, inf, log, sqrt
from typing import NamedTuple

from aifw.kind import Estimate

_LEAST_SCALED = 1 / 8
"""Of an idle worker: what is scaled of a job that takes no more than one."""
_HALF_LIFE = 5
"""Runs of the engine after which a measurement counts half."""
_PRIOR_RUNS = 4
_ONE_SIDE = 1.6448536269514722
"""Quantile of the normal distribution for 95 %."""
_MOST_DEVIATION = 3.0
"""A run adds no more to the scatter than one this many typical deviations away."""
_AFTER_EXCEEDED = 1.2


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is known of memory or time before anything was measured.

    Attributes:
        idle: What a worker takes of it before its job does anything.
        fixed: What no ratio scales.
        scatter: Standard deviation of the logarithm over repeated runs of one job on a machine that does other things as well.
        mistake: The same of what kinds state where nothing was measured: a quarter for memory, which follows from shapes, a factor of
            ten for time, which follows from a machine nobody has looked at.
        least: The logarithm by which either end of the range is at least away from the middle.
        fixed_scatter: As `scatter`, of what no ratio scales.
        job_share: How much of what a kind is unsure of differs from job to job, as a share of the standard deviation its range means.
    """

    idle: float
    fixed: float
    scatter: float
    mistake: float
    least: float
    fixed_scatter: float
    job_share: float

    def above(self, value: float) -> float:
        """What a ratio scales."""
        return max(_LEAST_SCALED * self.idle, value - self.fixed)


class Run(NamedTuple):
    """What one run says of a quantity.

    Attributes:
        ratio: Logarithm of measured over stated.
        likeness: Of its job to the one forecast, 1 for the same one.
        age: Runs of the engine since.
    """

    ratio: float
    likeness: float
    age: int


def scaled(estimate: Estimate, quantity: Quantity, runs: list[Run], exceeded: list[Run]) -> Estimate:
    """An estimate as the runs correct it."""
    if not runs and not exceeded:
        return estimate
    weights = _weights(runs)
    count = fsum(weights)
    median = _weighted_median([run.ratio for run in runs], weights) if runs else 0.0
    least = max((each.ratio * each.likeness for each in exceeded if _still_holds(each, runs)), default=-inf)
    ratio = max(median * count / (count + _doubt(estimate, quantity, runs, median)), least)
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
    low = mid * exp(-away(estimate.low))
    # What is fixed varies by itself, so the two deviations add up as squares do.
    factor = exp(_ONE_SIDE * quantity.fixed_scatter)
    below, beyond = (
        hypot(mid - low, quantity.fixed * (1 - 1 / factor)),
        hypot(high - mid, quantity.fixed * (factor - 1)),
    )
    total = quantity.fixed + mid
    return Estimate(total - below, total, total + beyond)


def _doubt(estimate: Estimate, quantity: Quantity, runs: list[Run], median: float) -> float:
    """Runs that the expectation of no correction is worth: the variance from run to run over that of what kinds get wrong.

    Runs of other jobs say less, as far as a kind errs differently from job to job. How much a kind gets wrong in all jobs alike is
    at least as much as was seen, so a large error is believed sooner than a small one.
    """
    alike = max((run.likeness for run in runs), default=1.0)
    same = quantity.scatter / quantity.mistake
    from_job_to_job = (
        quantity.job_share * log(quantity.above(estimate.high) / quantity.above(estimate.low)) / 2 / _ONE_SIDE
    )
    other = from_job_to_job / max(from_job_to_job, abs(median)) if from_job_to_job else 0.0
    return same * same + (1 - alike) * other * other


def _weights(runs: list[Run]) -> list[float]:
    youngest = min((run.age for run in runs), default=0)
    return [run.likeness * 0.5 ** ((run.age - youngest) / _HALF_LIFE) for run in runs]


def _still_holds(exceeded: Run, runs: Iterable[Run]) -> bool:
    """Whether no later run of a job as much like this one was measured to its end."""
    return not any(run.age < exceeded.age and run.likeness >= exceeded.likeness for run in runs)


def _prediction(scatter: float, count: float) -> float:
    """Half of the interval in which the next run falls, from a prior scatter alone, after so many runs that agreed."""
    if not count:
        return inf
    freedom = _PRIOR_RUNS + count
    return _student(freedom) * scatter * sqrt((1 + 1 / count) * _PRIOR_RUNS / freedom)


def _spread(runs: list[Run], weights: list[float], count: float, median: float, quantity: Quantity) -> float:
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
