"""Pictures: whole, right in what they say, and there for the odd case too."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.cli import charts
from aifw.cli.charts import Point

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda each: round(each, 6))


def shown(value: float) -> str:
    return f"{value:.3g}"


def whole(picture: str) -> ET.Element:
    """The picture as XML, with no coordinate that is not a number."""
    assert not re.search(r"nan|inf", picture, re.IGNORECASE)
    return ET.fromstring(picture)


@given(NUMBERS, st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_inside(low: float, width: float) -> None:
    found = charts.ticks(low, low + width)
    assert 1 <= len(found) <= 5
    assert all(low - 1e-6 * width <= each <= low + width * (1 + 1e-6) for each in found)
    if len(found) > 2:
        steps = [second - first for first, second in pairwise(found)]
        assert max(steps) == pytest.approx(min(steps), rel=1e-6)


@given(st.lists(st.tuples(st.none() | NUMBERS, st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_a_trend_is_drawn_whatever_was_measured(values: list[tuple[float | None, bool, bool]]) -> None:
    points = [
        Point(
            f"run <{place}>",
            f"2026-01-0{place + 1} run <{place}>",
            value,
            None if value is None else value - 1,
            value,
            *flags,
        )
        for place, (value, *flags) in enumerate(values)
    ]
    there = sum(value is not None for value, *_ in values)
    if there:
        assert len(whole(charts.trend(points, shown, "a & b")).findall(".//circle")) == there


def test_a_trend_has_its_points_in_order_and_to_scale() -> None:
    picture = whole(charts.trend([Point("a", "a", 1.0), Point("b", "b", 3.0), Point("c", "c", 2.0)], shown, "w"))
    x, y = ([float(each.get(name, "")) for each in picture.findall(".//circle")] for name in ("cx", "cy"))
    assert x == sorted(x)
    assert y[1] < y[2] < y[0], "y counts downwards"
    assert y[2] == pytest.approx((y[0] + y[1]) / 2, abs=0.2)


def test_reliability_lies_on_the_diagonal_where_confidence_is_right() -> None:
    bins = [{"confidence": each, "accuracy": each, "n": 3} for each in (0.2, 0.5, 0.9)]
    picture = whole(charts.reliability({"subject": bins, "baseline": bins}, "w"))
    assert len(picture.findall(".//circle")) == 6
    diagonal = next(each for each in picture.findall("path") if each.get("stroke-dasharray") == "4 4").get("d", "")
    x0, y0, x1, y1 = map(float, re.findall(r"[\d.]+", diagonal))
    for mark in picture.findall("circle"):
        share = (float(mark.get("cx", "")) - x0) / (x1 - x0)
        assert (float(mark.get("cy", "")) - y0) / (y1 - y0) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("edges", [[0.1, 0.2, 0.4], [0.1, 0.1], [0.1, 0.1000001]])
def test_histograms(edges: list[float], logarithmic: bool) -> None:
    counts = [5.0] * (len(edges) - 1)
    picture = whole(
        charts.histogram({"subject": (edges, counts)}, shown, "w", logarithmic=logarithmic, marks={"p50": 0.15})
    )
    assert "p50 0.15" in "".join(picture.itertext())


def test_a_histogram_of_nothing() -> None:
    whole(charts.histogram({"subject": ([0.0, 0.0], [0.0])}, shown, "w", logarithmic=True))


def test_curves_and_bars() -> None:
    whole(charts.curve({"subject": [(0.1, 0.0), (1.0, 0.0)]}, "w"))
    picture = whole(charts.bars({"first <expert>": 0.75, "second": 0.25}, "w"))
    first, second = (float(each.get("width", "")) for each in picture.findall("rect"))
    assert first == pytest.approx(3 * second, rel=0.01)
    assert "75.0 %" in "".join(picture.itertext())


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_a_difference_stays_inside_its_cell(low: float, high: float, extent: float) -> None:
    picture = whole(charts.difference(min(low, high), (low + high) / 2, max(low, high), extent, "better"))
    assert 0 <= float(picture.findall("circle")[0].get("cx", "")) <= 120


def test_trends_in_one_line() -> None:
    assert charts.spark([]) == charts.spark([1.0]) == ""
    assert charts.spark([1.0, 2.0, 3.0]) == "▁▅█" or charts.spark([1.0, 2.0, 3.0]) == "▁▄█"
    assert len(set(charts.spark([2.0, 2.0]))) == 1
    assert len(charts.spark([math.sin(each) for each in range(50)])) == 12
