"""A plan against the state as it is. Kept apart from applying, whose imports take longer than a plan."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

from aifw.errors import LockHeld
from aifw.plan.compile import compile  # noqa: A004 - the word of the design
from aifw.plan.model import Plan
from aifw.run.observe import take_snapshot
from aifw.spec.models import Spec
from aifw.state.layout import Layout
from aifw.state.store import Store


def make_plan(spec: Spec, layout: Layout, targets: Collection[str] = (), replaced: Collection[str] = ()) -> Plan:
    """Plan against the state as it is. If an engine died here and none runs now, what it left is brought in order first."""
    store = Store.existing(layout)
    if store is None:
        return compile(spec, take_snapshot(spec, None, layout.base), targets=targets, replaced=replaced)
    with closing(store):
        if store.run_is_open():
            _recover_if_free(store, layout)
        return compile(spec, take_snapshot(spec, store, layout.base), targets=targets, replaced=replaced)


def _recover_if_free(store: Store, layout: Layout) -> None:
    from aifw.executors.local import LocalExecutor
    from aifw.run.recover import recover
    from aifw.state.lock import exclusive

    try:
        with exclusive(layout.lock):
            recover(store, LocalExecutor())
    except LockHeld:
        # An engine is at work: its plan is what is being done, and this one shows the state so far.
        return
