"""What the benchmarks of torch and OpenVINO share, in the process that measures: repeating, factors and the check of a product.

Nothing is credited unchecked. A product of whole numbers in int8 must be exact. One of real numbers is compared with the same
product in fp64, in rows spread over all of it and, for the rest, through products with vectors of signs (Freivalds, Probabilistic
machines can use less running time, 1977): a wrong element is missed by one vector with probability one half at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

_LEAST_REPETITIONS = 5
_MOST_REPETITIONS = 15
_ENOUGH_SECONDS = 0.5
_MOST_SECONDS = 1.5
_TRIALS = 8
_LONG_ENOUGH = 0.02
"""Seconds a product has to take: a shorter one measures the call."""
_SMALLEST_SIDE = 256
_CHECKED_ROWS = 64
_SIGN_VECTORS = 16
_LARGEST_WHOLE = 15
_ROUNDING = {"fp32": 2.0**-23, "bf16": 2.0**-8, "fp16": 2.0**-10}
_ACCUMULATION = {"fp32": 2.0**-20, "bf16": 2.0**-12, "fp16": 2.0**-12}
"""Error of an element relative to the sum of the absolute products. In fp32 small enough that factors rounded to fewer bits show."""

Answer = Callable[[Mapping[str, Any]], None]
Run = Callable[[], Any]


class Wrong(Exception):
    """What was computed is not right."""


def times(run: Run) -> list[float]:
    """Seconds of each repetition, after one that is not timed; `run` returns when the work is done."""
    run()
    found: list[float] = []
    while len(found) < _MOST_REPETITIONS:
        total = sum(found)
        if (len(found) >= _LEAST_REPETITIONS and total >= _ENOUGH_SECONDS) or total >= _MOST_SECONDS:
            break
        begun = time.perf_counter()
        run()
        found.append(time.perf_counter() - begun)
    return found


def sides(largest: int, prepare: Callable[[int], Run]) -> int:
    """The side of square factors from which on a product takes long enough to be timed, doubled from a small one.

    Args:
        largest: Not beyond this.
        prepare: Gives what computes one product with factors of a side.
    """
    side = _SMALLEST_SIDE
    while side * 2 <= largest and _quickest(prepare(side)) < _LONG_ENOUGH:
        side *= 2
    return side


def _quickest(run: Run) -> float:
    """Seconds; the least of several, because what else runs on the machine can make any of them long."""
    run()
    found = _MOST_SECONDS
    for _ in range(_TRIALS):
        begun = time.perf_counter()
        run()
        found = min(found, time.perf_counter() - begun)
        if found >= _LONG_ENOUGH * 10:
            break
    return found


def largest_side(memory: int, most: int) -> int:
    """The largest power of two, at most `most`, whose three matrices of four bytes an element take a quarter of `memory`."""
    side = _SMALLEST_SIDE
    while side * 2 <= most and 3 * 4 * (side * 2) ** 2 <= memory // 4:
        side *= 2
    return side


def factors(precision: str, side: int, rows: int | None = None) -> tuple[Any, Any]:
    """Two factors in fp32 (whole numbers for int8), the first with `rows` rows; the same ones at every call."""
    import numpy as np

    generator = np.random.default_rng(side)

    def made(shape: tuple[int, int]) -> Any:
        if precision == "int8":
            return generator.integers(-_LARGEST_WHOLE, _LARGEST_WHOLE + 1, shape).astype(np.float32)
        return generator.random(shape, dtype=np.float32) * 2 - 1

    return made((side if rows is None else rows, side)), made((side, side))


def check(found: Any, left: Any, right: Any, precision: str) -> str:
    """Compare a product with the truth.

    Args:
        found: The product as computed, as an array of fp32 or whole numbers.
        left: The first factor as it was used, after rounding.
        right: The second.
        precision: Number format.

    Returns:
        How it was checked.

    Raises:
        Wrong: It is not right.
    """
    import numpy as np

    found = np.asarray(found, dtype=np.float64)
    left, right = left.astype(np.float64), right.astype(np.float64)
    if found.shape != (left.shape[0], right.shape[1]):
        raise Wrong(f"the product has the shape {found.shape}")
    if not np.isfinite(found).all():
        raise Wrong("the product holds what is no number")
    rows = np.unique(np.linspace(0, len(left) - 1, _CHECKED_ROWS).astype(int))
    expected = left[rows] @ right
    if precision == "int8":
        allowed = np.zeros_like(expected)
    else:
        sums = np.abs(left[rows]) @ np.abs(right)
        allowed = _ROUNDING[precision] * np.abs(expected) + _ACCUMULATION[precision] * sums
    wrong = np.abs(found[rows] - expected) > allowed
    if wrong.any():
        raise Wrong(f"{int(wrong.sum())} of {wrong.size} elements that were checked are wrong")
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (right.shape[1], _SIGN_VECTORS))
    difference = np.abs(found @ signs - left @ (right @ signs))
    if precision == "int8":
        bound = np.zeros((len(left), 1))
    else:
        absolute = np.abs(left) @ np.abs(right).sum(1, keepdims=True)
        bound = _ROUNDING[precision] * np.abs(found).sum(1, keepdims=True) + _ACCUMULATION[precision] * absolute
    if (difference > bound).any():
        raise Wrong("products with vectors of signs differ")
    how = "exact" if precision == "int8" else "within the rounding of the format"
    return f"{len(rows)} rows against fp64 and all of it by {_SIGN_VECTORS} vectors of signs, {how}"


def figure(
    precision: str, quantity: str, amount: float, seconds: list[float], threads: int | None, size: int, how: str
) -> dict[str, Any]:
    """A figure from the seconds that an amount of work took each time. Device and library are added by who started this process."""
    return {
        "quantity": quantity,
        "precision": precision,
        "value": amount / median(seconds),
        "lowest": amount / max(seconds),
        "highest": amount / min(seconds),
        "repetitions": len(seconds),
        "threads": threads,
        "size": size,
        "check": how,
    }


def perform(answer: Answer, tasks: list[str], measure: Callable[[str, str, int], dict[str, Any]]) -> None:
    """Measure each task `QUANTITY:PRECISION:THREADS` and answer; what fails is answered with its reason."""
    for task, quantity, precision, threads in _parsed(tasks):
        answer({"now": {"task": task}})
        try:
            answer({"task": task, "figure": measure(quantity, precision, threads)})
        except (
            Wrong,
            RuntimeError,
            NotImplementedError,
            MemoryError,
            AttributeError,
            AssertionError,
            TypeError,
        ) as error:
            lines = [line.strip() for line in f"{error}".splitlines() if line.strip()]
            answer({"task": task, "failed": (lines or [type(error).__name__])[-1][:300]})


def _parsed(tasks: list[str]) -> Iterator[tuple[str, str, str, int]]:
    for task in tasks:
        quantity, precision, threads = task.split(":")
        yield task, quantity, precision, int(threads)
