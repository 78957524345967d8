"""Starting a job: journal the intent, write the order, start the worker, journal the process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aifw.errors import DependencyMissing
from aifw.executors.base import Executor, Handle
from aifw.hardware.allocator import find_jemalloc
from aifw.hardware.meter import Meter
from aifw.job import latest_checkpoint
from aifw.kind import Forecast, find
from aifw.plan.identity import described_inputs
from aifw.plan.model import Step
from aifw.plan.needs import MEMORY
from aifw.plan.snapshot import Snapshot
from aifw.run.events import Events, Tail
from aifw.run.inputs import Inputs, Resolved
from aifw.run.order import Order
from aifw.spec.models import Resource, Spec
from aifw.state import effects, jobs, looks
from aifw.state.artifacts import no_space_named
from aifw.state.jobs import JobEntry
from aifw.state.store import Store

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
MAPPINGS = {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
"""How workers allocate by glibc: it gives a block from this size on a mapping of its own, which goes back to the system when it is freed
(mallopt(3)). By itself it raises that size to that of whatever was freed, up to 32 MiB, and tensors leave holes in the heap that
aligned blocks do not fit into: more than a third of the memory of a training, and nothing that could be forecast."""
_JEMALLOC = "narenas:1,dirty_decay_ms:300,muzzy_decay_ms:0"
"""Freed blocks are handed out again, and what is free goes back to the system within a third of a second: nearly as little memory as with
mappings, without having the system find and clear pages for every tensor, which takes half of the time of a training."""


def allocation(*, reuses_memory: bool) -> dict[str, str]:
    """Variables that decide how a worker allocates. What the user set stays.

    Args:
        reuses_memory: By jemalloc where it is installed; else, and always where not, by glibc with mappings.
    """
    found = dict(MAPPINGS)
    library = find_jemalloc() if reuses_memory else None
    if library is not None and "LD_PRELOAD" not in os.environ:
        found |= {"LD_PRELOAD": os.fspath(library), "MALLOC_CONF": _JEMALLOC}
    return {name: os.environ.get(name, value) for name, value in found.items()}


@dataclass(frozen=True)
class Limits:
    """What a run may use.

    Attributes:
        capacity: What running jobs may use together, by resource; see `aifw.plan.needs`.
        reserve: Bytes to be left to everything else on the machine.
        conservative: A job reserves the high of its forecast, else the middle.
        patience: Seconds that a job waits for memory that others hold while nothing of this run holds any.
        offline: The network must not be used.
    """

    capacity: Mapping[str, int]
    reserve: int = 0
    conservative: bool = True
    patience: float = 600.0
    offline: bool = False

    @property
    def memory(self) -> int:
        """Bytes that running jobs may use together."""
        return self.capacity[MEMORY]


@dataclass(frozen=True)
class Admitted:
    """What a job starts with.

    Attributes:
        needs: What it reserves, by resource.
        memory: Bytes it may count on.
        threads: How many it computes with.
        cpus: Processors it is kept on; empty does not restrict it.
    """

    forecast: Forecast
    needs: Mapping[str, int]
    memory: int
    threads: int
    cpus: tuple[int, ...] = ()


@dataclass
class Running:
    """A job with a worker.

    Attributes:
        meter: Follows what it holds.
        device: Where it computes.
        done: How far it said it is, and in what unit.
        over: Bytes it held and the limit they were over, if it was ended for that.
        shrink_asked: It was asked to do with less since memory became short.
        pause_asked: When it was asked to save its state and make room, and why.
        undoing: It removes what an interrupted run may have created; the step itself comes after it.
    """

    step: Step
    entry: JobEntry
    handle: Handle
    tail: Tail
    meter: Meter
    forecast: Forecast | None
    device: str
    resumed: bool
    begun: float
    done: tuple[str, float] | None = None
    over: tuple[int, int] | None = None
    shrink_asked: bool = False
    pause_asked: tuple[float, str] | None = None
    undoing: bool = False


class Launcher:
    """Starts the jobs of one run."""

    def __init__(
        self,
        spec: Spec,
        snapshot: Snapshot,
        store: Store,
        run: int,
        executor: Executor,
        events: Events,
        limits: Limits,
        inputs: Inputs,
    ) -> None:
        self._spec = spec
        self._snapshot = snapshot
        self._store = store
        self._run = run
        self._executor = executor
        self._events = events
        self._limits = limits
        self._inputs = inputs
        self._launched = 0

    def make(
        self,
        step: Step,
        resource: Resource,
        key: str,
        inputs: Mapping[str, Resolved],
        admitted: Admitted,
        *,
        afresh: bool,
    ) -> Running:
        """Start the job that makes a resource; `afresh` ignores checkpoints."""
        binding = self._snapshot.bindings.get(step.address)
        verb = "run"
        if resource.kind.family == "external":
            verb = "update" if binding is not None and binding.key else "create"
        checkpoint = None if afresh else latest_checkpoint(self._store.layout.checkpoints(key))
        previous = self._store.artifacts.path(binding.artifact) if binding is not None and binding.artifact else None
        order = replace(
            self._order(step.address, resource.kind.name, verb, key),
            settings=resource.settings.model_dump(mode="json", by_alias=True, exclude_unset=True),
            inputs={
                field: {"address": each.address, "path": each.path, "facts": each.facts, "digest": each.digest}
                for field, each in inputs.items()
            },
            device=step.device or "cpu",
            threads=admitted.threads,
            cpus=admitted.cpus,
            memory=admitted.memory,
            seed=self._spec.seed if resource.kind.seeded else 0,
            resume=str(checkpoint) if checkpoint is not None else None,
            previous=str(previous) if previous is not None and previous.is_dir() else None,
            existing=self._inputs.external_facts(step.address) if verb == "update" else {},
            look=self._look(resource, key, inputs),
        )
        return self._start(replace(step, key=key), order, admitted.forecast)

    def _look(self, resource: Resource, key: str, inputs: Mapping[str, Resolved]) -> int:
        """Number of this job's look at a held-out set, on disk before the job can learn anything; 0 if it does not look at one."""
        if resource.kind.looks_at is None:
            return 0
        alias_field, evidence_field = resource.kind.looks_at
        evidence = inputs.get(evidence_field)
        data = evidence.facts.get("data") if evidence is not None else None
        if evidence is None or not isinstance(data, str) or not data:
            return 0
        alias, sketch = str(getattr(resource.settings, alias_field)), evidence.facts.get("sketch") or ()
        return looks.reserve(self._store, alias, data, sketch, key, resource.address, self._run).number

    def delete(self, step: Step) -> Running:
        """Start the job that deletes an external thing whose entry left the spec.

        Raises:
            DependencyMissing: The package that brings its kind is not installed.
        """
        known = effects.intent_of(self._store, step.address)
        if known is None or find(step.kind) is None:
            raise DependencyMissing(
                f"the kind `{step.kind}` is not installed", hint="install the package that brings it"
            )
        return self._delete(step, *known)

    def undo(self, step: Step, key: str, settings: Mapping[str, Any]) -> Running:
        """Start the job that deletes what an interrupted run may have created under another key."""
        running = self._delete(step, key, settings)
        running.undoing = True
        return running

    def _delete(self, step: Step, key: str, settings: Mapping[str, Any]) -> Running:
        order = replace(
            self._order(step.address, step.kind, "delete", key),
            settings=settings,
            existing=self._inputs.external_facts(step.address),
        )
        return self._start(replace(step, key=key), order, None)

    def _order(self, address: str, kind: str, verb: str, key: str) -> Order:
        self._launched += 1
        layout = self._store.layout
        return Order(
            id=f"{self._run}-{self._launched}-{address}",
            address=address,
            kind=kind,
            verb=verb,
            settings={},
            root=str(self._spec.root.absolute()),
            key=key,
            cache=str(layout.cache.absolute()),
            checkpoints=str(layout.checkpoints(key).absolute()),
            offline=self._limits.offline,
            spec=self._spec.digest,
        )

    def _start(self, step: Step, order: Order, forecast: Forecast | None) -> Running:
        folder = self._store.layout.job(order.id).absolute()
        with no_space_named(f"the folder of job {order.id}"):
            folder.mkdir(parents=True)
            order.write(folder)
        if order.verb != "run":
            effects.intend(self._store, order.key, order.verb, order.address, order.kind, self._run, order.settings)
        sources = {each.field: each.source for each in step.inputs}
        inputs = described_inputs({field: (sources[field], each["digest"]) for field, each in order.inputs.items()})
        entry = JobEntry(
            order.id,
            self._run,
            order.address,
            order.kind,
            order.verb,
            order.key,
            step.recipe,
            step.identity,
            inputs,
            None,
            None,
        )
        expected = asdict(forecast) if forecast is not None else None
        jobs.intended(self._store, entry, json.dumps(order.settings), expected, self._executor.name)
        handle = self._executor.launch(folder, _environment(order))
        jobs.launched(self._store, entry.id, handle.pid, handle.started)
        self._events.emit(
            "job.started",
            order.address,
            job=order.id,
            verb=order.verb,
            device=order.device,
            threads=order.threads,
            resumed_from=checkpointed_step(Path(order.resume)) if order.resume else None,
            forecast=expected,
        )
        return Running(
            step,
            entry,
            handle,
            Tail(folder / "events.jsonl"),
            Meter(handle.pid),
            forecast,
            order.device,
            order.resume is not None,
            time.monotonic(),
        )


def _environment(order: Order) -> dict[str, str]:
    """Thread counts for every library that would otherwise take all cores and spin, and how memory is allocated."""
    kind = find(order.kind)
    return {
        **allocation(reuses_memory=kind is not None and kind.reuses_memory and order.device == "cpu"),
        **dict.fromkeys(_THREAD_VARIABLES, str(order.threads)),
        # Threads that spin while they wait cost the other jobs more than they give this one.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def checkpointed_step(checkpoint: Path | None) -> int | None:
    """The step a checkpoint was made at."""
    return int(checkpoint.name.removeprefix("step-")) if checkpoint is not None else None
