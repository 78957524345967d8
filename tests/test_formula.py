from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.formula import Range, parse


def test_a_formula_says_what_it_needs() -> None:
    formula = parse(" (accuracy - baseline_accuracy) / baseline_accuracy ")
    assert formula.names == ("accuracy", "baseline_accuracy")
    found = formula({"accuracy": Range.exact(0.6), "baseline_accuracy": Range.exact(0.5)})
    assert found is not None
    assert found.value == pytest.approx(0.2)
    with pytest.raises(KeyError):
        formula({"accuracy": Range.exact(0.6)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 + 2",
        "a +",
        "a ** 2",
        "a(1)",
        "a.b",
        "a if b else c",
        "'a'",
        "True + a",
        "a < b",
        "[a]",
        "a" * 600,
        "a; b",
        "(" * 300,
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="formula"):
        parse(text)


def test_a_quotient_by_what_may_be_nothing_is_not_defined() -> None:
    values = {"a": Range.exact(1.0), "b": Range(0.1, -0.1, 0.3)}
    assert parse("a / b")(values) is None
    assert parse("1 - a / b")(values) is None
    assert parse("b / a")(values) == Range(0.1, -0.1, 0.3)


def _range(ends: tuple[float, float, float]) -> Range:
    low, value, high = sorted(ends)
    return Range(value, low, high)


_RANGES = st.tuples(*[st.floats(-100, 100)] * 3).map(_range)


@given(a=_RANGES, b=_RANGES, at=st.floats(0, 1), bt=st.floats(0, 1))
def test_the_result_holds_every_value_the_inputs_may_have(a: Range, b: Range, at: float, bt: float) -> None:
    x, y = (each.low + share * (each.high - each.low) for each, share in ((a, at), (b, bt)))
    x, y = min(x, a.high), min(y, b.high)
    for text in ("a + b", "a - b", "a * b", "-a + 2 * b - 1"):
        found = parse(text)({"a": a, "b": b})
        exact = parse(text)({"a": Range.exact(x), "b": Range.exact(y)})
        assert found is not None
        assert exact is not None
        assert found.low - 1e-6 <= exact.value <= found.high + 1e-6
        assert found.low <= found.value <= found.high
