"""Look at everything a plan depends on: what kinds observe, the machine, the state."""

from __future__ import annotations

import os
from pathlib import Path

from aifw.errors import InputInvalid
from aifw.hardware.machine import Machine
from aifw.hardware.probe import probe
from aifw.kind import Kind, Observation, Workspace
from aifw.plan.snapshot import Snapshot
from aifw.spec.models import Spec
from aifw.state.artifacts import digest_of
from aifw.state.store import Store

PROFILE = "machine.json"
"""As `aifw.hardware.libraries.profile` calls it, which is not imported to find out that there is none."""


class Observer:
    """Observes the resources of a spec, and keeps the file digests it had to compute."""

    def __init__(self, spec: Spec, store: Store | None) -> None:
        self.spec = spec
        self.seen: dict[str, str] = {}
        self._digest_of = store.digest_of() if store is not None else digest_of

    def observations(self) -> dict[str, Observation]:
        """What each resource's kind sees.

        Raises:
            InputInvalid: Something a resource needs is not there; the message names the resource and its place in the spec.
        """
        workspace = Workspace(self.spec.root, self._digest)
        found: dict[str, Observation] = {}
        for address, resource in self.spec.resources.items():
            if type(resource.kind).observe is Kind.observe:
                continue
            try:
                observation = resource.kind.observe(resource.settings, workspace)
            except (InputInvalid, OSError) as error:
                place = f" ({resource.place.file}:{resource.place.line})" if resource.place is not None else ""
                hint = error.hint if isinstance(error, InputInvalid) else None
                raise InputInvalid(f"{address}{place}: {error}", hint=hint) from error
            if observation is not None:
                found[address] = observation
        return found

    def _digest(self, path: Path) -> str:
        digest = self._digest_of(path)
        self.seen[os.fspath(path)] = digest
        return digest


def known_machine(base: Path) -> Machine:
    """The machine as the probe finds it, with what its libraries said and what was measured, if anybody ever asked."""
    machine = probe()
    if not (base / PROFILE).exists():
        return machine
    # Only here: most plans are made where nobody asked, and reading a profile takes half as long as the probe.
    from aifw.hardware.libraries.profile import joined, read_profile

    return joined(machine, read_profile(base))


def take_snapshot(spec: Spec, store: Store | None, base: Path) -> Snapshot:
    """Everything the planner needs.

    Args:
        spec: A valid spec.
        store: Its state, or None if there is none yet.
        base: The `.aifw` folder, where the machine profile lies.
    """
    observer = Observer(spec, store)
    observations = observer.observations()
    machine = known_machine(base)
    if store is None:
        return Snapshot(machine=machine, observations=observations)
    kinds = {resource.kind.name for resource in spec.resources.values()}
    return store.snapshot(machine, observations, sorted(kinds))
