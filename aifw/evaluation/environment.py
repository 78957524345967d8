"""What an evaluation ran on: code, packages, machine, seed, and how much else wanted the machine meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import aifw
from aifw.hardware.machine import Pressure
from aifw.hardware.pressure import find_pressure
from aifw.hardware.probe import probe
from aifw.hardware.tree import Tree
from aifw.job import Job

CONTENDED = {"cpu": 10.0, "memory": 5.0, "io": 10.0}
"""Percent of time in which tasks waited above which a latency says more about the neighbours than about the subject: a p95 already
moves where one request in twenty waits."""

_PACKAGES = (
    "lm-eval",
    "numpy",
    "openvino",
    "peft",
    "rouge-score",
    "sacrebleu",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
"""What numbers may depend on."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The surroundings of an evaluation, seen at its beginning.

    Attributes:
        known: What does not change while it runs.
        before: Pressure at the beginning.
        root: Where `proc` and `sys` are.
    """

    known: Mapping[str, Any]
    before: Mapping[str, Any]
    root: Path

    @classmethod
    def begin(cls, job: Job[Any], root: Path = Path("/")) -> Environment:
        """Look around before anything is measured.

        Args:
            job: Whose device, threads, seed and spec are kept.
            root: Where `proc` and `sys` are.
        """
        machine = probe(root)
        return cls(
            known={
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "aifw": aifw.__version__,
                "python": platform.python_version(),
                "packages": packages(),
                "hardware": {
                    "processor": machine.cpu.model,
                    "cores": machine.cpu.cores,
                    "memory": machine.memory.pool,
                    "devices": [*machine.devices, *(each.name for each in machine.detected)],
                },
                "threads": job.threads,
                "device": job.device,
                "seed": job.seed,
                "spec": job.spec or None,
            },
            before=_pressure(root, machine.cpu.cores),
            root=root,
        )

    def end(self) -> dict[str, Any]:
        """All of it, with the pressure once everything was measured."""
        after = _pressure(self.root, self.known["hardware"]["cores"])
        contended = any(
            each[name] is not None and each[name] > most
            for each in (self.before, after)
            for name, most in CONTENDED.items()
        ) or bool(self.before.get("overloaded"))
        return {
            **self.known,
            "contention": {"before": dict(self.before), "after": after, "contended": contended},
        }


def packages() -> dict[str, str]:
    """Versions of the installed packages that numbers may depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _pressure(root: Path, cores: int) -> dict[str, Any]:
    """Percent of the last ten seconds in which tasks waited, by resource, or null with the reason.

    Where the kernel does not say how long tasks waited for a processor, more runnable tasks than processors stand for it.
    """
    seen = find_pressure(Tree(root))
    found: dict[str, Any] = {name: _share(pressure) for name, pressure in _by_name(seen)}
    if seen.unknown and None in found.values():
        found["reason"] = "; ".join(seen.unknown)
    if found["cpu"] is None:
        found["overloaded"] = os.getloadavg()[0] > cores + 1
    return found


def _by_name(seen: Any) -> list[tuple[str, Pressure | None]]:
    return [("cpu", seen.cpu), ("memory", seen.memory), ("io", seen.io)]


def _share(pressure: Pressure | None) -> float | None:
    return None if pressure is None else pressure.some_10s
