from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aifw.errors import StateError, StateTooNew
from aifw.state import database
from aifw.state.layout import Layout
from aifw.state.schema import MIGRATIONS
from aifw.state.store import Store

Start = Callable[..., subprocess.Popen[str]]


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("pragma user_version").fetchone()[0])


def test_a_fresh_state_has_every_migration_and_survives_power_cuts(layout: Layout) -> None:
    with closing(Store.open(layout)) as store:
        assert store.rows("pragma user_version") == [(len(MIGRATIONS),)]
        assert store.rows("pragma journal_mode") == [("wal",)]
        assert store.rows("pragma synchronous") == [(2,)]
        assert store.serial == 0
    with closing(Store.open(layout)) as store:
        assert store.rows("pragma synchronous") == [(2,)], "not kept in the file, so set whenever it is opened"


def test_a_state_that_is_not_there_is_not_made_by_looking(layout: Layout) -> None:
    assert Store.existing(layout) is None
    assert not layout.base.exists()


def test_an_older_state_is_brought_up_to_date(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(layout).close()
    added = "create table added (name text);\ninsert into added values ('kept');"
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, added))
    with closing(Store.open(layout)) as store:
        assert store.rows("select name from added") == [("kept",)]
    assert version(layout.database) == len(MIGRATIONS) + 1


def test_a_migration_that_fails_changes_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(layout).close()
    broken = "create table added (name text);\ninsert into nowhere values (1);"
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", (*MIGRATIONS, broken))
        with pytest.raises(StateError, match="nowhere"):
            Store.open(layout)
    assert version(layout.database) == len(MIGRATIONS)
    with closing(Store.open(layout)) as store:
        assert store.rows("select name from sqlite_master where name = 'added'") == []


def test_a_crash_before_the_first_migration_leaves_a_file_that_is_used(layout: Layout) -> None:
    layout.folder.mkdir(parents=True)
    layout.database.touch()
    with closing(Store.open(layout)) as store:
        assert store.serial == 0


def test_a_newer_state_is_refused_and_left_alone(layout: Layout) -> None:
    Store.open(layout).close()
    with closing(sqlite3.connect(layout.database)) as connection:
        connection.execute("pragma user_version = 99")
    before = layout.database.read_bytes()
    for opening in (Store.open, Store.existing):
        with pytest.raises(StateTooNew, match="format 99") as caught:
            opening(layout)
        assert "upgrade" in str(caught.value.hint)
    assert layout.database.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_what_is_no_database_is_an_error_with_a_way_out(layout: Layout, content: bytes) -> None:
    layout.folder.mkdir(parents=True)
    layout.database.write_bytes(content)
    with pytest.raises(StateError, match="not a readable database") as caught:
        Store.open(layout)
    assert "backup" in str(caught.value.hint)


def test_a_database_whose_pages_are_overwritten_is_an_error_wherever_it_shows(layout: Layout) -> None:
    with closing(Store.open(layout)) as store, store.transaction() as connection:
        connection.executemany("insert into made values (?, ?)", [(f"key{i}", "x" * 100) for i in range(500)])
    content = bytearray(layout.database.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    layout.database.write_bytes(bytes(content))
    with closing(Store.open(layout)) as store:
        with pytest.raises(StateError, match="not a readable database") as caught:
            store.rows("select * from made")
        assert caught.value.hint
        with pytest.raises(StateError, match="not a readable database"), store.transaction() as connection:
            connection.execute("insert into made values ('k', 'a')")


def test_a_folder_in_the_place_of_the_state_is_an_error(layout: Layout) -> None:
    layout.database.mkdir(parents=True)
    with pytest.raises(StateError, match="cannot be opened"):
        Store.open(layout)


def test_another_program_s_database_is_an_error(layout: Layout) -> None:
    layout.folder.mkdir(parents=True)
    with closing(sqlite3.connect(layout.database)) as connection:
        connection.execute("create table run (something text)")
    with pytest.raises(StateError, match="already exists"):
        Store.open(layout)


def test_a_step_that_fails_is_undone(store: Store) -> None:
    def half(then: str) -> None:
        with store.transaction() as connection:
            connection.execute("insert into made values ('k', 'a')")
            if then:
                connection.execute(then)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half("")
    assert store.rows("select * from made") == []
    with pytest.raises(StateError, match="nowhere"):
        half("insert into nowhere values (1)")
    assert store.rows("select * from made") == []
    with store.transaction() as connection:
        connection.execute("insert into made values ('k', 'b')")
    assert store.rows("select * from made") == [("k", "b")]


def test_readers_see_the_state_before_a_step_and_never_wait_for_its_end(layout: Layout, store: Store) -> None:
    reader = Store.existing(layout)
    assert reader is not None
    with closing(reader):
        reader.connection.execute("pragma busy_timeout = 0")
        with store.transaction() as connection:
            connection.execute("insert into made values ('k', 'a')")
            assert reader.rows("select * from made") == []
            assert reader.serial == 0
            another = Store.existing(layout)
            assert another is not None
            with closing(another):
                assert another.rows("select * from made") == []
        assert reader.rows("select * from made") == [("k", "a")]


def test_what_is_read_together_does_not_change_on_the_way(layout: Layout, store: Store) -> None:
    reader = Store.existing(layout)
    assert reader is not None
    with closing(reader):
        with reader.unchanging():
            assert reader.rows("select * from made") == []
            with store.transaction() as connection:
                connection.execute("insert into made values ('k', 'a')")
            assert reader.rows("select * from made") == []
        assert reader.rows("select * from made") == [("k", "a")]


def test_a_second_writer_is_told_if_the_first_takes_too_long(layout: Layout, store: Store) -> None:
    second = Store.open(layout)
    with closing(second):
        second.connection.execute("pragma busy_timeout = 0")
        busy = pytest.raises(StateError, match="being written by another process")
        with store.transaction(), busy, second.transaction():
            pass
        with second.transaction() as connection:
            connection.execute("insert into made values ('k', 'a')")


def test_many_that_make_the_state_at_once_all_get_it(layout: Layout, python: Start) -> None:
    code = """
import sys
from pathlib import Path
from aifw.state.layout import Layout
from aifw.state.store import Store
sys.stdin.readline()
store = Store.open(Layout(Path(sys.argv[1]), "tested"))
with store.transaction() as connection:
    connection.execute("insert into made values (?, 'a')", (sys.argv[2],))
print(store.rows("pragma journal_mode")[0][0])
"""
    processes = [python(code, layout.base, str(index)) for index in range(6)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0].strip() for process in processes] == ["wal"] * 6
    with closing(Store.open(layout)) as store:
        assert store.rows("select count(*) from made") == [(6,)]


def test_a_process_that_is_killed_within_a_step_leaves_nothing_of_it(
    layout: Layout, store: Store, python: Start
) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from aifw.state.layout import Layout
from aifw.state.store import Store
store = Store.open(Layout(Path(sys.argv[1]), "tested"))
with store.transaction() as connection:
    connection.execute("insert into made values ('done', 'a')")
with store.transaction() as connection:
    connection.execute("insert into made values ('half', 'a')")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = python(code, layout.base)
    process.communicate()
    assert process.returncode == -9
    assert store.rows("select key from made") == [("done",)]
    with store.transaction() as connection:
        connection.execute("insert into made values ('next', 'a')")
