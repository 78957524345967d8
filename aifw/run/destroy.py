"""Forget everything a spec made, and delete what lies outside the store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from aifw.run.apply import Agree, Request, apply
from aifw.run.events import Listener
from aifw.run.outcome import Outcome
from aifw.spec.models import Spec
from aifw.state.layout import Layout
from aifw.state.lock import exclusive
from aifw.state.store import Store, changed


def destroy(layout: Layout, root: Path, listener: Listener, agree: Agree) -> Outcome | None:
    """Apply a spec without resources, then forget its aliases. Bytes stay until they are collected; runs stay in the history.

    Args:
        layout: Where the state lies.
        root: Relative paths of the deleted things start here.
        listener: Is told what happens.
        agree: Asked before anything is done, with a plan in which everything is removed.

    Returns:
        What became of each resource, or None if it was not agreed to.

    Raises:
        LockHeld: An engine is applying this spec.
    """
    nothing = Spec(name=layout.name, root=root, files=(), resources={}, aliases={}, digest="")
    outcome = apply(nothing, layout, Request(allow_delete=True), listener, agree)
    if outcome is not None and outcome.exit_status == 0:
        with exclusive(layout.lock), closing(Store.open(layout)) as store:
            _forget_aliases(store)
    return outcome


def _forget_aliases(store: Store) -> None:
    with store.transaction() as connection:
        for table in ("alias", "alias_move", "quarantine"):
            connection.execute(f"delete from {table}")  # noqa: S608 - fixed names
        changed(connection, None)
