"""Suite `routing`: which expert a router sends an item to.

Fields of a row:

label       the expert that is right for the item
ranking     names of experts, the router's first choice first; or
scores      a number for each expert, higher is better
experts     all there are, where the ranking is cut short; optional
quality     what the answer of each expert is worth, by name; optional
embedding   what the router, and what stands beside it, sees of the item: a list of numbers; optional
beside      rankings of other routers, by name, as `beside` adds them; optional

routing_top_1, routing_top_2    the label is the first, or among the first two. An expert with the same score as the label counts as
                                before it: a router that cannot tell experts apart is not right by chance
load_entropy                    entropy of the shares of items that go to each expert, by the logarithm of their number
max_violation                   largest load by its even share, less 1 (MaxVio; Wang et al., 2024, arXiv 2408.15664)
dead_experts                    experts no item goes to
regret                          quality of the best expert less that of the chosen one

The load needs at least two experts and as many items as experts: with fewer, some get nothing whatever the router does. Nobody can
judge a router without the simple ones, which are in `aifw.evaluation.suites.routing_baselines`; `details` has their measures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aifw.errors import InputInvalid
from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.fields import has, is_number, item, listed, numbers_by_name, refused, text
from aifw.evaluation.suites.routing_baselines import baselines, beside
from aifw.evaluation.suites.weights import Floats, quotient, too_few, undefined, weights_of

__all__ = ["SUITE", "Routing", "baselines", "beside", "ranked"]

_NAMES = "a list of names of experts, no two the same"
_LOAD = ("load_entropy", "max_violation", "dead_experts")


def ranked(row: Row) -> list[str]:
    """Names of experts, first choice first; of equal scores the name decides, whatever order a file keeps them in."""
    if has(row, "ranking"):
        return list(row["ranking"])
    scores = row["scores"]
    return sorted(scores, key=lambda name: (-scores[name], name))


class Routing(Defaults):
    """See the module."""

    name = "routing"

    def check(self, row: Row) -> None:
        """Refuse a row without label or choice, or with names that do not fit together."""
        label = text(row, "label", "the name of an expert")
        if has(row, "ranking") == has(row, "scores"):
            both = "both `ranking` and `scores`" if has(row, "ranking") else "neither `ranking` nor `scores`"
            raise InputInvalid(f"{item(row)} has {both}", hint="give one of them")
        for field in ("ranking", "experts"):
            if has(row, field):
                _check_names(row, field, row[field])
        if has(row, "scores"):
            numbers_by_name(row, "scores", "a finite number for each expert, by name")
        ranking = ranked(row)
        if has(row, "experts"):
            strange = sorted({label, *ranking}.difference(row["experts"]))
            if strange:
                raise InputInvalid(
                    f"{item(row)} names {strange[0]!r}, which is not among its `experts`",
                    hint="`experts` lists all there are",
                )
        if has(row, "quality"):
            quality = numbers_by_name(row, "quality", "a finite number for each expert, by name")
            if ranking[0] not in quality:
                raise InputInvalid(f"`quality` of {item(row)} lacks the chosen expert {ranking[0]!r}")
        if has(row, "embedding"):
            embedding = listed(row, "embedding", "a list of finite numbers")
            if not all(is_number(each) for each in embedding):
                raise InputInvalid(f"`embedding` of {item(row)} has something that is no finite number")
        if has(row, "beside"):
            if not isinstance(row["beside"], Mapping):
                raise refused(row, "beside", "rankings by name of the router")
            for name, other in row["beside"].items():
                _check_names(row, f"beside.{name}", other)

    def values(self, row: Row) -> dict[str, float]:
        """Whether the label is first or second, and the regret."""
        place = _place(row)
        values = {"routing_top_1": float(place == 1), "routing_top_2": float(place <= 2)}
        quality, chosen = row.get("quality") or {}, ranked(row)[0]
        if chosen in quality:
            values["regret"] = float(max(quality.values()) - quality[chosen])
        return values

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """How evenly the items are spread."""
        experts = _experts(rows)
        if _uneven_by_force(rows, experts):
            return dict.fromkeys(_LOAD, undefined)
        number = {name: index for index, name in enumerate(experts)}
        chosen = np.asarray([number[ranked(row)[0]] for row in rows], np.intp)

        def loads(weights: Floats | None) -> Floats:
            each = weights_of(weights, len(chosen))
            return np.bincount(chosen, weights=each, minlength=len(experts)).astype(np.float64, copy=False)

        def entropy(weights: Floats | None) -> float:
            load = loads(weights)
            shares = load[load > 0] / max(load.sum(), 1e-300)
            return abs(float(shares @ np.log(shares))) / float(np.log(len(experts))) if len(shares) else float("nan")

        def violation(weights: Floats | None) -> float:
            load = loads(weights)
            return quotient(float(load.max()) * len(experts), float(load.sum())) - 1

        def dead(weights: Floats | None) -> float:
            load = loads(weights)
            return float((load == 0).sum()) if load.sum() > 0 else float("nan")

        return {"load_entropy": entropy, "max_violation": violation, "dead_experts": dead}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Load of each expert, how often which is sent where, and the measures of the routers beside."""
        experts = _experts(rows)
        chosen = Counter(ranked(row)[0] for row in rows)
        confusion = Counter((str(row["label"]), ranked(row)[0]) for row in rows)
        notes = {}
        why = _uneven_by_force(rows, experts)
        if why:
            notes.update(dict.fromkeys(_LOAD, why))
        if not any(has(row, "quality") for row in rows):
            notes["regret"] = "no item has `quality`"
        names = [*dict.fromkeys(name for row in rows for name in row.get("beside") or ())]
        return {
            "experts": experts,
            "load": {name: chosen[name] for name in experts},
            "confusion": [[confusion[label, choice] for choice in experts] for label in experts],
            "beside": {name: self._measured(_routed_by(name, rows)) for name in names},
            "beside_note": None
            if names
            else "no simple router was fitted, so that nothing says what these numbers are worth",
            "notes": notes,
        }

    def _measured(self, rows: Sequence[Row]) -> dict[str, float | None]:
        """Values of all measures; null for what is not defined."""
        columns: dict[str, list[float]] = {}
        for row in rows:
            for name, value in self.values(row).items():
                columns.setdefault(name, []).append(value)
        # A router that chose experts nobody judged has no regret to show beside one that was judged throughout.
        judged = sum(has(row, "quality") for row in rows)
        measured: dict[str, float | None] = {
            name: sum(each) / len(each) if name != "regret" or len(each) == judged else None
            for name, each in columns.items()
        }
        for name, statistic in self.statistics(rows).items():
            value = statistic(None)
            measured[name] = value if np.isfinite(value) else None
        return measured


def _place(row: Row) -> int:
    """Where the label stands, from 1; experts with its score stand before it, and one that is not ranked behind all."""
    label = row["label"]
    if has(row, "ranking"):
        ranking = row["ranking"]
        return ranking.index(label) + 1 if label in ranking else len(ranking) + 2
    scores = row["scores"]
    return sum(each >= scores[label] for each in scores.values()) if label in scores else len(scores) + 2


def _experts(rows: Sequence[Row]) -> list[str]:
    """Every expert any row knows, sorted."""
    return sorted(
        {
            str(name)
            for row in rows
            for name in (row["label"], *ranked(row), *(row.get("experts") or ()), *(row.get("quality") or ()))
        }
    )


def _uneven_by_force(rows: Sequence[Row], experts: Sequence[str]) -> str:
    """Why the load of experts says nothing about the router, or nothing."""
    if len(rows) < max(1, len(experts)):
        return too_few(len(rows), max(1, len(experts)))
    return "" if len(experts) > 1 else "there is one expert"


def _routed_by(name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows as another router ranks them.

    Raises:
        InputInvalid: It did not rank all of them.
    """
    routed: list[Row] = []
    for row in rows:
        if name not in (row.get("beside") or {}):
            raise InputInvalid(f"{item(row)} has no ranking of {name!r} in `beside`, which other items have")
        rest = {key: value for key, value in row.items() if key not in {"scores", "ranking", "beside"}}
        routed.append({**rest, "ranking": row["beside"][name], "experts": _experts([row])})
    return routed


def _check_names(row: Row, field: str, names: Any) -> None:
    if not isinstance(names, list | tuple) or not names:
        raise refused(row, field, f"{_NAMES}, not empty")
    if not all(isinstance(each, str) and each for each in names) or len({*names}) < len(names):
        raise refused(row, field, _NAMES)


SUITE = Routing()
