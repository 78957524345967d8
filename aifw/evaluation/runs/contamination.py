"""Held-out items against what a model was trained on: rows of suite `contamination`. No model runs.

An item was seen if it shares its prompt or an answer with a training pair, exactly or nearly, as `aifw.data.sealed` decides it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aifw.data.sealed import Texts, touching
from aifw.evaluation.runs import Rows
from aifw.evaluation.runs.items import HeldOut, Items, digest
from aifw.evaluation.runs.side import Side


class ContaminationRun:
    """See the module.

    Args:
        held_out: The items.
        trained_on: Folders of `PreferencePairs` the subject was trained on, by the name a user knows them by; at least one.
        threshold: Jaccard index of 5-character shingles from which texts count as the same.
    """

    suites: tuple[str, ...] = ("contamination",)
    steps = 0

    def __init__(self, held_out: HeldOut, trained_on: Mapping[str, Path], threshold: float) -> None:
        self._held_out = held_out
        self._trained_on = trained_on
        self._threshold = threshold
        self._rows: list[dict[str, Any]] = []

    def measure(self, side: Side, items: Items) -> None:
        """Look once, for the subject; the data say nothing of the baseline's training."""
        if side.name != "subject":
            return
        job = side.job
        rows: dict[str, dict[str, Any]] = {
            pair.id: {"id": pair.id, "group": pair.group, "item_digest": digest(pair), "seen": False}
            for pair in items.encoded.pairs
        }
        job.out.parent.mkdir(parents=True, exist_ok=True)
        for name, folder in self._trained_on.items():
            job.obey()
            for threshold, how in ((1.0, "exactly"), (self._threshold, "nearly")):
                found = touching(
                    self._texts(), {name: folder}, threshold=threshold, scratch=job.out.parent, note=job.note
                )
                for pair, shares in zip(self._held_out.pairs, found.tolist(), strict=True):
                    row = rows.get(pair.id)
                    if shares and row is not None and not row["seen"]:
                        row |= {"seen": True, "where": f"{name}, {how}"}
                        if threshold == 1:
                            row["nearest"] = 1.0
        self._rows = list(rows.values())

    def _texts(self) -> Iterator[Texts]:
        for pair in self._held_out.pairs:
            context = "\n".join(turn["content"] for turn in pair.prompt)
            yield Texts(pair.id, context, (pair.chosen, pair.rejected))

    def rows(self, side: str) -> Rows:
        """Whether each item was seen, where, and how."""
        return {"contamination": self._rows} if side == "subject" else {}
