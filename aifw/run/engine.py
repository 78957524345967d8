"""The engine: carries out a plan, one durable step after another."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

from aifw.errors import AifwError, ArtifactCorrupt, DependencyMissing, MemoryRefused
from aifw.executors.base import Ended, Executor
from aifw.hardware.pool import held_by_tree
from aifw.job import latest_checkpoint
from aifw.kind import Forecast, InputFacts
from aifw.plan.identity import combine
from aifw.plan.model import PENDING, Action, Plan, Step
from aifw.plan.schedule import fits
from aifw.plan.snapshot import Snapshot
from aifw.run.events import Events, log_tail
from aifw.run.finish import keep_result
from aifw.run.inputs import Inputs, Resolved
from aifw.run.launch import Launcher, Limits, Running, checkpointed_step
from aifw.run.order import read_result
from aifw.run.outcome import Outcome, Result
from aifw.run.standing import Standings
from aifw.spec.models import Resource, Spec
from aifw.state import effects, jobs
from aifw.state.store import Store
from aifw.units import format_bytes

_TICK = 0.1
_MEMORY_EVERY = 0.5


class Engine:
    """Carries out one plan."""

    def __init__(
        self,
        spec: Spec,
        plan: Plan,
        snapshot: Snapshot,
        store: Store,
        run: int,
        executor: Executor,
        events: Events,
        limits: Limits,
    ) -> None:
        self.outcome = Outcome()
        self._spec = spec
        self._snapshot = snapshot
        self._store = store
        self._run = run
        self._executor = executor
        self._events = events
        self._limits = limits
        self._waiting = {step.address: step for step in plan.steps}
        self._replaced = frozenset(plan.replaced)
        self._running: dict[int, Running] = {}
        self._inputs = Inputs(store, snapshot, self.outcome.results)
        self._launcher = Launcher(spec, snapshot, store, run, executor, events, limits, self._inputs)
        self._standings = Standings(spec, snapshot, store, run, events, self.outcome.results)
        self._asked = 0
        self._stopping = False
        self._memory_seen_at = 0.0
        self._refused: dict[str, tuple[int, int]] = {}

    def stop(self) -> None:
        """Ask for an end: once lets jobs save their state, twice ends them at once. Safe to call from a signal handler."""
        self._asked += 1

    def execute(self) -> Outcome:
        """Do what the plan says; returns when nothing runs any more."""
        begun = time.monotonic()
        while True:
            self._obey()
            self._start_what_can()
            if not self._running:
                break
            for ended in self._executor.wait(_TICK):
                running = self._running.pop(ended.handle.pid)
                self._relay(running)
                self._end(running, ended)
            for running in self._running.values():
                self._relay(running)
            self._watch_memory()
        self.outcome.seconds = time.monotonic() - begun
        self.outcome.interrupted = self._stopping and bool(self._waiting or self.outcome.count("stopped"))
        return self.outcome

    def _obey(self) -> None:
        if self._asked and not self._stopping:
            self._stopping = True
            self._events.emit("run.stopping", waiting_for=[running.step.address for running in self._running.values()])
            for running in self._running.values():
                self._executor.control(running.handle, {"ask": "stop"})
        if self._asked > 1:
            for running in self._running.values():
                self._executor.end(running.handle)

    # Starting

    def _start_what_can(self) -> None:
        progressed = True
        while progressed:
            progressed = False
            for step in list(self._waiting.values()):
                if self._stopping or self.outcome.replan:
                    return
                ready = all(each in self.outcome.results for each in step.after)
                ready = ready and not any(running.step.address == step.address for running in self._running.values())
                if ready and self._start(step):
                    del self._waiting[step.address]
                    progressed = True

    def _start(self, step: Step) -> bool:
        """Decide about a step whose predecessors are done; False if it has to wait for room."""
        broken = [each for each in step.after if self.outcome.results[each].status in {"failed", "skipped", "stopped"}]
        if broken:
            self.outcome.results[step.address] = Result("skipped")
            self._events.emit("resource.skipped", step.address, because=broken)
            return True
        try:
            if step.action is Action.FORGET:
                self._forget(step)
            elif step.action is Action.DELETE:
                self._ran(self._launcher.delete(step))
            elif step.action not in PENDING or step.effect_only:
                assert step.key is not None
                digests = {each.field: each.digest or "" for each in step.inputs}
                return self._keep(step, step.artifact or "", step.key, digests)
            else:
                return self._make(step, self._spec.resources[step.address])
        except (ArtifactCorrupt, MemoryRefused, DependencyMissing) as error:
            self._fail(step.address, error)
        return True

    def _forget(self, step: Step) -> None:
        self._store.forget(step.address, self._run)
        self._events.emit("resource.forgotten", step.address)
        self.outcome.results[step.address] = Result("forgotten")

    def _ran(self, running: Running) -> None:
        self._running[running.handle.pid] = running

    def _make(self, step: Step, resource: Resource) -> bool:
        refused = self._refused.get(step.address)
        if refused is not None and not self._room(*refused):
            # Looked at again and again while others run: what it needs is not worked out anew each time.
            return False
        inputs = self._inputs.of(step)
        key = combine(step.identity, {field: each.digest for field, each in inputs.items()})
        afresh = step.address in self._replaced
        if not afresh:
            known = self._inputs.known(resource, key)
            if known is None:
                known = self._inputs.settled(step, resource, inputs)
            if known is not None:
                return self._keep(step, known, key, {field: each.digest for field, each in inputs.items()})
        if any(running.entry.key == key for running in self._running.values()):
            # It is being made for another address: what comes out is this one's as well.
            return False
        forecast = self._forecast(step, resource, inputs)
        memory = min(self._limits.memory, round(forecast.memory.high))
        threads = self._limits.threads if resource.kind.cores == "all" else 1
        if not self._room(memory, threads):
            self._refused[step.address] = (memory, threads)
            return False
        if not all(self._sound(each) for each in inputs.values()):
            return False
        if resource.kind.family == "external":
            begun = effects.unrecorded_creation(self._store, step.address, key)
            if begun is not None:
                self._ran(self._launcher.undo(step, *begun))
                return False
        self._ran(self._launcher.make(step, resource, key, inputs, forecast, memory, threads, afresh=afresh))
        return True

    def _keep(self, step: Step, artifact: str, key: str, digests: Mapping[str, str]) -> bool:
        """Let a resource stand for what is there; False if that turns out to be damaged, and the plan has to be made again."""
        before = self._snapshot.bindings.get(step.address)
        if before is None or before.artifact != artifact:
            damage = self._inputs.damage(artifact)
            if damage:
                self._replan(step.address, damage)
                return False
        self._standings.keep(step, self._spec.resources[step.address], artifact, key, digests)
        return True

    def _replan(self, address: str, damage: str) -> None:
        self.outcome.replan = f"{address}: {damage}"
        self._events.emit("run.replanned", address, because=damage)

    def _room(self, memory: int, threads: int) -> bool:
        """Whether a job may start beside those that run."""
        running = self._running.values()
        return fits(
            {"memory": memory, "threads": threads},
            {"memory": sum(each.memory for each in running), "threads": sum(each.threads for each in running)},
            {"memory": self._limits.memory, "threads": self._limits.threads},
            alone=not running,
        )

    def _forecast(self, step: Step, resource: Resource, inputs: Mapping[str, Resolved]) -> Forecast:
        """The plan's forecast, made again with what is known by now.

        Raises:
            MemoryRefused: It does not fit the budget after all.
        """
        facts = {field: InputFacts(each.address, each.facts, certain=True) for field, each in inputs.items()}
        observation = self._snapshot.observations.get(step.address)
        if observation is not None:
            facts["observation"] = InputFacts(step.address, observation.facts, certain=True)
        history = self._store.history(resource.kind.name)
        forecast = resource.kind.forecast(resource.settings, facts, self._snapshot.machine, history)
        if forecast.memory.mid > self._limits.memory:
            raise MemoryRefused(
                f"needs about {format_bytes(forecast.memory.mid)} of memory, the budget is {format_bytes(self._limits.memory)}",
                hint=f"raise hardware.memory.budget, or make the job smaller. Basis: {forecast.basis}",
            )
        return forecast

    def _sound(self, resolved: Resolved) -> bool:
        """Whether an input's bytes are what they should be; if not, the plan has to be made again.

        Raises:
            ArtifactCorrupt: They are not, and nothing in the spec makes them again.
        """
        damage = self._inputs.damage(resolved.artifact)
        if not damage:
            return True
        if not self._inputs.can_be_remade(resolved.artifact):
            raise ArtifactCorrupt(
                f"{resolved.address} is damaged ({damage}), and nothing in the spec makes it again",
                hint=f"`aifw rollback {resolved.address.removeprefix('@')}` moves the alias to what it was before",
            )
        self._replan(resolved.address, damage)
        return False

    # Watching

    def _relay(self, running: Running) -> None:
        for row in running.tail.read():
            name = row.pop("event")
            row.pop("time", None)
            self._events.emit(f"job.{name}", running.step.address, **row)

    def _watch_memory(self) -> None:
        now = time.monotonic()
        if now - self._memory_seen_at < _MEMORY_EVERY:
            return
        self._memory_seen_at = now
        total = 0
        worst, excess = None, 0
        for running in self._running.values():
            used = held_by_tree(running.handle.pid) or 0
            running.peak = max(running.peak, used)
            total += used
            # What has no forecast is an effect under way, and small.
            if used - running.memory > excess and (running.forecast is not None or used > self._limits.memory):
                worst, excess = running, used - running.memory
        if total > self._limits.memory and worst is not None and not any(each.over for each in self._running.values()):
            # One at a time: what it frees may be enough for the others.
            worst.over = worst.memory + excess
            self._executor.end(worst.handle)
        self.outcome.peak_memory = max(self.outcome.peak_memory, total)
        self._events.tell("memory", used=total, budget=self._limits.memory)

    # Ending

    def _end(self, running: Running, ended: Ended) -> None:
        self._executor.collect(running.handle)
        result = read_result(running.handle.folder)
        measured = result.get("usage", {}).get("memory") if result is not None else None
        memory = max(measured or ended.peak_memory, running.peak)
        actual = {
            "seconds": time.monotonic() - running.begun,
            "memory": memory,
            "cpu": ended.cpu_seconds,
            "work": running.forecast.work if running.forecast is not None else 0.0,
            "resumed": running.resumed,
        }
        self.outcome.peak_memory = max(self.outcome.peak_memory, memory)
        if result is not None and result["status"] == "done":
            self._made(running, result, actual)
        elif (result is not None and result["status"] == "stopped") or (result is None and self._asked > 1):
            jobs.ended(self._store, running.entry.id, "stopped", actual)
            self.outcome.results[running.step.address] = Result("stopped")
            self._events.emit("job.stopped", running.step.address, checkpoint=self._checkpoint(running))
        else:
            self._lost(running, ended, result, actual)
        shutil.rmtree(running.handle.folder / "out", ignore_errors=True)

    def _made(self, running: Running, result: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
        made = keep_result(self._store, running.entry, result, actual)
        manifest = made.manifest if made is not None else {"facts": result["facts"], "outputs": {}}
        artifact = made.digest if made is not None else ""
        outputs = {name: output["facts"] for name, output in manifest["outputs"].items()}
        address = running.step.address
        self._events.emit(
            "job.finished", address, artifact=artifact, facts=manifest["facts"], outputs=outputs, **actual
        )
        if running.undoing:
            return
        if running.entry.verb == "delete":
            self.outcome.results[address] = Result("forgotten")
        else:
            self._standings.made(running.step, self._spec.resources[address], artifact, running.entry.key)

    def _lost(
        self, running: Running, ended: Ended, result: Mapping[str, Any] | None, actual: Mapping[str, Any]
    ) -> None:
        error = self._what_went_wrong(running, ended, result)
        self._waiting.pop(running.step.address, None)
        jobs.ended(self._store, running.entry.id, "failed", actual, error)
        self.outcome.results[running.step.address] = Result("failed", error=error)
        self._events.emit(
            "job.failed",
            running.step.address,
            error=error,
            log=log_tail(running.handle.folder / "log"),
            job=running.entry.id,
            checkpoint=self._checkpoint(running),
        )

    def _what_went_wrong(self, running: Running, ended: Ended, result: Mapping[str, Any] | None) -> dict[str, Any]:
        if running.over:
            used, budget = format_bytes(running.over), format_bytes(self._limits.memory)
            message = f"exceeded its memory: used {used}, the budget is {budget}"
            if running.over <= self._limits.memory:
                message = (
                    f"exceeded its memory: used {used} where {format_bytes(running.memory)} was forecast,"
                    f" and the jobs beside it needed the rest of the budget of {budget}"
                )
            return {
                "code": MemoryRefused.code,
                "message": message,
                "hint": "its last checkpoint is kept; raise hardware.memory.budget, or make the job smaller",
            }
        if result is not None:
            return dict(result["error"])
        how = f"signal {-ended.status}" if ended.status < 0 else f"exit status {ended.status}"
        hint = "the system may have been out of memory" if ended.status == -9 else None
        return {"code": "AIFW500", "message": f"its process ended with {how} and left no result", "hint": hint}

    def _checkpoint(self, running: Running) -> int | None:
        return checkpointed_step(latest_checkpoint(self._store.layout.checkpoints(running.entry.key)))

    def _fail(self, address: str, error: AifwError) -> None:
        described = {"code": error.code, "message": error.message, "hint": error.hint}
        self.outcome.results[address] = Result("failed", error=described)
        self._events.emit("job.failed", address, error=described, log=[])
