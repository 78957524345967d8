"""How good forecasts were: what was said before each job beside what was measured when it ended, and how often that held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from aifw.kind import Estimate
from aifw.plan.forecast import WORKER, WORKER_BYTES

MEMORY_TOLERANCE = 0.1
"""A middle this close to the measured memory is counted as good."""
TIME_TOLERANCE = 0.3
"""The same for time."""
_LEAST_ABOVE = 0.25
"""Of an idle worker: a job that holds less above one has no part of its own that an error could be a share of."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A forecast beside what was measured, in bytes or seconds.

    Attributes:
        measured: What it took; of a job that was ended for exceeding its memory, what it held then.
        error: (middle - measured) / measured: above zero if too much was forecast. None where the job was ended.
        error_above_worker: The same of memory above an idle worker, or None where next to nothing is.
        error_stated: The error of what the kind stated, before any correction by earlier runs.
        in_range: Whether it was between low and high; None where a job that was ended has not reached low.
        over_high: By what share it exceeded high, or 0.
    """

    forecast: Estimate
    measured: float
    error: float | None
    error_above_worker: float | None
    error_stated: float | None
    in_range: bool | None
    over_high: float


@dataclass(frozen=True, slots=True)
class Score:
    """One job. `memory` or `seconds` is None where that was not measured, or not of the whole job.

    Attributes:
        state: Name of the spec.
        job: Names its folder.
        worker: Bytes of an idle worker of its kind.
        exceeded: It was ended because it exceeded its memory.
    """

    state: str
    job: str
    address: str
    kind: str
    device: str
    started: str
    worker: float
    exceeded: bool
    basis: str
    memory: Compared | None
    seconds: Compared | None

    @property
    def badness(self) -> float:
        """How bad the forecast was: the larger error, in units of what is tolerated. Nothing is worse than a job that was ended for it."""
        if self.exceeded and self.memory is not None and self.memory.over_high:
            return inf
        found = [0.0]
        for compared, tolerance in ((self.memory, MEMORY_TOLERANCE), (self.seconds, TIME_TOLERANCE)):
            if compared is not None:
                found += [compared.over_high / tolerance, abs(compared.error or 0.0) / tolerance]
        return max(found)


@dataclass(frozen=True, slots=True)
class Summary:
    """How good the forecasts of one quantity were over some jobs. Shares are of the jobs of which the thing is known.

    Attributes:
        jobs: How many were measured.
        median_error: Of the middles, without sign. Of memory, it is the error of the part above an idle worker, for jobs that have one.
        median_error_total: The same of all of the memory.
        median_error_stated: The latter before any correction by earlier runs.
        within: Share of middles within the tolerance, by the same error as `median_error`.
        tolerance: What that is.
        in_range: Share of jobs between low and high.
        over_high: Share of jobs above high.
        most_over_high: By how much the worst of them exceeded it, as a share.
    """

    jobs: int
    median_error: float | None
    median_error_total: float | None
    median_error_stated: float | None
    within: float | None
    tolerance: float
    in_range: float | None
    over_high: float | None
    most_over_high: float


def score(
    state: str, job: str, address: str, kind: str, started: str, forecast: Mapping[str, Any], actual: Mapping[str, Any]
) -> Score:
    """Compare one job's forecast with what it took.

    Args:
        state: Name of the spec.
        job: Names its folder.
        address: Of the resource.
        kind: Of the resource.
        started: UTC.
        forecast: As stored when it started.
        actual: As stored when it ended.
    """
    exceeded = bool(actual.get("exceeded"))
    worker = float(forecast.get("parts", {}).get(WORKER, WORKER_BYTES))
    stated = forecast.get("uncorrected") or (forecast["memory"]["mid"], forecast["seconds"]["mid"])
    memory = seconds = None
    if (actual.get("memory") or 0) > 0:
        memory = _compared(forecast["memory"], float(actual["memory"]), stated[0], worker, ended=exceeded)
    # A job that went on from a checkpoint did only part of the work, and one that was ended, too.
    if (actual.get("seconds") or 0) > 0 and not exceeded and not actual.get("resumed"):
        seconds = _compared(forecast["seconds"], float(actual["seconds"]), stated[1], None, ended=False)
    return Score(
        state=state,
        job=job,
        address=address,
        kind=kind,
        device=actual.get("device") or "cpu",
        started=started,
        worker=worker,
        exceeded=exceeded,
        basis=str(forecast.get("basis", "")),
        memory=memory,
        seconds=seconds,
    )


def _compared(
    forecast: Mapping[str, float], measured: float, stated: float, worker: float | None, *, ended: bool
) -> Compared:
    low, mid, high = forecast["low"], forecast["mid"], forecast["high"]
    above = None if worker is None or measured - worker < _LEAST_ABOVE * worker else measured - worker
    over = max(0.0, measured / high - 1) if high > 0 else 0.0
    return Compared(
        forecast=Estimate(low, mid, high),
        measured=measured,
        error=None if ended else mid / measured - 1,
        error_above_worker=None if ended or above is None else (mid - measured) / above,
        error_stated=None if ended else stated / measured - 1,
        in_range=False if over else None if ended else low <= measured,
        over_high=over,
    )


def summarised(compared: Sequence[Compared], tolerance: float) -> Summary:
    """How good some forecasts of memory or of time were."""
    errors = [abs(each.error) for each in compared if each.error is not None]
    own = [
        abs(each.error if each.error_above_worker is None else each.error_above_worker)
        for each in compared
        if each.error is not None
    ]
    ranged = [each.in_range for each in compared if each.in_range is not None]
    over = [each.over_high for each in compared]
    return Summary(
        jobs=len(compared),
        median_error=_median(own),
        median_error_total=_median(errors),
        median_error_stated=_median([abs(each.error_stated) for each in compared if each.error_stated is not None]),
        within=_share([each <= tolerance for each in own]),
        tolerance=tolerance,
        in_range=_share(ranged),
        over_high=_share([each > 0 for each in over]),
        most_over_high=max(over, default=0.0),
    )


def by_kind(scores: Sequence[Score]) -> dict[str, tuple[Summary, Summary]]:
    """How good the forecasts of memory and of time were, by kind."""
    return {
        kind: overall([each for each in scores if each.kind == kind]) for kind in sorted({each.kind for each in scores})
    }


def overall(scores: Sequence[Score]) -> tuple[Summary, Summary]:
    """How good the forecasts of memory and of time were."""
    return (
        summarised([each.memory for each in scores if each.memory is not None], MEMORY_TOLERANCE),
        summarised([each.seconds for each in scores if each.seconds is not None], TIME_TOLERANCE),
    )


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def _median(values: Sequence[float]) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
