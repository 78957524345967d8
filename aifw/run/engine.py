"""The engine: carries out a plan, one durable step after another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from aifw.errors import AifwError, MemoryRefused
from aifw.executors.base import Ended, Executor, Handle
from aifw.hardware.pool import held_by_tree
from aifw.job import latest_checkpoint
from aifw.kind import Forecast, InputFacts, Standing, find
from aifw.plan.identity import combine
from aifw.plan.model import PENDING, Action, Plan, Step
from aifw.plan.schedule import fits
from aifw.plan.snapshot import Binding, Snapshot
from aifw.plan.verdict import consequence
from aifw.run.events import Events, Tail, log_tail
from aifw.run.finish import keep_result, pointer_to
from aifw.run.order import Order, read_result
from aifw.run.outcome import Outcome, Result
from aifw.spec.models import Resource, Spec
from aifw.state import aliases, effects, jobs
from aifw.state.jobs import JobEntry
from aifw.state.store import Store
from aifw.units import format_bytes

_TICK = 0.1
_MEMORY_EVERY = 0.5


@dataclass(frozen=True)
class Limits:
    """What a run may use: bytes and threads of all running jobs together, and whether it may use the network."""

    memory: int
    threads: int
    offline: bool = False


@dataclass
class _Running:
    step: Step
    entry: JobEntry
    handle: Handle
    tail: Tail
    memory: int
    threads: int
    forecast: Forecast | None
    resumed: bool
    begun: float
    peak: int = 0
    over: int = 0


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
        self.spec = spec
        self.snapshot = snapshot
        self.store = store
        self.run = run
        self.executor = executor
        self.events = events
        self.limits = limits
        self.outcome = Outcome()
        self.waiting = {step.address: step for step in plan.steps}
        self.replaced = frozenset(plan.replaced)
        self.running: dict[int, _Running] = {}
        self.verified: set[str] = set()
        self.stopping = 0
        self.asked_to_stop = False
        self.launched = 0
        self._memory_at = 0.0

    def stop(self) -> None:
        """Ask for an end: once lets jobs save their state, twice ends them at once. Safe to call from a signal handler."""
        self.stopping += 1

    def execute(self) -> Outcome:
        """Do what the plan says; returns when nothing runs any more."""
        begun = time.monotonic()
        try:
            while True:
                self._obey()
                self._start_what_can()
                if not self.running:
                    break
                for ended in self.executor.wait(_TICK):
                    self._relay(self.running[ended.handle.pid])
                    self._end(self.running.pop(ended.handle.pid), ended)
                for running in self.running.values():
                    self._relay(running)
                self._watch_memory()
        finally:
            self.outcome.seconds = time.monotonic() - begun
        self.outcome.interrupted = self.stopping > 0
        return self.outcome

    def _obey(self) -> None:
        if self.stopping == 0:
            return
        if not self.asked_to_stop:
            self.asked_to_stop = True
            self.events.emit("run.stopping", waiting_for=[running.step.address for running in self.running.values()])
            for running in self.running.values():
                self.executor.control(running.handle, {"ask": "stop"})
        if self.stopping > 1:
            for running in self.running.values():
                self.executor.end(running.handle)

    # Starting

    def _start_what_can(self) -> None:
        progressed = True
        while progressed:
            progressed = False
            for step in list(self.waiting.values()):
                if self.stopping or self.outcome.replan:
                    return
                if all(each in self.outcome.results for each in step.after) and self._start(step):
                    del self.waiting[step.address]
                    progressed = True

    def _start(self, step: Step) -> bool:
        """Decide about a step whose predecessors are done; False if it has to wait for room."""
        broken = [each for each in step.after if self.outcome.results[each].status in {"failed", "skipped", "stopped"}]
        if broken:
            self.outcome.results[step.address] = Result("skipped")
            self.events.emit("resource.skipped", step.address, because=broken)
            return True
        if step.action is Action.FORGET:
            self.store.forget(step.address, self.run)
            self.events.emit("resource.forgotten", step.address)
            self.outcome.results[step.address] = Result("forgotten")
            return True
        if step.action is Action.DELETE:
            return self._launch_delete(step)
        resource = self.spec.resources[step.address]
        if step.action not in PENDING or step.effect_only:
            assert step.key is not None
            self._settle(step, resource, step.artifact or "", step.key, fresh=False)
            return True
        try:
            return self._make(step, resource)
        except AifwError as error:
            self._fail(step.address, {"code": error.code, "message": error.message, "hint": error.hint}, [])
            return True

    def _make(self, step: Step, resource: Resource) -> bool:
        inputs = self._inputs(step)
        digests = {field: each["digest"] for field, each in inputs.items()}
        key = combine(step.identity, digests)
        if resource.address not in self.replaced:
            known = self._known(resource, key)
            if known is None:
                known = self._settled(step, resource, digests)
            if known is not None:
                self._settle(step, resource, known, key, fresh=False)
                return True
        forecast = self._forecast(step, resource, inputs)
        needed = min(self.limits.memory, round(forecast.memory.high))
        threads = self.limits.threads if resource.kind.cores == "all" else 1
        used = sum(running.memory for running in self.running.values())
        busy = sum(running.threads for running in self.running.values())
        if not fits(needed, threads, used, busy, self.limits.memory, self.limits.threads):
            return False
        for field, each in inputs.items():
            if not self._sound(each["artifact"], each["address"], field):
                return False
        self._launch(step, resource, key, inputs, forecast, needed, threads)
        return True

    def _inputs(self, step: Step) -> dict[str, dict[str, Any]]:
        """Where each input lies now; what the plan could not know is known now."""
        found: dict[str, dict[str, Any]] = {}
        for planned in step.inputs:
            artifact = planned.artifact
            if planned.alias is None or artifact is None:
                result = self.outcome.results.get(planned.address)
                artifact = result.artifact if result is not None else planned.artifact
            if not artifact:
                key = self.outcome.results[planned.address].key
                found[planned.field] = {
                    "address": planned.address,
                    "artifact": "",
                    "path": "",
                    "facts": self._external_facts(planned.address),
                    "digest": f"external:{key}.{planned.output}",
                }
                continue
            ((digest, facts),) = self.store.rows(
                "select digest, facts from output where artifact = ? and name = ?", artifact, planned.output
            )
            found[planned.field] = {
                "address": f"@{planned.alias}" if planned.alias else planned.address,
                "artifact": artifact,
                "path": str(self.store.artifacts.path(artifact) / planned.output),
                "facts": _parsed(facts),
                "digest": digest,
            }
        return found

    def _external_facts(self, address: str) -> Mapping[str, Any]:
        rows = self.store.rows("select facts from binding where address = ?", address)
        return _parsed(rows[0][0]) if rows else {}

    def _known(self, resource: Resource, key: str) -> str | None:
        """An artifact made before under this key: the input changed, but not what matters of it."""
        if resource.kind.family != "artifact":
            return None
        rows = self.store.rows(
            "select m.artifact from made m join artifact a on a.digest = m.artifact where m.key = ? and a.damage = ''",
            key,
        )
        return rows[0][0] if rows and self.store.artifacts.path(rows[0][0]).is_dir() else None

    def _settled(self, step: Step, resource: Resource, digests: Mapping[str, str]) -> str | None:
        binding = self.snapshot.bindings.get(step.address)
        if binding is None or not binding.artifact:
            return None
        through = {each.field: each.alias for each in step.inputs if each.alias is not None}
        pointers = {name: pointer.digest for name, pointer in self.snapshot.aliases.items()}
        reason = resource.kind.settled(resource.settings, Standing(digests, pointers, through))
        return binding.artifact if reason is not None else None

    def _forecast(self, step: Step, resource: Resource, inputs: Mapping[str, Mapping[str, Any]]) -> Forecast:
        """The plan's forecast, made again with what is known by now."""
        facts = {field: InputFacts(each["address"], each["facts"], certain=True) for field, each in inputs.items()}
        observation = self.snapshot.observations.get(step.address)
        if observation is not None:
            facts["observation"] = InputFacts(step.address, observation.facts, certain=True)
        history = self.store.history(resource.kind.name)
        forecast = resource.kind.forecast(resource.settings, facts, self.snapshot.machine, history)
        if forecast.memory.mid > self.limits.memory:
            raise MemoryRefused(
                f"needs about {format_bytes(forecast.memory.mid)} of memory, the budget is {format_bytes(self.limits.memory)}",
                hint=f"raise hardware.memory.budget, or make the job smaller. Basis: {forecast.basis}",
            )
        return forecast

    def _sound(self, artifact: str, address: str, field: str) -> bool:
        """Verify an input's bytes before they are used, once per run."""
        if not artifact or artifact in self.verified:
            return True
        damage = self.store.artifacts.damage(artifact)
        if damage:
            self.store.mark_damaged(artifact, damage)
            self.outcome.replan = f"input {field}, made by {address}: {damage}"
            self.events.emit("run.replanned", address, because=self.outcome.replan)
            return False
        self.verified.add(artifact)
        return True

    def _launch(
        self,
        step: Step,
        resource: Resource,
        key: str,
        inputs: Mapping[str, Mapping[str, Any]],
        forecast: Forecast,
        memory: int,
        threads: int,
    ) -> None:
        binding = self.snapshot.bindings.get(step.address)
        verb = "run"
        if resource.kind.family == "external":
            verb = "update" if binding is not None and binding.key else "create"
        settings = resource.settings.model_dump(mode="json", by_alias=True, exclude_unset=True)
        checkpoints = self.store.layout.checkpoints(key)
        resume = latest_checkpoint(checkpoints) if resource.address not in self.replaced else None
        previous = self.store.artifacts.path(binding.artifact) if binding is not None and binding.artifact else None
        order = Order(
            id=self._job_id(step.address),
            address=step.address,
            kind=resource.kind.name,
            verb=verb,
            settings=settings,
            root=str(self.spec.root.absolute()),
            key=key,
            inputs={
                field: {name: each[name] for name in ("address", "path", "facts", "digest")}
                for field, each in inputs.items()
            },
            device=step.device or "cpu",
            threads=threads,
            memory=memory,
            seed=self.spec.seed if resource.kind.seeded else 0,
            resume=str(resume) if resume is not None else None,
            previous=str(previous) if previous is not None and previous.is_dir() else None,
            existing=self._external_facts(step.address) if verb == "update" else {},
            cache=str(self.store.layout.cache),
            checkpoints=str(checkpoints),
            offline=self.limits.offline,
        )
        if verb != "run":
            effects.intend(self.store, key, verb, step.address, resource.kind.name, self.run, settings)
        self._dispatch(replace(step, key=key), order, forecast, memory)

    def _launch_delete(self, step: Step) -> bool:
        intent = effects.intent_of(self.store, step.address)
        kind = find(step.kind)
        if intent is None or kind is None:
            self._fail(
                step.address,
                {"code": "AIFW500", "message": f"the kind `{step.kind}` is not installed", "hint": None},
                [],
            )
            return True
        key, settings = intent
        order = Order(
            id=self._job_id(step.address),
            address=step.address,
            kind=step.kind,
            verb="delete",
            settings=settings,
            root=str(self.spec.root.absolute()),
            key=key,
            existing=self._external_facts(step.address),
            cache=str(self.store.layout.cache),
            checkpoints=str(self.store.layout.checkpoints(key)),
        )
        effects.intend(self.store, key, "delete", step.address, step.kind, self.run, settings)
        self._dispatch(replace(step, key=key), order, None, 0)
        return True

    def _job_id(self, address: str) -> str:
        self.launched += 1
        return f"{self.run}-{self.launched}-{address}"

    def _dispatch(self, step: Step, order: Order, forecast: Forecast | None, memory: int) -> None:
        folder = self.store.layout.job(order.id)
        folder.mkdir(parents=True)
        order.write(folder)
        entry = JobEntry(
            order.id, self.run, order.address, order.kind, order.verb, order.key, step.recipe, step.identity, None, None
        )
        expected = asdict(forecast) if forecast is not None else None
        jobs.intended(self.store, entry, _dumped(order.settings), expected, self.executor.name)
        handle = self.executor.launch(folder, _environment(order.threads))
        jobs.launched(self.store, entry.id, handle.pid, handle.started)
        self.running[handle.pid] = _Running(
            step,
            entry,
            handle,
            Tail(folder / "events.jsonl"),
            memory,
            order.threads,
            forecast,
            order.resume is not None,
            time.monotonic(),
        )
        self.events.emit(
            "job.started",
            order.address,
            job=order.id,
            verb=order.verb,
            device=order.device,
            threads=order.threads,
            resumed_from=int(order.resume.rpartition("-")[2]) if order.resume else None,
            forecast=expected,
        )

    # Watching

    def _relay(self, running: _Running) -> None:
        for row in running.tail.read():
            name = row.pop("event")
            row.pop("time", None)
            self.events.emit(f"job.{name}", running.step.address, **row)

    def _watch_memory(self) -> None:
        now = time.monotonic()
        if now - self._memory_at < _MEMORY_EVERY:
            return
        self._memory_at = now
        total = 0
        for running in self.running.values():
            used = held_by_tree(running.handle.pid) or 0
            running.peak = max(running.peak, used)
            total += used
            if used > self.limits.memory and not running.over:
                running.over = used
                self.executor.end(running.handle)
        self.outcome.peak_memory = max(self.outcome.peak_memory, total)

    # Ending

    def _end(self, running: _Running, ended: Ended) -> None:
        folder = running.handle.folder
        self.executor.collect(running.handle)
        result = read_result(folder)
        actual = {
            "seconds": time.monotonic() - running.begun,
            "memory": max(ended.peak_memory, running.peak),
            "cpu": ended.cpu_seconds,
            "work": running.forecast.work if running.forecast is not None else 0.0,
            "resumed": running.resumed,
        }
        self.outcome.peak_memory = max(self.outcome.peak_memory, ended.peak_memory)
        if result is not None and result["status"] == "done":
            self._keep(running, result, actual)
        elif result is not None and result["status"] == "stopped":
            jobs.ended(self.store, running.entry.id, "stopped", actual)
            checkpoint = latest_checkpoint(self.store.layout.checkpoints(running.entry.key))
            self.outcome.results[running.step.address] = Result("stopped")
            self.events.emit("job.stopped", running.step.address, checkpoint=_step_of(checkpoint))
        else:
            self._lost(running, ended, result, actual)

    def _keep(self, running: _Running, result: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
        made = keep_result(self.store, running.entry, result, actual)
        facts = made.manifest["facts"] if made is not None else result["facts"]
        outputs = (
            {name: output["facts"] for name, output in made.manifest["outputs"].items()} if made is not None else {}
        )
        self.events.emit(
            "job.finished",
            running.step.address,
            artifact=made.digest if made is not None else "",
            facts=facts,
            outputs=outputs,
            **actual,
        )
        if running.entry.verb == "delete":
            self.outcome.results[running.step.address] = Result("forgotten")
            return
        resource = self.spec.resources[running.step.address]
        self._settle(running.step, resource, made.digest if made is not None else "", running.entry.key, fresh=True)

    def _lost(
        self, running: _Running, ended: Ended, result: Mapping[str, Any] | None, actual: Mapping[str, Any]
    ) -> None:
        if running.over:
            error: dict[str, Any] = {
                "code": MemoryRefused.code,
                "message": f"exceeded its memory: used {format_bytes(running.over)}, the budget is {format_bytes(self.limits.memory)}",
                "hint": "its last checkpoint is kept; raise hardware.memory.budget, or make the job smaller",
            }
        elif result is not None:
            error = dict(result["error"])
        elif self.stopping > 1:
            jobs.ended(self.store, running.entry.id, "stopped", actual)
            self.outcome.results[running.step.address] = Result("stopped")
            checkpoint = latest_checkpoint(self.store.layout.checkpoints(running.entry.key))
            self.events.emit("job.stopped", running.step.address, checkpoint=_step_of(checkpoint))
            return
        else:
            how = f"signal {-ended.status}" if ended.status < 0 else f"exit status {ended.status}"
            hint = "the system may have been out of memory" if ended.status == -9 else None
            error = {"code": "AIFW500", "message": f"its process ended with {how} and left no result", "hint": hint}
        jobs.ended(self.store, running.entry.id, "failed", actual, error)
        checkpoint = latest_checkpoint(self.store.layout.checkpoints(running.entry.key))
        self._fail(
            running.step.address,
            error,
            log_tail(running.handle.folder / "log"),
            job=running.entry.id,
            checkpoint=_step_of(checkpoint),
        )

    def _fail(self, address: str, error: Mapping[str, Any], log: list[str], **more: Any) -> None:
        self.outcome.results[address] = Result("failed", error=error)
        self.events.emit("job.failed", address, error=error, log=log, **more)

    def _settle(self, step: Step, resource: Resource, artifact: str, key: str, *, fresh: bool) -> None:
        """A resource stands: bind it, set aliases that start with it, and do what a verdict asks for."""
        before = self.snapshot.bindings.get(step.address)
        if not fresh:
            binding = Binding(
                step.address, resource.kind.name, resource.kind.family, artifact, key, step.recipe, step.identity
            )
            if before is None or (before.artifact, before.key, before.identity_json) != (artifact, key, step.identity):
                ((facts,),) = self.store.rows("select facts from artifact where digest = ?", artifact) or [("{}",)]
                self.store.bind(binding, _parsed(facts), self.run)
            if step.action in PENDING and not step.effect_only:
                self.events.emit("resource.reused", step.address, artifact=artifact)
        self.outcome.results[step.address] = Result("done" if fresh else "unchanged", artifact, key)
        for name, reference in self.spec.aliases.items():
            if reference.address == step.address and name not in self.snapshot.aliases:
                pointer = pointer_to(self.store, step.address, artifact, reference.output)
                if aliases.initialise(self.store, name, pointer, self.run):
                    self.events.emit("alias.moved", step.address, alias=name, before=None, after=pointer.label)
        if resource.kind.moves_alias is not None and (fresh or step.action is not Action.REUSE):
            self._judge(step, resource, artifact, fresh=fresh)

    def _judge(self, step: Step, resource: Resource, artifact: str, *, fresh: bool) -> None:
        assert resource.kind.moves_alias is not None
        alias_field, candidate_field = resource.kind.moves_alias
        name = str(getattr(resource.settings, alias_field))
        planned = next(each for each in step.inputs if each.field == candidate_field)
        made_by = planned.artifact or self.outcome.results[planned.address].artifact
        candidate = pointer_to(self.store, planned.address, made_by, planned.output)
        rows = self.store.rows("select facts from output where artifact = ?", artifact)
        verdict = next((found for (facts,) in rows if (found := _parsed(facts).get("verdict"))), None)
        if verdict is None:
            return
        current = self.store.aliases().get(name)
        quarantined = dict(self.store.rows("select digest, reason from quarantine"))
        outcome = consequence(verdict, current, candidate.digest, quarantined)
        reason = outcome.text
        if outcome.outcome == "move":
            incumbent = current.digest if current is not None else None
            reason = aliases.promote(self.store, name, incumbent, candidate, self.run, verdict)
            if not reason:
                self.events.emit(
                    "alias.moved",
                    step.address,
                    alias=name,
                    before=current.label if current else None,
                    after=candidate.label,
                    verdict=verdict,
                )
                self.outcome.results[step.address] = replace(self.outcome.results[step.address], status="moved")
                return
        if outcome.outcome != "done":
            self.events.emit(
                "alias.held",
                step.address,
                alias=name,
                current=current.label if current else None,
                reason=reason,
                verdict=verdict,
            )
            self.outcome.results[step.address] = replace(
                self.outcome.results[step.address], status="held", fresh_verdict=fresh
            )


def _environment(threads: int) -> dict[str, str]:
    """Thread counts for every library that would otherwise take all cores and spin."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def _parsed(text: str) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(text)
    return found


def _dumped(value: Any) -> str:
    import json

    return json.dumps(value)


def _step_of(checkpoint: Any) -> int | None:
    return int(checkpoint.name.removeprefix("step-")) if checkpoint is not None else None
