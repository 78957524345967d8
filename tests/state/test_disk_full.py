"""A disk that is full, by a small file system that is."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from aifw.errors import NoSpace
from aifw.state.artifacts import ArtifactStore, build_manifest, no_space_named
from aifw.state.layout import Layout
from aifw.state.lock import exclusive
from aifw.state.store import Store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def full(disk: Path, leave: int = 0) -> Iterator[None]:
    """Fill the disk up to `leave` bytes, and free it again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.parametrize("leave", [0, 4096, 32768, 65536])
def test_a_state_that_cannot_be_made_says_why_and_can_be_made_later(small_disk: Path, leave: int) -> None:
    layout = Layout(small_disk / ".aifw", "tested")
    with full(small_disk, leave), pytest.raises(NoSpace, match="the disk is full") as caught:
        Store.open(layout).close()
    assert caught.value.hint
    with closing(Store.open(layout)) as store:
        assert store.serial == 0


@pytest.mark.parametrize("leave", [0, 8192, 65536])
def test_a_step_that_does_not_fit_is_not_done_at_all(small_disk: Path, leave: int) -> None:
    layout = Layout(small_disk / ".aifw", "tested")

    def write(store: Store, first: int, count: int) -> None:
        with store.transaction() as connection:
            rows = [(f"key-{number}", "x" * 1000) for number in range(first, first + count)]
            connection.executemany("insert into made values (?, ?)", rows)

    with closing(Store.open(layout)) as store:
        write(store, 0, 20)
        with full(small_disk, leave), pytest.raises(NoSpace, match="unchanged") as caught:
            write(store, 100, 300)
        assert caught.value.hint
        assert store.rows("select count(*) from made") == [(20,)]
        assert store.rows("pragma integrity_check") == [("ok",)]
        write(store, 200, 20)
    with closing(Store.open(layout)) as again:
        assert again.rows("select count(*) from made") == [(40,)]
        assert again.rows("pragma integrity_check") == [("ok",)]


def test_a_state_can_be_read_while_the_disk_is_full(small_disk: Path) -> None:
    layout = Layout(small_disk / ".aifw", "tested")
    with closing(Store.open(layout)) as store, store.transaction() as connection:
        connection.execute("insert into made values ('key', 'artifact')")
    with closing(Store.open(layout)) as store, full(small_disk):
        assert store.rows("select * from made") == [("key", "artifact")]


def leave_output(folder: Path, size: int) -> Path:
    (folder / "text").mkdir(parents=True)
    (folder / "text" / "t").write_bytes(b"t" * size)
    return folder


def test_an_artifact_that_cannot_be_completed_is_not_in_the_store(small_disk: Path) -> None:
    store = ArtifactStore(small_disk / "artifacts")
    kept = leave_output(small_disk / "kept", 1000)
    first = store.keep(kept, build_manifest(kept, "toy", ("text",), {}))
    out = leave_output(small_disk / "out", 100_000)
    manifest = build_manifest(out, "toy", ("text",), {})
    with full(small_disk):
        with pytest.raises(NoSpace, match=r"artifact .* could not be written") as caught:
            store.keep(out, manifest)
        assert caught.value.hint
        assert store.digests() == [first]
        assert store.damage(first) == ""
    second = store.keep(out, manifest)
    assert sorted(store.digests()) == sorted([first, second])
    assert store.damage(second) == ""


def test_a_lock_that_cannot_be_written_says_why(small_disk: Path) -> None:
    path = small_disk / "state" / "lock"
    with full(small_disk), pytest.raises(NoSpace, match="the lock could not be written"), exclusive(path):
        pass
    with exclusive(path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_both_ways_of_having_no_space_are_named(number: int) -> None:
    with pytest.raises(NoSpace, match="the disk is full: the thing could not be written"), no_space_named("the thing"):
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_system_stay_what_they_are() -> None:
    with pytest.raises(PermissionError), no_space_named("the thing"):
        raise PermissionError
