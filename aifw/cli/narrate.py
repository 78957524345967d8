"""The events of a run as lines for people, and what is going on at any instant. Knows nothing of terminals."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aifw.cli.measures import decision, metrics, summary, verdict_lines
from aifw.kind import Estimate
from aifw.plan.columns import about, padded, time_range
from aifw.plan.model import CHANGES
from aifw.plan.render import Style, plain
from aifw.units import format_bytes, format_seconds

PAUSED = "paused"
"""What happens to a resource whose job makes room, in place of its action."""
_SHORT = {
    "ok": "enough again",
    "hold": "short, nothing more is started",
    "shrink": "short, jobs are asked to take less",
    "pause": "very short, jobs make room",
}
_LOG_LINES = 8
_PROGRESS_SECONDS = 30.0
_DOING = {"run": "runs", "create": "is created", "update": "is changed", "delete": "is deleted"}
_DONE = {"create": "created", "update": "changed", "delete": "deleted"}


@dataclass
class Activity:
    """A job that runs. Times are seconds since 1970.

    Attributes:
        done: Units finished, and `total` of them, or None.
        first: Time and units when progress was first told, for the speed.
        told: When a line was last printed about it.
    """

    address: str
    verb: str
    began: float
    expected: Mapping[str, Any] | None
    done: float | None = None
    total: float | None = None
    unit: str = "step"
    metrics: dict[str, float] = field(default_factory=dict)
    first: tuple[float, float] | None = None
    last: float = 0.0
    told: float = 0.0

    def heard(self, event: Mapping[str, Any], at: float) -> None:
        """Take in a `job.progress` or `job.metric`."""
        if event["event"] == "job.metric":
            self.metrics[str(event["name"])] = float(event["value"])
            return
        unit = str(event.get("unit") or "step")
        if self.first is None or unit != self.unit or event["done"] < self.first[1]:
            self.first = (at, float(event["done"]))
        self.done, self.total, self.unit = event["done"], event.get("total"), unit
        self.metrics.update(event.get("metrics") or {})
        self.last = at

    @property
    def speed(self) -> float | None:
        """Units per second since the first was told, or None."""
        if self.first is None or self.done is None or self.last <= self.first[0] or self.done <= self.first[1]:
            return None
        return (self.done - self.first[1]) / (self.last - self.first[0])

    def left(self, now: float) -> float | None:
        """Seconds still to go: by the speed where it is known, else by the forecast."""
        speed = self.speed
        if speed is not None and self.total is not None and self.done is not None:
            return max(0.0, (self.total - self.done) / speed - (now - self.last))
        if self.expected is None:
            return None
        left = float(self.expected["seconds"]["mid"]) - (now - self.began)
        return left if left > 0 else None

    def text(self, now: float) -> str:
        """How far it is: `step 41/120 · loss 0.588 · 2.9 step/s · 14 min left`."""
        facts: list[str] = []
        if self.done is not None:
            total = f"/{_count(self.total)}" if self.total is not None else ""
            facts.append(f"{self.unit} {_count(self.done)}{total}")
        if self.metrics:
            facts.append(metrics(self.metrics))
        speed = self.speed
        if speed is not None:
            facts.append(f"{speed:.3g} {self.unit}/s" if speed >= 1 else f"{1 / speed:.3g} s/{self.unit}")
        left = self.left(now)
        if left is not None:
            facts.append(f"{about(left)} left")
        return " · ".join(facts) or f"{_DOING.get(self.verb, self.verb)} for {about(now - self.began)}"


@dataclass
class Counts:
    """What became of the resources so far, and of aliases: those that were promoted, and addresses whose gate said no."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)


class Narrator:
    """Turns events into lines.

    Attributes:
        tells_progress: Lines also say when a job starts and, now and then, how far it is; for output that is not redrawn.
        running: Jobs that run, by address.
        waiting: Resources that something will still happen to, in order, and what: an action of the plan, or `PAUSED`.
        forecasts: Of each job that was started.
        finished: The `job.finished` event of each job that is done.
    """

    def __init__(self, style: Style = plain, *, tells_progress: bool = False) -> None:
        self.style = style
        self.tells_progress = tells_progress
        self.running: dict[str, Activity] = {}
        self.waiting: dict[str, str] = {}
        self.forecasts: dict[str, Mapping[str, Any] | None] = {}
        self.finished: dict[str, Mapping[str, Any]] = {}
        self.counts = Counts()
        self.used = 0
        self.budget = 0
        self.stopping = False
        self._width = 0
        self._held: tuple[str, str] | None = None

    def hear(self, event: Mapping[str, Any]) -> list[str]:
        """Take in an event; returns the lines to print because of it."""
        name = str(event["event"])
        address = str(event.get("address", ""))
        lines = self._held_lines(name, address)
        handler = getattr(self, "_on_" + name.replace(".", "_"), None)
        return [*lines, *(handler(event, address) if handler is not None else ())]

    def row(self, mark: str, role: str, address: str, text: str) -> str:
        """A line about a resource."""
        return f"{self.style(mark, role)} {padded(address, self._width)}   {text}".rstrip()

    def _held_lines(self, name: str, address: str) -> list[str]:
        """A verdict is told together with what follows from it; if nothing follows, it is told alone."""
        if self._held is None:
            return []
        held_address, line = self._held
        self._held = None
        return [] if name in {"alias.moved", "alias.held"} and address == held_address else [line]

    def _on_run_started(self, event: Mapping[str, Any], _address: str) -> Iterable[str]:
        self.budget = int(event.get("pool") or 0)
        self.waiting = {address: action for address, action in event["steps"].items() if action in CHANGES}
        self._width = max(map(len, self.waiting), default=0)
        return ()

    def _on_memory(self, event: Mapping[str, Any], _address: str) -> Iterable[str]:
        self.used, self.budget = int(event["used"]), int(event["budget"])
        return ()

    def _on_job_started(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.waiting.pop(address, None)
        expected = event.get("forecast")
        self.forecasts[address] = expected
        at = moment(event)
        self.running[address] = Activity(address, str(event["verb"]), at, expected, told=at)
        if self.tells_progress:
            resumed = event.get("resumed_from")
            facts = ["starts" if resumed is None else f"goes on from step {resumed}", str(event.get("device") or "")]
            facts.append(f"{expected_time(expected)} expected" if expected is not None else "")
            yield self.row("·", "faint", address, " · ".join(filter(None, facts)))

    def _on_job_progress(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        job = self.running.get(address)
        if job is None:
            return
        at = moment(event)
        job.heard(event, at)
        if self.tells_progress and at - job.told >= _PROGRESS_SECONDS:
            job.told = at
            yield self.row("·", "faint", address, job.text(at))

    _on_job_metric = _on_job_progress

    def _on_job_note(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        yield self.row("·", "faint", address, str(event["text"]))

    def _on_job_finished(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        activity = self.running.pop(address, None)
        self.counts.done.append(address)
        self.finished[address] = event
        outputs = event.get("outputs") or {}
        made = summary(event.get("facts") or {}, outputs) if activity is None or activity.verb == "run" else ""
        verb = _DONE.get(activity.verb, "") if activity is not None else ""
        took = [format_seconds(event["seconds"]), format_bytes(event["memory"])]
        line = self.row("✓", "good", address, " · ".join(each for each in (verb, made, *took) if each))
        if any("verdict" in facts for facts in outputs.values()):
            self._held = (address, line)
            return ()
        return (line,)

    def _on_job_failed(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.running.pop(address, None)
        self.waiting.pop(address, None)
        self.counts.failed.append(address)
        error = event["error"]
        yield self.row("✗", "error", address, str(error.get("message", "failed")))
        indent = "    "
        if error.get("hint"):
            yield f"{indent}{error['hint']}"
        if event.get("checkpoint") is not None:
            yield f"{indent}checkpoint kept at step {event['checkpoint']}; the next apply goes on from there"
        for line in (event.get("log") or [])[-_LOG_LINES:]:
            yield f"{indent}{self.style(f'│ {line}'.rstrip(), 'faint')}"
        if event.get("job"):
            yield f"{indent}log: aifw logs {address}"

    def _on_job_stopped(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.running.pop(address, None)
        self.counts.stopped.append(address)
        step = event.get("checkpoint")
        kept = f"stopped, saved at step {step}" if step is not None else "stopped, nothing saved: it starts again"
        yield self.row("■", "warn", address, kept)

    def _on_job_paused(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.running.pop(address, None)
        self.waiting[address] = PAUSED
        step = event.get("checkpoint")
        kept = f"paused, saved at step {step}" if step is not None else "paused, nothing saved: it starts again later"
        yield self.row("‖", "warn", address, f"{kept}: {event['because']}")

    def _on_job_shrink_asked(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        yield self.row("·", "faint", address, f"asked to take less memory; it holds {format_bytes(event['held'])}")

    def _on_pool_pressure(self, event: Mapping[str, Any], _address: str) -> Iterable[str]:
        text = f"memory: {_SHORT[event['level']]}, {format_bytes(event['available'])} can be had"
        yield f"{self.style('·', 'faint')} {text}, {format_bytes(event['reserve'])} reserved for everything else"

    def _on_pool_waits(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        needs, available = format_bytes(event["needs"]), format_bytes(event["available"])
        yield self.row(
            "·", "faint", address, f"waits for memory that others hold: needs {needs}, {available} can be had"
        )

    def _on_resource_reused(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.waiting.pop(address, None)
        yield self.row("=", "faint", address, f"the same was made before: {str(event['artifact'])[:12]}")

    def _on_resource_skipped(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.waiting.pop(address, None)
        self.counts.skipped.append(address)
        yield self.row("·", "faint", address, f"not started because of {', '.join(event['because'])}")

    def _on_resource_forgotten(self, _event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.waiting.pop(address, None)
        self.counts.done.append(address)
        yield self.row("✓", "good", address, "forgotten; `aifw gc` deletes its bytes")

    def _on_alias_moved(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.waiting.pop(address, None)
        verdict = event.get("verdict") or {}
        if event.get("before") is None and not verdict:
            yield self.row("✓", "good", f"@{event['alias']}", f"starts as {event['after']}")
            return
        self.counts.promoted.append(event["alias"])
        text = f"{event['alias']}: {event.get('before') or 'nothing'} → {event['after']}"
        yield self.row("✓", "good", address, f"{text}   {decision(verdict)}".rstrip())
        yield from self._below(verdict_lines(verdict))

    def _on_alias_held(self, event: Mapping[str, Any], address: str) -> Iterable[str]:
        self.waiting.pop(address, None)
        self.counts.held.append(address)
        verdict = event.get("verdict") or {}
        said = str(event.get("reason") or "the gate said no")
        # The measures belong to what the gate said, not to another reason, such as a rollback.
        judged = said == verdict.get("summary")
        reason = decision(verdict) if judged else said
        yield self.row("✗", "warn", address, reason if reason.startswith("held") else f"held: {reason}")
        stays = f"{event['alias']} stays {event['current']}" if event.get("current") else f"{event['alias']} is not set"
        yield from self._below([*(verdict_lines(verdict) if judged else ()), stays])

    def _below(self, texts: Iterable[str]) -> Iterable[str]:
        return [" " * (self._width + 5) + text for text in texts]

    def _on_run_stopping(self, event: Mapping[str, Any], _address: str) -> Iterable[str]:
        self.stopping = True
        names = list(event.get("waiting_for") or ())
        if names:
            does = f"{names[0]} saves its state" if len(names) == 1 else f"{', '.join(names)} save their state"
            yield f"stopping: {does} … (Ctrl-C again ends it at once)"

    def _on_run_replanned(self, event: Mapping[str, Any], _address: str) -> Iterable[str]:
        yield f"{event['because']}; planning again"


def _count(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.1f}"


def moment(event: Mapping[str, Any]) -> float:
    """Time of an event in seconds since 1970."""
    text = str(event["time"])
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(f"0{text[19:].rstrip('Z')}")


def expected_time(forecast: Mapping[str, Any] | None) -> str:
    """The range of a forecast's time, or nothing."""
    return time_range(Estimate(**forecast["seconds"])) if forecast is not None else ""
