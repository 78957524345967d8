"""The coded form read back as `kernels/layout.h` describes it, problems made of what it leaves out, and ways to falsify it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from adversaries import FAMILIES, Floats, signs, single
from numpy.typing import NDArray
from oracle import COSINE, METRICS, SQUARED_DISTANCE
from problems import Problem, Segment, draw_ids

Doubles = NDArray[np.float64]

_HEADER = 128
_EXACT = (7.5 + 7.5 / 16) * (
    1 + 1 / 128
)  # with its negative, what both planes together leave nothing of; six bits: of 7.875 beside 8
_SCALE, _RADIUS, _BIAS = slice(0, 32), slice(32, 64), slice(64, 128)
_FINE_HEADER = 64
_FINE_RADIUS, _FINE_REACH = slice(0, 32), slice(32, 36)


def bfloats(header: NDArray[np.uint8]) -> Floats:
    """Values of the bfloat16 numbers in some bytes of each block."""
    return (np.ascontiguousarray(header).view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


@dataclass(frozen=True)
class Coded:
    """What the coded form says of each row of whole blocks: n x dimensions, or n."""

    coarse: Doubles
    """By the first plane alone."""
    rest: Doubles
    """What the second plane adds."""
    six: Doubles
    """By six bits."""
    radius: Doubles
    reach: Doubles
    fine: Doubles
    radius_six: Doubles
    reach_six: Doubles
    bias: Doubles


def _behind(segment: Segment) -> NDArray[np.uint8]:
    """The low planes of each block and what stands behind them: a view."""
    return segment.low[: segment.count // 16 * 16].reshape(segment.count // 16, 16 * segment.low.shape[1])


def read(segment: Segment) -> Coded:
    """The coded form of the rows of whole blocks; all products here are exact in double."""
    blocks = segment.count // 16
    n, d, padded = 16 * blocks, segment.dimensions, -(-segment.dimensions // 64) * 64
    header, codes = segment.blocks[:blocks, :_HEADER], segment.blocks[:blocks, _HEADER:]
    scale = bfloats(header[:, _SCALE]).reshape(n, 1).astype(np.float64)
    packed = codes.reshape(blocks, padded // 8, 16, 4).transpose(0, 2, 1, 3)
    high = np.stack([packed & 15, packed >> 4], axis=3).reshape(n, padded)[:, :d]
    behind = _behind(segment)
    packed = behind[:, : 8 * padded].reshape(n, padded // 64, 32)
    low = np.concatenate([packed & 15, packed >> 4], axis=2).reshape(n, padded)[:, :d]
    packed = behind[:, 8 * padded + _FINE_HEADER :].reshape(blocks, padded // 8, 8, 4)
    shifted = [packed >> 2 * t & 3 for t in range(4)]
    bits = np.stack(
        [np.concatenate([shifted[0], shifted[2]], axis=2), np.concatenate([shifted[1], shifted[3]], axis=2)], axis=3
    )
    bits = bits.transpose(0, 2, 1, 3, 4).reshape(n, padded)[:, :d]
    fine_header = behind[:, 8 * padded : 8 * padded + _FINE_HEADER]
    return Coded(
        scale * (high - 7.5),
        scale / 16 * (low - 7.5),
        scale / 4 * (4.0 * high + bits - 31.5),
        bfloats(header[:, _RADIUS]).reshape(n).astype(np.float64),
        np.repeat(segment.reach[:blocks], 16).astype(np.float64),
        segment.fine[:n].astype(np.float64),
        bfloats(fine_header[:, _FINE_RADIUS]).reshape(n).astype(np.float64),
        np.repeat(np.ascontiguousarray(fine_header[:, _FINE_REACH]).view(np.float32).ravel(), 16).astype(np.float64),
        np.ascontiguousarray(header[:, _BIAS]).view(np.float32).reshape(n).astype(np.float64),
    )


def _unit(vectors: Doubles) -> Doubles:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _rivals(rng: np.random.Generator, metric: str, targets: Doubles, queries: Doubles) -> Doubles:
    """A row for each query that scores a little better or worse than its target."""
    if metric == COSINE:
        targets = _unit(targets)
    gap = (10.0 ** rng.integers(-7, 0) * rng.choice([1, -1], len(queries)))[:, None]
    aside = rng.standard_normal(queries.shape)
    if metric == SQUARED_DISTANCE:
        distance = np.linalg.norm(targets - queries, axis=1, keepdims=True)
        return queries + _unit(aside) * distance * (1 + gap)
    direction = _unit(queries)
    length = (targets * direction).sum(axis=1, keepdims=True) * (1 - gap)
    along = direction * length
    if metric == COSINE:
        aside = _unit(aside - direction * (aside * direction).sum(axis=1, keepdims=True))
        along = along + aside * np.sqrt(np.maximum(0, 1 - length**2))
    return along


ALIGNED = (
    "gaussian",
    "cauchy",
    "row_grid",
    "same_signs",
    "query_grid",
    "one_hot",
    "row_scales",
    "heavy_rows",
    "bfloat",
)


def draw_aligned(
    kernel: Any,
    rng: np.random.Generator,
    family: str,
    metric: str,
    dimensions: tuple[int, ...] = (2, 3, 8, 17, 64, 100, 384),
) -> Problem:
    """Queries parallel to what the codes of a row leave out, where the inequality of Cauchy and Schwarz is an equation, and for each
    a row whose score is next to that one's: a bound that is a hundredth too small rules the right row out.
    """
    d, n = int(rng.choice(dimensions)), 16 * int(rng.integers(1, 9))
    rows, _ = FAMILIES[family](rng, d, n, 1)
    if rng.random() < 0.3:
        return _aligned_to_queries(rng, metric, rows)
    segment = Segment(kernel, metric, rows, np.arange(n))
    coded = read(segment)
    values = rows.astype(np.float64)
    if metric == COSINE:
        values = _unit(values)
    chosen = rng.permutation(n)[:32]
    left = values - (coded.coarse, coded.six, coded.coarse + coded.rest)[rng.integers(3)]
    targets, queries = values[chosen], left[chosen]
    largest = np.abs(queries).max(axis=1, keepdims=True)
    queries = queries / np.where(largest > 0, largest, 1)
    if rng.random() < 0.5:
        queries = np.sign(queries)
    if metric == SQUARED_DISTANCE:
        queries = targets * rng.integers(2) + queries * largest * rng.choice([1, -1, 10, 0.1, 1000])
    return _with_rivals(rng, f"aligned_{family}", metric, rows, single(queries), targets)


def _aligned_to_queries(rng: np.random.Generator, metric: str, rows: Floats) -> Problem:
    """Rows parallel to what the codes of the queries leave out, which is as much as it can be and adds up."""
    d = rows.shape[1]
    levels = rng.choice([63, 127])  # of queries asked together where sums have 16 bits, and of all others
    sizes = rng.integers(0, rng.choice([2, levels]), (16, d)) + 0.4999
    sizes[np.arange(16), rng.integers(0, d, 16)] = levels
    side = signs(rng, 16, d)
    targets = side * _EXACT
    if levels == 63 or rng.random() < 0.5:
        targets = side * 7.875
        targets[:, 0] = 8 * side[:, 0]
    targets *= 2.0 ** rng.integers(-9, 9)
    asked = single(sizes * side * (2.0 ** rng.integers(-9, 9)))
    return _with_rivals(rng, "aligned_to_queries", metric, np.concatenate([rows, single(targets)]), asked, targets)


def _with_rivals(
    rng: np.random.Generator, name: str, metric: str, rows: Floats, asked: Floats, targets: Doubles
) -> Problem:
    rivals = single(_rivals(rng, metric, targets, asked.astype(np.float64)))
    if rng.random() < 0.5:
        # So many that the rest meets a threshold already when its codes are looked at.
        together = np.concatenate([np.resize(rivals, (1040, rivals.shape[1])), rows])
    else:
        together = np.concatenate([rivals, rows] if rng.random() < 0.5 else [rows, rivals])
        if rng.random() < 0.3:
            together = together[rng.permutation(len(together))]
    count = len(together)
    ends = (count,) if rng.random() < 0.5 else (count // 2, count)
    return Problem(
        name,
        metric,
        together,
        draw_ids(rng, count),
        asked,
        int(rng.integers(1, 3)),
        ends,
        None,
        1,
        bool(rng.integers(2)),
    )


def aligned_problems(kernel: Any, rng: np.random.Generator) -> list[Problem]:
    """One of each family and metric."""
    return [draw_aligned(kernel, rng, family, metric) for family in ALIGNED for metric in METRICS]


def _header(segment: Segment) -> NDArray[np.uint8]:
    return segment.blocks[: segment.count // 16, :_HEADER]


def _fine_header(segment: Segment) -> NDArray[np.uint8]:
    end = segment.low.shape[1] * 16 - 4 * (-(-segment.dimensions // 64) * 64)
    return _behind(segment)[:, end - _FINE_HEADER : end]


def _scaled(where: Callable[[Segment], NDArray[np.uint8]], columns: slice, factor: float) -> Callable[[Segment], None]:
    def change(segment: Segment) -> None:
        header = where(segment)
        bits = (bfloats(header[:, columns]) * np.float32(factor)).view(np.uint32) >> np.uint32(16)
        header[:, columns] = bits.astype(np.uint16).view(np.uint8)

    return change


def _bias(segment: Segment) -> None:
    header = _header(segment)
    bias = np.ascontiguousarray(header[:, _BIAS]).view(np.float32).astype(np.float64)
    header[:, _BIAS] = np.maximum(bias * 1.01, -3e38).astype(np.float32).view(np.uint8)


def _reach(segment: Segment) -> None:
    segment.reach[: segment.count // 16] = 0


def _fine_reach(segment: Segment) -> None:
    _fine_header(segment)[:, _FINE_REACH] = 0


def _fine(segment: Segment) -> None:
    segment.fine[: segment.count] *= np.float32(0.97)


def _codes(segment: Segment) -> None:
    segment.blocks[: segment.count // 16, _HEADER:] ^= 0x11


def _low(segment: Segment) -> None:
    _behind(segment)[:, : 8 * (-(-segment.dimensions // 64) * 64)] ^= 0x88


def _bits(segment: Segment) -> None:
    _behind(segment)[:, -4 * (-(-segment.dimensions // 64) * 64) :] ^= 0xAA


def _norms(segment: Segment) -> None:
    segment.norms[: segment.count] *= 1 + 2.0**-52


FALSIFICATIONS: dict[str, Callable[[Segment], None]] = {
    "radius a twentieth smaller": _scaled(_header, _RADIUS, 0.95),
    "radius of six bits a twentieth smaller": _scaled(_fine_header, _FINE_RADIUS, 0.95),
    "scale a fiftieth smaller": _scaled(_header, _SCALE, 0.98),
    "bias a hundredth lower": _bias,
    "no reach": _reach,
    "no reach of six bits": _fine_reach,
    "fine 3 % smaller": _fine,
    "last bit of each code turned": _codes,
    "first bit of each low code turned": _low,
    "first of the bits behind the low codes turned": _bits,
    "norms one unit in the last place larger": _norms,
}
