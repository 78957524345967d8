"""How a run ended, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aifw.errors import ExitStatus

Status = Literal["unchanged", "done", "moved", "held", "forgotten", "failed", "skipped", "stopped"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one resource.

    Attributes:
        artifact: What it stands for now, or empty.
        fresh_verdict: A gate said no in this very run.
        error: Code, message, hint.
    """

    status: Status
    artifact: str = ""
    key: str = ""
    fresh_verdict: bool = False
    error: Mapping[str, Any] | None = None


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        results: By address.
        replan: Why the plan no longer holds and has to be made again, or empty.
        interrupted: The user stopped it.
        seconds: Wall time.
        peak_memory: Highest use of running jobs together, bytes, sampled.
    """

    results: dict[str, Result] = field(default_factory=dict)
    replan: str = ""
    interrupted: bool = False
    seconds: float = 0.0
    peak_memory: int = 0

    def count(self, *statuses: Status) -> int:
        """How many resources ended so."""
        return sum(result.status in statuses for result in self.results.values())

    def acted_on(self, address: str) -> bool:
        """Whether something was done about a resource."""
        return address in self.results and self.results[address].status in {"done", "moved", "held", "failed"}

    def add(self, later: Outcome) -> None:
        """Take in how the same apply went on after a new plan; what was done before it counts although nothing is left to do."""
        for address, result in later.results.items():
            if result.status != "unchanged" or not self.acted_on(address) or self.results[address].status == "failed":
                self.results[address] = result
        self.seconds += later.seconds
        self.peak_memory = max(self.peak_memory, later.peak_memory)
        self.interrupted = later.interrupted

    @property
    def exit_status(self) -> ExitStatus:
        """A failed job outranks an interruption, which outranks a gate."""
        failures = [result.error or {} for result in self.results.values() if result.status == "failed"]
        if failures:
            refused = all(str(error.get("code", "")).startswith("AIFW31") for error in failures)
            return ExitStatus.REFUSED if refused else ExitStatus.JOB_FAILED
        if self.interrupted:
            return ExitStatus.INTERRUPTED
        if any(result.fresh_verdict for result in self.results.values()):
            return ExitStatus.GATE_SAID_NO
        return ExitStatus.DONE

    @property
    def state(self) -> str:
        """The word kept with the run."""
        words = {ExitStatus.DONE: "done", ExitStatus.GATE_SAID_NO: "held", ExitStatus.INTERRUPTED: "interrupted"}
        return words.get(self.exit_status, "failed")
