"""Apply a spec: lock, recover, plan, agree, act; again if the plan turned out not to hold."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from aifw.boundary import boundary
from aifw.errors import Refused, StateError
from aifw.executors.base import Executor
from aifw.executors.local import LocalExecutor
from aifw.plan import planfile
from aifw.plan.compile import compile  # noqa: A004 - the word of the design
from aifw.plan.model import Action, Plan
from aifw.plan.needs import capacity
from aifw.plan.snapshot import Snapshot
from aifw.run.engine import Engine
from aifw.run.events import Events, Listener
from aifw.run.launch import Limits
from aifw.run.observe import Observer, take_snapshot
from aifw.run.outcome import Outcome
from aifw.run.recover import recover
from aifw.spec.models import Spec
from aifw.state.layout import Layout
from aifw.state.lock import exclusive
from aifw.state.store import Store

_MOST_PLANS = 5

Agree = Callable[[Plan], bool]


@dataclass(frozen=True)
class Request:
    """What to apply.

    Attributes:
        saved: A loaded plan file that must still hold, or None.
        allow_delete: External things may be deleted.
        offline: The network must not be used.
    """

    targets: Collection[str] = ()
    replaced: Collection[str] = ()
    saved: dict[str, Any] | None = None
    allow_delete: bool = False
    offline: bool = False


def apply(
    spec: Spec,
    layout: Layout,
    request: Request,
    listener: Listener,
    agree: Agree,
    executor: Executor | None = None,
) -> Outcome | None:
    """Bring the world to what the spec says.

    Args:
        spec: A valid spec.
        layout: Where its state lies.
        request: Limits of what to do.
        listener: Is told what happens.
        agree: Asked before anything is done; False ends it.
        executor: Where jobs run; child processes on this machine if None.

    Returns:
        What became of each resource; an empty outcome if there was nothing to do, None if it was not agreed to.

    Raises:
        LockHeld: Another engine is applying this spec.
        PlanStale: The saved plan no longer holds.
        Refused: Budget or policy says no.
        NoSpace: The disk is full; the state is intact.
    """
    with exclusive(layout.lock), closing(Store.open(layout)) as store:
        executor = executor or LocalExecutor()
        try:
            recover(store, executor)
            plan_id = planfile.digest(request.saved) if request.saved is not None else None
            # A saved plan is carried out once: what it made again before it was interrupted is not made yet again.
            already = store.done_by(plan_id) if plan_id is not None else frozenset()
            total = Outcome()
            agreed = 0
            for attempt in range(_MOST_PLANS):
                snapshot = take_snapshot(spec, store, layout.base)
                replaced = [each for each in request.replaced if each not in already and not total.acted_on(each)]
                plan = compile(spec, snapshot, targets=request.targets, replaced=replaced)
                if request.saved is not None:
                    progressed = store.moved_only_by(planfile.digest(request.saved), request.saved["serial"])
                    planfile.check(request.saved, plan, progressed)
                _check_policy(spec, plan, request)
                # A new plan on the way needs new agreement only if it costs more than what was agreed to.
                if (attempt == 0 or plan.totals.cost_high > agreed) and not agree(plan):
                    return None
                agreed = max(agreed, plan.totals.cost_high)
                if plan.empty and not _rebinds(plan, snapshot):
                    return total
                outcome = _run(spec, plan, store, plan_id, executor, listener, request, snapshot)
                total.add(outcome)
                if not outcome.replan or outcome.interrupted:
                    return total
            raise StateError(
                f"artifacts were found damaged {_MOST_PLANS} times in a row: {outcome.replan}",
                hint="the disk may be failing; check it before applying again",
            )
        finally:
            executor.close()


def _rebinds(plan: Plan, snapshot: Snapshot) -> bool:
    """Whether an otherwise empty plan makes an address stand for an older result."""
    return any(
        step.action in {Action.REUSE, Action.HELD}
        and (
            (binding := snapshot.bindings.get(step.address)) is None
            or (binding.key, binding.artifact) != (step.key, step.artifact or "")
        )
        for step in plan.steps
    )


def _check_policy(spec: Spec, plan: Plan, request: Request) -> None:
    deleted = [step.address for step in plan.steps if step.action is Action.DELETE]
    if deleted and not (request.allow_delete or spec.policy.allow_delete):
        raise Refused(
            f"{', '.join(deleted)} would be deleted, and it lives outside the store",
            hint="`--allow-delete` or `policy: {allow_delete: true}` lets it happen; or put it back into the spec",
        )


def _run(
    spec: Spec,
    plan: Plan,
    store: Store,
    plan_id: str | None,
    executor: Executor,
    listener: Listener,
    request: Request,
    snapshot: Snapshot,
) -> Outcome:
    run = store.begin_run(spec.digest, plan_id)
    boundary("run.begun")
    observer = Observer(spec, store)
    observer.observations()
    store.remember_observed(observer.seen)
    for record in snapshot.artifacts.values():
        if record.damage:
            store.mark_damaged(record.digest, record.damage)
    store.refresh_fingerprints()
    memory = spec.hardware.memory
    limits = Limits(
        capacity=capacity(spec, snapshot),
        reserve=memory.reserve,
        conservative=memory.profile == "conservative",
        patience=memory.patience,
        offline=request.offline,
    )
    with closing(Events(store.layout.run(run), run, listener)) as events:
        events.emit(
            "run.started",
            name=spec.name,
            pool=limits.memory,
            steps={step.address: step.action.value for step in plan.steps},
            seconds=[plan.totals.seconds_low, plan.totals.seconds_mid, plan.totals.seconds_high],
        )
        engine = Engine(spec, plan, snapshot, store, run, executor, events, limits)
        with _signals(engine):
            outcome = engine.execute()
        summary: dict[str, Any] = {
            "seconds": outcome.seconds,
            "peak_memory": outcome.peak_memory,
            "exit": int(outcome.exit_status),
            "results": {
                address: result.status for address, result in outcome.results.items() if result.status != "unchanged"
            },
        }
        boundary("run.before_end")
        store.end_run(run, outcome.state, summary)
        boundary("run.ended")
        events.emit("run.finished", state=outcome.state, **summary)
    return outcome


@contextmanager
def _signals(engine: Engine) -> Iterator[None]:
    """While the engine works, Ctrl-C and SIGTERM stop it cleanly; a second one at once."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        engine.stop()

    former = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
