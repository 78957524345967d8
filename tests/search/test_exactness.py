"""Searches on rows that are made to be hard, compared bit for bit with exact arithmetic."""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from adversaries import FAMILIES, Floats
from coded import FALSIFICATIONS, aligned_problems, read
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from oracle import (
    COSINE,
    METRICS,
    SQUARED_DISTANCE,
    Oracle,
    rational_score,
    rational_search,
    rounded_norm,
    rounded_root,
)
from problems import Problem, Segment, answer_by_index, answer_by_kernel, available, computing, draw, wrong

from aifw.search import Index, reference


def _problem(metric: str, rows: Any, queries: Any, k: int, **more: Any) -> Problem:
    rows = np.asarray(rows, np.float32)
    given = {"ids": np.arange(len(rows)), "ends": (len(rows),), "allowed": None, "threads": 1, **more}
    return Problem("given", metric, rows, queries=np.asarray(queries, np.float32), k=k, **given)


def _check(problem: Problem, rng: np.random.Generator, *, index: bool = False) -> None:
    """All that can search here answer as the oracle does."""
    for name in available():
        with computing(name) as work:
            answer = answer_by_index(problem, rng) if index else answer_by_kernel(work, problem, rng)
        bad = wrong(answer, problem.answer)
        assert not len(bad), f"{name}: queries {bad} of {problem}"


# The oracle itself


def test_oracle_agrees_with_sums_done_by_hand() -> None:
    x, q = np.array([1, 2.0**-60, 0], np.float32), np.array([1, 2.0**7, 3], np.float32)
    assert rational_score("inner_product", x, q) == 1.0
    q[1] = 2.0**8
    x[2] = 2.0**-149
    assert rational_score("inner_product", x, q) == 1 + 2.0**-52
    assert rational_score(SQUARED_DISTANCE, np.float32([3, 0]), np.float32([0, 4])) == 25
    assert rational_score(COSINE, np.float32([3, 4]), np.float32([3, 4])) == 1
    assert rational_score(COSINE, np.float32([3, 4]), np.float32([0, 0])) == 0
    assert rounded_norm(np.float32([3e38, 4e38 - 6e37])) == pytest.approx(
        math.hypot(float(np.float32(3e38)), float(np.float32(3.4e38)))
    )
    assert rounded_norm(np.float32([3 * 2.0**-149, 4 * 2.0**-149])) == 5 * 2.0**-149


@given(st.integers(1, 1 << 300), st.integers(0, 149))
def test_roots_of_the_oracle_lie_between_the_middles(square: int, unit: int) -> None:
    root = rounded_root(square, unit)
    exact = Fraction(square, 1 << 2 * unit)
    below, above = (Fraction(math.nextafter(root, to)) for to in (0, math.inf))
    assert ((below + Fraction(root)) / 2) ** 2 <= exact <= ((Fraction(root) + above) / 2) ** 2


def _squares(number: int) -> list[int]:
    """Whole numbers of at most 24 bits, times powers of two, whose squares add up to a number."""
    found = []
    while number:
        root = math.isqrt(number)
        spare = max(0, root.bit_length() - 24)
        found.append(root >> spare << spare)
        number -= found[-1] ** 2
    return found


def _halfway_vectors(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, float]]:
    """Vectors whose norm is exactly in the middle of two doubles, and the even one of them."""
    for _ in range(20):
        odd = 2 * int(rng.integers(1 << 52, 1 << 53)) + 1
        parts = _squares(odd**2)
        vector = np.zeros(17, np.float32)
        vector[rng.permutation(17)[: len(parts)]] = parts
        yield vector, float(odd + 1 if (odd + 1) % 4 == 0 else odd - 1)


def test_oracle_rounds_a_norm_in_the_middle_to_even() -> None:
    for vector, norm in _halfway_vectors(np.random.default_rng(3)):
        assert rounded_norm(vector) == norm


@pytest.mark.parametrize("family", FAMILIES)
def test_fast_oracle_is_the_slow_one(family: str) -> None:
    rng = np.random.default_rng(len(family))
    for d, n in ((1, 20), (3, 33), (19, 24)):
        rows, queries = FAMILIES[family](rng, d, n, 2)
        assert rows.shape == (n, d)
        assert queries.shape == (2, d)
        ids = rng.permutation(n).astype(np.int64)
        for metric in METRICS:
            slow = rational_search(metric, rows, ids, queries, 7)
            assert not len(wrong(Oracle(metric, rows, ids).search(queries, 7), slow))


# Searches


@pytest.mark.parametrize("family", FAMILIES)
def test_search_of_hard_rows_is_exact(family: str) -> None:
    rng = np.random.default_rng([11, *family.encode()])
    for dimensions in (None, 65):
        for problem in draw(rng, family, dimensions=dimensions, components=5000):
            _check(problem, rng)


@pytest.mark.parametrize("family", FAMILIES)
def test_index_of_hard_rows_is_exact(family: str) -> None:
    rng = np.random.default_rng([12, *family.encode()])
    for problem in draw(rng, family, components=6000):
        _check(problem, rng, index=True)


def test_queries_parallel_to_what_the_codes_leave_out() -> None:
    rng = np.random.default_rng(7)
    for problem in aligned_problems(reference, rng):
        _check(problem, rng)


@pytest.mark.parametrize("name", FALSIFICATIONS)
def test_a_falsified_coded_form_gives_wrong_answers(name: str) -> None:
    level = available()[-1]
    if level == "numpy":
        pytest.skip("numpy reads the rows alone")
    rng = np.random.default_rng(3)
    with computing(level) as kernel:
        for _ in range(4):
            for problem in aligned_problems(kernel, rng):
                if len(wrong(answer_by_kernel(kernel, problem, rng, FALSIFICATIONS[name]), problem.answer)):
                    return
    pytest.fail("nobody noticed")


def test_norms_in_the_middle_of_two_doubles() -> None:
    rng = np.random.default_rng(3)
    for vector, norm in _halfway_vectors(rng):
        for name in available():
            with computing(name) as work:
                assert Segment(work, COSINE, vector[None], np.zeros(1, np.int64)).norms[0] == norm


@pytest.mark.parametrize("count", [*range(1, 18), *range(31, 34), 49, 79])
def test_any_number_of_rows_and_results(count: int) -> None:
    """Every remainder of 16 rows, every k around it, with ties that the ids decide."""
    rng = np.random.default_rng(count)
    rows, queries = rng.integers(-1, 2, (count, 5)), rng.integers(-1, 2, (3, 5))
    for metric in METRICS:
        for k in {1, 2, count // 2 + 1, count, count + 1, 1000}:
            _check(_problem(metric, rows, queries, k, ids=rng.permutation(count)), rng)


@pytest.mark.parametrize("batch", [*range(1, 18), 64])
def test_any_number_of_queries_and_threads(batch: int) -> None:
    rng = np.random.default_rng(batch)
    rows, queries = FAMILIES["mixed"](rng, 33, 1500, batch)
    problem = _problem(METRICS[batch % 3], rows, queries, 9, ends=(500, 500, 1111, 1500))
    for name in available():
        for threads in (1, 2, 3):
            with computing(name) as work:
                answer = answer_by_kernel(work, replace(problem, threads=threads, alone=threads == 3), rng)
            assert not len(wrong(answer, problem.answer)), f"{name}, {threads} threads"


@pytest.mark.parametrize("family", ["equal", "last_bit", "integer"])
def test_more_ties_than_a_search_keeps_at_a_time(family: str) -> None:
    rng = np.random.default_rng(1)
    rows, queries = FAMILIES[family](rng, 4, 10_000, 1)
    ids = rng.permutation(len(rows))
    for metric in METRICS:
        _check(_problem(metric, rows, queries, 5, ids=ids), rng)


@pytest.mark.parametrize("dimensions", [1032, 1033, 8807, 9000])
def test_many_dimensions(dimensions: int) -> None:
    """Sums of codes at the largest they can be, beyond what float holds exactly, and beyond 16-bit sums."""
    rng = np.random.default_rng(dimensions)
    rows = np.where(rng.random((20, dimensions)) < 0.001, -1, 1) * rng.choice([1.0, -1.0], (20, 1))
    queries = np.concatenate([np.ones((1, dimensions)), -rows[:1], rng.standard_normal((1, dimensions))])
    for metric in METRICS:
        _check(_problem(metric, rows, queries, 3), rng)
        _check(_problem(metric, rows * rng.standard_normal((20, 1)), queries, 3), rng)


def test_what_is_found_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(8)
    rows, queries = FAMILIES["last_bit"](rng, 24, 500, 8)
    order = rng.permutation(500)
    for metric in METRICS:
        one, other = _problem(metric, rows, queries, 40), _problem(metric, rows[order], queries, 40, ids=order)
        for name in available():
            with computing(name) as work:
                assert not len(wrong(answer_by_kernel(work, one, rng), answer_by_kernel(work, other, rng)))


def test_ids_at_both_ends_of_their_range() -> None:
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    for name in available():
        with computing(name):
            index = Index(1, "l2")
            index.add(np.zeros((1, 1), np.float32), [most - 1])
            index.add(np.ones((2, 1), np.float32), [most, least])
            ids, scores = index.search(np.ones((1, 1), np.float32), 5)
        assert ids.tolist() == [[least, most, most - 1]]
        assert scores.tolist() == [[0, 0, 1]]


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """As torch.set_flush_denormal does it, and libraries that were built with -ffast-math."""
    library = ctypes.CDLL(None)
    environment = (ctypes.c_uint32 * 8)()  # fenv_t of x86-64; the last word is MXCSR
    library.fegetenv(environment)
    environment[7] |= 0x8040
    library.fesetenv(environment)
    try:
        yield
    finally:
        environment[7] &= ~0x8040
        library.fesetenv(environment)


@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="the floating-point environment of x86-64")
def test_a_caller_that_flushes_denormals_gets_the_same_answers() -> None:
    rng = np.random.default_rng(4)
    for family in ("denormal", "row_scales", "limits"):
        for problem in draw(rng, family, components=3000):
            expected = problem.answer
            for name in available():
                if name != "numpy":
                    with computing(name) as work, _denormals_flushed():
                        answer = answer_by_kernel(work, problem, rng)
                    assert not len(wrong(answer, expected)), f"{name}: {problem}"


# Resources


@pytest.mark.parametrize("threads", [1, 2])
def test_more_results_than_are_looked_for_at_a_time(threads: int) -> None:
    n, queries = 30_000, 84  # above 2**21 results
    rng = np.random.default_rng(threads)
    rows = rng.integers(-99, 100, (n, 1)).astype(np.float32)
    asked = rng.integers(-2, 3, (queries, 1)).astype(np.float32)
    ids, scores = Index.build(rows, metric="inner_product").search(asked, n, threads=threads)
    for query, found, score in zip(asked, ids, scores, strict=True):
        right = (rows @ query).astype(np.float64)
        order = np.lexsort((np.arange(n), -right))
        assert np.array_equal(found, order)
        assert np.array_equal(score, right[order])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_threads_that_cannot_be_had_are_done_without() -> None:
    if available() == ("numpy",):
        pytest.skip("numpy has threads of its own")
    script = """
import os, resource
import numpy as np
from aifw.search import Index
rows = np.random.default_rng(0).standard_normal((100_000, 16)).astype(np.float32)
index = Index.build(rows, threads=1)
with open("/proc/self/statm") as sizes:
    most = int(sizes.read().split()[0]) * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
ids, _ = index.search(rows[:3], 1, threads=90)
print(ids.ravel().tolist(), len(os.listdir("/proc/self/task")) < 90)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "[0, 1, 2] True\n", done.stderr


# The coded form, against its description in layout.h


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_of_the_coded_form_hold_exactly(family: str, metric: str) -> None:
    rng = np.random.default_rng([13, *family.encode()])
    d, n = int(rng.integers(1, 9)), 16
    rows, _ = FAMILIES[family](rng, d, n, 1)
    for name in {available()[0], available()[-1]}:
        with computing(name) as work:
            segment = Segment(work, metric, rows, np.arange(n))
        _check_bounds(metric, rows, segment)


def _check_bounds(metric: str, rows: Floats, segment: Segment) -> None:
    coded = read(segment)
    for i in range(len(rows)):
        norm = rounded_norm(rows[i])
        assert segment.norms[i] == norm
        assert norm <= segment.largest
        unit = Fraction(norm) if metric == COSINE and norm else Fraction(1)
        coarse, rest, six = ([Fraction(each) for each in values[i]] for values in (coded.coarse, coded.rest, coded.six))
        x = [Fraction(float(value)) / unit for value in rows[i]]
        left = [a - b for a, b in zip(x, coarse, strict=True)]
        assert _square(left) <= _bound(coded.radius[i])
        assert _square([a - b for a, b in zip(left, rest, strict=True)]) <= _bound(coded.fine[i])
        assert _square(coarse) <= _bound(coded.reach[i])
        assert _square([a - b for a, b in zip(x, six, strict=True)]) <= _bound(coded.radius_six[i])
        assert _square(six) <= _bound(coded.reach_six[i])
        if metric == SQUARED_DISTANCE:
            assert coded.bias[i] <= 0
            assert Fraction(coded.bias[i]) >= -_square(x) / 2
        else:
            assert coded.bias[i] == 0


def _square(vector: list[Fraction]) -> Fraction:
    return sum((value * value for value in vector), Fraction(0))


def _bound(value: float) -> Fraction:
    return Fraction(value) ** 2 if math.isfinite(value) else Fraction(1 << 4000)


# Whatever hypothesis comes up with

_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
_AWKWARD = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 1 + 2.0**-23, 1 - 2.0**-24, 2.0**-149, -(2.0**-126), 8.0, 127.0, 3.4028234663852886e38]
)


@st.composite
def _searches(choose: st.DrawFn) -> Problem:
    n, d, nq = choose(st.integers(1, 40)), choose(st.integers(1, 20)), choose(st.integers(1, 5))
    few = choose(st.lists(_FINITE | _AWKWARD, min_size=1, max_size=5))
    values = choose(st.sampled_from([_FINITE, _AWKWARD, st.sampled_from(few)]))
    rows = choose(arrays.arrays(np.float32, (n, d), elements=values, fill=values))
    queries = choose(arrays.arrays(np.float32, (nq, d), elements=values, fill=values))
    ids = choose(arrays.arrays(np.int64, n, elements=st.integers(-(1 << 63), (1 << 63) - 1), unique=True))
    return Problem(
        "hypothesis",
        choose(st.sampled_from(METRICS)),
        rows,
        ids,
        queries,
        choose(st.integers(1, n + 1)),
        (*sorted(choose(st.lists(st.integers(0, n), max_size=2))), n),
        choose(st.none() | arrays.arrays(np.bool_, n)),
        choose(st.integers(1, 3)),
        choose(st.booleans()),
    )


@settings(deadline=None, max_examples=50)
@given(problem=_searches(), seed=st.integers(0, 9))
def test_any_search_is_exact(problem: Problem, seed: int) -> None:
    rng = np.random.default_rng(seed)
    _check(problem, rng)
    _check(problem, rng, index=True)
