"""Collect garbage: artifacts that nothing refers to, old job folders, checkpoints and caches that nobody used for long.

Several specs share one artifact store, so every state of the folder is looked at, and every lock is held meanwhile.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aifw.executors.local import LocalExecutor
from aifw.run.recover import recover
from aifw.state.artifacts import ArtifactStore
from aifw.state.layout import Layout
from aifw.state.lock import exclusive
from aifw.state.store import Store

_KEPT_POINTERS = 3
"""What an alias points to, and the last two things before: so that it can be rolled back."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that can go.

    Attributes:
        what: `artifact`, `job`, `checkpoint` or `cache`.
        name: Digest or folder name.
        path: Where it lies.
        size: Bytes.
        detail: For people: what it was.
    """

    what: str
    name: str
    path: Path
    size: int
    detail: str = ""


def collect(base: Path, *, keep: int, older_than: float, dry_run: bool) -> list[Garbage]:
    """Find what can go, and delete it.

    Args:
        base: The folder that holds states and artifacts.
        keep: Newest artifacts of each resource to keep although nothing refers to them.
        older_than: Job folders, checkpoints and caches that were not touched for so many seconds go, too.
        dry_run: Only find.

    Returns:
        What was deleted, or would be.

    Raises:
        LockHeld: An apply is running on a spec of this folder.
        StateError: A state cannot be read; nothing is deleted, since it may refer to anything.
    """
    with _states(base) as stores:
        for store in stores:
            if store.run_is_open():
                recover(store, LocalExecutor())
        found = [*_artifacts(base, stores, keep), *_folders(base, stores, time.time() - older_than)]
        if not dry_run:
            _delete(base, stores, found)
    return found


@contextmanager
def _states(base: Path) -> Iterator[list[Store]]:
    """Every state of the folder, each with its lock held."""
    with ExitStack() as stack:
        stores: list[Store] = []
        for database in sorted(base.glob("*/state.db")):
            layout = Layout(base, database.parent.name)
            stack.enter_context(exclusive(layout.lock))
            stores.append(stack.enter_context(closing(Store.open(layout))))
        yield stores


def _artifacts(base: Path, stores: Collection[Store], keep: int) -> Iterable[Garbage]:
    wanted: set[str] = set()
    described: dict[str, str] = {}
    for store in stores:
        wanted |= referred(store)
        newest: dict[str, int] = {}
        made = "select a.digest, j.address, a.made_at from artifact a left join job j on j.id = a.job order by a.made_at desc"
        for digest, address, at in store.rows(made):
            described[digest] = f"{address or 'unknown'}, made {at[:10]}"
            newest[address] = newest.get(address, 0) + 1
            if newest[address] <= keep:
                wanted.add(digest)
    artifacts = ArtifactStore(base / "artifacts")
    for digest in sorted(set(artifacts.digests()) - wanted):
        path = artifacts.path(digest)
        yield Garbage("artifact", digest, path, size_of(path), described.get(digest, "known to no state"))


def referred(store: Store) -> set[str]:
    """Artifacts that a state refers to: addresses stand for them, an alias points or lately pointed to them, or they are verdicts.

    A verdict is kept for good: what was decided once is not judged again because its entry was away for a while.
    """
    found = {row[0] for row in store.rows("select artifact from binding where artifact != ''")}
    found |= {
        row[0] for row in store.rows("select artifact from output where json_extract(facts, '$.verdict') is not null")
    }
    for name, pointer in store.aliases().items():
        latest = dict.fromkeys(
            row[0] for row in store.rows("select artifact from alias_move where name = ? order by id desc", name)
        )
        found |= {pointer.artifact, *list(latest)[:_KEPT_POINTERS]}
    return found


def _folders(base: Path, stores: Collection[Store], before: float) -> Iterable[Garbage]:
    for store in stores:
        # The log and the order of what stands now are part of what `show` and `logs` tell of it.
        live = {row[0] for row in store.rows("select a.job from binding b join artifact a on a.digest = b.artifact")}
        for path in _old(store.layout.folder / "jobs", before):
            if path.name not in live:
                yield Garbage("job", path.name, path, size_of(path), store.layout.name)
        for path in _old(store.layout.folder / "checkpoints", before):
            yield Garbage("checkpoint", path.name, path, size_of(path), store.layout.name)
    for path in _old(base / "cache", before):
        yield Garbage("cache", path.name, path, size_of(path))


def _old(folder: Path, before: float) -> Iterable[Path]:
    return (path for path in sorted(folder.glob("*")) if _touched(path) < before)


def _touched(path: Path) -> float:
    """When a folder or anything in it was last changed or, where the file system keeps it, read."""
    newest = 0.0
    for each in (path, *path.rglob("*")):
        try:
            status = each.stat()
        except OSError:
            continue
        newest = max(newest, status.st_mtime, 0.0 if each.is_dir() else status.st_atime)
    return newest


def size_of(path: Path) -> int:
    """Bytes of all files below a path."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


def _delete(base: Path, stores: Collection[Store], found: Collection[Garbage]) -> None:
    digests = [(each.name,) for each in found if each.what == "artifact"]
    for store in stores:
        # No state may know an artifact whose bytes are gone; bytes that no state knows are found again by the next collection.
        with store.transaction() as connection:
            for table, column in (("artifact", "digest"), ("output", "artifact"), ("made", "artifact")):
                connection.executemany(f"delete from {table} where {column} = ?", digests)  # noqa: S608 - fixed names
    artifacts = ArtifactStore(base / "artifacts")
    for each in found:
        if each.what == "artifact":
            artifacts.discard(each.name)
        elif each.path.is_file():
            each.path.unlink(missing_ok=True)
        else:
            shutil.rmtree(each.path, ignore_errors=True)
    artifacts.sweep()
    for folder in (base / "artifacts").glob("??"):
        # Refused while something is in it.
        with suppress(OSError):
            folder.rmdir()
