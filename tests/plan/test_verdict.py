from __future__ import annotations

from typing import Any

from aifw.plan.snapshot import Pointer
from aifw.plan.verdict import consequence

NEW, OLD = "candidate-digest", "incumbent-digest"


def verdict(**changes: Any) -> dict[str, Any]:
    return {"promote": True, "candidate": NEW, "incumbent": OLD, "alias": "champion", "summary": "better", **changes}


def pointer(digest: str) -> Pointer:
    return Pointer("artifact", "model", digest)


def test_a_candidate_that_is_better_moves_the_alias() -> None:
    found = consequence(verdict(), pointer(OLD), NEW, {})
    assert (found.outcome, found.text) == ("move", "champion moves: better")


def test_an_alias_that_was_never_set_moves_as_well() -> None:
    assert consequence(verdict(), None, NEW, {}).outcome == "move"


def test_a_verdict_that_was_carried_out_is_done() -> None:
    assert consequence(verdict(), pointer(NEW), NEW, {}).outcome == "done"


def test_done_stays_done_although_the_digest_is_in_quarantine_for_another_alias() -> None:
    assert consequence(verdict(), pointer(NEW), NEW, {NEW: "rolled back from other"}).outcome == "done"


def test_a_rejected_candidate_is_held_with_what_the_gate_said() -> None:
    found = consequence(verdict(promote=False, summary="held: inconclusive"), pointer(OLD), NEW, {})
    assert (found.outcome, found.text) == ("held", "held: inconclusive")
    assert consequence({"promote": False, "decision": "worse"}, pointer(OLD), NEW, {}).text == "worse"
    assert consequence({}, pointer(OLD), NEW, {}).text == "the gate said no"


def test_a_candidate_that_was_rolled_back_is_held_until_released() -> None:
    found = consequence(verdict(), pointer(OLD), NEW, {NEW: "rolled back from champion"})
    assert found.outcome == "held"
    assert "rolled back from champion" in found.text
    assert "aifw release" in found.text
    assert consequence(verdict(), pointer(OLD), NEW, {}).outcome == "move"


def test_an_alias_that_moved_elsewhere_makes_the_comparison_void() -> None:
    found = consequence(verdict(), pointer("third-digest"), NEW, {})
    assert (found.outcome, found.text) == ("held", "champion has moved since the candidate was compared with it")
