from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib import format as numpy_format
from safetensors.numpy import save_file

from aifw.errors import InputInvalid
from aifw.search.arrays import Array, read_arrays


def read(array: Array) -> np.ndarray:
    with array.path.open("rb") as file:
        file.seek(array.offset)
        return np.frombuffer(file.read(array.size), dtype=array.dtype).reshape(array.shape)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int16", "int64", "uint64", "bool"]
)
def test_numpy_files_of_every_version_are_read(tmp_path: Path, version: tuple[int, int], dtype: str) -> None:
    numbers = np.arange(12).reshape(4, 3).astype(dtype)
    with (tmp_path / "a.npy").open("wb") as file:
        numpy_format.write_array(file, numbers, version=version)
    (array,) = read_arrays(tmp_path / "a.npy").values()
    assert (array.name, array.dtype, array.shape) == ("", dtype, (4, 3))
    assert np.array_equal(read(array), numbers)


def test_tensors_are_found_by_name(tmp_path: Path) -> None:
    tensors = {"vectors": np.arange(6, dtype=np.float32).reshape(2, 3), "ids": np.array([7, -8])}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"made by": "a test"})
    found = read_arrays(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    for name, numbers in tensors.items():
        assert np.array_equal(read(found[name]), numbers)
        assert found[name].dtype == str(numbers.dtype)


def test_bfloat16_is_known(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    save_torch({"v": torch.zeros(3, 2, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    array = read_arrays(tmp_path / "a.safetensors")["v"]
    assert (array.dtype, array.shape, array.size) == ("bfloat16", (3, 2), 12)


def test_a_header_of_objects_is_read_without_loading_any(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    (array,) = read_arrays(tmp_path / "a.npy").values()
    assert array.dtype == "|O"


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputInvalid, match=r"cannot be read: no such file"):
        read_arrays(tmp_path / name)


def test_a_file_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(InputInvalid, match=r"neither a \.npy nor a \.safetensors"):
        read_arrays(tmp_path / "a.csv")


def test_columns_first_is_refused_with_a_remedy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(np.zeros((3, 2))))
    with pytest.raises(InputInvalid, match="column by column") as error:
        read_arrays(tmp_path / "a.npy")
    assert "ascontiguousarray" in (error.value.hint or "")


def test_every_way_to_cut_a_file_short_is_noticed(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.ones((2, 3), np.float32))
    save_file({"v": np.ones((2, 3), np.float32)}, tmp_path / "whole.safetensors")
    for suffix in (".npy", ".safetensors"):
        whole = (tmp_path / f"whole{suffix}").read_bytes()
        cut = tmp_path / f"cut{suffix}"
        for length in range(len(whole)):
            cut.write_bytes(whole[:length])
            with pytest.raises(InputInvalid, match=r"cut\."):
                read_arrays(cut)


@pytest.mark.parametrize(
    "header",
    [
        {"v": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 20]}},
        {"v": {"dtype": "F32", "shape": [2, 3], "data_offsets": [-24, 0]}},
        {"v": {"dtype": "F32", "shape": [2, -3], "data_offsets": [0, 24]}},
        {"v": {"dtype": "F32", "shape": "no", "data_offsets": [0, 24]}},
        {"v": {"dtype": "F32", "shape": [2, 3]}},
        {"v": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24, 48]}},
        {"v": "no"},
        {},
        [],
        "no",
    ],
)
def test_a_header_that_makes_no_sense(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    with pytest.raises(InputInvalid, match=r"a\.safetensors"):
        read_arrays(tmp_path / "a.safetensors")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data(), suffix=st.sampled_from([".npy", ".safetensors"]))
def test_changed_bytes_never_end_in_anything_but_an_error_of_ours(
    tmp_path: Path, data: st.DataObject, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, np.ones((2, 3), np.float32))
    else:
        save_file({"v": np.ones((2, 3), np.float32)}, path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        found = read_arrays(path)
    except InputInvalid:
        return
    for array in found.values():
        assert array.offset + array.size <= len(raw)
