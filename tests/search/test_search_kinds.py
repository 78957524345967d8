from __future__ import annotations

import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from aifw.errors import InputInvalid
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.kind import History, InputFacts, Observation, Past, Workspace
from aifw.search.kinds import Index, IndexSettings, Vectors, VectorsSettings

HERE = Machine("here", Cpu("any", 4), Memory(8 * 1024**3, 8 * 1024**3))
MEBIBYTE = 1024**2


def digest_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def look(folder: Path, **settings: Any) -> Observation:
    return Vectors().observe(VectorsSettings.model_validate(settings), Workspace(folder, digest_of))


def vectors(rows: int = 20, dimensions: int = 6) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, dimensions)).astype(np.float32)


def known(rows: float, dimensions: float = 384, dtype: str = "float32") -> dict[str, InputFacts]:
    facts = {"rows": rows, "dimensions": dimensions, "dtype": dtype}
    return {name: InputFacts("retrieval.vectors", facts, certain=True) for name in ("observation", "vectors")}


def test_an_observation_says_how_much_there_is(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors().astype(np.float16))
    found = look(tmp_path, path="v.npy")
    assert found.summary == "20 x 6 float16"
    assert found.facts == {"rows": 20, "dimensions": 6, "dtype": "float16"}
    assert found.rememberable


def test_an_observation_changes_with_vectors_and_with_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors())
    np.save(tmp_path / "ids.npy", np.arange(20))
    seen = [look(tmp_path, path="v.npy", ids="ids.npy")]
    shutil.copy(tmp_path / "v.npy", tmp_path / "w.npy")
    assert look(tmp_path, path="w.npy", ids="ids.npy") == seen[0]
    np.save(tmp_path / "ids.npy", np.arange(20) + 1)
    seen.append(look(tmp_path, path="v.npy", ids="ids.npy"))
    np.save(tmp_path / "v.npy", vectors() + 1)
    seen.append(look(tmp_path, path="v.npy", ids="ids.npy"))
    assert len({each.fingerprint for each in seen}) == 3


@pytest.mark.parametrize(
    ("settings", "tensor"),
    [({}, "vectors"), ({"tensor": "other"}, "other"), ({"tensor": "vectors", "ids_tensor": "ids"}, "vectors")],
)
def test_tensors_are_chosen_by_name(tmp_path: Path, settings: dict[str, str], tensor: str) -> None:
    tensors = {"vectors": vectors(), "other": vectors(20, 3), "ids": np.arange(20)}
    save_file(tensors, tmp_path / "v.safetensors")
    assert look(tmp_path, path="v.safetensors", **settings).facts["dimensions"] == tensors[tensor].shape[1]


def test_the_only_flat_tensor_needs_no_name(tmp_path: Path) -> None:
    save_file({"embeddings": vectors(), "bias": np.zeros(6)}, tmp_path / "v.safetensors")
    assert look(tmp_path, path="v.safetensors").summary == "20 x 6 float32"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "none.npy"}, "none.npy cannot be read: no such file"),
        ({"path": "line.npy"}, "line.npy has shape (20,)"),
        ({"path": "double.npy"}, "double.npy holds float64, not float32, float16 or bfloat16"),
        ({"path": "object.npy"}, "object.npy holds |O, not float32"),
        ({"path": "wide.npy"}, "wide.npy has vectors of 65,537 dimensions; an index takes at most 65,536"),
        ({"path": "empty.npy"}, "empty.npy is empty: its shape is (0, 6)"),
        ({"path": "text.npy"}, "text.npy is not a .npy file"),
        ({"path": "good.npy", "ids": "none.npy"}, "none.npy cannot be read"),
        ({"path": "good.npy", "ids": "good.npy"}, "good.npy holds float32"),
        ({"path": "good.npy", "ids": "few.npy"}, "few.npy has shape (19,)"),
        ({"path": "two.safetensors"}, "has no tensor `vectors`, and 2 with two dimensions"),
        ({"path": "two.safetensors", "tensor": "c"}, "has no tensor `c`"),
        ({"path": "two.safetensors", "tensor": "a", "ids_tensor": "b"}, "tensor `b` of"),
    ],
)
def test_what_cannot_be_stored_is_said_before_anything_runs(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    np.save(tmp_path / "good.npy", vectors())
    np.save(tmp_path / "line.npy", vectors()[:, 0].copy())
    np.save(tmp_path / "double.npy", vectors().astype(np.float64))
    np.save(tmp_path / "object.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    np.save(tmp_path / "wide.npy", np.zeros((1, 65_537), np.float32))
    np.save(tmp_path / "empty.npy", vectors(0))
    np.save(tmp_path / "few.npy", np.arange(19))
    (tmp_path / "text.npy").write_text("1.0, 2.0")
    save_file({"a": vectors(), "b": vectors()}, tmp_path / "two.safetensors")
    with pytest.raises(InputInvalid, match=re.escape(message)):
        look(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"path": "v.csv"}, "expected the path of a .npy or .safetensors file"),
        ({"path": "v.npy", "ids": "ids.txt"}, "expected the path of a .npy file"),
        ({"path": "v.npy", "tensor": "t"}, "`tensor` is for a .safetensors file"),
        ({"path": "v.npy", "ids_tensor": "t"}, "`ids_tensor` is for a .safetensors file"),
        ({"path": "v.safetensors", "ids": "i.npy", "ids_tensor": "t"}, "either `ids` or `ids_tensor`"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, str], word: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(word)):
        VectorsSettings.model_validate(settings)


def test_threads_are_no_part_of_what_an_index_is() -> None:
    from aifw.settings import execution_fields

    assert execution_fields(IndexSettings) == {"threads"}


@pytest.mark.parametrize("kind", [Vectors(), Index()], ids=lambda kind: kind.name)
class TestForecasts:
    def forecast(self, kind: Vectors | Index, inputs: dict[str, InputFacts], *past: Past, **settings: Any) -> Any:
        given = {"path": "v.npy"} if kind.name == "vectors" else {"vectors": "vectors"}
        return kind.forecast(kind.settings.model_validate(given | settings), inputs, HERE, History(past))

    def test_ranges_are_in_order_and_grow_with_what_there_is(self, kind: Vectors | Index) -> None:
        former = self.forecast(kind, known(1))
        for rows in (1000, 10**6, 10**8):
            found = self.forecast(kind, known(rows))
            assert found.memory.low < found.memory.mid < found.memory.high
            assert found.seconds.low <= found.seconds.mid <= found.seconds.high
            assert found.seconds.mid > former.seconds.mid
            assert found.memory.mid >= former.memory.mid
            assert found.memory.high >= former.memory.high
            assert found.work > former.work
            former = found

    def test_memory_does_not_grow_with_dimensions(self, kind: Vectors | Index) -> None:
        small, large = self.forecast(kind, known(10**6, 64)), self.forecast(kind, known(10**6, 4096))
        assert (large.memory.low, large.memory.mid) == (small.memory.low, small.memory.mid)
        assert large.memory.high < 10**6 * 4096 / 4

    def test_what_is_not_known_is_a_wide_range_that_says_so(self, kind: Vectors | Index) -> None:
        unknown = self.forecast(kind, {})
        assert "not known yet" in unknown.basis
        sure = self.forecast(kind, known(100_000, 768))
        assert unknown.seconds.high > 2 * sure.seconds.high
        assert unknown.memory.high > 2 * sure.memory.high
        assert "not known yet" not in sure.basis

    def test_earlier_runs_are_what_later_ones_go_by(self, kind: Vectors | Index) -> None:
        first = self.forecast(kind, known(10**6))
        assert first.basis == "1,000,000 x 384, a default speed"
        slow = Past(0, 10 * first.seconds.mid, first.work)
        later = self.forecast(kind, known(10**6), slow, slow, slow)
        assert later.seconds.mid == pytest.approx(slow.seconds)
        assert later.seconds.high / later.seconds.mid < first.seconds.high / first.seconds.mid
        assert later.basis.startswith("1,000,000 x 384, 3 earlier runs")
        # Only an index can be spared most of the work, and only once there was one.
        assert (later.seconds.low < 1) == (kind.name == "index")
        assert first.seconds.low > 1

    def test_a_run_that_had_little_to_do_does_not_promise_another(self, kind: Vectors | Index) -> None:
        first = self.forecast(kind, known(10**6))
        later = self.forecast(kind, known(10**6), Past(0, 0.6, first.work))
        assert later.seconds.mid < first.seconds.mid / 2
        assert later.seconds.high >= first.seconds.mid


def test_given_ids_take_memory() -> None:
    plain = Vectors().forecast(VectorsSettings(path="v.npy"), known(10**7), HERE, History())
    given = Vectors().forecast(VectorsSettings(path="v.npy", ids="ids.npy"), known(10**7), HERE, History())
    assert given.memory.mid > plain.memory.mid + 10**7 * 8
    settings = IndexSettings.model_validate({"vectors": "v"})
    plain, given = (
        Index().forecast(settings, {"vectors": InputFacts("v", made.facts["vectors"], certain=False)}, HERE, History())
        for made in (plain, given)
    )
    assert given.memory.mid > plain.memory.mid + 10**7 * 16


def test_threads_share_the_work() -> None:
    settings = [IndexSettings.model_validate({"vectors": "v", "threads": threads}) for threads in (1, 4, 100)]
    one, four, many = (Index().forecast(each, known(10**6), HERE, History()).seconds.mid for each in settings)
    assert one / 4 < four < one
    assert many == four


def test_dependants_learn_what_will_come_out() -> None:
    settings = VectorsSettings(path="v.npy")
    facts = {"rows": 7, "dimensions": 3, "dtype": "float16"}
    made = Vectors().forecast(settings, {"observation": InputFacts("a", facts, certain=True)}, HERE, History())
    assert made.facts == {"vectors": facts | {"ids": "positions"}}
    assert Vectors().forecast(settings, {}, HERE, History()).facts == {"vectors": {"ids": "positions"}}
