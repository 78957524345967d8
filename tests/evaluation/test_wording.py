"""Values and differences in the measure's unit."""

from __future__ import annotations

import pytest

from aifw.evaluation.measures import named
from aifw.evaluation.wording import difference, difference_span, in_unit, probability, span, value


@pytest.mark.parametrize(
    ("measure", "number", "expected"),
    [
        ("accuracy", 0.68312, "0.683"),
        ("perplexity", 12.3456, "12.3"),
        ("perplexity", 0.0000123, "1.2e-05"),
        ("latency_p95", 0.0713, "71.3 ms"),
        ("latency_p95", 0.152, "152 ms"),
        ("latency_p95", 1.234, "1.23 s"),
        ("latency_p95", 75.0, "1 min 15 s"),
        ("peak_memory", 1.5 * 1024**3, "1.5 GiB"),
        ("local_cost", 0.3512, "$0.35"),
        ("local_cost", 0.0012, "$0.0012"),
        ("tokens_per_second", 1234.5, "1,234/s"),
        ("energy_per_item", 2.5, "2.50 J"),
        ("dead_experts", 3.0, "3"),
        ("search_speedup", 123456789.0, "1.23e+08"),
        ("margin_per_token", -0.25, "\N{MINUS SIGN}0.250"),
        ("accuracy", None, "\N{EN DASH}"),
    ],
)
def test_values(measure: str, number: float | None, expected: str) -> None:
    assert value(named(measure), number) == expected


def test_differences() -> None:
    accuracy, latency = named("accuracy"), named("latency_p95")
    assert difference(accuracy, 0.0688) == "+6.9 points"
    assert difference(accuracy, -0.0688, unit=False) == "\N{MINUS SIGN}6.9"
    assert difference(latency, -0.012) == "\N{MINUS SIGN}12 ms"
    assert difference(accuracy, None) == "\N{EN DASH}"
    assert difference_span(accuracy, 0.031, 0.106) == "+3.1 … +10.6"
    assert difference_span(accuracy, None, 0.1) == span(accuracy, 0.1, None) == ""
    assert span(latency, 0.07, 0.08) == "70 ms … 80 ms"


def test_probabilities() -> None:
    assert [probability(each) for each in (0.00001, 0.0004, 0.03, 1.0, None)] == ["< 0.0001", "0.0004", "0.03", "1", ""]


def test_zero_has_no_sign() -> None:
    assert in_unit("seconds", 0.0) == "0 ms"
    assert in_unit("bytes", 0.0).startswith("0")
