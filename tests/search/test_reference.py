from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import rational_search

from aifw.search import reference
from aifw.search.kernel import loaded
from aifw.search.reference import COSINE, INNER_PRODUCT, SQUARED_DISTANCE
from aifw.search.segment import Segment, allocate, mask_of

METRICS = {"inner_product": INNER_PRODUCT, "cosine": COSINE, "squared_distance": SQUARED_DISTANCE}
SHAPES = ["gauss", "integers", "scales", "near ties", "one-hot", "denormal", "heavy"]


def rows_of(shape: str, count: int, dimensions: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dimensions))
    if shape == "integers":
        rows = np.round(rows)
    elif shape == "scales":
        rows *= 10.0 ** rng.integers(-37, 37, (count, 1))
    elif shape == "near ties":
        rows[:] = rows[0]
        return np.nextafter(rows.astype(np.float32), np.where(rng.random(rows.shape) < 0.1, 9, rows).astype(np.float32))
    elif shape == "one-hot":
        rows = np.eye(dimensions)[rng.integers(0, dimensions, count)] * rng.integers(0, 2, (count, 1))
    elif shape == "denormal":
        rows *= 1e-43
    elif shape == "heavy":
        rows = rng.standard_cauchy((count, dimensions)) ** 3
    return np.clip(rows, -3e38, 3e38).astype(np.float32)


def segment_of(rows: np.ndarray, metric: int, ids: np.ndarray | None = None, work: object = reference) -> Segment:
    count, dimensions = rows.shape
    segment = allocate(dimensions, count)
    segment.rows[:count, :dimensions] = rows
    segment.ids[:count] = np.arange(count) if ids is None else ids
    segment.largest = work.encode(segment, dimensions, metric, 0, count, 1)  # type: ignore[attr-defined]
    segment.count = count
    return segment


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", SHAPES)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_answers_are_those_of_integers(metric: str, shape: str, data: st.DataObject) -> None:
    count, dimensions = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 20))
    seed = data.draw(st.integers(0, 2**32))
    rows = rows_of(shape, count, dimensions, seed)
    rng = np.random.default_rng(seed)
    ids = rng.choice(10 * count, count, replace=False) - 5 * count
    queries = np.concatenate([rows[:2], rows_of(shape, 2, dimensions, seed + 1), np.zeros((1, dimensions), np.float32)])
    k = data.draw(st.integers(1, count + 2))
    half = count // 2
    parts = [part for part in (slice(0, half), slice(half, count)) if part.stop > part.start]
    entries = [
        (segment_of(rows[part], METRICS[metric], ids[part]), part.stop - part.start, None, 0.0) for part in parts
    ]
    found = reference.search(entries, queries, dimensions, METRICS[metric], k, 1, None)
    expected = rational_search(metric, rows, ids, queries, k)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


@pytest.mark.parametrize("metric", METRICS)
def test_masks_leave_rows_out(metric: str) -> None:
    rows = rows_of("gauss", 100, 12, 4)
    segment = segment_of(rows, METRICS[metric])
    wanted = np.array([0, 3, 15, 16, 50, 99])
    # Bits behind the rows mean nothing.
    mask = mask_of(wanted, segment.capacity)
    mask[-1] |= 0xFFF0
    found = reference.search([(segment, 100, mask, segment.largest)], rows[:7], 12, METRICS[metric], 50, 1, None)
    expected = rational_search(metric, rows[wanted], wanted, rows[:7], 50)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert found[0].shape == (7, 6)
    empty = reference.search([(segment, 100, np.zeros_like(mask), 0.0)], rows[:2], 12, METRICS[metric], 5, 1, None)
    assert empty[0].shape == empty[1].shape == (2, 0)


def bfloat(bits: np.ndarray) -> np.ndarray:
    return (bits.copy().view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def decoded(segment: Segment, dimensions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What codes, six bits and all eight bits stand for, as `layout.h` describes them; for the first whole blocks."""
    blocks = segment.count // 16
    padded = reference.code_dimensions(dimensions)
    found = np.zeros((3, 16 * blocks, padded))
    for row in range(16 * blocks):
        number, r = divmod(row, 16)
        block = segment.blocks[number]
        scale = bfloat(block[:32])[r]
        planes = segment.low[16 * number : 16 * number + 16].ravel()
        plane, bits = planes[r * padded // 2 :], planes[8 * padded + 64 :]
        for component in range(padded):
            g, j = divmod(component, 8)
            byte = int(block[128 + 64 * g + 4 * r + j % 4])
            code = byte >> 4 if j >= 4 else byte & 15
            byte = int(bits[32 * g + 4 * (r % 8) + j % 4])
            two = byte >> 2 * (2 * (r // 8) + j // 4) & 3
            m, i = divmod(component, 64)
            byte = int(plane[32 * m + i % 32])
            low = byte >> 4 if i >= 32 else byte & 15
            coded = scale * (code - 7.5)
            found[:, row, component] = (coded, scale / 4 * (4 * code + two - 31.5), coded + scale / 16 * (low - 7.5))
    return found[0, :, :dimensions], found[1, :, :dimensions], found[2, :, :dimensions]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_are_as_near_as_their_bounds_say(metric: str, shape: str) -> None:
    rows = rows_of(shape, 40, 70, 9)
    segment = segment_of(rows, METRICS[metric])
    coded, six, fine = decoded(segment, 70)
    values = rows[:32].astype(np.float64)
    if metric == "cosine":
        lengths = segment.norms[:32, None]
        values = values / np.where(lengths > 0, lengths, 1)
    header = segment.blocks[:2, :128]
    behind = segment.low[:32].reshape(2, -1)[:, 8 * reference.code_dimensions(70) :]
    assert (np.linalg.norm(values - coded, axis=1) <= bfloat(header[:, 32:64]).ravel()).all()
    assert (np.linalg.norm(values - six, axis=1) <= bfloat(behind[:, :32]).ravel()).all()
    assert (np.linalg.norm(values - fine, axis=1) <= segment.fine[:32]).all()
    reach = [segment.reach[:2], behind[:, 32:36].copy().view(np.float32).ravel()]
    for part, most in zip((coded, six), reach, strict=True):
        assert (np.linalg.norm(part, axis=1).reshape(2, 16).max(axis=1) <= most).all()
    bias = header[:, 64:].copy().view(np.float32).ravel().astype(np.float64)
    square = segment.norms[:32] ** 2 / 2
    assert (bias >= -square).all() if metric == "squared_distance" else not bias.any()
    assert segment.largest >= segment.norms[:40].max()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", SHAPES)
def test_numpy_encodes_as_the_kernel_does(metric: str, shape: str) -> None:
    kernel = loaded()
    if kernel is None:
        pytest.skip("there is no compiled kernel")
    rows = rows_of(shape, 64, 70, 9)
    ours, theirs = segment_of(rows, METRICS[metric]), segment_of(rows, METRICS[metric], work=kernel)
    # Codes are the same; bounds are sums of squares in another order.
    assert np.array_equal(ours.blocks[:, 128:], theirs.blocks[:, 128:])
    assert np.array_equal(ours.blocks[:, :32], theirs.blocks[:, :32])
    for one, other in zip(decoded(ours, 70), decoded(theirs, 70), strict=True):
        assert np.array_equal(one, other)
    assert np.allclose(ours.fine, theirs.fine, rtol=1e-6)
    assert np.allclose(ours.reach, theirs.reach, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_searches_what_numpy_encoded(metric: str, shape: str) -> None:
    kernel = loaded()
    if kernel is None:
        pytest.skip("there is no compiled kernel")
    rows = rows_of(shape, 300, 33, 2)
    queries = np.concatenate([rows[:5], rows_of(shape, 5, 33, 3)])
    theirs = segment_of(rows, METRICS[metric], work=kernel)
    ours = segment_of(rows, METRICS[metric])
    assert np.array_equal(theirs.norms, ours.norms)
    results = [
        work.search([(segment, 300, None, segment.largest)], queries, 33, METRICS[metric], 7, 1, None)[:2]
        for work in (kernel, reference)
        for segment in (theirs, ours)
    ]
    for ids, scores in results[1:]:
        assert np.array_equal(ids, results[0][0])
        assert np.array_equal(scores, results[0][1])


def test_sizes_are_those_of_the_kernel() -> None:
    kernel = loaded()
    if kernel is None:
        pytest.skip("there is no compiled kernel")
    for dimensions in (1, 15, 16, 17, 63, 64, 65, 384, 1033):
        for name in ("row_floats", "block_bytes", "low_bytes"):
            assert getattr(kernel, name)(dimensions) == getattr(reference, name)(dimensions)
    for name in ("INNER_PRODUCT", "COSINE", "SQUARED_DISTANCE", "BLOCK_ROWS"):
        assert getattr(kernel, name) == getattr(reference, name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_found(bad: float) -> None:
    rows = np.zeros((50, 20), np.float32)
    assert reference.find_not_finite(rows) == -1
    rows[33, 19] = bad
    rows[40, 0] = bad
    assert reference.find_not_finite(rows) == 33
    assert reference.find_not_finite(rows[:0]) == -1
