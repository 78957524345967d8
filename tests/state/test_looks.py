from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.state.aliases import record_verdict
from aifw.state.layout import Layout
from aifw.state.looks import Look, reserve, spent
from aifw.state.store import Store
from aifw.statistics.sketch import sketch


def items(count: int, start: int = 0) -> list[str]:
    return sketch(f"item {number}" for number in range(start, start + count))


def look(store: Store, key: str, data: str = "a", ids: list[str] | None = None, alias: str = "champion") -> Look:
    return reserve(store, alias, data, items(500) if ids is None else ids, key, "stages.promotion", 1)


def test_looks_at_one_set_are_numbered(store: Store) -> None:
    assert [look(store, key).number for key in "xyz"] == [1, 2, 3]


def test_the_same_job_is_the_same_look(store: Store) -> None:
    before = [look(store, key) for key in "xyxyx"]
    assert [each.number for each in before] == [1, 2, 1, 2, 1]
    serial = store.serial
    look(store, "y")
    assert store.serial == serial


def test_looks_are_counted_by_alias(store: Store) -> None:
    look(store, "x")
    look(store, "y")
    assert look(store, "x", alias="other").number == 1


def test_a_set_of_other_items_begins_anew(store: Store) -> None:
    look(store, "x")
    assert look(store, "y", "b", items(500, start=10_000)) == Look("b", 1)
    assert look(store, "z").number == 2


@pytest.mark.parametrize(
    ("count", "start"), [(600, 0), (5000, 0), (250, 0), (30, 0), (500, 50), (500, 300), (1, 0)], ids=str
)
def test_a_set_that_grew_shrank_or_was_partly_replaced_is_the_same(store: Store, count: int, start: int) -> None:
    look(store, "x")
    assert look(store, "y", "b", items(count, start)) == Look("a", 2)


def test_a_set_that_moves_on_step_by_step_stays_the_same(store: Store) -> None:
    for step in range(8):
        found = look(store, f"k{step}", f"d{step}", items(500, 200 * step))
        assert found == Look("d0", step + 1)


def test_of_several_sets_that_are_alike_the_one_most_was_spent_on_counts(store: Store) -> None:
    look(store, "x", "a", items(300))
    for key in "pqr":
        look(store, key, "b", items(300, 1000))
    both = sketch([f"item {number}" for number in [*range(300), *range(1000, 1300)]])
    assert look(store, "y", "c", both) == Look("b", 4)


def test_without_a_sketch_the_digest_decides(store: Store) -> None:
    assert look(store, "x", "a", []) == Look("a", 1)
    assert look(store, "y", "a", []) == Look("a", 2)
    assert look(store, "z", "b", []) == Look("b", 1)


def test_a_look_survives_what_comes_after_it(layout: Layout) -> None:
    with closing(Store.open(layout)) as store:
        look(store, "x")
    with closing(Store.open(layout)) as store:
        assert look(store, "x").number == 1
        assert look(store, "y").number == 2


def test_looks_at_once_get_different_numbers(layout: Layout, python: Callable[..., subprocess.Popen[str]]) -> None:
    Store.open(layout).close()
    code = (
        "import sys\nfrom pathlib import Path\nfrom aifw.state.layout import Layout\nfrom aifw.state.store import Store\n"
        "from aifw.state.looks import reserve\nstore = Store.open(Layout(Path(sys.argv[1]), 'tested'))\n"
        "print(*[reserve(store, 'champion', 'a', [], f'{sys.argv[2]}-{each}', 'p', 1).number for each in range(20)])"
    )
    started = [python(code, layout.base, str(number)) for number in range(3)]
    numbers = [int(text) for process in started for text in process.communicate(timeout=60)[0].split()]
    assert sorted(numbers) == list(range(1, 61))


def test_what_was_spent_is_told_with_the_verdict_of_the_last_look(store: Store) -> None:
    assert spent(store, "champion") == []
    look(store, "x")
    (found,) = spent(store, "champion")
    assert (found.holdout, found.data, found.looks, found.verdict) == ("a", "a", 1, {})
    verdict: dict[str, Any] = {"alias": "champion", "data": "a", "look": 1, "alpha_spent": 0.01, "candidate": "c"}
    record_verdict(store, "stages.promotion", verdict, 1)
    look(store, "y", "b", items(600))
    record_verdict(store, "stages.promotion", {**verdict, "data": "b", "look": 2, "alpha_spent": 0.02}, 1)
    record_verdict(store, "stages.promotion", {**verdict, "alias": "other", "look": 9}, 1)
    (found,) = spent(store, "champion")
    assert (found.holdout, found.data, found.looks, found.verdict["alpha_spent"]) == ("a", "b", 2, 0.02)
    look(store, "z", "n", items(500, 10_000))
    assert {each.holdout for each in spent(store, "champion")} == {"n", "a"}


@given(keys=st.lists(st.sampled_from("abcdefgh"), max_size=20))
def test_numbers_follow_the_order_of_first_looks(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    with closing(Store.open(Layout(Path(tmp_path_factory.mktemp("state")), "tested"))) as store:
        found = [look(store, key).number for key in keys]
    order = list(dict.fromkeys(keys))
    assert found == [order.index(key) + 1 for key in keys]
