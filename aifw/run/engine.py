"""The engine: carries out a plan, one durable step after another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from aifw.errors import AifwError, ArtifactCorrupt, DependencyMissing, MemoryRefused, Refused
from aifw.executors.base import Executor
from aifw.hardware.placement import Place
from aifw.kind import Forecast, InputFacts
from aifw.plan.forecast import forecast_at
from aifw.plan.identity import combine
from aifw.plan.model import PENDING, Action, Placement, Plan, Step
from aifw.plan.needs import MEMORY, THREADS, needs
from aifw.plan.place import Surroundings, choose
from aifw.plan.snapshot import Snapshot
from aifw.run.ending import Endings
from aifw.run.events import Events
from aifw.run.inputs import Inputs, Resolved
from aifw.run.launch import Admitted, Launcher, Limits, Running
from aifw.run.outcome import Outcome, Result
from aifw.run.pool import Pool, Source, machine
from aifw.run.standing import Standings
from aifw.run.watch import Watch
from aifw.spec.models import Resource, Spec
from aifw.state import effects
from aifw.state.store import Store
from aifw.units import format_bytes


class Engine:
    """Carries out one plan.

    Args:
        spec: That was planned.
        plan: What to do.
        snapshot: What the plan was made from.
        store: The state, its lock held.
        run: Number of the run, which is open.
        executor: Where jobs run.
        events: Are told what happens.
        limits: What the run may use.
        memory: What memory is read from.
    """

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
        memory: Source = machine,
    ) -> None:
        self.outcome = Outcome()
        self._spec = spec
        self._snapshot = snapshot
        self._around = Surroundings(spec, snapshot)
        self._store = store
        self._run = run
        self._executor = executor
        self._events = events
        self._limits = limits
        # In the order of the schedule; what takes no time comes first.
        self._rank = {
            step.address: (-1.0 if step.start is None else step.start, index) for index, step in enumerate(plan.steps)
        }
        self._waiting: dict[str, Step] = {}
        self._wait(*plan.steps)
        self._replaced = set(plan.replaced)
        self._running: dict[int, Running] = {}
        self._inputs = Inputs(store, snapshot, self.outcome.results)
        self._launcher = Launcher(spec, snapshot, store, run, executor, events, limits, self._inputs)
        standings = Standings(spec, snapshot, store, run, events, self.outcome.results)
        self._standings = standings
        self._endings = Endings(spec, store, executor, events, standings, self.outcome)
        self._pool = Pool(limits, events, memory)
        self._watch = Watch(spec, self._pool, executor, events, limits)
        self._asked = 0
        self._stopping = False
        self._refused: dict[str, tuple[Mapping[str, int], int]] = {}
        self._paused: dict[str, Running] = {}

    def stop(self) -> None:
        """Ask for an end: once lets jobs save their state, twice ends them at once. Safe to call from a signal handler."""
        self._asked += 1

    def execute(self) -> Outcome:
        """Do what the plan says; returns when nothing runs any more, and nothing waits for memory."""
        begun = time.monotonic()
        while True:
            self._obey()
            waits = self._start_what_can()
            if not self._running and not waits:
                break
            for ended in self._executor.wait(self._watch.tick):
                running = self._running.pop(ended.handle.pid)
                self._relay(running)
                self._pool.release(running)
                # What it left is known by now, and what it took is history that others' forecasts learn from.
                self._refused.clear()
                if self._endings.end(running, ended, stopping=self._stopping, at_once=self._asked > 1):
                    self._pause(running)
                elif self.outcome.results.get(running.step.address) is not None:
                    # An effect that was undone comes after all; one that could not be undone does not.
                    self._waiting.pop(running.step.address, None)
            for running in self._running.values():
                self._relay(running)
            self._watch.look(self._running.values(), stopping=self._stopping)
        assert not self._pool.ledger.entries, "nothing runs, and something is reserved"
        if self._stopping:
            for address, running in self._paused.items():
                self._endings.stopped(address, running.entry.key)
        self.outcome.seconds = time.monotonic() - begun
        self.outcome.peak_memory = max(self.outcome.peak_memory, self._watch.peak)
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

    def _pause(self, running: Running) -> None:
        """Put a job that saved its state back in the row; it goes on where it was once there is room."""
        address = running.step.address
        self._paused[address] = running
        self._wait(running.step)
        # From its checkpoint: what was to be made from nothing has been begun by now.
        self._replaced.discard(address)
        if self._endings.checkpoint(running.entry.key) is None:
            self._watch.saved_nothing(running)

    def _wait(self, *steps: Step) -> None:
        """Put steps where they belong in the row."""
        waiting = [*self._waiting.values(), *steps]
        self._waiting = {step.address: step for step in sorted(waiting, key=lambda step: self._rank[step.address])}

    def _relay(self, running: Running) -> None:
        for row in running.tail.read():
            name = row.pop("event")
            row.pop("time", None)
            if name == "progress":
                running.done = (str(row["unit"]), float(row["done"]))
            self._events.emit(f"job.{name}", running.step.address, **row)

    # Starting

    def _start_what_can(self) -> bool:
        """Start everything that is ready and that there is room for; True if something that is ready was left for lack of room."""
        waits, progressed = False, True
        while progressed:
            waits = progressed = False
            for step in list(self._waiting.values()):
                if self._stopping or self.outcome.replan:
                    return False
                ready = all(each in self.outcome.results for each in step.after)
                ready = ready and not any(running.step.address == step.address for running in self._running.values())
                if not ready:
                    continue
                if self._start(step):
                    del self._waiting[step.address]
                    progressed = True
                else:
                    waits = True
        return waits and not self.outcome.replan

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
                self._ran(self._launcher.delete(step), {})
            elif step.action not in PENDING or step.effect_only:
                assert step.key is not None
                digests = {each.field: each.digest or "" for each in step.inputs}
                return self._keep(step, step.artifact or "", step.key, digests)
            else:
                return self._make(step, self._spec.resources[step.address])
        except (ArtifactCorrupt, Refused, DependencyMissing) as error:
            self._fail(step.address, error)
        return True

    def _forget(self, step: Step) -> None:
        self._store.forget(step.address, self._run)
        self._events.emit("resource.forgotten", step.address)
        self.outcome.results[step.address] = Result("forgotten")

    def _ran(self, running: Running, reserved: Mapping[str, int]) -> None:
        self._running[running.handle.pid] = running
        self._pool.reserve(running, reserved)
        self._paused.pop(running.step.address, None)

    def _make(self, step: Step, resource: Resource) -> bool:
        refused = self._refused.get(step.address) if self._pool.ledger.entries else None
        if refused is not None and not self._pool.admits(step.address, *refused):
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
        step, forecast = self._forecast(step, resource, inputs, self._limits.memory)
        reserved, wants = self._takes(step, forecast)
        alone, free = not self._pool.ledger.entries, self._pool.free()
        if alone and 0 < free < wants:
            # Nothing of this run will give any back, so a job that can do with what others leave does.
            _, smaller = self._forecast(step, resource, inputs, free)
            takes = self._takes(step, smaller)
            if takes[1] <= free:
                forecast, (reserved, wants) = smaller, takes
        if not self._pool.admits(step.address, reserved, wants):
            self._refused[step.address] = (reserved, wants)
            return False
        if not all(self._sound(each) for each in inputs.values()):
            return False
        if resource.kind.family == "external":
            begun = effects.unrecorded_creation(self._store, step.address, key)
            if begun is not None:
                self._ran(self._launcher.undo(step, *begun), {})
                return False
        admitted = self._admitted(step, forecast, reserved)
        self._ran(self._launcher.make(step, resource, key, inputs, admitted, afresh=afresh), reserved)
        return True

    def _takes(self, step: Step, forecast: Forecast) -> tuple[dict[str, int], int]:
        """What a job reserves, and bytes that must really be there: what is reserved, and no less than it held before it paused."""
        reserved = needs(self._spec, step, forecast, self._limits.capacity)
        paused = self._paused.get(step.address)
        if paused is not None:
            # What it is known to take: with less it would only have to make room again.
            reserved[MEMORY] = max(reserved[MEMORY], min(self._limits.memory, paused.meter.peak))
        wants = reserved[MEMORY]
        if self._limits.conservative and forecast.memory.high > self._limits.memory:
            # The whole budget is reserved, and the plan said that only the middle is sure to fit.
            wants = round(forecast.memory.mid)
        return reserved, wants if paused is None else max(wants, paused.meter.peak)

    def _admitted(self, step: Step, forecast: Forecast, reserved: Mapping[str, int]) -> Admitted:
        memory = reserved[MEMORY]
        if not self._limits.conservative:
            # It may be asked to fit what is there beyond the middle it reserved.
            memory = max(memory, min(round(forecast.memory.high), self._pool.limit(forecast, 0)))
        threads, placed = reserved.get(THREADS, self._limits.capacity[THREADS]), step.placement
        if placed is not None:
            threads = max(1, min(threads, placed.threads))
        return Admitted(forecast, reserved, memory, threads, placed.cpus if placed is not None else ())

    def _keep(self, step: Step, artifact: str, key: str, digests: Mapping[str, str]) -> bool:
        """Let a resource stand for what is there; False if that turns out to be damaged, and the plan has to be made again."""
        before = self._snapshot.bindings.get(step.address)
        if before is None or before.artifact != artifact:
            damage = self._inputs.damage(artifact)
            if damage:
                self._replan(step.address, damage)
                return False
        self._standings.keep(step, self._spec.resources[step.address], artifact, key, digests)
        # Another job may have made the very same while this one was paused.
        self._paused.pop(step.address, None)
        return True

    def _replan(self, address: str, damage: str) -> None:
        self.outcome.replan = f"{address}: {damage}"
        self._events.emit("run.replanned", address, because=damage)

    def _forecast(
        self, step: Step, resource: Resource, inputs: Mapping[str, Resolved], most: int
    ) -> tuple[Step, Forecast]:
        """The plan's forecast, made again with what is known by now, and the step with its place.

        Args:
            step: To be started.
            resource: Of the step.
            inputs: That are there by now, by field.
            most: Bytes the job may have.

        Raises:
            MemoryRefused: It does not fit after all.
            Refused: It was to be the same as another, which came to something else, and has nowhere to run.
        """
        facts = {field: InputFacts(each.address, each.facts, certain=True) for field, each in inputs.items()}
        observation = self._snapshot.observations.get(step.address)
        if observation is not None:
            facts["observation"] = InputFacts(step.address, observation.facts, certain=True)
        history = self._store.history(resource.kind.name)
        if step.placement is None:
            placement, forecast = choose(resource, facts, history, self._around, {})
            return replace(step, device=placement.device, placement=placement), forecast
        place = self._place(step.placement)
        machine = self._around.seen(place, most)
        forecast = forecast_at(resource.kind, resource.settings, facts, machine, history, place)
        own = self._around.own_memory(place)
        for there, name in ((self._limits.memory, "the budget"), (own, f"the memory of {place.device}")):
            if there is not None and forecast.memory.mid > there:
                raise MemoryRefused(
                    f"needs about {format_bytes(forecast.memory.mid)} of memory on {place.label}, now that its inputs are known;"
                    f" {name} is {format_bytes(there)}",
                    hint=f"raise hardware.memory.budget, or make the job smaller. Basis: {forecast.basis}",
                )
        return step, forecast

    def _place(self, placed: Placement) -> Place:
        """Where a step is placed, as its forecast in the plan saw it."""
        return next(
            each for each in self._around.places if (each.column, each.device) == (placed.column, placed.device)
        )

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

    def _fail(self, address: str, error: AifwError) -> None:
        described = {"code": error.code, "message": error.message, "hint": error.hint}
        self.outcome.results[address] = Result("failed", error=described)
        paused = self._paused.pop(address, None)
        kept = {} if paused is None else {"checkpoint": self._endings.checkpoint(paused.entry.key)}
        self._events.emit("job.failed", address, error=described, log=[], **kept)
