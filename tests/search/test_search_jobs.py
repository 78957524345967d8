from __future__ import annotations

import re
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from aifw.errors import InputInvalid, JobStopped
from aifw.job import Control, Input, Job, latest_checkpoint
from aifw.search import Index, jobs, opening, stored
from aifw.search.jobs import build_index, store_vectors
from aifw.search.kinds import Index as IndexKind
from aifw.search.kinds import IndexSettings, VectorsSettings
from aifw.search.segment import bytes_of_a_row

DIMENSIONS = 6


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 32 rows, blocks of 16 rows."""
    monkeypatch.setattr(stored, "_MOST_ROWS_OF_A_PART", 32)
    monkeypatch.setattr(stored, "BLOCK_BYTES", 16 * 4 * DIMENSIONS)


def random(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSIONS)).astype(np.float32)


class Folder:
    """A folder in which jobs are done one after another, as the engine would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.progress: list[tuple[float, float]] = []
        self.jobs = 0

    def report(self, name: str, data: Any) -> None:
        if name == "note":
            self.notes.append(data["text"])
        elif name == "progress":
            self.progress.append((data["done"], data["total"]))

    def job(self, settings: Any, output: str, **more: Any) -> Job[Any]:
        self.jobs += 1
        out = self.path / f"job-{self.jobs}/out"
        out.mkdir(parents=True)
        self.notes.clear()
        self.progress.clear()
        return Job(settings, out=out, root=self.path, outputs=(output,), report=self.report, **more)

    def save(self, vectors: np.ndarray, ids: np.ndarray | None = None) -> None:
        np.save(self.path / "v.npy", vectors)
        np.save(self.path / "ids.npy", np.arange(len(vectors)) if ids is None else ids)

    def index(self, vectors: Job[Any], previous: Job[Any] | None = None, **more: Any) -> Job[Any]:
        settings = IndexSettings.model_validate({"vectors": "v", **more.pop("settings", {})})
        inputs = {"vectors": Input("retrieval.v", vectors.out / "vectors", vectors.facts["vectors"])}
        job = self.job(settings, "index", inputs=inputs, previous=previous.out if previous else None, **more)
        build_index(job)
        return job

    def store(self, previous: Job[Any] | None = None, **settings: Any) -> Job[Any]:
        given = VectorsSettings.model_validate({"path": "v.npy"} | settings)
        job = self.job(given, "vectors", previous=previous.out if previous is not None else None)
        store_vectors(job)
        return job


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def read(job: Job[Any]) -> tuple[np.ndarray, np.ndarray]:
    blocks = list(stored.Reader(job.out / "vectors").blocks())
    return np.concatenate([each[0] for each in blocks]), np.concatenate([each[1] for each in blocks])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_stored_as_they_are(folder: Folder, dtype: str) -> None:
    vectors = random(70).astype(dtype)
    np.save(folder.path / "v.npy", vectors)
    job = folder.store()
    found, ids = read(job)
    assert np.array_equal(found, vectors.astype(np.float32))
    assert np.array_equal(ids, np.arange(70))
    head = {"rows": 70, "dimensions": DIMENSIONS, "dtype": dtype, "ids": "positions", "parts": 3}
    assert job.facts["vectors"] == {"summary": f"70 x 6 {dtype}", **head}
    assert folder.progress[-1] == (70, 70)
    assert folder.notes == []


def test_the_same_numbers_from_another_file_are_the_same_bytes(folder: Folder) -> None:
    np.save(folder.path / "v.npy", random(70))
    np.save(folder.path / "ids.npy", np.arange(70, dtype=np.uint16))
    save_file({"vectors": random(70), "ids": np.arange(70)}, folder.path / "v.safetensors")
    jobs = [
        folder.store(),
        folder.store(ids="ids.npy"),
        folder.store(path="v.safetensors"),
        folder.store(path="v.safetensors", ids_tensor="ids"),
    ]
    contents = [{path.name: path.read_bytes() for path in (job.out / "vectors").iterdir()} for job in jobs]
    assert all(each == contents[0] for each in contents)


def test_bfloat16_comes_from_safetensors(folder: Folder) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    vectors = torch.from_numpy(random(40)).bfloat16()
    save_torch({"vectors": vectors}, folder.path / "v.safetensors")
    job = folder.store(path="v.safetensors")
    assert np.array_equal(read(job)[0], vectors.float().numpy())
    assert job.facts["vectors"]["dtype"] == "bfloat16"


def test_ids_keep_their_order_and_all_their_bits(folder: Folder) -> None:
    ids = np.array([2**63 - 1, -(2**63), 0, 7, -1])
    np.save(folder.path / "v.npy", random(5))
    np.save(folder.path / "ids.npy", ids)
    assert np.array_equal(read(folder.store(ids="ids.npy"))[1], ids)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_row_that_is_not_finite_is_named(folder: Folder, dtype: str, value: float) -> None:
    vectors = random(70).astype(dtype)
    vectors[37, 4] = vectors[52, 1] = value
    np.save(folder.path / "v.npy", vectors)
    message = re.escape(f"row 37 of {folder.path / 'v.npy'} holds {value} at position 4 (both counted from 0)")
    with pytest.raises(InputInvalid, match=message):
        folder.store()


def test_the_largest_finite_numbers_are_fine(folder: Folder) -> None:
    vectors = np.full((20, DIMENSIONS), np.finfo(np.float32).max)
    np.save(folder.path / "v.npy", vectors)
    assert np.array_equal(read(folder.store())[0], vectors)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64"])
def test_an_id_that_occurs_twice_is_named_with_both_rows(folder: Folder, dtype: str) -> None:
    ids = np.arange(70).astype(dtype)
    ids[66] = 5
    np.save(folder.path / "v.npy", random(70))
    np.save(folder.path / "ids.npy", ids)
    with pytest.raises(InputInvalid, match=r"rows 5 and 66 of .*ids\.npy are both 5"):
        folder.store(ids="ids.npy")


def test_an_id_that_is_too_large_is_named(folder: Folder) -> None:
    np.save(folder.path / "v.npy", random(3))
    np.save(folder.path / "ids.npy", np.array([1, 2**63, 2], dtype=np.uint64))
    with pytest.raises(InputInvalid, match=f"row 1 of .* is {2**63}"):
        folder.store(ids="ids.npy")


def test_what_only_grew_shares_what_was_there(folder: Folder) -> None:
    np.save(folder.path / "v.npy", random(70))
    former = folder.store()
    np.save(folder.path / "v.npy", np.concatenate([random(70), random(40, seed=1)]))
    grown = folder.store(previous=former)
    names = [path.name for path in sorted((grown.out / "vectors").glob("*.safetensors"))]
    shared = [(grown.out / "vectors" / name).samefile(former.out / "vectors" / name) for name in names[:2]]
    assert shared == [True, True]
    assert folder.notes == ["2 of 4 parts are those of before and take no further space"]
    afresh = folder.store()
    for name in (*names, "vectors.json"):
        assert (grown.out / "vectors" / name).read_bytes() == (afresh.out / "vectors" / name).read_bytes()


def test_storing_stops_when_asked(folder: Folder) -> None:
    np.save(folder.path / "v.npy", random(70))
    job = folder.job(VectorsSettings(path="v.npy"), "vectors")
    job.asked.stop = True
    with pytest.raises(JobStopped):
        store_vectors(job)
    assert folder.progress == [(16, 70)]
    assert list(job.out.iterdir()) == []


def test_memory_does_not_grow_with_the_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    np.save(folder.path / "v.npy", np.ones((300_000, 64), np.float32))
    tracemalloc.start()
    try:
        folder.store()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * 1024**2 < 300_000 * 64 * 4


def opened(job: Job[Any]) -> Index:
    return Index.open(job.out / "index", verify=True)


def assert_alike(job: Job[Any], other: Job[Any]) -> None:
    """The same ids and vectors, and whatever is searched for, the same is found with the same scores to the last bit."""
    one, another = opened(job), opened(other)
    ids = np.sort(one.ids())
    assert np.array_equal(ids, np.sort(another.ids()))
    assert one.vectors(ids).tobytes() == another.vectors(ids).tobytes()
    queries = np.concatenate([random(20, seed=99), one.vectors(ids[:3])])
    for k in (1, 5, len(ids)):
        found, expected = one.search(queries, k), another.search(queries, k)
        assert np.array_equal(found[0], expected[0])
        assert found[1].tobytes() == expected[1].tobytes()
    assert job.facts == other.facts


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_an_index_holds_every_vector_under_its_id(folder: Folder, metric: str) -> None:
    ids = np.random.default_rng(1).permutation(1000)[:70] - 500
    folder.save(random(70), ids)
    job = folder.index(folder.store(ids="ids.npy"), settings={"metric": metric})
    index = opened(job)
    assert (len(index), index.metric) == (70, metric)
    assert np.array_equal(index.vectors(ids), random(70))
    assert job.facts["index"] == {
        "summary": f"70 x 6, {metric}",
        "rows": 70,
        "dimensions": DIMENSIONS,
        "metric": metric,
    }
    assert folder.progress[-1] == (70, 70)


@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize(("before", "added"), [(70, 40), (64, 1), (10, 500)])
def test_an_index_whose_vectors_grew_goes_on_from_the_former_one(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, before: int, added: int, with_ids: bool
) -> None:
    monkeypatch.setattr(jobs, "_ADDED_BYTES", 1)
    chosen = {"ids": "ids.npy"} if with_ids else {}
    vectors = np.concatenate([random(before), random(added, seed=1)])
    ids = np.random.default_rng(2).permutation(2000)[: len(vectors)] if with_ids else np.arange(len(vectors))
    folder.save(vectors[:before], ids[:before])
    old = folder.store(**chosen)
    former = folder.index(old)
    files = contents(former.out / "index")
    folder.save(vectors, ids)
    new = folder.store(previous=old, **chosen)
    job = folder.index(new, previous=former)
    assert folder.notes == [f"made from the former index of {before:,} vectors: {added:,} added"]
    assert folder.progress[-1] == (added, added)
    assert contents(former.out / "index") == files
    assert_alike(job, folder.index(new))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_that_stay_the_same_are_shared_and_not_copied(folder: Folder) -> None:
    folder.save(random(70))
    former = folder.index(folder.store(ids="ids.npy"))
    folder.save(random(70)[1:], np.arange(70)[1:])
    job = folder.index(folder.store(ids="ids.npy"), previous=former)
    (segment,) = (job.out / "index").glob("*.segment")
    assert segment.samefile(former.out / "index" / segment.name)
    assert len(opened(job)) == 69


def test_another_order_needs_no_other_index(folder: Folder) -> None:
    folder.save(random(70))
    former = folder.index(folder.store(ids="ids.npy"))
    folder.save(random(70)[::-1], np.arange(70)[::-1])
    job = folder.index(folder.store(ids="ids.npy"), previous=former)
    assert folder.notes == ["made from the former index of 70 vectors: in another order"]
    (segment,) = (job.out / "index").glob("*.segment")
    assert segment.samefile(former.out / "index" / segment.name)
    assert_alike(job, former)


def test_what_is_asked_for_again_is_made_again(folder: Folder) -> None:
    folder.save(random(70))
    vectors = folder.store()
    former = folder.index(vectors)
    job = folder.index(vectors, previous=former)
    assert folder.notes == []
    assert contents(job.out / "index") == contents(former.out / "index")
    assert not any(path.stat().st_nlink > 1 for path in (job.out / "index").iterdir())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(data=st.data())
def test_any_change_leads_to_what_would_be_made_anew(tmp_path: Path, data: st.DataObject) -> None:
    folder = Folder(Path(tempfile.mkdtemp(dir=tmp_path)))
    count = data.draw(st.integers(1, 80))
    vectors, ids = random(count), np.arange(count) * 7 - 100
    folder.save(vectors, ids)
    former = folder.index(folder.store(ids="ids.npy"))
    steps = data.draw(st.integers(1, 2))
    for _ in range(steps):
        keep = np.ones(len(ids), bool)
        keep[data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=len(ids) - 1))] = False
        assume(keep.any())
        vectors, ids = vectors[keep], ids[keep]
        for row in data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=4)):
            vectors[row] = random(1, seed=row + 1000)
        added = data.draw(st.integers(0, 20))
        fresh = np.arange(added) + int(ids.max()) + data.draw(st.integers(1, 3))
        vectors = np.concatenate([vectors, random(added, seed=5)])
        ids = np.concatenate([ids, fresh])
        order = data.draw(st.permutations(range(len(ids)))) if data.draw(st.booleans()) else list(range(len(ids)))
        vectors, ids = vectors[order], ids[order]
        folder.save(vectors, ids)
        made = folder.store(ids="ids.npy")
        job = folder.index(made, previous=former)
        assert_alike(job, folder.index(made))
        former = job


def test_removed_and_changed_vectors_are_said(folder: Folder) -> None:
    vectors, ids = random(100), np.arange(100) + 10
    folder.save(vectors, ids)
    former = folder.index(folder.store(ids="ids.npy"))
    vectors[5] += 1
    folder.save(np.concatenate([vectors[3:], random(2, seed=1)]), np.concatenate([ids[3:], [500, 3]]))
    folder.index(folder.store(ids="ids.npy"), previous=former)
    assert folder.notes == ["made from the former index of 100 vectors: 2 added, 1 changed, 3 removed"]


def test_positions_may_become_fewer_and_more_again(folder: Folder) -> None:
    job = None
    for rows, seed in ((100, 0), (90, 0), (95, 1)):
        folder.save(np.concatenate([random(90), random(rows - 90, seed=seed)]))
        vectors = folder.store()
        assert stored.Reader(vectors.out / "vectors").manifest.ids == "positions"
        job = folder.index(vectors, previous=job)
        assert_alike(job, folder.index(vectors))


def test_too_much_change_makes_the_index_anew(folder: Folder) -> None:
    folder.save(random(100))
    former = folder.index(folder.store())
    folder.save(random(100, seed=1))
    job = folder.index(folder.store(), previous=former)
    assert folder.notes == ["too little is as it was in the former index, so it is made anew"]
    assert np.array_equal(opened(job).vectors(np.arange(100)), random(100, seed=1))


def test_rows_that_were_removed_do_not_pile_up(folder: Folder) -> None:
    ids = np.arange(100)
    folder.save(random(100), ids)
    job = folder.index(folder.store(ids="ids.npy"))
    notes = []
    for kept in range(95, 60, -5):
        folder.save(random(100)[:kept], ids[:kept])
        job = folder.index(folder.store(ids="ids.npy"), previous=job)
        notes += folder.notes
    assert "too little is as it was in the former index, so it is made anew" in notes
    assert opened(job).memory()["ids"] <= 8 * 65 / 0.75


@pytest.mark.parametrize("change", ["metric", "dimensions", "version", "missing"])
def test_another_sort_of_index_is_made_anew(folder: Folder, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    folder.save(random(70))
    former = folder.index(folder.store())
    if change == "dimensions":
        np.save(folder.path / "v.npy", random(70)[:, :5].copy())
    if change == "version":
        monkeypatch.setattr("aifw.search.kinds.Index.version", 2)
        folder.save(random(71))
    if change == "missing":
        (former.out / "index").rename(former.out / "away")
    job = folder.index(folder.store(), previous=former, settings={"metric": "l2"} if change == "metric" else {})
    assert not any("made from" in note for note in folder.notes)
    assert not any(path.stat().st_nlink > 1 for path in (job.out / "index").iterdir())


def test_a_damaged_former_index_is_not_taken_on(folder: Folder) -> None:
    folder.save(random(70))
    former = folder.index(folder.store())
    (segment,) = (former.out / "index").glob("*.segment")
    raw = bytearray(segment.read_bytes())
    raw[5000] ^= 1
    segment.chmod(0o644)
    segment.write_bytes(raw)
    folder.save(np.concatenate([random(70), random(5, seed=1)]))
    job = folder.index(folder.store(), previous=former)
    assert [note.startswith("the former index is not taken on:") for note in folder.notes] == [True]
    assert np.array_equal(opened(job).vectors(np.arange(70)), random(70))


@pytest.mark.parametrize("seconds", [0, 1000])
def test_building_goes_on_from_its_checkpoint(folder: Folder, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """A checkpoint is left when the job is asked to stop, however little time has passed, and now and then anyway."""
    monkeypatch.setattr(jobs, "FILE_BYTES", 1024 * bytes_of_a_row(DIMENSIONS))
    monkeypatch.setattr(jobs, "_ADDED_BYTES", 1)
    monkeypatch.setattr(jobs, "_CHECKPOINT_SECONDS", seconds)
    folder.save(random(7000), np.arange(7000) + 5)
    vectors = folder.store(ids="ids.npy")
    whole = folder.index(vectors)
    checkpoint = None
    report = folder.report
    for stop_after, kept in ((1000, None), (5000, 4096), (6000, 5120)):
        asked = Control()

        def stopping(name: str, data: Any, asked: Control = asked, stop_after: int = stop_after) -> None:
            report(name, data)
            asked.stop |= name == "progress" and data["done"] > stop_after

        monkeypatch.setattr(folder, "report", stopping)
        with pytest.raises(JobStopped):
            folder.index(vectors, resume=checkpoint, asked=asked, checkpoints=folder.path / "checkpoints")
        assert all(total == 7000 for _, total in folder.progress)
        assert not list(folder.path.glob(f"job-{folder.jobs}/out/*"))
        checkpoint = latest_checkpoint(folder.path / "checkpoints")
        assert (None if checkpoint is None else int(checkpoint.name.removeprefix("step-"))) == kept
    monkeypatch.setattr(folder, "report", report)
    job = folder.index(vectors, resume=checkpoint)
    assert 5120 < folder.progress[0][0] <= 7000
    assert_alike(job, whole)


def test_a_spec_may_ask_for_fewer_threads_but_not_for_more(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    add = Index.add

    def spy(self: Index, *arguments: Any, **named: Any) -> None:
        used.append(named["threads"])
        add(self, *arguments, **named)

    monkeypatch.setattr(Index, "add", spy)
    folder.save(random(70))
    vectors = folder.store()
    for wanted in (None, 1, 8):
        folder.index(vectors, settings={"threads": wanted}, threads=2)
    assert used == [2, 1, 2]


def test_a_new_form_of_the_files_is_a_new_version_of_the_kind() -> None:
    """Or what stands would be taken for what this version makes, and could not be opened."""
    assert IndexKind.version == opening.VERSION
