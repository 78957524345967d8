"""Reservations: what was reserved is what is used, and nothing is left when all is released."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aifw.run.ledger import Ledger

NEEDS = st.dictionaries(
    st.sampled_from(["memory", "threads", "performance_cores", "xpu:0"]), st.integers(0, 2**40), max_size=4
)


class Reservations(RuleBasedStateMachine):
    """Jobs come and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.jobs: dict[str, dict[str, int]] = {}
        self.count = 0

    @rule(needs=NEEDS)
    def start(self, needs: dict[str, int]) -> None:
        before, entries = self.ledger, dict(self.ledger.entries)
        self.count += 1
        self.ledger = before.reserved(f"job {self.count}", needs)
        self.jobs[f"job {self.count}"] = dict(needs)
        needs.clear()
        assert before.entries == entries, "a ledger is a value"

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        self.ledger = self.ledger.released(job)
        del self.jobs[job]
        with pytest.raises(KeyError):
            self.ledger.released(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def start_again(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        with pytest.raises(ValueError, match="has a reservation"):
            self.ledger.reserved(job, {"memory": 1})

    @invariant()
    def what_is_used_is_what_running_jobs_reserved(self) -> None:
        names = {name for needs in self.jobs.values() for name in needs}
        expected = {name: sum(needs.get(name, 0) for needs in self.jobs.values()) for name in names}
        assert self.ledger.used() == expected
        assert all(amount >= 0 for amount in expected.values())
        assert self.ledger.memory("nobody") == 0

    @invariant()
    def nothing_is_left_when_nothing_runs(self) -> None:
        if not self.jobs:
            assert self.ledger == Ledger()
            assert self.ledger.promised({}) == 0

    def teardown(self) -> None:
        for job in list(self.jobs):
            self.ledger = self.ledger.released(job)
        assert self.ledger.used() == {}


TestReservations = Reservations.TestCase


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), max_size=6))
def test_what_is_promised_is_what_is_reserved_and_not_held(jobs: dict[str, tuple[int, int]]) -> None:
    ledger = Ledger()
    for job, (reserved, _) in jobs.items():
        ledger = ledger.reserved(job, {"memory": reserved, "threads": 1})
    promised = ledger.promised({job: held for job, (_, held) in jobs.items()})
    assert 0 <= promised <= ledger.used().get("memory", 0)
    assert promised == sum(reserved - min(reserved, held) for reserved, held in jobs.values())
    assert ledger.promised({}) == ledger.used().get("memory", 0), "who was not looked at yet holds nothing yet"


def test_nobody_reserves_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        Ledger().reserved("a", {"memory": -1})
