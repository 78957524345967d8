from __future__ import annotations

import pytest

from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.plan.snapshot import UNRECORDED, Binding
from aifw.state import effects
from aifw.state.store import Store

MACHINE = Machine("tested", Cpu("unknown", 1), Memory(1, 1))


def binding(key: str = "key-1", address: str = "storage.disk") -> Binding:
    return Binding(address, "toy_cloud", "external", "", key, "recipe", '{"kind": "toy_cloud"}')


def bindings(store: Store) -> dict[str, Binding]:
    return dict(store.snapshot(MACHINE, {}, []).bindings)


@pytest.fixture
def run(store: Store) -> int:
    return store.begin_run("spec", None)


def intend(store: Store, run: int, key: str = "key-1", verb: str = "create", size: int = 1) -> None:
    effects.intend(store, key, verb, "storage.disk", "toy_cloud", run, {"path": "p", "size": size})


def test_an_intent_is_on_disk_before_anything_is_done(store: Store, run: int) -> None:
    intend(store, run)
    assert store.rows("select verb, state, intent, outcome from effect") == [
        ("create", "intended", '{"path": "p", "size": 1}', None)
    ]
    assert store.serial == 0, "nothing is different yet"


def test_a_creation_that_was_begun_may_have_happened(store: Store, run: int) -> None:
    intend(store, run)
    assert bindings(store) == {"storage.disk": Binding("storage.disk", "toy_cloud", "external", "", "", "")}


def test_a_recorded_creation_is_bound_in_the_same_step(store: Store, run: int) -> None:
    intend(store, run)
    effects.created(store, binding(), "create", run, {"size": 1})
    assert bindings(store) == {"storage.disk": binding()}
    assert store.rows("select state, outcome from effect") == [("done", '{"size": 1}')]
    assert store.rows("select facts from binding") == [('{"size": 1}',)]
    assert store.serial == 1


def test_a_change_that_was_begun_makes_what_is_known_uncertain(store: Store, run: int) -> None:
    intend(store, run)
    effects.created(store, binding(), "create", run, {"size": 1})
    intend(store, run, "key-2", "update", 2)
    assert bindings(store)["storage.disk"].key == UNRECORDED
    effects.created(store, binding("key-2"), "update", run, {"size": 2})
    assert bindings(store) == {"storage.disk": binding("key-2")}


def test_a_later_change_overtakes_one_that_was_never_recorded(store: Store, run: int) -> None:
    intend(store, run)
    intend(store, run, "key-2", "create", 2)
    assert effects.unrecorded_creation(store, "storage.disk", "key-2") == ("key-1", {"path": "p", "size": 1})
    effects.created(store, binding("key-2"), "create", run, {})
    assert effects.unrecorded_creation(store, "storage.disk", "key-2") is None
    assert bindings(store) == {"storage.disk": binding("key-2")}


def test_intending_the_same_again_is_the_same_effect(store: Store, run: int) -> None:
    intend(store, run)
    intend(store, run)
    assert store.rows("select count(*) from effect") == [(1,)]
    assert effects.unrecorded_creation(store, "storage.disk", "key-1") is None


def test_what_was_deleted_is_forgotten_with_everything_intended_for_it(store: Store, run: int) -> None:
    intend(store, run)
    effects.created(store, binding(), "create", run, {})
    intend(store, run, "key-1", "delete")
    effects.deleted(store, "storage.disk", run)
    assert bindings(store) == {}
    assert store.rows("select distinct state from effect") == [("done",)]
    intend(store, run)
    assert bindings(store)["storage.disk"].key == "", "the same key may be made again"


def test_an_effect_on_one_thing_is_none_on_another(store: Store, run: int) -> None:
    intend(store, run)
    effects.created(store, binding("key-9", "storage.other"), "create", run, {})
    assert store.rows("select state from effect") == [("intended",)]
    effects.deleted(store, "storage.other", run)
    assert bindings(store)["storage.disk"].key == ""


def test_the_settings_something_was_last_made_with_outlive_its_entry(store: Store, run: int) -> None:
    assert effects.intent_of(store, "storage.disk") is None
    intend(store, run)
    effects.created(store, binding(), "create", run, {})
    assert effects.intent_of(store, "storage.disk") == ("key-1", {"path": "p", "size": 1})
    with store.transaction() as connection:
        connection.execute("update effect set at = '2020-01-01T00:00:00.000Z'")
    intend(store, run, "key-2", "update", 2)
    intend(store, run, "key-2", "delete", 3)
    assert effects.intent_of(store, "storage.disk") == ("key-2", {"path": "p", "size": 2})
