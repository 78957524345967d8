"""Measures of one subject, and of two on the same items, whatever the suite.

Two subjects are only compared item by item. Where one of them lacks an item, or an item is not the same any more under its id, there
is nothing to compare, and that is an error rather than a smaller sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from aifw import statistics
from aifw.errors import InputInvalid
from aifw.evaluation.measures import Measure, named, table
from aifw.evaluation.suites import Row, Statistic, Suite

if TYPE_CHECKING:
    from aifw.statistics import Comparison

Outcome = Literal["better", "worse", "different", "inconclusive"]
"""`different` is for measures of which neither direction is better."""

_MOST_NAMED = 3


class Side:
    """Rows of one suite under one subject, ordered by id, with what is computed of them once.

    Args:
        suite: What to measure.
        rows: One for each item.
        about: What the rows are of, for messages.

    Raises:
        InputInvalid: There are no rows, one cannot be used, or two have one id.
    """

    def __init__(self, suite: Suite, rows: Sequence[Row], about: str = "") -> None:
        where = f"suite {suite.name}{f' of {about}' if about else ''}"
        if not rows:
            raise InputInvalid(f"{where} has no items", hint="an evaluation needs at least one item")
        for row in rows:
            if not isinstance(row.get("id"), str) or not row["id"]:
                raise InputInvalid(f"{where}: a row has no `id`", hint="`id` is a text that no two rows share")
            suite.check(row)
        self.suite = suite
        self.where = where
        self.rows = sorted(rows, key=lambda row: str(row["id"]))
        self.ids = [str(row["id"]) for row in self.rows]
        self.groups = [str(row.get("group") or row["id"]) for row in self.rows]
        twice = [first for first, second in zip(self.ids, self.ids[1:], strict=False) if first == second]
        if twice:
            raise InputInvalid(
                f"{where}: {_named(twice)} there more than once", hint="every row needs an id of its own"
            )

    @cached_property
    def values(self) -> list[dict[str, float]]:
        """Value of each item for the measures that have one."""
        found = [self.suite.values(row) for row in self.rows]
        for row, values in zip(self.rows, found, strict=True):
            for name, value in values.items():
                if not math.isfinite(value):
                    raise InputInvalid(f"{self.where}: {name} of item {row['id']!r} is {value}, not a finite number")
        return found

    @cached_property
    def statistics(self) -> dict[str, Statistic]:
        """Numbers of all rows together, as functions of the weights of the rows."""
        return self.suite.statistics(self.rows)

    @cached_property
    def observed(self) -> dict[str, float]:
        """Numbers without items behind them."""
        return self.suite.observed(self.rows)

    @cached_property
    def details(self) -> dict[str, Any]:
        """What a report shows beside the measures."""
        return self.suite.details(self.rows)

    @cached_property
    def group_of(self) -> dict[str, str]:
        """Group by item."""
        return dict(zip(self.ids, self.groups, strict=True))

    def having(self, name: str) -> dict[str, float]:
        """Value by item, of the items that have one."""
        return {item: values[name] for item, values in zip(self.ids, self.values, strict=True) if name in values}

    def note(self, name: str) -> str:
        """Why a statistic has no value, as the suite's details say it (`notes`)."""
        notes = self.details.get("notes")
        said = notes.get(name) if isinstance(notes, Mapping) else None
        return str(said) if said else f"not defined for these {len(self.ids):,} items"


def measured(suite: Suite, rows: Sequence[Row], *, alpha: float = 0.05, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Every measure of one subject with its interval, by name; measures the rows have no fields for are absent.

    Args:
        suite: What to measure.
        rows: One for each item.
        alpha: Intervals cover `1 - alpha`.
        seed: Of the bootstrap.

    Returns:
        `value`, `low`, `high`, `n` (items), `method`, and `note` where there is no value or no interval (these are then null).

    Raises:
        InputInvalid: The rows cannot be used.
    """
    return measures_of(Side(suite, rows), alpha=alpha, seed=seed)


def measures_of(side: Side, *, alpha: float = 0.05, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The same of rows that were looked through already."""
    found = {}
    for name, measure in table(side.suite.name, side.rows).items():
        entry = _measured(side, measure, alpha, seed)
        if entry is not None:
            found[name] = entry
    return found


def _measured(side: Side, measure: Measure, alpha: float, seed: int) -> dict[str, Any] | None:
    name = measure.name
    if measure.form == "observed":
        return observed_entry(side.observed[name], len(side.ids)) if name in side.observed else None
    if measure.form == "statistic":
        if name not in side.statistics:
            return None
        function = side.statistics[name]
        value = float(function(None))
        if not math.isfinite(value):
            return _entry(None, None, len(side.ids), "bootstrap over groups", side.note(name))
        return _with_interval(
            value,
            len(side.ids),
            f"bootstrap over {_clusters(side.groups)}",
            lambda: statistics.interval_of_statistic(function, side.groups, alpha=alpha, seed=seed),
        )
    having = side.having(name)
    if not having:
        return None
    values, groups = list(having.values()), [side.group_of[item] for item in having]
    value = math.fsum(values) / len(values)
    method = f"bootstrap over {_clusters(groups)}"
    alone = len(set(groups)) == len(groups)
    if measure.form == "outcome" and (alone or len(set(values)) == 1):
        # Where all outcomes of clustered items are equal a bootstrap would claim to be certain; every group counts as one trial.
        count = len(set(groups))
        method = "Wilson" if alone else f"Wilson over {count:,} groups"
        return _with_interval(value, len(values), method, lambda: statistics.wilson(value * count, count, alpha))
    return _with_interval(
        value, len(values), method, lambda: statistics.interval_of_mean(values, groups, alpha=alpha, seed=seed)
    )


def observed_entry(value: float | None, count: int, note: str = "") -> dict[str, Any]:
    """A measure without items behind it, which therefore has no interval."""
    known = value is not None and math.isfinite(value)
    return _entry(value if known else None, None, count, "observed once", note if known else note or "not known")


def _with_interval(value: float, count: int, method: str, interval: Any) -> dict[str, Any]:
    try:
        found = interval()
    except ValueError as error:
        return _entry(value, None, count, method, str(error))
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return _entry(value, None, count, method, "no interval: not defined in every draw of the bootstrap")
    return _entry(value, found, count, method)


def _entry(
    value: float | None, interval: statistics.Interval | None, count: int, method: str, note: str = ""
) -> dict[str, Any]:
    ends = {"low": None, "high": None} if interval is None else {"low": interval.low, "high": interval.high}
    return {"value": value, **ends, "n": count, "method": method, **({"note": note} if note else {})}


def _clusters(groups: Sequence[str]) -> str:
    count = len(set(groups))
    return f"{count:,} {'items' if count == len(groups) else 'groups'}"


# Two subjects


def compare_measure(
    suite: Suite, name: str, before: Sequence[Row], after: Sequence[Row], *, alpha: float = 0.05, seed: int = 0
) -> Comparison:
    """Compare one measure of two subjects item by item.

    Args:
        suite: The measure's.
        name: The measure.
        before: Rows of the first; with `item_digest` where what the item asks can be told apart.
        after: Rows of the second.
        alpha: Size of the test; the interval of the difference covers `1 - alpha`.
        seed: Of the bootstrap.

    Raises:
        InputInvalid: The items differ, one changed under its id, or the measure has no value or no items behind it.
    """
    first, second = Side(suite, before), Side(suite, after)
    see_same_items(first, second)
    found = _compared(named(name), first, second, alpha, seed)
    if isinstance(found, str):
        raise InputInvalid(f"{name} cannot be compared: {found}")
    return found


def compare_suite(
    suite: Suite, before: Sequence[Row], after: Sequence[Row], *, alpha: float = 0.05, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Compare every measure of a suite that has items behind it.

    Returns:
        By measure `before`, `after`, `difference` (second minus first), `low`, `high`, `n`, `groups`, `p`, `method`, `detectable`
        and `needed`; what cannot be known is null and `note` says why.

    Raises:
        InputInvalid: The items differ, or one changed under its id.
    """
    return comparisons_of(Side(suite, before), Side(suite, after), alpha=alpha, seed=seed)


def comparisons_of(before: Side, after: Side, *, alpha: float = 0.05, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The same of rows that were looked through already."""
    see_same_items(before, after)
    found = {}
    for name, measure in table(before.suite.name, [*before.rows, *after.rows]).items():
        if measure.form == "observed" or not (_has(before, measure) or _has(after, measure)):
            continue
        result = _compared(measure, before, after, alpha, seed)
        found[name] = _not_compared(before, result) if isinstance(result, str) else as_entry(result)
    return found


def as_entry(result: Comparison) -> dict[str, Any]:
    """A comparison as a report keeps it."""
    return {
        "before": result.before,
        "after": result.after,
        "difference": result.difference,
        "low": result.low,
        "high": result.high,
        "n": result.n,
        "groups": result.groups,
        "p": result.p,
        "method": result.method,
        "detectable": result.detectable,
        "needed": result.needed,
    }


def _not_compared(side: Side, why: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("before", "after", "difference", "low", "high", "p", "detectable", "needed"))
    return {**nothing, "n": len(side.ids), "groups": len(set(side.groups)), "method": "not compared", "note": why}


def see_same_items(before: Side, after: Side) -> None:
    """See that two sides are about the same items.

    Raises:
        InputInvalid: They are not.
    """
    if before.ids != after.ids:
        only = [sorted(set(one.ids) - set(other.ids)) for one, other in ((before, after), (after, before))]
        said = " and ".join(
            f"{_named(items)} only in the {which}"
            for which, items in zip(("first", "second"), only, strict=True)
            if items
        )
        raise InputInvalid(
            f"suite {before.suite.name}: the items differ, {said}",
            hint="two subjects can only be compared on the same items; measure both on the same data",
        )
    changed = [
        item
        for item, first, second, was, now in zip(
            before.ids, before.rows, after.rows, before.groups, after.groups, strict=True
        )
        if first.get("item_digest") != second.get("item_digest") or was != now
    ]
    if changed:
        raise InputInvalid(
            f"suite {before.suite.name}: {_named(changed)} not the same on both sides",
            hint="an item changed under its id; measure both subjects on the same data",
        )


def _named(items: Sequence[str]) -> str:
    """`item 'a' is`, `4 items are ('a', 'b', 'c', …)`."""
    shown = ", ".join(repr(item) for item in items[:_MOST_NAMED])
    if len(items) == 1:
        return f"item {shown} is"
    return f"{len(items):,} items ({shown}{', …' if len(items) > _MOST_NAMED else ''}) are"


def _has(side: Side, measure: Measure) -> bool:
    if measure.form == "statistic":
        return measure.name in side.statistics
    return any(measure.name in values for values in side.values)


def _compared(measure: Measure, before: Side, after: Side, alpha: float, seed: int) -> Comparison | str:
    """A comparison, or why there is none."""
    name = measure.name
    if measure.form == "observed":
        return "it has no items behind it, so it can be bounded but not compared"
    for which, side in (("first", before), ("second", after)):
        if not _has(side, measure):
            return f"the {which} does not have it"
    if why := before.suite.incomparable(before.rows, after.rows).get(name):
        return why
    try:
        if measure.form == "statistic":
            result = _compared_statistics(before.statistics[name], after.statistics[name], before, name, alpha, seed)
        else:
            first, second = before.having(name), after.having(name)
            if first.keys() != second.keys():
                # What one side leaves out may be just what it would get wrong.
                return "not known for the same items on both sides"
            compare = statistics.compare if measure.form == "outcome" else statistics.compare_means
            groups = {item: before.group_of[item] for item in first}
            result = compare(first, second, groups, alpha=alpha, seed=seed)
    except ValueError as error:
        return str(error)
    if isinstance(result, str):
        return result
    if not all(map(math.isfinite, (result.before, result.after, result.low, result.high, result.p))):
        return "not defined in every draw of the bootstrap"
    return result


def _compared_statistics(
    first: Statistic, second: Statistic, side: Side, name: str, alpha: float, seed: int
) -> Comparison | str:
    if not (math.isfinite(first(None)) and math.isfinite(second(None))):
        return side.note(name)
    return statistics.compare_statistic(first, second, side.groups, alpha=alpha, seed=seed)


def outcome(measure: Measure, entry: Mapping[str, Any], p: float | None, alpha: float = 0.05) -> Outcome:
    """What a comparison shows, in a word: only where test and interval agree, and in the measure's own direction.

    Args:
        measure: What was compared.
        entry: With `low` and `high`, the ends of the interval of second minus first.
        p: Adjusted for how many measures are looked at, or None if there is none.
        alpha: Size of the test.
    """
    low, high = entry.get("low"), entry.get("high")
    if p is None or low is None or high is None or not p <= alpha or low <= 0 <= high:
        return "inconclusive"
    if measure.better == "neither":
        return "different"
    return "better" if (low > 0) == (measure.better == "higher") else "worse"


def adjusted(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """p-values by measure after Holm's correction; measures without one are absent."""
    return statistics.holm({name: each["p"] for name, each in entries.items() if each.get("p") is not None})
