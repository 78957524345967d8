"""Rows and queries that are hard to search exactly. Each family is a function of a generator, dimensions, rows wanted, queries wanted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pair = tuple[Floats, Floats]
Family = Callable[[np.random.Generator, int, int, int], Pair]

FAMILIES: dict[str, Family] = {}
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = 2.0**-149


def family(make: Family) -> Family:
    """Enters a function under its name."""
    FAMILIES[make.__name__] = make
    return make


def single(values: NDArray[np.float64] | Floats) -> Floats:
    """As finite float32."""
    return np.clip(values, -LARGEST, LARGEST).astype(np.float32)


def step(values: Floats, by: NDArray[np.int64] | int) -> Floats:
    """Every component moved by so many units in the last place, away from zero if positive."""
    bits = values.view(np.int32).astype(np.int64)
    moved = np.clip((bits & 0x7FFFFFFF) + by, 0, 0x7F7FFFFF) | np.where(bits < 0, 1 << 31, 0)
    return moved.astype(np.uint32).view(np.float32)


def signs(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """Plus and minus one."""
    return rng.integers(0, 2, shape) * 2.0 - 1


def _pick(rng: np.random.Generator, rows: Floats, nq: int) -> Floats:
    return rows[rng.integers(0, len(rows), nq)].copy()


@family
def gaussian(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    return single(rng.standard_normal((n, d))), single(rng.standard_normal((nq, d)))


@family
def positive(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """A common direction dominates."""
    return single(1 + 0.01 * rng.standard_normal((n, d))), single(1 + 0.1 * rng.standard_normal((nq, d)))


@family
def clustered(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    centres = rng.standard_normal((max(1, n // 50), d))
    width = 10.0 ** rng.integers(-7, 0)
    rows = single(centres[rng.integers(0, len(centres), n)] + width * rng.standard_normal((n, d)))
    return rows, single(centres[rng.integers(0, len(centres), nq)] + width * rng.standard_normal((nq, d)))


@family
def equal(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """All rows the same: identifiers decide."""
    row = single(rng.standard_normal((1, d)) * 10.0 ** rng.integers(-30, 30))
    return np.repeat(row, n, 0), np.concatenate([row, -row, single(rng.standard_normal((nq, d)))])[:nq]


@family
def one_hot(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    rows, queries = np.zeros((n, d), np.float32), np.zeros((nq, d), np.float32)
    rows[np.arange(n), rng.integers(0, d, n)] = signs(rng, n) * rng.integers(1, 3, n)
    queries[np.arange(nq), rng.integers(0, d, nq)] = signs(rng, nq)
    queries[::2] = signs(rng, *queries[::2].shape)
    return rows, queries


@family
def last_bit(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Rows that differ by a few units in the last place of one component."""
    base = single(rng.standard_normal((1, d)))
    by = np.zeros((n, d), np.int64)
    by[np.arange(n), rng.integers(0, d, n)] = rng.integers(-2, 3, n)
    rows = step(np.repeat(base, n, 0), by)
    return rows, np.concatenate([base, _pick(rng, rows, nq // 2), single(rng.standard_normal((nq, d)))])[:nq]


@family
def permutations(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """The same components in another order: equal norms, equal sums."""
    base = single(rng.standard_normal(d) * 10.0 ** rng.integers(-3, 4, d))
    rows = np.stack([rng.permutation(base) for _ in range(n)])
    queries = np.ones((nq, d), np.float32)
    queries[np.arange(nq), rng.integers(0, d, nq)] = step(np.ones(nq, np.float32), rng.integers(-1, 2, nq))
    return rows, queries


@family
def half_ulp(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Scores at, just above and just below the middle between two doubles."""
    rows = np.zeros((n, d), np.float32)
    place = rng.permuted(np.tile(np.arange(d), (n, 1)), axis=1)
    each = np.arange(n)
    rows[each, place[:, 0]] = np.ldexp(1.0, 20) + rng.integers(0, 3, n) * 0.125
    if d > 1:
        rows[each, place[:, 1 % d]] = np.ldexp(rng.integers(-3, 4, n).astype(float), 20 - 53)
    if d > 2:
        rows[each, place[:, 2]] = signs(rng, n) * rng.choice([0.0, 2.0**-60, 2.0**-100, SMALLEST], n)
    queries = np.ones((nq, d), np.float32)
    queries[::3] = signs(rng, *queries[::3].shape)
    queries[1::3] = 0
    return rows, queries


@family
def cauchy(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    return single(rng.standard_cauchy((n, d))), single(rng.standard_cauchy((nq, d)))


@family
def heavy_rows(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """One huge component makes the other codes worthless."""
    rows, queries = rng.standard_normal((n, d)), rng.standard_normal((nq, d))
    size = 10.0 ** rng.integers(1, 31)
    rows[np.arange(n), rng.integers(0, d, n)] *= size
    queries[::2, rng.integers(0, d)] *= size
    queries[1::4, rng.integers(0, d)] = 0
    return single(rows), single(queries)


@family
def same_signs(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Plus or minus one number, up to the largest there is: sums reach their maximum."""
    size = rng.choice([1.0, 0.1, 7.5, 8.0, 127.0, 1e-40, 1e20, LARGEST])
    rows = size * signs(rng, n, d)
    rows[::7] = size
    rows[3::7] = -size
    queries = signs(rng, nq, d) * rng.choice([1.0, 0.3, LARGEST])
    queries[::5] = np.abs(queries[::5])
    return single(rows), single(queries)


@family
def row_grid(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Components on the borders between codes, one unit in the last place to either side; the query is parallel to what is cut off."""
    size = 2.0 ** rng.integers(-20, 20)
    fine = rng.choice([1, 2, 16, 32])
    steps = rng.integers(-8 * fine, 8 * fine + 1, (n, d)) / fine
    rows = single(size * steps)
    rows[np.arange(n), rng.integers(0, d, n)] = 8 * size * signs(rng, n)
    side = signs(rng, nq, d)
    lean = rng.integers(0, nq, n)
    rows = step(rows, (np.sign(rows) * side[lean]).astype(np.int64))
    return rows, single(side * rng.choice([1.0, 127.0, 1e-3]))


@family
def query_grid(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Query components on the borders between its codes; rows are parallel to what is cut off."""
    side = signs(rng, nq, d)
    queries = single(rng.integers(-126, 126, (nq, d)) + 0.5)
    queries = step(queries, (np.sign(queries) * side).astype(np.int64))
    queries[np.arange(nq), rng.integers(0, d, nq)] = 127 * signs(rng, nq)
    rows = single(side[rng.integers(0, nq, n)] * (1 + 1e-3 * rng.standard_normal((n, 1))))
    flipped = rng.random(rows.shape) < 0.02
    rows[flipped] *= -1
    return rows, queries * np.float32(2.0 ** rng.integers(-30, 30))


@family
def zeros(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    rows, queries = single(rng.standard_normal((n, d))), single(rng.standard_normal((nq, d)))
    rows[rng.random(n) < 0.7] = 0
    rows[rng.random(n) < 0.2] *= np.float32(-0.0)
    rows[rng.random(rows.shape) < 0.3] = 0
    queries[::2] = 0
    queries[3::4] = -np.abs(queries[3::4])
    return rows, queries


@family
def denormal(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    rows = np.ldexp(rng.integers(-9, 10, (n, d)).astype(float), -149 + rng.integers(0, 20, (n, 1)))
    queries = np.ldexp(rng.integers(-9, 10, (nq, d)).astype(float), rng.choice([-149, -140, -126, 0, 100]))
    return single(rows), single(queries)


@family
def magnitudes(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """From the smallest to the largest float within one row."""

    def spread(count: int) -> Floats:
        return single(signs(rng, count, d) * 2.0 ** rng.uniform(-149, 127.99, (count, d)))

    return spread(n), spread(nq)


@family
def row_scales(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """From the smallest to the largest float within one index."""
    rows = rng.standard_normal((n, d)) * 2.0 ** rng.uniform(-149, 125, (n, 1))
    return single(rows), single(rng.standard_normal((nq, d)) * 2.0 ** rng.uniform(-149, 125, (nq, 1)))


@family
def near_duplicates(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Queries at a row, or next to one: squared distances cancel or are zero."""
    rows = single(rng.standard_normal((n, d)) + 10.0 ** rng.integers(0, 8))
    rows[n // 2 :] = step(
        rows[: n - n // 2], rng.integers(-1, 2, (n - n // 2, d)) * (rng.random((n - n // 2, d)) < 0.1)
    )
    queries = _pick(rng, rows, nq)
    queries[1::2] = step(queries[1::2], rng.integers(-1, 2, queries[1::2].shape))
    return rows, queries


@family
def parallel(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Multiples of one vector, nearly: all cosines close to one."""
    base = rng.standard_normal(d)
    rows = single(base * 2.0 ** rng.uniform(-60, 60, (n, 1)))
    rows[::2] = single(base * 2.0 ** rng.integers(-60, 60, (len(rows[::2]), 1)))
    rows[::3] = step(rows[::3], rng.integers(-1, 2, rows[::3].shape))
    queries = single(np.repeat(base[None], nq, 0))
    queries[1::2] = step(queries[1::2], rng.integers(-1, 2, queries[1::2].shape))
    queries[2::4] *= -3
    return rows, queries


@family
def integer(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Small whole numbers: masses of exact ties."""
    most = rng.choice([1, 2, 7, 127, 1 << 24])
    return single(rng.integers(-most, most + 1, (n, d)) * 1.0), single(rng.integers(-most, most + 1, (nq, d)) * 1.0)


@family
def cancellation(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Huge terms that cancel, and a small rest that decides."""
    rows = rng.standard_normal((n, d)) * 10.0 ** rng.integers(0, 16)
    queries = rng.standard_normal((nq, d))
    half = d // 2
    rows, queries = single(rows), single(queries)
    rows[:, half : 2 * half] = rows[:, :half]
    queries[:, half : 2 * half] = -queries[:, :half]
    if d > 2:
        rows[:, 2 * half - 1] = step(rows[:, 2 * half - 1], rng.integers(-1, 2, n))
    if d % 2:
        rows[:, -1] = single(rng.standard_normal(n) * 1e-20)
    return rows, queries


@family
def bfloat(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Few bits in each component: sums in double are exact or nearly so."""

    def cut(values: NDArray[np.float64]) -> Floats:
        return (single(values).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    return cut(rng.standard_normal((n, d))), cut(rng.standard_normal((nq, d)))


@family
def staircase(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Rising scores that differ by far less than what codes leave out, so that each row is a new best."""
    direction = single(rng.standard_normal(d)).astype(np.float64)
    rows = rng.standard_normal((n, d)) * 3
    unit = direction / np.linalg.norm(direction)
    gap = 10.0 ** rng.integers(-7, -1)
    rows += (np.sort(rng.uniform(0, gap * n, n))[:: rng.choice([1, -1])] - rows @ unit)[:, None] * unit
    queries = np.repeat(direction[None], nq, 0) * 2.0 ** rng.integers(-9, 9, (nq, 1))
    queries[1::2] += 1e-4 * rng.standard_normal(queries[1::2].shape)
    return single(rows), single(queries)


@family
def extreme(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """The largest floats: norms, distances and products beyond what float holds."""
    rows = signs(rng, n, d) * LARGEST * (1 - rng.choice([0, 2.0**-24, 2.0**-20], (n, d)))
    rows[rng.random((n, d)) < 0.1] = 0
    rows[::5] *= 2.0 ** rng.integers(-260, 0)
    queries = signs(rng, nq, d) * LARGEST
    queries[::3] = _pick(rng, single(rows), len(queries[::3]))
    queries[1::6] *= 2.0**-250
    return single(rows), single(queries)


@family
def mixed(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Several families in one index."""
    names = [name for name in FAMILIES if name != "mixed"]
    parts = [FAMILIES[name](rng, d, -(-n // 3), -(-nq // 3)) for name in rng.choice(names, 3)]
    rows, queries = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return rows[rng.permutation(len(rows))[:n]], queries[rng.permutation(len(queries))[:nq]]


@family
def limits(rng: np.random.Generator, d: int, n: int, nq: int) -> Pair:
    """Sizes about the powers of two where an implementation in float may have to change its ways."""
    power = rng.choice([-149, -126, -120, -63, -60, -57, 53, 57, 60, 63, 97, 100, 103, 120, 127])
    rows = rng.standard_normal((n, d))
    rows *= (2.0**power * (1 + rng.integers(-2, 3, n) * 2.0**-24) / np.linalg.norm(rows, axis=1))[:, None]
    queries = rng.standard_normal((nq, d))
    near = rng.choice([power, -power, 0, 60])
    queries *= (2.0**near * (1 + rng.integers(-2, 3, nq) * 2.0**-24) / np.linalg.norm(queries, axis=1))[:, None]
    return single(rows), single(queries)
