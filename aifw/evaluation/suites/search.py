"""Suite `search`: an index beside others on the same queries.

Fields of a row, a query or a batch of them:

seconds     the index took
peers       seconds of each other index for the same, on the same machine, by name; optional, and the same names in every row
found       ids the index found, texts or whole numbers
exact       ids of the true nearest neighbours, as many as were asked for

The speed-up is against whichever peer took least for all queries together, as a ratio of totals. In each draw of a bootstrap that
may be another one, so that the interval does not profit from having chosen the peer afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from aifw.errors import InputInvalid
from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.fields import has, item, listed, number, numbers_by_name, refused
from aifw.evaluation.suites.weights import Floats, quotient, undefined, weights_of

_IDS = "a list of ids, texts or whole numbers, no two the same"


class Search(Defaults):
    """See the module."""

    name = "search"

    def check(self, row: Row) -> None:
        """Refuse a row without duration or neighbours."""
        number(row, "seconds", "a duration in seconds, at least 0", least=0)
        if has(row, "peers"):
            numbers_by_name(row, "peers", "the seconds of each peer, at least 0, by name", least=0)
        for field, empty in (("found", True), ("exact", False)):
            ids = listed(row, field, _IDS + ("" if empty else ", not empty"), empty=empty)
            if any(isinstance(each, bool) or not isinstance(each, str | int) for each in ids):
                raise refused(row, field, _IDS)
            if len({*ids}) < len(ids):
                raise InputInvalid(f"`{field}` of {item(row)} has an id twice", hint=f"expected {_IDS}")

    def values(self, row: Row) -> dict[str, float]:
        """Share of the true neighbours that were found."""
        exact = {*row["exact"]}
        return {"search_recall": len(exact.intersection(row["found"])) / len(exact)}

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """The speed-up.

        Raises:
            InputInvalid: A peer was not asked everything.
        """
        names = _peers(rows)
        if not names:
            return {"search_speedup": undefined}
        own = np.asarray([row["seconds"] for row in rows], np.float64)
        peers = np.asarray([[row["peers"][name] for name in names] for row in rows], np.float64)

        def speedup(weights: Floats | None) -> float:
            each = weights_of(weights, len(own))
            return quotient(float((each @ peers).min()), float(each @ own))

        return {"search_speedup": speedup}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Totals, and the speed-up against each peer."""
        own = math.fsum(row["seconds"] for row in rows)
        totals = {name: math.fsum(row["peers"][name] for row in rows) for name in _peers(rows)}
        notes = {}
        if not totals:
            notes["search_speedup"] = "there is no peer" if rows else "there is no query"
        elif own <= 0:
            notes["search_speedup"] = "the queries took no time that the clock could tell"
        return {
            "queries": len(rows),
            "seconds": own,
            "fastest_peer": min(totals, key=lambda name: (totals[name], name), default=None),
            "peers": {
                name: {"seconds": total, "speedup": total / own if own > 0 else None} for name, total in totals.items()
            },
            "notes": notes,
        }


def _peers(rows: Sequence[Row]) -> list[str]:
    """Names of the peers, the same in every row."""
    names = {name for row in rows for name in row.get("peers") or ()}
    for row in rows:
        missing = sorted(names.difference(row.get("peers") or ()))
        if missing:
            raise InputInvalid(
                f"{item(row)} has no seconds of the peer {missing[0]!r}, which other items have",
                hint="a peer is compared on the same queries, so each row needs the seconds of each peer",
            )
    return sorted(names)


SUITE = Search()
