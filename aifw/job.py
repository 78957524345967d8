"""What the code of a kind sees while it works: settings, inputs, a folder to write to, and a way to report and to be asked to stop.

A job runs in a worker process of the engine, but needs none: `Job(settings, out=folder)` is enough to call the code of a kind
from a test or a notebook.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from aifw.errors import JobStopped
from aifw.kind import Facts

S = TypeVar("S")

Report = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Input:
    """One output of another resource.

    Attributes:
        address: The resource it comes from, or `@alias`.
        path: Its folder, read-only.
        facts: What its maker reported about it.
        digest: sha256 of its content.
    """

    address: str
    path: Path
    facts: Facts = field(default_factory=dict)
    digest: str = ""


@dataclass
class Control:
    """What the engine has asked of a running job; a job looks at it between steps.

    Attributes:
        stop: Save a checkpoint and raise `JobStopped` (`job.obey()` does the latter).
        checkpoint: Save a checkpoint and go on.
        shrink: Halve the micro-batch at the next step and keep the effective batch.
    """

    stop: bool = False
    checkpoint: bool = False
    shrink: bool = False


def _silent(_name: str, _data: Mapping[str, Any]) -> None:
    pass


@dataclass
class Job(Generic[S]):
    """One resource being made.

    Attributes:
        settings: Validated settings of the resource.
        out: The artifact's folder; use `output(name)`.
        inputs: By the path of the reference field in the settings: `model`, `validate.data`, `sources.0`.
        root: The folder of the spec, for paths in settings.
        device: Where to compute: `cpu`, `xpu:0`, ...
        threads: How many to use.
        memory: Limit in bytes, or None.
        seed: The seed of the spec if the kind says it is `seeded`, else 0; never from a clock.
        key: Identity of the result; idempotency key of an external effect.
        resume: Folder of the last checkpoint, or None.
        previous: Folder of the resource's former artifact, or None.
        outputs: Names the kind declares in `produces`.
        offline: True if the network must not be used.
        existing: Facts an external thing was left with by the last call, empty before it exists.
        spec: Digest of the spec the job is of, empty outside a run. To be told, not to be depended on: it is no part of the job's identity.
        look: How often, this time included, the kind's evidence was looked at to decide about an alias; 0 if it could not be counted.
    """

    settings: S
    out: Path
    inputs: Mapping[str, Input] = field(default_factory=dict)
    root: Path = field(default_factory=Path.cwd)
    device: str = "cpu"
    threads: int = 1
    memory: int | None = None
    seed: int = 0
    key: str = ""
    resume: Path | None = None
    previous: Path | None = None
    outputs: tuple[str, ...] = ()
    offline: bool = False
    existing: Facts = field(default_factory=dict)
    spec: str = ""
    look: int = 1
    cache_root: Path | None = None
    checkpoints: Path | None = None
    report: Report = _silent
    asked: Control = field(default_factory=Control)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def output(self, name: str) -> Path:
        """The folder of a named output, made if it is not there."""
        assert not self.outputs or name in self.outputs, f"the kind does not declare an output {name!r}"
        path = self.out / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def fact(self, name: str, value: Any, output: str | None = None) -> None:
        """State something about an output, or about the whole artifact. Deterministic: it is part of the digest.

        A fact without `output` belongs to the only output, or, where there are several, to the artifact.
        """
        json.dumps(value, allow_nan=False)
        if output is None:
            output = self.outputs[0] if len(self.outputs) == 1 else ""
        elif self.outputs:
            assert output in self.outputs, f"the kind does not declare an output {output!r}"
        self.facts.setdefault(output, {})[name] = value

    def progress(self, done: float, total: float | None = None, unit: str = "step", **metrics: float) -> None:
        """Say how far the job is; metrics (`loss=0.59`) are shown beside it and kept."""
        self.report(
            "progress", {"done": done, "total": total, "unit": unit, **({"metrics": metrics} if metrics else {})}
        )

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Keep a number that describes the run, not the result."""
        self.report("metric", {"name": name, "value": value, "step": step})

    def note(self, text: str) -> None:
        """Say something the user should see once: skipped rows, a fallback taken."""
        self.report("note", {"text": text})

    def control(self) -> Control:
        """What the engine has asked since the start."""
        return self.asked

    def obey(self) -> None:
        """Raise `JobStopped` if the engine asked for it. Call it where nothing would be lost."""
        if self.asked.stop:
            raise JobStopped("stopped on request")

    @contextmanager
    def checkpoint(self, step: int, keep: int = 1) -> Iterator[Path]:
        """Write a checkpoint into the folder this yields; it counts only once complete and on disk.

        Args:
            step: Steps done; later checkpoints replace earlier ones.
            keep: How many to keep.
        """
        root = self.checkpoints if self.checkpoints is not None else self.out.parent / "checkpoints"
        temporary = root / f"writing-{step}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_tree(temporary)
        final = root / f"step-{step:09d}"
        former = root / f"writing-former-{step}-{os.getpid()}"
        if final.exists():
            # Out of the way in one stroke: deleting it first could leave nothing if that is where the process dies.
            final.rename(former)
        temporary.rename(final)
        sync_directory(root)
        shutil.rmtree(former, ignore_errors=True)
        self.report("checkpoint", {"step": step})
        self.asked.checkpoint = False
        # A higher step is of an earlier attempt that this one does not go on from.
        steps = sorted(root.glob("step-*"))
        for old in [*steps[: steps.index(final) + 1][:-keep], *steps[steps.index(final) + 1 :]]:
            shutil.rmtree(old)

    def cache(self, key: str, make: Callable[[Path], None]) -> Path:
        """A folder kept between runs: reference log-probabilities, converted weights.

        Args:
            key: Identity of the content, safe in a file name.
            make: Fills an empty folder; called only if there is none under this key. Two jobs may make it at once; one result is kept.
        """
        root = self.cache_root if self.cache_root is not None else self.out.parent / "cache"
        final = root / key
        if final.is_dir():
            return final
        temporary = root / f"writing-{key}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            make(temporary)
            sync_tree(temporary)
            temporary.rename(final)
        except OSError:
            if not final.is_dir():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return final


def sync_tree(root: Path) -> None:
    """Flush every file and folder below `root` to disk."""
    for folder, _, names in os.walk(root):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(folder))


def sync_directory(path: Path) -> None:
    """Flush a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def latest_checkpoint(root: Path) -> Path | None:
    """The complete checkpoint with the highest step below `root`, or None."""
    return max(root.glob("step-*"), default=None)
