"""An executor whose jobs end at once: it writes small real outputs in this process, so that a state of any size can be built by applying."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aifw.executors.base import Capabilities, Ended, Executor, Handle
from aifw.kind import Workspace, find
from aifw.run.order import Order, write_durably
from aifw.state.artifacts import build_manifest, digest_of

_FIRST_PID = 1 << 23
"""Above every process id Linux gives out, so that nobody's memory is looked at."""

_MODEL = {
    "parameters": 134_515_008,
    "layers": 30,
    "hidden": 576,
    "intermediate": 1536,
    "heads": 9,
    "kv_heads": 3,
    "vocabulary": 49_152,
    "context": 2048,
    "dtype": "float32",
    "licence": "apache-2.0",
}
_PAIRS = {
    "groups": 180,
    "simulated": 0,
    "chars_prompt": 61.5,
    "chars_chosen": 148.25,
    "chars_rejected": 139.75,
}


class InstantExecutor(Executor):
    """Does the jobs of the built-in kinds by writing a file and the usual facts for each output."""

    name = "instant"
    capabilities = Capabilities(shares_files=True, adopts=False)

    def __init__(self) -> None:
        self._ended: list[Ended] = []
        self._launched = 0

    def launch(self, folder: Path, environment: Mapping[str, str]) -> Handle:
        """Do the job; `wait` reports its end."""
        order = Order.read(folder)
        kind = find(order.kind)
        assert kind is not None
        out = folder / "out"
        facts = {name: self._facts(order, name) for name in kind.produces}
        for name in kind.produces:
            (out / name).mkdir(parents=True)
            (out / name / "content.json").write_text(json.dumps([order.address, name, facts[name]]), encoding="utf-8")
        manifest = build_manifest(out, kind.name, tuple(kind.produces), facts)
        seen = kind.observe(kind.settings.model_validate(order.settings), Workspace(Path(order.root), digest_of))
        observed = seen.fingerprint if seen is not None else None
        write_durably(folder / "result.json", {"status": "done", "manifest": manifest, "observed": observed})
        self._launched += 1
        handle = Handle(folder, _FIRST_PID + self._launched, 0)
        self._ended.append(Ended(handle, 0, 64 * 1024**2, 0.1))
        return handle

    def _facts(self, order: Order, output: str) -> dict[str, Any]:
        digests = {field: each["digest"] for field, each in order.inputs.items()}
        if order.kind == "promote":
            evidence = order.inputs["evidence"]["facts"]
            verdict = {
                "decision": "better",
                "promote": True,
                "alias": order.settings["alias"],
                "candidate": digests["candidate"],
                "incumbent": evidence["baseline"],
                "metrics": {"preference_accuracy": {"difference": 0.069, "low": 0.031, "high": 0.106, "items": 311}},
                "summary": "preference accuracy 0.614 → 0.683",
            }
            return {"verdict": verdict}
        if order.kind == "evaluate":
            accuracy = {"preference_accuracy": 0.683, "baseline_preference_accuracy": 0.614}
            return {
                "items": 311,
                "groups": 180,
                "subject": digests["subject"],
                "baseline": digests["baseline"],
            } | accuracy
        if order.kind == "preferences":
            return {"rows": 240 if output == "train" else 120} | _PAIRS if output != "card" else {}
        if order.kind == "feedback":
            return {
                "rows": 420,
                "conversations": 260,
                "raters": 12,
                "bytes": 252_000,
                "chars_prompt": 61.5,
                "chars_answer": 144.0,
            }
        return {"rank": 16, "parameters": 4_884_480} if output == "adapter" else _MODEL | {"provenance": order.address}

    def wait(self, seconds: float) -> list[Ended]:
        """Everything launched since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def control(self, handle: Handle, message: Mapping[str, Any]) -> None:
        """Jobs have ended before anyone could ask."""

    def end(self, handle: Handle) -> None:
        """Jobs have ended already."""

    def alive(self, folder: Path) -> bool:
        """Never."""
        return False

    def adopt(self, folder: Path, pid: int | None, started: int | None, seconds: float) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """Nothing is held."""
