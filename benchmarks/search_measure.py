"""Functions of one process measured in turns: processor time of the whole process, its threads included, and wall time."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SLOW = 1.5
"""What takes so many times the fastest peer's wall time runs only as often as it must."""
FEWEST = 2
"""Counted runs of such a one."""
HOPELESS = 3.0
"""What takes so many times the fastest peer's wall time and gains nothing from a larger batch is left out of the next one."""
FIRST_COUNTS = 0.5
"""Seconds from which on the first run counts: to such a run, cold caches and first use of memory mean nothing."""
IDLE_SECONDS = 0.005
MOST_SETTLING = 0.3


@dataclass
class Runs:
    """Seconds of each counted run of one method."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Minima and medians."""
        return {
            "cpu_min": min(self.cpu),
            "cpu_median": statistics.median(self.cpu),
            "wall_min": min(self.wall),
            "wall_median": statistics.median(self.wall),
            "runs": len(self.cpu),
        }


def timed(action: Callable[[], Any]) -> tuple[float, float, Any]:
    """Processor seconds, wall seconds, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def settle() -> None:
    """Wait until threads that spin for more work have gone to sleep: the next method shall not pay for them."""
    deadline = time.perf_counter() + MOST_SETTLING
    while time.perf_counter() < deadline:
        cpu = time.process_time()
        time.sleep(IDLE_SECONDS)
        if time.process_time() - cpu < IDLE_SECONDS / 10:
            return


def in_turns(
    actions: Mapping[str, Callable[[], Any]],
    *,
    seconds: float,
    least: int,
    threads: int,
    ours: str = "",
    judge: Callable[[str, Any], dict[str, float]] = lambda _name, _result: {},
) -> dict[str, dict[str, Any]]:
    """Run every action once, then in rounds, each in another order, until the time is used up and there were `least` rounds.

    A peer much slower than the fastest one is in no more rounds than it must be.

    Args:
        actions: By name.
        seconds: For all rounds together.
        least: Counted runs of each action that is not slow.
        threads: If more than one, the process is left to come to rest before each run.
        ours: The one that does not count as a peer when slow ones are sought.
        judge: Called with each first result; what it returns is added to the summary.
    """
    found = {name: Runs() for name in actions}
    quickest: dict[str, float] = {}
    judged: dict[str, dict[str, float]] = {}

    def run(name: str, *, counted: bool) -> Any:
        if threads > 1:
            settle()
        cpu, wall, result = timed(actions[name])
        if counted or wall >= FIRST_COUNTS:
            found[name].cpu.append(cpu)
            found[name].wall.append(wall)
        quickest[name] = min(wall, quickest.get(name, wall))
        return result

    order = random.Random(0)
    names = list(actions)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for name in names:
            judged[name] = judge(name, run(name, counted=False))
        started = time.perf_counter()
        while True:
            over = time.perf_counter() - started >= seconds
            fastest = min((wall for name, wall in quickest.items() if name != ours), default=0.0)
            slow = {name for name in names if name != ours and quickest[name] > SLOW * fastest}
            due = [
                name
                for name in names
                if (done := len(found[name].cpu)) < FEWEST or (name not in slow and (done < least or not over))
            ]
            if not due:
                break
            order.shuffle(due)
            for name in due:
                run(name, counted=True)
    finally:
        if collecting:
            gc.enable()
    return {name: runs.summary() | judged[name] for name, runs in found.items()}


def hopeless(
    before: Mapping[str, Mapping[str, Any]],
    gaining: Mapping[str, bool],
    batch: int,
    following: int,
    *,
    patience: float,
    ours: str,
) -> dict[str, str]:
    """Methods to leave out of the following batch size, with the reason, from what was measured at the one before.

    Only those that gain nothing from a larger batch, for they cannot catch up, and that would take more than `patience` seconds.
    """
    fastest = min((each["wall_median"] for name, each in before.items() if name != ours), default=0.0)
    return {
        name: f"{each['wall_median'] / fastest:.1f} times the fastest peer at {batch}"
        for name, each in before.items()
        if name != ours
        and not gaining[name]
        and each["wall_median"] > HOPELESS * fastest
        and each["wall_median"] * following / batch > patience
    }


def read_bandwidth(threads: int, size: int = 512 * 1024**2, runs: int = 7) -> float:
    """Bytes a second that so many threads read from memory: the best of several runs of the fastest reduction numpy has.

    That is the maximum of 64-bit integers, which keeps up with memory on every processor with vector instructions.
    """
    from concurrent.futures import ThreadPoolExecutor

    parts = [np.arange(size // threads // 8, dtype=np.int64) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def read() -> None:
            list(pool.map(np.max, parts))

        walls: Sequence[float] = [timed(read)[1] for _ in range(runs + 1)][1:]
    return sum(part.nbytes for part in parts) / min(walls)
