from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from aifw.search.backend import Backend, backend

LOWEST, HIGHEST = -(2**63), 2**63 - 1
NUMBERS = st.one_of(st.integers(0, 60), st.integers(LOWEST, HIGHEST), st.sampled_from([LOWEST, -1, HIGHEST]))


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_ids_lead_to_slots(computing: Backend) -> None:
    table = computing.IdTable()
    assert table.insert(ids(5, -7, HIGHEST), 100) == -1
    assert table.insert(ids(LOWEST, 0), 7) == -1
    assert len(table) == 5
    assert table.find(ids(-7, 6, LOWEST, HIGHEST, 0)).tolist() == [101, -1, 7, 102, 8]
    assert table.find(ids()).tolist() == []


def test_an_id_that_is_there_refuses_all(computing: Backend) -> None:
    table = computing.IdTable()
    assert table.insert(ids(1, 2, 3), 0) == -1
    assert table.insert(ids(9, 8, 2, 7), 10) == 2
    assert table.insert(ids(9, 8, 9), 10) == 2
    assert len(table) == 3
    assert table.find(ids(9, 8, 7, 2)).tolist() == [-1, -1, -1, 1]


def test_erased_ids_may_come_back(computing: Backend) -> None:
    table = computing.IdTable()
    assert table.erase(ids(1)).tolist() == [-1]
    table.insert(ids(1, 2, 3), 0)
    assert table.erase(ids(2, 2, 4)).tolist() == [1, -1, -1]
    assert table.insert(ids(2), 50) == -1
    assert table.find(ids(1, 2, 3)).tolist() == [0, 50, 2]


def test_many_ids(computing: Backend) -> None:
    table = computing.IdTable()
    rng = np.random.default_rng(3)
    # Multiples of large powers of two: all the same to a table that looks at few bits.
    many = np.unique(
        np.concatenate([rng.integers(LOWEST, HIGHEST, 20_000), np.arange(20_000) << 40, np.arange(20_000)])
    )
    order = rng.permutation(len(many))
    for start in range(0, len(many), 7001):
        assert table.insert(many[order[start : start + 7001]], start) == -1
    slots = np.empty(len(many), np.int64)
    slots[order] = np.arange(len(many))
    assert np.array_equal(table.find(many), slots)
    assert np.array_equal(table.erase(np.ascontiguousarray(many[::2])), slots[::2])
    assert len(table) == len(many) // 2
    expected = slots.copy()
    expected[::2] = -1
    assert np.array_equal(table.find(many), expected)
    assert table.bytes() >= 16 * len(table)


class Tables(RuleBasedStateMachine):
    """A table beside a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.table = backend().IdTable()
        self.expected: dict[int, int] = {}
        self.slot = 0

    @rule(numbers=st.lists(NUMBERS, max_size=40))
    def insert(self, numbers: list[int]) -> None:
        seen = set(self.expected)
        refused = -1
        for position, number in enumerate(numbers):
            if number in seen:
                refused = position
                break
            seen.add(number)
        assert self.table.insert(ids(*numbers), self.slot) == refused
        if refused < 0:
            self.expected.update((number, self.slot + position) for position, number in enumerate(numbers))
        self.slot += len(numbers)

    @rule(numbers=st.lists(NUMBERS, max_size=20))
    def erase(self, numbers: list[int]) -> None:
        expected = [self.expected.pop(number, -1) for number in numbers]
        assert self.table.erase(ids(*numbers)).tolist() == expected

    @rule(numbers=st.lists(NUMBERS, max_size=20))
    def find(self, numbers: list[int]) -> None:
        assert self.table.find(ids(*numbers)).tolist() == [self.expected.get(number, -1) for number in numbers]

    @invariant()
    def has_as_many(self) -> None:
        assert len(self.table) == len(self.expected)
        known = list(self.expected)
        assert self.table.find(ids(*known)).tolist() == [self.expected[number] for number in known]


def test_tables_behave_as_dictionaries(computing: Backend) -> None:
    run_state_machine_as_test(Tables, settings=settings(max_examples=20, stateful_step_count=30, deadline=None))


@given(st.sets(st.integers(0, 200), min_size=1))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_erasing_in_any_order_leaves_nothing(computing: Backend, numbers: set[int]) -> None:
    table = computing.IdTable()
    table.insert(ids(*sorted(numbers)), 0)
    for number in numbers:
        assert table.erase(ids(number))[0] >= 0
    assert len(table) == 0
    assert (table.find(np.arange(201)) == -1).all()


def test_slots_are_not_negative(computing: Backend) -> None:
    if computing.__name__.endswith("_kernel"):  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="negative"):
            computing.IdTable().insert(ids(1), -1)
