"""Searches drawn at random from the families, and the ways to answer them: the kernel itself on segments of its own, and `Index`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from adversaries import FAMILIES, Floats
from numpy.typing import NDArray
from oracle import METRICS, Answer, Oracle

from aifw.search import Index

DIMENSIONS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 63, 64, 65, 100, 128, 384, 768, 1032, 1033, 1100, 4096, 9000)
COMPONENTS = 120_000  # of all rows of a problem; the largest dimensions get few rows
_LIKELIHOOD = np.array([2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 6, 5, 5, 3, 3, 1, 0.5, 0.5, 0.5, 0.1, 0.05])


@dataclass(frozen=True)
class Problem:
    """Rows and what is asked of them. `ends` are where segments end, `allowed` which rows may be found (None: all),
    `alone` whether the queries are asked one by one.
    """

    family: str
    metric: str
    rows: Floats
    ids: NDArray[np.int64]
    queries: Floats
    k: int
    ends: tuple[int, ...]
    allowed: NDArray[np.bool_] | None
    threads: int
    alone: bool = False

    def batches(self) -> list[Floats]:
        """The queries as they are asked."""
        return [query[None] for query in self.queries] if self.alone else [self.queries]

    @cached_property
    def answer(self) -> Answer:
        """What the oracle says."""
        return Oracle(self.metric, self.rows, self.ids).search(self.queries, self.k, self.allowed)

    def __str__(self) -> str:
        found = "all" if self.allowed is None else str(int(self.allowed.sum()))
        return (
            f"{self.family} {self.metric}: {self.rows.shape[0]} x {self.rows.shape[1]} ({found} allowed), {len(self.queries)} queries, "
            f"k={self.k}, segments end at {self.ends}, {self.threads} threads"
        )


def wrong(answer: Answer, expected: Answer) -> NDArray[np.int64]:
    """Queries whose ids or scores are not the expected ones, bit for bit."""
    ids, scores = answer
    if ids.shape != expected[0].shape or scores.shape != expected[1].shape:
        return np.arange(len(expected[0]))
    same = (ids == expected[0]) & (scores.view(np.int64) == expected[1].view(np.int64))
    return np.flatnonzero(~same.all(axis=1))


def draw_ids(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Different ones: in order, shuffled, negative, at the ends of the range."""
    kind = rng.integers(4)
    ids = rng.permutation(n).astype(np.int64)
    if kind == 0:
        return np.arange(n, dtype=np.int64)
    if kind == 1:
        return ids - n // 2
    if kind == 2:
        return np.where(ids % 2, np.iinfo(np.int64).max - ids, np.iinfo(np.int64).min + ids)
    return ids * (1 << 40) - (1 << 50)


def draw(
    rng: np.random.Generator,
    family: str,
    *,
    dimensions: int | None = None,
    components: int = COMPONENTS,
    most: int = 4000,
) -> list[Problem]:
    """One set of rows and queries, searched by each metric."""
    d = dimensions or int(rng.choice(DIMENSIONS, p=_LIKELIHOOD / _LIKELIHOOD.sum()))
    most = max(1, min(4000, components // d))
    n = int(rng.integers(1, most + 1)) if rng.random() < 0.7 else int(rng.integers(1, min(most, 48) + 1))
    nq = int(rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 17, 20, 64], p=[0.03] * 14 + [0.58]))
    rows, queries = FAMILIES[family](rng, d, n, nq if d < 1000 else min(nq, 11))
    ids = draw_ids(rng, n)
    allowed = None
    if rng.random() < 0.4:
        allowed = rng.random(n) < rng.choice([0.01, 0.3, 0.9])
        if rng.random() < 0.3:
            allowed[: n // 2] = False
    if rng.random() < 0.9:
        k = int(rng.choice([1, 2, 3, 10, 16, 33]))
    else:
        k = int(rng.choice([n, n + 1, n + 1000]))
        queries = queries[:4]
    ends = (*sorted(rng.integers(0, n + 1, rng.choice([0, 0, 1, 3])).tolist()), n)
    threads, alone = int(rng.choice([1, 1, 2, 3])), bool(rng.random() < 0.3)
    return [Problem(family, metric, rows, ids, queries, k, ends, allowed, threads, alone) for metric in METRICS]


def _aligned(rows: int, columns: int) -> NDArray[np.uint8]:
    """Bytes at a multiple of 64, full of what nobody wrote."""
    memory = np.full(rows * columns + 64, 0xA5, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + rows * columns].reshape(rows, columns)


class Segment:
    """Rows in the kernel's form, encoded in as many goes as `goes` has ends, as an index that grows does it."""

    def __init__(
        self,
        kernel: Any,
        metric: str,
        rows: Floats,
        ids: NDArray[np.int64],
        goes: tuple[int, ...] = (),
        threads: int = 1,
    ) -> None:
        block = kernel.BLOCK_ROWS
        n, self.dimensions = rows.shape
        self.count = n
        capacity = -(-n // block) * block + block
        self.rows = np.full((capacity, kernel.row_floats(self.dimensions)), np.nan, np.float32)
        self.blocks = _aligned(capacity // block, kernel.block_bytes(self.dimensions))
        self.low = _aligned(capacity, kernel.low_bytes(self.dimensions))
        self.reach = np.full(capacity // block, -1.0, np.float32)
        self.fine = np.full(capacity, -1.0, np.float32)
        self.norms = np.full(capacity, -1.0)
        self.ids = np.zeros(capacity, np.int64)
        self.largest = 0.0
        self.ids[:n] = ids
        first = 0
        for last in (*goes, n):
            self.rows[first:last, self.dimensions :] = 0
            self.rows[first:last, : self.dimensions] = rows[first:last]
            found = kernel.encode(self, self.dimensions, number(kernel, metric), first, last, threads)
            self.largest = max(self.largest, found)
            first = last


def number(kernel: Any, metric: str) -> int:
    """What the kernel calls a metric."""
    return int(getattr(kernel, metric.upper()))


def words(kernel: Any, allowed: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """One bit a row, one word a block."""
    block = kernel.BLOCK_ROWS
    bits = np.zeros((len(allowed) // block + 1) * block, bool)
    bits[: len(allowed)] = allowed
    return np.packbits(bits, bitorder="little").view(np.uint16)


def segments_of(kernel: Any, problem: Problem, rng: np.random.Generator) -> list[Segment]:
    """The rows of a problem, encoded."""
    segments, first = [], 0
    for last in problem.ends:
        goes = tuple(sorted(rng.integers(0, last - first + 1, rng.integers(0, 3)).tolist()))
        segments.append(
            Segment(kernel, problem.metric, problem.rows[first:last], problem.ids[first:last], goes, problem.threads)
        )
        first = last
    return segments


def search_segments(kernel: Any, problem: Problem, segments: list[Segment]) -> Answer:
    """What the kernel answers."""
    parts, first = [], 0
    for segment in segments:
        last = first + segment.count
        mask = None if problem.allowed is None else words(kernel, problem.allowed[first:last])
        parts.append((segment, segment.count, mask, segment.largest))
        first = last
    metric, dimensions = number(kernel, problem.metric), problem.rows.shape[1]
    answers = [
        kernel.search(parts, queries, dimensions, metric, problem.k, problem.threads, None)
        for queries in problem.batches()
    ]
    return np.concatenate([ids for ids, _, _ in answers]), np.concatenate([scores for _, scores, _ in answers])


Change = Callable[[Segment], None]


def answer_by_kernel(kernel: Any, problem: Problem, rng: np.random.Generator, change: Change | None = None) -> Answer:
    """Encodes and searches, with the encoded form changed in between if asked to."""
    segments = segments_of(kernel, problem, rng)
    if change:
        for segment in segments:
            change(segment)
    return search_segments(kernel, problem, segments)


def available() -> tuple[str, ...]:
    """Who can search here: numpy, and every instruction set that is usable. The kernel may only be missing on purpose."""
    if os.environ.get("AIFW_NO_KERNEL", "0") not in {"", "0"}:
        return ("numpy",)
    return ("numpy", *importlib.import_module("aifw.search._kernel").usable())


@contextmanager
def computing(name: str) -> Iterator[Any]:
    """Searches inside are done by numpy, or on this instruction set."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "numpy":
            patch.setenv("AIFW_NO_KERNEL", "1")
            yield importlib.import_module("aifw.search.reference")
            return
        kernel = importlib.import_module("aifw.search._kernel")
        before = kernel.level()
        kernel.select(name)
        try:
            yield kernel
        finally:
            kernel.select(before)


INDEX_METRICS = {"inner_product": "inner_product", "cosine": "cosine", "squared_distance": "l2"}


def answer_by_index(problem: Problem, rng: np.random.Generator) -> Answer:
    """Builds an `Index` by several additions, with rows that are removed again, and restricts it as the problem says."""
    d = problem.rows.shape[1]
    index = Index(d, INDEX_METRICS[problem.metric])
    first = 0
    for last in problem.ends:
        index.add(problem.rows[first:last], problem.ids[first:last], threads=problem.threads)
        first = last
    replaced = rng.random(len(problem.rows)) < rng.choice([0.0, 0.1, 0.9])
    if replaced.any():
        # Searches before and after must not remember these vectors.
        assert index.remove(problem.ids[replaced]) == replaced.sum()
        index.add(problem.rows[replaced] * np.float32(-0.5), problem.ids[replaced])
        index.remove(problem.ids[replaced])
        index.add(problem.rows[replaced], problem.ids[replaced])
    if rng.random() < 0.3:
        index.compact()
    allow = deny = None
    if problem.allowed is not None:
        allowed, denied = problem.ids[problem.allowed], problem.ids[~problem.allowed]
        how = rng.integers(4)
        if how == 0:
            allow = rng.permutation(allowed)
        elif how == 1:
            deny = rng.permutation(denied)
        elif how == 2:
            index.remove(denied)
        else:
            allow = np.concatenate([allowed, denied[::2]])
            deny = np.concatenate([denied[::2], denied[:3]])
    if problem.allowed is not None and not problem.allowed.any() and not len(index):
        return problem.answer
    answers = [
        index.search(queries, problem.k, threads=problem.threads, allow=allow, deny=deny)
        for queries in problem.batches()
    ]
    return np.concatenate([ids for ids, _ in answers]), np.concatenate([scores for _, scores in answers])
