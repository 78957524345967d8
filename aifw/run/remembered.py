"""An empty plan is remembered together with everything it was made from, so that finding again that there is nothing to do takes
a look at those things and not a plan.

What a plan depends on is all there is to look at: the bytes of the spec and its overlays, the environment variables it names,
the code of aifw and of the kinds, the machine and its profile, the state, the files of every artifact that an address stands for, and the files
that kinds observed. If one of them is not as it was, or cannot be looked at this way, the plan is made anew. Nothing here imports
pydantic or a kind: that is most of the time a plan of unchanged resources takes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifw.state.fingerprint import fingerprint

if TYPE_CHECKING:
    from aifw.hardware.machine import Machine
    from aifw.plan.model import Plan
    from aifw.spec.models import Spec
    from aifw.state.store import Store

_FORMAT = 2
_MOST_BYTES = 32 * 1024**2
_MOST_ENTRIES = 50_000
_SETTLED_SECONDS = 1.0
"""A file that changed a moment ago could change again within the clock's tick, so it is not relied on yet."""
_CODE_FOLDERS = ("site-packages", "dist-packages")


class Remembered:
    """What is remembered of the plan of one set of files and values.

    Args:
        files: The spec and its overlays. They are read now, before anything is made of them.
        sets: Values set on the command line.
        base: The folder that holds states and artifacts.
    """

    def __init__(self, files: Sequence[Path], sets: Sequence[str], base: Path) -> None:
        self._files = [os.fspath(path.absolute()) for path in files]
        self._sets = list(sets)
        self._base = base
        self._texts = [_read(path) for path in self._files]
        self._digests = [sha256(text).hexdigest() if text is not None else None for text in self._texts]
        self._profile = os.fspath(base / "machine.json")
        self._seen_profile = _looks([self._profile])
        name = sha256(json.dumps([self._files, self._sets, sys.executable, sys.path]).encode()).hexdigest()
        self._path = base / "cache" / "remembered-plans" / f"{name[:32]}.json"

    def recall(self, machine: Machine) -> Plan | None:
        """The plan, if nothing it was made from has changed."""
        found = self._load()
        if found is None or found["machine"] != [machine.name, machine.memory.pool, machine.cpu.cores]:
            return None
        if found["digests"] != self._digests or found["environment"] != _environment(found["environment"]):
            return None
        if found["profile"] != _looks([self._profile]):
            return None
        if found["code"] != _looks(row[0] for row in found["code"]):
            return None
        if found["watched"] != _looks(found["paths"], deep=True):
            return None
        if found["state"] != _state(self._base, found["plan"]["name"]):
            return None
        return _restored(found["plan"])

    def remember(self, spec: Spec, store: Store, machine: Machine, plan: Plan) -> None:
        """Keep a plan that says there is nothing to do. Does nothing where it could not be relied on later."""
        if not plan.empty or plan.targets or plan.replaced or plan.warnings or None in self._digests:
            return
        named = _names([*(text for text in self._texts if text is not None), *(each.encode() for each in self._sets)])
        watched = _watched(spec, store, plan)
        state = _state(self._base, spec.name, verify=False)
        if named is None or watched is None or state is None or state["serial"] != plan.serial:
            return
        # An artifact that is reused but that no address stands for yet is looked after by nobody.
        bound = dict(store.rows("select address, artifact from binding"))
        if any(bound.get(step.address) != (step.artifact or "") for step in plan.steps):
            return
        content = {
            "format": _FORMAT,
            "machine": [machine.name, machine.memory.pool, machine.cpu.cores],
            "digests": self._digests,
            "environment": _environment(named),
            "profile": self._seen_profile,
            "code": _looks(_code(spec)),
            "paths": watched[0],
            "watched": watched[1],
            "state": state,
            "plan": plan,
        }
        temporary = self._path.with_name(f".{self._path.name}-{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content, default=_fields), encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            # A folder that cannot be written to costs the next plan some time, nothing else.
            temporary.unlink(missing_ok=True)

    def _load(self) -> dict[str, Any] | None:
        text = _read(os.fspath(self._path))
        if text is None:
            return None
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return found if isinstance(found, dict) and found.get("format") == _FORMAT else None


def _fields(value: Any) -> dict[str, Any]:
    """A value type as its fields; an empty plan holds no other objects."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _read(path: str) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError:
        return None
    return text if len(text) <= _MOST_BYTES else None


def _environment(names: Iterable[str]) -> dict[str, str | None]:
    """Digests of variables: what they hold may be secret."""
    found: dict[str, str | None] = {}
    for name in names:
        value = os.environ.get(name)
        found[name] = sha256(value.encode(errors="surrogateescape")).hexdigest() if value is not None else None
    return found


def _looks(paths: Iterable[str], *, deep: bool = False) -> list[list[Any]]:
    """Size, time and inode of each path, or the path alone if it is not there.

    Args:
        paths: What to look at.
        deep: Look at everything in a folder, and at the journals of a SQLite database: rows may lie there and not yet in the file.
    """
    found: list[list[Any]] = []
    for path in paths:
        row = _row(path)
        found.append(row)
        if deep and os.path.isdir(path):  # noqa: PTH112
            found.extend(_entries(path))
        elif deep:
            found.extend(_row(f"{path}{ending}") for ending in ("-wal", "-journal"))
    return found


def _row(path: str) -> list[Any]:
    try:
        status = os.stat(path)  # noqa: PTH116 - hundreds of them, and a Path for each would take longer than the look
    except OSError:
        return [path]
    return [path, status.st_size, status.st_mtime_ns, status.st_ino]


def _entries(folder: str) -> list[list[Any]]:
    found: list[list[Any]] = []
    pending = [folder]
    while pending and len(found) <= _MOST_ENTRIES:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                found.append(_row(entry.path))
                if entry.is_dir():
                    pending.append(entry.path)
    return sorted(found)


def _names(texts: Iterable[bytes]) -> list[str] | None:
    """Environment variables that texts take values from; None if there are forms whose values could come from anywhere."""
    from aifw.spec.interpolate import PLAIN

    found = {"HOME"}
    for raw in texts:
        text = raw.decode(errors="replace")
        plain = list(PLAIN.finditer(text))
        if text.count("${") != len(plain):
            return None
        found.update(match["name"] for match in plain if match["name"])
    return sorted(found)


def _watched(spec: Spec, store: Store, plan: Plan) -> tuple[list[str], list[list[Any]]] | None:
    """Every path that kinds observe, and how it looks; None if it cannot be told from files, or is not as it was for the plan."""
    from aifw.errors import InputInvalid
    from aifw.kind import Kind, Workspace

    class Watching(Workspace):
        """Notes every path that a kind asks for."""

        def path(self, text: str) -> Path:
            found = super().path(text)
            asked.append(os.fspath(found.absolute()))
            return found

    def watched_digest(path: Path) -> str:
        asked.append(os.fspath(path.absolute()))
        return digest_of(path)

    digest_of = store.digest_of()
    asked: list[str] = []
    paths: list[str] = []
    rows: list[list[Any]] = []
    planned = {step.address: json.loads(step.identity).get("observation") for step in plan.steps}
    watching = Watching(spec.root, watched_digest)
    for address, resource in spec.resources.items():
        if type(resource.kind).observe is Kind.observe:
            continue
        asked.clear()
        try:
            resource.kind.observe(resource.settings, watching)
            # Looked at before it is observed again: a change in between is then seen by the next look.
            seen = sorted(set(asked))
            paths += seen
            rows += _looks(seen, deep=True)
            observation = resource.kind.observe(resource.settings, watching)
        except (InputInvalid, OSError):
            return None
        expected = planned.get(address)
        if (observation.fingerprint if observation else None) != (expected["fingerprint"] if expected else None):
            return None
        if observation is not None and not (observation.rememberable and seen):
            return None
        if not set(asked).issubset(seen):
            return None
    newest = max((row[2] for row in rows if len(row) > 1), default=0)
    settled = time.time_ns() - newest > _SETTLED_SECONDS * 1e9
    return (paths, rows) if settled and len(rows) <= _MOST_ENTRIES else None


def _code(spec: Spec) -> list[str]:
    """Files of every module that had a say in the plan, and the folders that tell of packages that came or went."""
    packages = {"aifw", *(type(resource.kind).__module__.partition(".")[0] for resource in spec.resources.values())}
    found = {
        module.__file__
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in packages and getattr(module, "__file__", None)
    }
    folders = {path for path in sys.path if path.endswith(_CODE_FOLDERS)}
    return sorted({*(path for path in found if path is not None), *folders})


def _state(base: Path, name: str, *, verify: bool = True) -> dict[str, Any] | None:
    """What the planner sees of the state, in short; None if there is none, an engine runs or died, or bytes are not as they were.

    Args:
        base: The folder that holds states and artifacts.
        name: Of the spec.
        verify: Look at the files of artifacts. The planner has just done so when a plan is to be remembered.
    """
    database = base / name / "state.db"
    if not database.exists():
        return None
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("begin")
            (version,) = connection.execute("pragma user_version").fetchone()
            (serial,) = connection.execute("select value from meta where name = 'serial'").fetchone()
            runs = connection.execute("select count(*), max(id), total(state = 'running') from run").fetchone()
            (damaged,) = connection.execute(
                "select count(*) from artifact where damage != ''"
                " and digest in (select artifact from binding union select artifact from alias)"
            ).fetchone()
            (intended,) = connection.execute("select count(*) from effect where state = 'intended'").fetchone()
            bound = connection.execute(
                "select digest, fingerprint from artifact"
                " where digest in (select artifact from binding union select artifact from alias)"
            ).fetchall()
            connection.execute("rollback")
    except sqlite3.Error:
        return None
    if runs[2] or damaged or intended:
        return None
    root = os.fspath(base / "artifacts")
    if verify and any(fingerprint(f"{root}/{digest[:2]}/{digest[2:]}") != known for digest, known in bound):
        return None
    return {"version": version, "serial": int(serial), "runs": [runs[0], runs[1]]}


def _restored(data: dict[str, Any]) -> Plan:
    from aifw.plan.model import Action, AliasChange, Plan, PlannedInput, Reason, Step, Totals

    # Nothing is pending in an empty plan, so no step has a forecast.
    steps = tuple(
        Step(
            **{
                **step,
                "action": Action(step["action"]),
                "reasons": tuple(Reason(**reason) for reason in step["reasons"]),
                "inputs": tuple(PlannedInput(**each) for each in step["inputs"]),
                "after": tuple(step["after"]),
            }
        )
        for step in data["steps"]
    )
    return Plan(
        **{
            **data,
            "steps": steps,
            "aliases": tuple(AliasChange(**each) for each in data["aliases"]),
            "totals": Totals(**data["totals"]),
            "targets": tuple(data["targets"]),
            "replaced": tuple(data["replaced"]),
            "warnings": tuple(data["warnings"]),
        }
    )
