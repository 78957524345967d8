"""Suite `retrieval`: do the documents a query needs stand at the top?

Fields of a row, one query:

ranking      ids of documents, best first, none twice; may be empty
judgements   grade by id of document: 0 not relevant, more is better
k            how many of the ranking count; the same for all queries

precision_at_k   share of the k places that hold a relevant document; places a short ranking leaves empty hold none
recall_at_k      share of the relevant documents that are among the first k
mrr              1 / place of the first relevant document, 0 if none is among the first k
ndcg_at_k        the grade at each place, divided by log2(place + 1), summed, as a share of what the best order would give (Järvelin and
                 Kekäläinen, 2002, with linear gain, as trec_eval computes it)

A document is relevant if its grade is above 0; one that was not judged has grade 0. A query for which no document is relevant has no
value and is left out of every mean: no ranking could do anything about it, recall, reciprocal rank and nDCG are not defined, and a 0 would
only scale the others down. `details` says how many were left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.fields import item, listed, numbers_by_name, whole

_MEASURES = ("precision_at_k", "recall_at_k", "mrr", "ndcg_at_k")
_RANKING = "a list of ids of documents, best first, none twice"


class Retrieval(Defaults):
    """See the module."""

    name = "retrieval"

    def check(self, row: Row) -> None:
        """Refuse a row without ranking, judgements and k, and a ranking that names a document twice."""
        seen = set()
        for document in listed(row, "ranking", _RANKING, empty=True):
            if not isinstance(document, str) or document in seen:
                what = f"{document!r} twice" if isinstance(document, str) else f"{document!r}, which is no text"
                raise InputInvalid(f"`ranking` of {item(row)} has {what}", hint=f"expected {_RANKING}")
            seen.add(document)
        numbers_by_name(row, "judgements", "a mapping of document to grade, 0 or more", least=0)
        whole(row, "k", "how many places count, at least 1", least=1)

    def values(self, row: Row) -> dict[str, float]:
        """Of one query; nothing where no document is relevant."""
        grades: Mapping[str, float] = row["judgements"]
        k = row["k"]
        best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
        if not best:
            return {}
        found = [grades.get(document, 0.0) for document in row["ranking"][:k]]
        hits = [place for place, grade in enumerate(found, 1) if grade > 0]
        return {
            "precision_at_k": len(hits) / k,
            "recall_at_k": len(hits) / len(best),
            "mrr": 1 / hits[0] if hits else 0.0,
            "ndcg_at_k": _gain(found) / _gain(best[:k]),
        }

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """None; but queries that are cut at different places are refused.

        Raises:
            InputInvalid: `k` is not the same everywhere.
        """
        _cut(rows)
        return {}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """How many queries count, and how much of what was found has been judged at all."""
        k = _cut(rows)
        counted = [row for row in rows if _relevant(row)]
        found = [document in row["judgements"] for row in counted for document in row["ranking"][:k]]
        return {
            "k": k,
            "queries": len(rows),
            "without_relevant": len(rows) - len(counted),
            "found_nothing": sum(not row["ranking"] for row in counted),
            "judged_at_k": sum(found) / len(found) if found else None,
            "notes": {} if counted else dict.fromkeys(_MEASURES, "no query has a relevant document"),
        }


def _gain(grades: Sequence[float]) -> float:
    return math.fsum(grade / math.log2(place + 1) for place, grade in enumerate(grades, 1))


def _relevant(row: Row) -> bool:
    return any(grade > 0 for grade in row["judgements"].values())


def _cut(rows: Sequence[Row]) -> int | None:
    if not rows:
        return None
    k: int = rows[0]["k"]
    other = next((row for row in rows if row["k"] != k), None)
    if other is not None:
        raise InputInvalid(
            f"`k` of {item(other)} is {other['k']}, of {item(rows[0])} {k}", hint="a mean needs one `k` for all queries"
        )
    return k


SUITE = Retrieval()
