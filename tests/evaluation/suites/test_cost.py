from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import InputInvalid
from aifw.evaluation.suites.cost import SUITE

PRICES: dict[str, Any] = {
    "kilowatt_hour": 300_000,
    "machine": 1_500_000_000,
    "machine_hours": 20_000,
    "instance_hour": 2_000_000,
}
# An hour at 50 W that makes a quarter of a million tokens.
ROW: dict[str, Any] = {"id": "run", "tokens": 250_000, "seconds": 3600.0, "joules": 180_000.0, "prices": PRICES}


def _without(*names: str, **more: Any) -> dict[str, Any]:
    return ROW | {"prices": {name: value for name, value in PRICES.items() if name not in names} | more}


def test_both_costs_and_their_terms() -> None:
    SUITE.check(ROW)
    # 0.05 kWh at 30 cents, and an hour of 20,000 of a machine for 1,500 dollars.
    assert SUITE.observed([ROW]) == pytest.approx({"local_cost": 4 * (0.015 + 0.075), "cloud_cost": 8.0})
    terms = SUITE.details([ROW])["terms"]
    assert terms["local_cost"]["parts"] == pytest.approx({"energy": 0.06, "depreciation": 0.3})
    assert terms["local_cost"]["basis"]["energy"] == "1.8e+05 J counted, for 250,000 tokens"
    assert terms["cloud_cost"]["parts"] == pytest.approx({"instance": 8.0})
    assert terms["cloud_cost"]["basis"]["instance"] == "250,000 tokens an hour, measured in this run"
    json.dumps(SUITE.details([ROW]), allow_nan=False)


def test_the_speed_of_a_rented_machine_may_be_given() -> None:
    row = _without(instance_tokens_per_second=1_000_000 / 3600)
    assert SUITE.observed([row])["cloud_cost"] == pytest.approx(2.0)
    assert SUITE.details([row])["terms"]["cloud_cost"]["basis"]["instance"].endswith("given")


def test_energy_that_was_not_counted_may_be_taken_and_says_so() -> None:
    row = {key: value for key, value in _without(watts=50).items() if key != "joules"}
    SUITE.check(row)
    assert SUITE.observed([row]) == pytest.approx(SUITE.observed([ROW]))
    assert "taken to be 50 W" in SUITE.details([row])["terms"]["local_cost"]["basis"]["energy"]


@pytest.mark.parametrize(
    ("row", "measure", "said"),
    [
        (ROW | {"joules": None}, "local_cost", "the energy, which could not be read"),
        (_without("kilowatt_hour"), "local_cost", "`kilowatt_hour`"),
        (_without("machine"), "local_cost", "`machine`, for the depreciation"),
        (_without("machine", "machine_hours"), "local_cost", "`machine` and `machine_hours`"),
        (_without("instance_hour"), "cloud_cost", "`instance_hour`"),
    ],
)
def test_what_lacks_a_term_is_unknown_and_not_free(row: dict[str, Any], measure: str, said: str) -> None:
    SUITE.check(row)
    assert measure not in SUITE.observed([row])
    assert said in SUITE.details([row])["notes"][measure]


def test_the_terms_that_are_known_are_shown_without_a_total() -> None:
    details = SUITE.details([_without("kilowatt_hour")])
    assert details["terms"]["local_cost"]["parts"] == pytest.approx({"depreciation": 0.3})


def test_free_energy_can_be_said() -> None:
    assert SUITE.observed([_without(kilowatt_hour=0)])["local_cost"] == pytest.approx(0.3)


def test_no_run_is_said() -> None:
    assert SUITE.observed([]) == {}
    assert SUITE.details([])["notes"] == {"local_cost": "there is no run", "cloud_cost": "there is no run"}


@given(st.integers(2, 5))
def test_the_same_run_again_costs_the_same_for_a_token(times: int) -> None:
    assert SUITE.observed([ROW] * times) == pytest.approx(SUITE.observed([ROW]))


def test_different_prices_are_refused() -> None:
    with pytest.raises(InputInvalid, match=r"item 'other' has other prices than item 'run'"):
        SUITE.observed([ROW, _without("machine") | {"id": "other"}])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokens": 0}, "`tokens`"),
        ({"tokens": 1.5}, "`tokens`"),
        ({"seconds": 0}, "`seconds`"),
        ({"seconds": math.nan}, "`seconds`"),
        ({"joules": 0}, "`joules`"),
        ({"prices": None}, "`prices`"),
        ({"prices": {"kilowatt_hour": 0.3}}, "`prices.kilowatt_hour`"),
        ({"prices": {"machine": -1}}, "`prices.machine`"),
        ({"prices": {"machine_hours": 0}}, "`prices.machine_hours`"),
        ({"prices": {"watts": math.inf}}, "`prices.watts`"),
        ({"prices": {"power": 3}}, "'power'"),
    ],
)
def test_a_bad_row_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputInvalid, match="item 'run'") as error:
        SUITE.check(ROW | change)
    assert said in error.value.message
