"""What follows from a verdict: the alias moves, has moved, or stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aifw.plan.snapshot import Pointer


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a verdict means for an alias now.

    Attributes:
        outcome: `done`: the alias points to the candidate. `move`: it will. `held`: it stays, for the reason in `text`.
    """

    outcome: Literal["done", "move", "held"]
    text: str


def consequence(
    verdict: Mapping[str, Any], pointer: Pointer | None, candidate: str, quarantined: Mapping[str, str]
) -> Consequence:
    """Judge a stored verdict against where the alias points now.

    Args:
        verdict: The fact `verdict`: `promote`, `candidate`, `incumbent` (output digests), `alias`, `summary`.
        pointer: Where the alias points, or None if it was never set.
        candidate: Output digest of the candidate the resource refers to.
        quarantined: Output digests that may not be promoted, and why.
    """
    name = str(verdict.get("alias", "alias"))
    if pointer is not None and pointer.digest == candidate:
        return Consequence("done", f"{name} is the candidate")
    if not verdict.get("promote"):
        return Consequence("held", str(verdict.get("summary") or verdict.get("decision") or "the gate said no"))
    if candidate in quarantined:
        return Consequence("held", f"{quarantined[candidate]}; `aifw release` lets it be promoted again")
    if pointer is not None and pointer.digest != verdict.get("incumbent"):
        return Consequence("held", f"{name} has moved since the candidate was compared with it")
    return Consequence("move", f"{name} moves: {verdict.get('summary') or 'better'}")
