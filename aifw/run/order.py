"""What the engine tells a worker: `job.json`, and back: `result.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aifw.job import sync_directory


@dataclass(frozen=True)
class Order:
    """One job. Paths are absolute where the worker runs.

    Attributes:
        verb: `run` for artifacts; `create`, `update`, `delete` for external things; `fetch` to bring what a job needs.
        settings: As JSON; validated again by the worker.
        cpus: Processors the worker is kept on; empty does not restrict it.
        inputs: Field, then `address`, `path`, `facts`, `digest`.
        spec: Digest of the spec.
        look: Number of the look at the kind's evidence, from 1; 0 if it is not counted.
    """

    id: str
    address: str
    kind: str
    verb: str
    settings: Mapping[str, Any]
    root: str
    key: str
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    cpus: tuple[int, ...] = ()
    memory: int | None = None
    seed: int = 0
    resume: str | None = None
    previous: str | None = None
    existing: Mapping[str, Any] = field(default_factory=dict)
    spec: str = ""
    look: int = 0
    cache: str = ""
    checkpoints: str = ""
    offline: bool = False
    protocol: int = 1

    def write(self, folder: Path) -> None:
        """Write `job.json`."""
        write_durably(folder / "job.json", asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Order:
        """Read `job.json`."""
        return cls(**json.loads((folder / "job.json").read_bytes()))


def write_durably(path: Path, value: Any) -> None:
    """Write JSON so that it is there completely or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def read_result(folder: Path) -> dict[str, Any] | None:
    """What the worker left as its last word, or None."""
    try:
        found: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found
