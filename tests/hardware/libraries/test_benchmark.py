"""What a benchmark is credited for: only what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.hardware.libraries.benchmark import Wrong, check, factors, figure, largest_side, perform, sides, times

SIDE = 96


def _product(precision: str) -> tuple[Any, Any, Any]:
    left, right = factors(precision, SIDE)
    return left @ right, left, right


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_right_product_passes(precision: str) -> None:
    how = check(*_product(precision), precision)
    assert "64 rows" in how
    assert ("exact" in how) == (precision == "int8")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_rounding_of_the_format_passes_and_passes_in_no_finer_one(precision: str) -> None:
    found, left, right = _product(precision)
    rounded = found.astype(np.float16) if precision == "fp16" else _bf16(found)
    check(rounded, left, right, precision)
    with pytest.raises(Wrong):
        check(rounded, left, right, "fp32")


def test_factors_rounded_to_fewer_bits_show_in_fp32() -> None:
    """As a GPU does that multiplies in tf32 where fp32 was asked for: ten bits of each factor."""
    _, left, right = _product("fp32")
    ten_bits = [(each.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for each in (left, right)]
    with pytest.raises(Wrong):
        check(ten_bits[0] @ ten_bits[1], left, right, "fp32")


def _bf16(values: Any) -> Any:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


@settings(max_examples=60, deadline=None)
@given(row=st.integers(0, SIDE - 1), column=st.integers(0, SIDE - 1), change=st.sampled_from([-1, 1, 256, -65536]))
def test_one_wrong_element_of_int8_is_found(row: int, column: int, change: int) -> None:
    """In every row, whether it is one of those compared or not: a sign vector cannot hide a single change."""
    found, left, right = _product("int8")
    found[row, column] += change
    with pytest.raises(Wrong):
        check(found, left, right, "int8")


@pytest.mark.parametrize("spoil", ["shape", "nan", "zeros", "infinite"])
def test_nonsense_is_wrong(spoil: str) -> None:
    found, left, right = _product("fp32")
    spoiled = {
        "shape": found[:-1],
        "nan": np.where(found == found.max(), np.nan, found),
        "zeros": np.zeros_like(found),
        "infinite": np.full_like(found, np.inf),
    }[spoil]
    with pytest.raises(Wrong):
        check(spoiled, left, right, "fp32")


def test_whole_numbers_stay_in_range() -> None:
    left, right = factors("int8", SIDE)
    for each in (left, right):
        assert np.array_equal(each, each.astype(np.int8).astype(np.float32))
        assert 10 < np.abs(each).max() <= 15


def test_one_row_for_a_bandwidth() -> None:
    left, right = factors("fp16", SIDE, rows=1)
    assert (left.shape, right.shape) == ((1, SIDE), (SIDE, SIDE))
    assert "1 rows" in check((left @ right).astype(np.float16), left, right, "fp16")


def test_repetitions_are_counted_and_the_first_is_not() -> None:
    runs: list[int] = []
    found = times(lambda: runs.append(1))
    assert len(found) == len(runs) - 1
    assert 5 <= len(found) <= 15
    assert all(each > 0 for each in found)


def test_a_figure_is_the_median_with_its_spread() -> None:
    found = figure("fp32", "product", 100.0, [1.0, 4.0, 2.0], 2, 64, "somehow")
    assert (found["value"], found["lowest"], found["highest"], found["repetitions"]) == (50.0, 25.0, 100.0, 3)


@given(memory=st.integers(0, 1 << 50), most=st.sampled_from([256, 2048, 8192]))
def test_factors_fit_the_memory(memory: int, most: int) -> None:
    side = largest_side(memory, most)
    assert 256 <= side <= most
    assert side == 256 or 12 * side**2 <= memory // 4
    assert side == most or 12 * (2 * side) ** 2 > memory // 4


def test_sides_grow_until_a_product_takes_long_enough() -> None:
    import time

    prepared: list[int] = []

    def prepare(side: int) -> Any:
        prepared.append(side)
        return lambda: time.sleep(0.05 if side >= 1024 else 0.0)

    assert sides(4096, prepare) == 1024
    assert prepared == [256, 512, 1024]
    assert sides(512, prepare) == 512


def test_what_fails_is_answered_with_its_reason() -> None:
    def measure(quantity: str, precision: str, threads: int) -> dict[str, Any]:
        if precision == "bf16":
            raise Wrong("3 of 5 elements are wrong")
        if precision == "int8":
            raise RuntimeError("where\nwhat")
        return {"quantity": quantity, "threads": threads}

    heard: list[Any] = []
    perform(heard.append, ["product:fp32:2", "product:bf16:1", "product:int8:1"], measure)
    assert heard == [
        {"now": {"task": "product:fp32:2"}},
        {"task": "product:fp32:2", "figure": {"quantity": "product", "threads": 2}},
        {"now": {"task": "product:bf16:1"}},
        {"task": "product:bf16:1", "failed": "3 of 5 elements are wrong"},
        {"now": {"task": "product:int8:1"}},
        {"task": "product:int8:1", "failed": "what"},
    ]
