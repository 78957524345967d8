from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from aifw.errors import InputInvalid
from aifw.search import stored, storing
from aifw.search.stored import Reader
from aifw.search.storing import Writer, link_or_copy

DIMENSIONS = 5


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 16 rows, blocks of 16 rows."""
    monkeypatch.setattr(stored, "_MOST_ROWS_OF_A_PART", 16)
    monkeypatch.setattr(stored, "BLOCK_BYTES", 16 * 4 * DIMENSIONS)


def vectors(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSIONS)).astype(np.float32)


def write(
    folder: Path, rows: np.ndarray, ids: np.ndarray | None = None, former: Path | None = None, step: int = 7
) -> Writer:
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.arange(len(rows)) if ids is None else ids
    with Writer(folder, DIMENSIONS, "float32", former) as writer:
        for first in range(0, len(rows), step):
            writer.add(rows[first : first + step], ids[first : first + step])
    return writer


def read(reader: Reader, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    blocks = list(reader.blocks(first))
    if not blocks:
        return np.empty((0, reader.dimensions), np.float32), np.empty(0, np.int64)
    return np.concatenate([each[0] for each in blocks]), np.concatenate([each[1] for each in blocks])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 32, 50])
def test_what_is_written_is_read_from_any_row_on(tmp_path: Path, rows: int) -> None:
    given_rows, ids = vectors(rows), np.arange(rows) * 3 - 20
    write(tmp_path, given_rows, ids)
    reader = Reader(tmp_path)
    assert (reader.rows, reader.dimensions, reader.manifest.dtype) == (rows, DIMENSIONS, "float32")
    assert reader.manifest.ids == "given"
    for first in (0, 1, 15, 16, 17, rows):
        found, found_ids = read(reader, first)
        assert np.array_equal(found, given_rows[first:])
        assert np.array_equal(found_ids, ids[first:])


def test_no_rows_are_a_folder_too(tmp_path: Path) -> None:
    write(tmp_path, vectors(0))
    assert Reader(tmp_path).rows == 0
    assert list(Reader(tmp_path).blocks()) == []


def test_ids_that_are_positions_are_known_to_be(tmp_path: Path) -> None:
    write(tmp_path / "a", vectors(40))
    assert Reader(tmp_path / "a").manifest.ids == "positions"
    write(tmp_path / "b", vectors(40), np.concatenate([np.arange(39), [40]]))
    assert Reader(tmp_path / "b").manifest.ids == "given"


@pytest.mark.parametrize("step", [1, 5, 16, 100])
def test_bytes_do_not_depend_on_how_rows_came(tmp_path: Path, step: int) -> None:
    write(tmp_path / "one", vectors(50))
    write(tmp_path / "other", vectors(50), step=step)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_parts_are_plain_safetensors(tmp_path: Path) -> None:
    write(tmp_path, vectors(20))
    with safe_open(tmp_path / "00001.safetensors", framework="np") as file:
        assert np.array_equal(file.get_tensor("vectors"), vectors(20)[16:])
        assert np.array_equal(file.get_tensor("ids"), [16, 17, 18, 19])


def test_bfloat16_keeps_its_bits(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    numbers = torch.tensor([[1.5, -2.0, 3e38, 1e-40, 0.0]] * 20, dtype=torch.bfloat16)
    with Writer(tmp_path, DIMENSIONS, "bfloat16") as writer:
        writer.add(numbers.view(torch.uint16).numpy(), np.arange(20))
    assert torch.equal(load_file(tmp_path / "00000.safetensors")["vectors"], numbers[:16])
    assert np.array_equal(read(Reader(tmp_path))[0], numbers.float().numpy())


def test_unchanged_parts_are_shared_with_the_former_folder(tmp_path: Path) -> None:
    write(tmp_path / "old", vectors(40))
    writer = write(tmp_path / "new", vectors(40), former=tmp_path / "old")
    assert writer.linked == 3
    grown = np.concatenate([vectors(40), vectors(20, seed=1)])
    writer = write(tmp_path / "grown", grown, former=tmp_path / "old")
    assert writer.linked == 2
    shared = [
        (tmp_path / "grown" / name).samefile(tmp_path / "old" / name)
        for name in ("00000.safetensors", "00001.safetensors")
    ]
    assert shared == [True, True]
    write(tmp_path / "afresh", grown)
    assert contents(tmp_path / "grown") == contents(tmp_path / "afresh")


def test_a_damaged_former_part_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path / "old", vectors(40))
    path = tmp_path / "old/00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    writer = write(tmp_path / "new", vectors(40), former=tmp_path / "old")
    assert writer.linked == 2
    assert np.array_equal(read(Reader(tmp_path / "new"))[0], vectors(40))


@pytest.mark.parametrize("linkable", [True, False])
def test_links_fall_back_to_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkable: bool) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "another file system")

    if not linkable:
        monkeypatch.setattr(storing.os, "link", refuse)
    (tmp_path / "a").write_text("text")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "text"
    assert (tmp_path / "a").samefile(tmp_path / "b") == linkable


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(before=st.integers(1, 50), added=st.integers(0, 40), changed=st.none() | st.integers(0, 89))
def test_growth_is_recognised_and_nothing_else(tmp_path: Path, before: int, added: int, changed: int | None) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        for path in folder.glob("*"):
            path.unlink()
    write(old, vectors(before))
    rows = np.concatenate([vectors(before), vectors(added, seed=1)])
    if changed is not None and changed < len(rows):
        rows[changed, 2] += 1
    write(new, rows)
    found = Reader(new).grown_from(Reader(old).manifest)
    assert found == (None if changed is not None and changed < before else before)


@pytest.mark.parametrize("rows", [1, 16, 31])
def test_fewer_rows_are_no_growth(tmp_path: Path, rows: int) -> None:
    write(tmp_path / "old", vectors(32))
    write(tmp_path / "new", vectors(rows))
    assert Reader(tmp_path / "new").grown_from(Reader(tmp_path / "old").manifest) is None


def test_other_ids_are_no_growth(tmp_path: Path) -> None:
    write(tmp_path / "old", vectors(20))
    write(tmp_path / "new", vectors(30), np.arange(30) + 1)
    assert Reader(tmp_path / "new").grown_from(Reader(tmp_path / "old").manifest) is None


def test_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="holds no stored vectors"):
        Reader(tmp_path)
    (tmp_path / "vectors.json").write_text("[]")
    with pytest.raises(InputInvalid, match="is broken"):
        Reader(tmp_path)
    (tmp_path / "vectors.json").write_text('{"format": "other"}')
    with pytest.raises(InputInvalid, match="is broken"):
        Reader(tmp_path)


def test_a_part_that_does_not_fit(tmp_path: Path) -> None:
    write(tmp_path, vectors(40))
    (tmp_path / "00001.safetensors").write_bytes((tmp_path / "00002.safetensors").read_bytes())
    with pytest.raises(InputInvalid, match=r"00001\.safetensors does not hold what vectors\.json says"):
        read(Reader(tmp_path))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_parts_are_neither_large_nor_many(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.undo()
    for dimensions in (1, 31, 384, 768, 4096, 100_000):
        rows = stored.rows_of_a_part(dimensions, dtype)
        size = rows * dimensions * np.dtype(dtype).itemsize
        assert size <= 64 * 1024**2
        assert size > 16 * 1024**2 or rows == 65_536


def test_a_file_that_ends_while_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", vectors(20))
    (array,) = stored.read_arrays(tmp_path / "a.npy").values()
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(300)
        with pytest.raises(InputInvalid, match="ended while it was read"):
            stored.read_block(file, array, 10, 10)
