"""Suite `rag`: answers from documents, with sources, or the admission that there is none.

Fields of a row, one question:

answer       what was said; may be empty
references   texts that would be right; at least one if the question is answerable, else a list that may be empty
cited        ids of the chunks the answer names as its sources
supporting   ids of the chunks that do support a right answer; empty if they are not known
abstained    whether the answer was withheld
answerable   whether the documents hold the answer
retrievals   how often documents were fetched for it
confidence   a number, more is more confident; optional, but for all items or none

answer_match          of answerable questions: a reference stands in the answer word by word, normalised as SQuAD does (see
                      `aifw.evaluation.suites.answers`), and the answer was given. A long answer contains more; look at lengths too
citation_precision    share of the cited chunks that support
citation_recall       share of the supporting chunks that are cited
abstention_rate       the answer was withheld
abstention_accuracy   it was withheld exactly if the question is not answerable
risk_coverage_area    see `aifw.evaluation.suites.risk_coverage`
retrievals            how often documents were fetched

Citations count for answerable questions whose supporting chunks are known. An answer that cites nothing has a precision of 0 there, one
that was withheld too: left out, they would raise the mean of a model that cites only where it is sure, and two models would be
compared on different questions.

For risk against coverage an answer is wrong unless it matches an answerable question. One that was withheld comes last, behind
every confidence, and is wrong: withholding can't make the area smaller than answering with the least confidence would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.answers import contains, exact
from aifw.evaluation.suites.calibration import all_or_none
from aifw.evaluation.suites.fields import has, item, listed, number, text, truth, whole
from aifw.evaluation.suites.risk_coverage import RiskCoverage

_LISTS = {
    "references": "a list of texts that would be right, none of them blank",
    "cited": "a list of ids of chunks, empty if nothing is cited",
    "supporting": "a list of ids of chunks, empty if they are not known",
}


class Rag(Defaults):
    """See the module."""

    name = "rag"

    def check(self, row: Row) -> None:
        """Refuse a row with a field that is missing or of the wrong type, and an answerable question without references."""
        text(row, "answer", "the text of the answer", empty=True)
        for field, wanted in _LISTS.items():
            for each in listed(row, field, wanted, empty=True):
                if not isinstance(each, str) or not each.strip():
                    raise InputInvalid(f"`{field}` of {item(row)} has {each!r}", hint=f"expected {wanted}")
        truth(row, "abstained", "true or false: was the answer withheld?")
        truth(row, "answerable", "true or false: do the documents hold the answer?")
        whole(row, "retrievals", "how often documents were fetched, 0 or more")
        if row["answerable"] and not row["references"]:
            raise InputInvalid(
                f"{item(row)} is answerable and has no `references`", hint=f"expected {_LISTS['references']}"
            )
        if has(row, "confidence"):
            number(row, "confidence", "a finite number, more is more confident")

    def values(self, row: Row) -> dict[str, float]:
        """Of one question; matches and citations only where the module says they count."""
        values = {
            "abstention_rate": float(row["abstained"]),
            "abstention_accuracy": float(row["abstained"] != row["answerable"]),
            "retrievals": float(row["retrievals"]),
        }
        if row["answerable"]:
            values["answer_match"] = float(_right(row))
        if _citations_count(row):
            cited, supporting = set() if row["abstained"] else set(row["cited"]), set(row["supporting"])
            shared = len(cited & supporting)
            values["citation_precision"] = shared / len(cited) if cited else 0.0
            values["citation_recall"] = shared / len(supporting)
        return values

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """The area under risk against coverage, where there are confidences."""
        curve = _curve(rows)
        return {} if curve is None else {"risk_coverage_area": curve.area}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The curve, who abstained from what, and how many questions are behind the measures."""
        curve = _curve(rows)
        answerable = [row for row in rows if row["answerable"]]
        notes = {} if answerable else {"answer_match": "no question is answerable"}
        if not any(map(_citations_count, rows)):
            why = "no answerable question has supporting chunks"
            notes |= dict.fromkeys(("citation_precision", "citation_recall"), why)
        if curve is None:
            notes["risk_coverage_area"] = "no item has `confidence`"
        elif math.isnan(curve.area()):
            notes["risk_coverage_area"] = "all confidences are the same"
        kinds = ("answerable", "unanswerable")
        said = {kind: {"answered": 0, "abstained": 0} for kind in kinds}
        for row in rows:
            said[kinds[not row["answerable"]]]["abstained" if row["abstained"] else "answered"] += 1
        given = [row for row in answerable if not row["abstained"]]
        return {
            "questions": len(rows),
            "abstention": said,
            "exact_match": sum(exact(row["answer"], row["references"]) for row in given) / len(answerable)
            if answerable
            else None,
            "match_where_answered": sum(map(_right, given)) / len(given) if given else None,
            "answers_without_citation": sum(not row["cited"] for row in rows if not row["abstained"]),
            "citations_counted": sum(map(_citations_count, rows)),
            "risk_coverage": None if curve is None else curve.curve(),
            "notes": notes,
        }


def _right(row: Row) -> bool:
    return row["answerable"] and not row["abstained"] and contains(row["answer"], row["references"])


def _citations_count(row: Row) -> bool:
    return bool(row["answerable"] and row["supporting"])


def _curve(rows: Sequence[Row]) -> RiskCoverage | None:
    if not all_or_none(rows, "confidence"):
        return None
    return RiskCoverage(
        [-math.inf if row["abstained"] else row["confidence"] for row in rows],
        [float(not _right(row)) for row in rows],
    )


SUITE = Rag()
