from __future__ import annotations

import array
from pathlib import Path

import numpy as np
import pytest

from aifw.errors import InputInvalid
from aifw.search.arrays import MOST_DIMENSIONS
from aifw.search.vectors import as_count, as_id_set, as_ids, as_queries, as_vectors

ROWS = np.arange(60, dtype=np.float32).reshape(12, 5) / 4 - 3


def converted(vectors: object, dtype: str | None = None) -> np.ndarray:
    """All of it, in blocks of five rows, into every second column of something larger."""
    source = as_vectors(vectors, dtype=dtype)
    found = np.full((source.rows, source.dimensions + 3), 99, np.float32)
    for first in range(0, source.rows, 5):
        last = min(first + 5, source.rows)
        source.write(first, last, found[first:last, : source.dimensions])
    assert (found[:, source.dimensions :] == 99).all()
    return found[:, : source.dimensions]


class Sliceable:
    """As h5py has them: a shape, a dtype, slices; and says how much was read at a time."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape, self.dtype, self.most = rows, rows.shape, rows.dtype, 0

    def __getitem__(self, key: slice) -> np.ndarray:
        self.most = max(self.most, len(self.rows[key]))
        return self.rows[key]

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise AssertionError("not all at once")


class OnlyDlpack:
    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __dlpack__(self, **options: object) -> object:
        return self.rows.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.rows.__dlpack_device__()


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ">f4", "int8", "uint8", "int16", "int64", "longdouble"]
)
def test_real_types_are_taken(dtype: str) -> None:
    rows = np.round(ROWS).clip(0, 100).astype(dtype)
    assert np.array_equal(converted(rows), rows.astype(np.float32))


def test_no_layout_is_refused() -> None:
    for rows in (
        np.asfortranarray(ROWS),
        ROWS[::-1, ::-1],
        ROWS[::2, 1::2],
        np.broadcast_to(ROWS[0], (7, 5)),
        ROWS[:0],
    ):
        assert np.array_equal(converted(rows), rows)


def test_bfloat16_is_exact() -> None:
    import torch

    tensor = torch.tensor(ROWS).to(torch.bfloat16)
    expected = tensor.float().numpy()
    assert np.array_equal(converted(tensor), expected)
    bits = tensor.view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(converted(bits, "bfloat16"), expected)
    assert np.array_equal(converted(bits[:, ::2], "bfloat16"), expected[:, ::2])
    assert np.array_equal(converted(bits, "uint16"), bits.astype(np.float32))
    with pytest.raises(InputInvalid, match="uint16") as refused:
        as_vectors(bits)
    assert 'dtype="bfloat16"' in str(refused.value.hint)


def test_ml_dtypes_are_read_by_their_bits() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows = ROWS.astype(ml_dtypes.bfloat16)
    assert np.array_equal(converted(rows), rows.astype(np.float32))


def test_tensors_are_taken_as_they_are() -> None:
    import torch

    for dtype in (torch.float32, torch.float16, torch.float64, torch.int32):
        tensor = torch.tensor(ROWS).to(dtype)
        assert np.array_equal(converted(tensor), tensor.float().numpy())
    weights = torch.nn.Parameter(torch.tensor(ROWS))
    assert np.array_equal(converted(weights), ROWS)
    assert np.array_equal(converted(torch.tensor(ROWS).T), ROWS.T)
    for tensor in (torch.tensor(ROWS) > 0, torch.tensor(ROWS).to(torch.complex64), torch.tensor(ROWS).to_sparse()):
        with pytest.raises(InputInvalid):
            as_vectors(tensor)
    with pytest.raises(InputInvalid, match="not bfloat16"):
        as_vectors(torch.tensor(ROWS), dtype="bfloat16")
    assert as_ids(torch.tensor([3, -4])).tolist() == [3, -4]


def test_whatever_numpy_takes_is_taken(tmp_path: Path) -> None:
    assert np.array_equal(converted(ROWS.tolist()), ROWS)
    assert np.array_equal(converted(memoryview(ROWS)), ROWS)
    assert np.array_equal(converted(OnlyDlpack(ROWS)), ROWS)
    np.save(tmp_path / "rows.npy", ROWS)
    assert np.array_equal(converted(np.load(tmp_path / "rows.npy", mmap_mode="r")), ROWS)


def test_what_can_be_sliced_is_read_in_slices() -> None:
    rows = Sliceable(ROWS)
    assert np.array_equal(converted(rows), ROWS)
    assert rows.most == 5


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros(5, np.float32), "shape"),
        (np.zeros((2, 2, 2), np.float32), "shape"),
        (np.zeros((3, 0), np.float32), "0 dimensions"),
        (np.broadcast_to(np.float32(0), (1, MOST_DIMENSIONS + 1)), "dimensions"),
        (np.zeros((2, 2), bool), "bool"),
        (np.zeros((2, 2), np.complex64), "complex64"),
        (np.array([["a", "b"]]), "real type"),
        (np.array([[None, 1.0]]), "object"),
        ([[1.0, 2.0], [3.0]], "array"),
        ("text", "real type"),
        (object(), "real type"),
        (None, "real type"),
    ],
)
def test_what_are_no_vectors_is_refused(vectors: object, message: str) -> None:
    with pytest.raises(InputInvalid, match=message):
        as_vectors(vectors)


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(InputInvalid, match="have 5 dimensions; those of the index have 6"):
        as_vectors(ROWS, dimensions=6)
    with pytest.raises(InputInvalid, match="not float16"):
        as_vectors(ROWS, dtype="float16")


def test_too_large_for_float32_is_infinite() -> None:
    assert np.isinf(converted(np.array([[1e300, 1.0]]))).tolist() == [[True, False]]


def test_queries() -> None:
    for queries in (ROWS, ROWS.astype(np.float64), ROWS.tolist(), np.asfortranarray(ROWS)):
        found, alone = as_queries(queries, 5)
        assert np.array_equal(found, ROWS)
        assert found.flags.c_contiguous
        assert not alone
    for query in (ROWS[1], ROWS[1].tolist(), array.array("f", ROWS[1]), ROWS[1].astype(np.float16)):
        found, alone = as_queries(query, 5)
        assert np.array_equal(found, ROWS[1:2])
        assert alone
    import torch

    assert as_queries(torch.tensor(ROWS[2]).to(torch.bfloat16), 5)[1]
    for queries in (ROWS[:, :4], ROWS[0, :4], np.float32(3), np.zeros((1, 1, 5), np.float32)):
        with pytest.raises(InputInvalid, match=r"dimensions|shape"):
            as_queries(queries, 5)
    bad = ROWS.copy()
    bad[7, 2] = np.nan
    with pytest.raises(InputInvalid, match="query 7 "):
        as_queries(bad, 5)
    with pytest.raises(InputInvalid, match="the query holds"):
        as_queries(bad[7], 5)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.0, 2.0], "float64"),
        ([True, False], "bool"),
        ([[1], [2]], "shape"),
        (["1", "2"], "type"),
        (np.array([0, 2**63], np.uint64), "at position 1 does not fit"),
        ([1, 2**70], "id 1180591620717411303424 at position 1 does not fit"),
        ((1, 2**63), "at position 1 does not fit"),
        ([-(2**63) - 1, 1.5], "at position 0 does not fit"),
        ([1, 2, 3], "3 ids for 2 vectors"),
        (7, "one int"),
        ({1, 2}, "one set"),
    ],
)
def test_what_are_no_ids_is_refused(ids: object, message: str) -> None:
    with pytest.raises(InputInvalid, match=message):
        as_ids(ids, 2)


def test_ids() -> None:
    assert as_ids([]).tolist() == []
    assert as_ids(range(3)).tolist() == [0, 1, 2]
    assert as_ids(np.array([2**63 - 1], np.uint64)).tolist() == [2**63 - 1]
    assert as_ids(np.array([-5, 5], np.int8), 2).dtype == np.int64


def test_ids_without_an_order() -> None:
    for ids in ({1, 5}, frozenset({1, 5}), {1: "a", 5: "b"}.keys(), [5, 1]):
        assert sorted(as_id_set(ids).tolist()) == [1, 5]
    assert as_id_set(set()).tolist() == []


@pytest.mark.parametrize("value", [0, -1, True, np.True_, 1.0, "3", None])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(InputInvalid, match="k is"):
        as_count(value, "k")


def test_counts() -> None:
    assert as_count(np.int32(7), "k") == 7
    assert as_count(7, "k", 7) == 7
    with pytest.raises(InputInvalid, match="at most 6"):
        as_count(7, "k", 6)
