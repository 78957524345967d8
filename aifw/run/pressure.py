"""How short memory is, and what to do about it: pure functions of what was read.

Four levels, each of which includes the ones before it: `ok`; `hold`, nothing more is admitted; `shrink`, a job is asked to do with
less; `pause`, a job saves its state and makes room. What is read is the memory that can still be had, by the machine and by every
control group (`aifw.hardware.pool.available`), against the reserve of the spec; where it is going; and the kernel's own measure of how
long tasks waited for memory (PSI, accounting/psi.rst of the kernel).

PSI alone never raises the level: it also rises when something else on the machine thrashes within a limit of its own, and then
leaving memory unused helps nobody. It counts where memory is scarce anyway, and there it tells earlier than the numbers that the
page cache is being eaten.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal

from aifw.hardware.machine import Pressure

_LEAST_RESERVE = 128 * 1024**2
"""A machine with less than this left is in trouble whatever the spec reserves."""
_WINDOW = 3.0
"""Seconds of readings a trend is taken over."""
_AHEAD = 5.0
"""Seconds the trend is followed for holding back: about what a job needs to start and to take memory."""
_SHORTLY = 2.0
"""Seconds for the end of memory: a job needs about as long to save its state, if it is quick."""
_MOST_DEPTH = 1024**3
"""A reserve may be large, and eating a gibibyte of it is serious all the same: shares of the reserve count up to this."""
_EASE = 0.25
"""A level is left only where this share of the reserve more is there than its limits ask for."""
_CALM_SECONDS = 3.0
"""And where they were kept for so long."""
_QUIET_SECONDS = 30.0
"""A level whose limits were kept for so long is left without that share: what is steady is no reason to wait for ever."""
_SETTLE_SECONDS = 5.0
"""Between two requests: a step has to end before a smaller batch shows."""
_PAUSE_SECONDS = 60.0
"""A job that was asked to pause and still runs after so long does not keep another from being asked."""
_SOME_PERCENT = 10.0
_FULL_PERCENT = 5.0
"""PSI over ten seconds: shares of time in which some task, or all of them, waited for memory. Idle machines show 0."""


class Level(IntEnum):
    """How short memory is."""

    OK = 0
    HOLD = 1
    SHRINK = 2
    PAUSE = 3

    @property
    def word(self) -> str:
        """As events say it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Reading:
    """Memory at an instant. Bytes and seconds.

    Attributes:
        at: When, by a clock that only goes forward.
        available: What could be had.
        held: What running jobs hold together.
        promised: What they have reserved beyond that.
        beyond: What running jobs hold together beyond the budget of the spec, or 0.
        pressure: PSI, or None where the kernel does not tell it.
    """

    at: float
    available: int
    held: int = 0
    promised: int = 0
    beyond: int = 0
    pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class Gauge:
    """What a row of readings amounts to.

    Attributes:
        level: How short memory is.
        ending: Memory is about to end: what nobody does now the kernel will do.
        calm: Since when the readings ask for less than the level with something to spare, or None.
        recent: Readings of the last seconds, oldest first.
        quiet: Since when the readings ask for less than the level, or None.
    """

    level: Level = Level.OK
    ending: bool = False
    calm: float | None = None
    recent: tuple[Reading, ...] = ()
    quiet: float | None = None


def followed(gauge: Gauge, reading: Reading, reserve: int) -> Gauge:
    """The gauge after one more reading. A level is reached at once and left step by step of calm, so that it does not flap.

    Args:
        gauge: Before.
        reading: Later than all that the gauge has seen.
        reserve: Bytes to be left to everything else.
    """
    recent = (*(each for each in gauge.recent if reading.at - each.at <= _WINDOW), reading)
    watermark = max(reserve, _LEAST_RESERVE)
    asked = _asked(recent, watermark)
    ending = _is_ending(recent, watermark)
    if asked >= gauge.level:
        return Gauge(asked, ending, None, recent)
    quiet = gauge.quiet if gauge.quiet is not None else reading.at
    if reading.at - quiet >= _QUIET_SECONDS:
        return Gauge(asked, ending, None, recent)
    eased = _asked(recent, watermark, _part(watermark, _EASE))
    if eased >= gauge.level:
        return replace(gauge, ending=ending, calm=None, recent=recent, quiet=quiet)
    calm = gauge.calm if gauge.calm is not None else reading.at
    if reading.at - calm < _CALM_SECONDS:
        return replace(gauge, ending=ending, calm=calm, recent=recent, quiet=quiet)
    return Gauge(eased, ending, None, recent)


def _asked(recent: Sequence[Reading], watermark: int, spare: float = 0.0) -> Level:
    """The level that the newest reading asks for, taken by itself and with where memory is going, if so much is to be spared."""
    reading = recent[-1]
    above = _above(reading, watermark) - spare
    pressure = reading.pressure if above < _part(watermark, 1.0) else None
    half = _part(watermark, 0.5)
    if above < -half:
        return Level.PAUSE
    if above < 0 or (pressure is not None and pressure.full_10s >= _FULL_PERCENT):
        return Level.SHRINK
    free = above - reading.promised
    # What our own jobs take and give back is no trend: that was reserved.
    going = free + _AHEAD * min(0.0, slope([(each.at, each.available + each.held) for each in recent]))
    # What is promised was compared with the reserve when it was: a little less than that is no news.
    if free < -half / 2 or going < -half or (pressure is not None and pressure.some_10s >= _SOME_PERCENT):
        return Level.HOLD
    return Level.OK


def _above(reading: Reading, watermark: int) -> int:
    """Bytes that can be had beside the reserve. What jobs hold beyond their budget is taken from it, however much else there is."""
    above = reading.available - watermark
    return min(above, -reading.beyond) if reading.beyond > 0 else above


def _part(watermark: int, share: float) -> float:
    return share * min(watermark, _MOST_DEPTH)


def _is_ending(recent: Sequence[Reading], watermark: int) -> bool:
    """Whether memory itself is about to end, not only what is beside the reserve."""
    available = recent[-1].available
    falling = min(0.0, slope([(each.at, each.available) for each in recent]))
    if available < _part(watermark, 0.125):
        return True
    return available < _part(watermark, 0.5) and available + _SHORTLY * falling <= 0


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Change per second by least squares; 0 for fewer than three points, which may be a jump and no trend."""
    if len(points) < 3:
        return 0.0
    middle = sum(at for at, _ in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * value for at, value in points) / spread if spread > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running job, as far as making room is concerned.

    Attributes:
        job: Names it.
        begun: When it was started.
        held: Bytes.
        can_shrink: Its kind can go on with less memory, and it was not asked since memory became short.
        can_pause: It has a state to save and was not asked to.
        asked_to_pause: When it was, or None.
    """

    job: str
    begun: float
    held: int
    can_shrink: bool
    can_pause: bool
    asked_to_pause: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask of which job."""

    ask: Literal["shrink", "pause"]
    job: str


def decide(gauge: Gauge, running: Collection[Candidate], last: float | None) -> Request | None:
    """What to ask of whom now, if anything.

    First the job that holds most is asked to shrink, one after another; where nobody is left to ask, and when memory is so short
    that there is no time for it, the job that was started last pauses. One that runs alone pauses only if memory is about to end.

    Args:
        gauge: After the newest reading.
        running: All jobs that run.
        last: When anything was last asked of any job, or None.
    """
    if gauge.level < Level.SHRINK or not gauge.recent:
        return None
    now = gauge.recent[-1].at
    if any(each.asked_to_pause is not None and now - each.asked_to_pause < _PAUSE_SECONDS for each in running):
        return None  # what it frees may be enough
    shrinks = [each for each in running if each.can_shrink]
    pauses = [each for each in running if each.can_pause]
    settled = last is None or now - last >= _SETTLE_SECONDS
    at_once = gauge.level == Level.PAUSE or gauge.ending
    alone = len(running) == 1
    if pauses and (gauge.ending if alone else at_once or (settled and not shrinks)):
        return Request("pause", max(pauses, key=lambda each: (each.begun, each.job)).job)
    if shrinks and settled:
        return Request("shrink", max(shrinks, key=lambda each: (each.held, each.job)).job)
    return None
