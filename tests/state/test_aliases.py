from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from aifw.errors import UsageError
from aifw.plan.snapshot import Pointer
from aifw.state import aliases
from aifw.state.aliases import initialise, promote, release, rollback
from aifw.state.layout import Layout
from aifw.state.store import Store

Point = Callable[[Store, str], Pointer]
A, B, C, D = ("aaaa-1", "bbbb-1", "cccc-1", "dddd-1")


class Champion:
    """An alias and moves that are expected to succeed."""

    def __init__(self, store: Store, point: Point, name: str = "champion") -> None:
        self.store, self.point, self.name = store, point, name
        self.run = store.begin_run("spec", None)
        assert initialise(store, name, point(store, A), self.run)

    @property
    def now(self) -> str:
        return self.store.aliases()[self.name].digest

    def promote(self, digest: str) -> str:
        pointer = self.point(self.store, digest)
        return promote(self.store, self.name, self.now, pointer, self.run, {"promote": True})

    @property
    def quarantined(self) -> set[str]:
        return {row[0] for row in self.store.rows("select digest from quarantine")}


@pytest.fixture
def champion(store: Store, point: Point) -> Champion:
    return Champion(store, point)


def test_an_alias_is_set_once(store: Store, champion: Champion, point: Point) -> None:
    assert champion.now == A
    before = store.serial
    assert not initialise(store, "champion", point(store, B), champion.run)
    assert champion.now == A
    assert store.serial == before


def test_a_promotion_moves_it_and_keeps_the_verdict(store: Store, champion: Champion) -> None:
    assert champion.promote(B) == ""
    assert champion.now == B
    assert store.rows("select cause, digest, verdict from alias_move order by id") == [
        ("initial", A, None),
        ("promotion", B, '{"promote": true}'),
    ]


def test_a_promotion_against_another_incumbent_does_nothing(store: Store, champion: Champion, point: Point) -> None:
    champion.promote(B)
    before = store.serial
    why = promote(store, "champion", A, point(store, C), champion.run, {})
    assert "moved while the candidate was being compared" in why
    assert (champion.now, store.serial) == (B, before)


def test_a_rollback_goes_back_and_quarantines_what_it_leaves(store: Store, champion: Champion) -> None:
    champion.promote(B)
    left, back = rollback(store, "champion")
    assert (left.digest, back.digest, champion.now) == (B, A, A)
    assert champion.quarantined == {B}
    assert "rolled back from champion; `aifw release`" in champion.promote(B)
    assert champion.now == A


def test_rollbacks_walk_back_the_whole_history(store: Store, champion: Champion) -> None:
    champion.promote(B)
    champion.promote(C)
    assert rollback(store, "champion")[1].digest == B
    assert rollback(store, "champion")[1].digest == A
    with pytest.raises(UsageError, match="has pointed to nothing else"):
        rollback(store, "champion")
    assert champion.now == A
    assert champion.quarantined == {B, C}


def test_a_promotion_after_a_rollback_is_the_next_thing_to_go_back_from(store: Store, champion: Champion) -> None:
    champion.promote(B)
    champion.promote(C)
    rollback(store, "champion")
    champion.promote(D)
    assert champion.now == D
    assert rollback(store, "champion")[1].digest == B, "C was left for good"
    assert rollback(store, "champion")[1].digest == A


def test_a_released_candidate_can_be_promoted_and_rolled_back_again(store: Store, champion: Champion) -> None:
    champion.promote(B)
    champion.promote(C)
    rollback(store, "champion")
    rollback(store, "champion")
    assert release(store, B) == [B]
    assert champion.promote(B) == ""
    assert rollback(store, "champion")[1].digest == A
    assert champion.quarantined == {B, C}


def test_going_back_to_an_earlier_champion_by_promotion_is_a_move_of_its_own(store: Store, champion: Champion) -> None:
    champion.promote(B)
    champion.promote(A)
    assert rollback(store, "champion")[1].digest == B
    assert champion.quarantined == {A}
    assert rollback(store, "champion")[1].digest == A


def test_two_aliases_have_histories_of_their_own(store: Store, point: Point, champion: Champion) -> None:
    other = Champion(store, point, "other")
    champion.promote(B)
    other.promote(C)
    assert rollback(store, "other")[1].digest == A
    assert champion.now == B
    assert "rolled back from other" in champion.promote(C), "what is bad for one is not promoted for another"


def test_there_is_no_way_back_to_bytes_that_are_gone(store: Store, champion: Champion) -> None:
    champion.promote(B)
    shutil.rmtree(store.artifacts.path(f"{A}-artifact"))
    with pytest.raises(UsageError, match=r"dpo@aaaa.* is no longer in the store"):
        rollback(store, "champion")
    assert champion.now == B
    assert champion.quarantined == set()


def test_an_unknown_alias_is_a_usage_error_that_lists_the_known(store: Store, champion: Champion) -> None:
    with pytest.raises(UsageError, match="no alias `winner`") as caught:
        rollback(store, "winner")
    assert caught.value.hint == "aliases: champion"


@pytest.mark.parametrize("text", [B, "bbbb", "b", "dpo@bbbb", "all", "@bbbb"])
def test_release_takes_a_digest_its_start_or_a_label(store: Store, champion: Champion, text: str) -> None:
    champion.promote(B)
    rollback(store, "champion")
    assert release(store, text) == [B]
    assert champion.quarantined == set()


@pytest.mark.parametrize("text", ["", "@", "champion@", "dpo@", "aaaa", "dpo@aaaa", "%", "zzz"])
def test_release_of_anything_else_releases_nothing(store: Store, champion: Champion, text: str) -> None:
    champion.promote(B)
    rollback(store, "champion")
    with pytest.raises(UsageError, match="nothing in quarantine matches") as caught:
        release(store, text)
    assert caught.value.hint == "in quarantine: dpo@bbbb"
    assert champion.quarantined == {B}


def test_every_move_counts_as_a_change_of_the_state(store: Store, champion: Champion) -> None:
    serials = [store.serial]
    for move in (
        lambda: champion.promote(B),
        lambda: rollback(store, "champion"),
        lambda: release(store, "all"),
    ):
        move()
        serials.append(store.serial)
    assert serials == sorted(set(serials))


def test_a_verdict_is_kept_once(store: Store, champion: Champion) -> None:
    verdict: dict[str, Any] = {"candidate": B, "incumbent": A, "decision": "better"}
    for _ in range(2):
        aliases.record_verdict(store, "stages.gate", verdict, champion.run)
    aliases.record_verdict(store, "stages.gate", {**verdict, "decision": "worse"}, champion.run)
    assert store.rows("select count(*) from verdict") == [(2,)]


def test_of_processes_that_promote_at_once_against_the_same_incumbent_one_wins(
    layout: Layout, store: Store, champion: Champion, python: Callable[..., subprocess.Popen[str]]
) -> None:
    code = """
import sys
from pathlib import Path
from aifw.plan.snapshot import Pointer
from aifw.state import aliases
from aifw.state.layout import Layout
from aifw.state.store import Store
store = Store.open(Layout(Path(sys.argv[1]), "tested"))
print("ready", flush=True)
sys.stdin.readline()
pointer = Pointer("artifact", "model", sys.argv[2], "label")
print(aliases.promote(store, "champion", sys.argv[3], pointer, 1, {}) or "moved")
"""
    processes = [python(code, layout.base, f"candidate-{index}", A) for index in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in processes]
    assert said.count("moved") == 1
    assert champion.now == f"candidate-{said.index('moved')}"
    assert store.rows("select count(*) from alias_move") == [(2,)]
