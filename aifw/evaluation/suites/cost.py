"""Suite `cost`: dollars for a million tokens, on the machine that is owned and on one that is rented.

Fields of a row, a run; usually there is one:

tokens          read and written
seconds         the run took
joules          energy the machine counted meanwhile; optional
prices          terms, the same in every row; amounts are whole micro-dollars. For the local cost:
    kilowatt_hour       price of a kilowatt hour
    watts               what the machine is taken to draw, where there is no `joules`; optional
    machine             what the machine cost
    machine_hours       hours of work over which it is written off
  and for the cloud:
    instance_hour       price of an hour of a rented machine
    instance_tokens_per_second  what that machine does; without it, the run is taken to have been on such a machine

Local cost is energy by its price and depreciation by the time the run took. Cloud cost is the price of an hour by the tokens of an
hour, of a machine that always has work; where it idles half of the time, twice that. `details` has every term. What lacks a term is
not known, not free: a price of 0 must be said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.suites import Defaults, Row
from aifw.evaluation.suites.fields import has, is_number, item, number, refused, whole
from aifw.units import MICRO_DOLLARS

JOULES_PER_KILOWATT_HOUR = 3_600_000
_MILLION = 1_000_000
_AMOUNTS = ("kilowatt_hour", "machine", "instance_hour")
_POSITIVE = ("watts", "machine_hours", "instance_tokens_per_second")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a cost is made of, in dollars per million tokens.

    Attributes:
        parts: By name.
        basis: What each rests on.
        missing: What is not known, or nothing; then there is no total.
    """

    parts: Mapping[str, float]
    basis: Mapping[str, str]
    missing: str = ""

    @property
    def total(self) -> float | None:
        """Sum of the parts, or None."""
        return None if self.missing else math.fsum(self.parts.values())


class Cost(Defaults):
    """See the module."""

    name = "cost"

    def check(self, row: Row) -> None:
        """Refuse a row without tokens, time or prices, or with a price that is no whole number of micro-dollars."""
        whole(row, "tokens", "a number of tokens, at least 1", least=1)
        number(row, "seconds", "a duration in seconds, more than 0", above=0)
        if has(row, "joules"):
            number(row, "joules", "joules, more than 0; leave it out where it could not be read", above=0)
        prices = row.get("prices")
        if not isinstance(prices, Mapping):
            raise refused(row, "prices", "prices by name")
        for name, value in prices.items():
            if value is None:
                continue
            if name in _AMOUNTS:
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise refused(row, f"prices.{name}", "a whole number of micro-dollars, 0 or more")
            elif name not in _POSITIVE:
                raise InputInvalid(
                    f"`prices` of {item(row)} has {name!r}", hint=f"there are {', '.join((*_AMOUNTS, *_POSITIVE))}"
                )
            elif not is_number(value) or value <= 0:
                raise refused(row, f"prices.{name}", "a number more than 0")

    def values(self, row: Row) -> dict[str, float]:
        """None: there are no items behind these measures."""
        return {}

    def observed(self, rows: Sequence[Row]) -> dict[str, float]:
        """Both costs, where they are known.

        Raises:
            InputInvalid: Rows have different prices.
        """
        return {name: terms.total for name, terms in _all_terms(rows).items() if terms.total is not None}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Every term, and what it rests on."""
        found = _all_terms(rows)
        return {
            "tokens": sum(row["tokens"] for row in rows),
            "seconds": math.fsum(row["seconds"] for row in rows),
            "prices": {name: value for name, value in _prices(rows).items() if value is not None},
            "terms": {name: {"parts": {**terms.parts}, "basis": {**terms.basis}} for name, terms in found.items()},
            "notes": {name: terms.missing for name, terms in found.items() if terms.missing},
        }


def _all_terms(rows: Sequence[Row]) -> dict[str, Terms]:
    if not rows:
        return dict.fromkeys(("local_cost", "cloud_cost"), Terms({}, {}, "there is no run"))
    return {"local_cost": local_cost(rows), "cloud_cost": cloud_cost(rows)}


def local_cost(rows: Sequence[Row]) -> Terms:
    """Energy and depreciation of runs on a machine that is owned; at least one."""
    prices, tokens = _prices(rows), sum(row["tokens"] for row in rows)
    seconds = math.fsum(row["seconds"] for row in rows)
    parts, basis, missing = {}, {}, []
    joules, told = _joules(rows, prices.get("watts"), seconds)
    if joules is None:
        missing.append("the energy, which could not be read; `watts` says what to take instead")
    elif prices.get("kilowatt_hour") is None:
        missing.append("`kilowatt_hour`, the price of energy")
    else:
        kilowatt_hours = joules / JOULES_PER_KILOWATT_HOUR
        parts["energy"] = prices["kilowatt_hour"] / MICRO_DOLLARS * kilowatt_hours / tokens * _MILLION
        basis["energy"] = f"{joules:,.4g} J {told}, for {tokens:,} tokens"
    lacking = [f"`{name}`" for name in ("machine", "machine_hours") if prices.get(name) is None]
    if lacking:
        missing.append(f"{' and '.join(lacking)}, for the depreciation")
    else:
        hours = seconds / 3600
        parts["depreciation"] = prices["machine"] / MICRO_DOLLARS * hours / prices["machine_hours"] / tokens * _MILLION
        basis["depreciation"] = f"{hours:,.4g} of {prices['machine_hours']:,.0f} hours of work"
    return Terms(parts, basis, f"unknown: {'; '.join(missing)}" if missing else "")


def cloud_cost(rows: Sequence[Row]) -> Terms:
    """Price of an hour by the tokens of an hour, for at least one run."""
    prices = _prices(rows)
    if prices.get("instance_hour") is None:
        return Terms({}, {}, "unknown: `instance_hour`, the price of a rented machine")
    speed, told = prices.get("instance_tokens_per_second"), "given"
    if speed is None:
        speed = sum(row["tokens"] for row in rows) / math.fsum(row["seconds"] for row in rows)
        told = "measured in this run"
    per_hour = speed * 3600
    return Terms(
        {"instance": prices["instance_hour"] / MICRO_DOLLARS / per_hour * _MILLION},
        {"instance": f"{per_hour:,.0f} tokens an hour, {told}"},
    )


def _joules(rows: Sequence[Row], watts: float | None, seconds: float) -> tuple[float | None, str]:
    """Energy of all runs, and where it is known from: counted, or else taken."""
    if all(has(row, "joules") for row in rows):
        return math.fsum(row["joules"] for row in rows), "counted"
    return (None, "") if watts is None else (watts * seconds, f"taken to be {watts:,.4g} W")


def _prices(rows: Sequence[Row]) -> Mapping[str, Any]:
    """The prices all rows have.

    Raises:
        InputInvalid: They differ.
    """
    first: Mapping[str, Any] = rows[0]["prices"] if rows else {}
    for row in rows:
        if row["prices"] != first:
            raise InputInvalid(
                f"{item(row)} has other prices than {item(rows[0])}", hint="one report, one set of prices"
            )
    return first


SUITE = Cost()
