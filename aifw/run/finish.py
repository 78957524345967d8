"""What becomes of a job that ended, the same whether its engine saw it end or a later one finds the result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

from aifw.plan.snapshot import Binding
from aifw.state import aliases, effects, jobs
from aifw.state.artifacts import MANIFEST, manifest_digest
from aifw.state.jobs import JobEntry
from aifw.state.store import Made, Store


def keep_result(store: Store, entry: JobEntry, result: Mapping[str, Any], actual: Mapping[str, Any]) -> Made | None:
    """Commit what a worker finished. Doing it twice is the same as once.

    Returns:
        The artifact, or None for an external thing.
    """
    if entry.verb != "run":
        _keep_effect(store, entry, result["facts"], actual)
        return None
    manifest = result["manifest"]
    out = store.layout.job(entry.id) / "out"
    digest = store.artifacts.keep(out, manifest) if out.is_dir() else _already_kept(store, manifest)
    size = sum(each["size"] for output in manifest["outputs"].values() for each in output["files"].values())
    made = Made(digest, size, store.artifacts.fingerprint(digest), manifest)
    verdict = _verdict(manifest)
    if verdict is not None:
        aliases.record_verdict(store, entry.address, verdict, entry.run)
    jobs.committed(store, entry, made, actual, manifest["facts"], reusable=_read_what_was_planned(entry, result))
    shutil.rmtree(store.layout.checkpoints(entry.key), ignore_errors=True)
    return made


def _already_kept(store: Store, manifest: Mapping[str, Any]) -> str:
    """The engine died between moving the artifact into the store and registering it."""
    digest = manifest_digest(manifest)
    assert (store.artifacts.path(digest) / MANIFEST).is_file(), (
        f"artifact {digest[:12]} is neither in the job nor in the store"
    )
    return digest


def _read_what_was_planned(entry: JobEntry, result: Mapping[str, Any]) -> bool:
    """Whether what the kind observes was the same before and after. A file may change while a job reads it; what came out then
    stands until the next plan, but must not be taken for what the key says when the file goes back to what it was.
    """
    planned = json.loads(entry.identity).get("observation")
    return planned is None or result.get("observed") == planned["fingerprint"]


def _verdict(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    for output in manifest["outputs"].values():
        verdict: dict[str, Any] | None = output["facts"].get("verdict")
        if verdict is not None:
            return verdict
    return None


def _keep_effect(store: Store, entry: JobEntry, facts: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
    if entry.verb == "delete":
        effects.deleted(store, entry.address, entry.run)
    else:
        binding = Binding(
            entry.address, entry.kind, "external", "", entry.key, entry.recipe, entry.identity, entry.inputs
        )
        effects.created(store, binding, entry.verb, entry.run, facts)
    jobs.ended(store, entry.id, "done", actual)
