from __future__ import annotations

import gc
import re
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from oracle import Oracle

from aifw.errors import ArtifactCorrupt, InputInvalid
from aifw.search import Index
from aifw.search.backend import Backend

METRICS = {"cosine": "cosine", "inner_product": "inner_product", "l2": "squared_distance"}
"""Names here and in the oracle."""

ROWS = np.random.default_rng(7).standard_normal((200, 17)).astype(np.float32)
HIGHEST = 2**63 - 1
README = Path(__file__).parents[2] / "README.md"


def check(
    index: Index, rows: np.ndarray, ids: Sequence[int] | np.ndarray, queries: np.ndarray, k: int, **options: object
) -> None:
    """Searching finds what the oracle finds among these rows."""
    found = index.search(queries, k, **options)  # type: ignore[arg-type]
    expected = Oracle(METRICS[index.metric], rows, np.asarray(ids, np.int64)).search(queries, k)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert found[0].dtype == np.int64
    assert found[1].dtype == np.float64


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 200])
def test_an_index_finds_the_best(computing: Backend, metric: str, count: int) -> None:
    index = Index.build(ROWS[:count], metric=metric)
    check(index, ROWS[:count], range(count), ROWS[:20], 5)
    check(index, ROWS[:count], range(count), ROWS[:2], 1000)
    assert (index.metric, index.dimensions, len(index), index.next_id) == (metric, 17, count, count)
    assert list(index) == index.ids().tolist() == list(range(count))
    assert repr(index) == f"<Index of {count:,} x 17, {metric}>"


def test_one_query_gives_one_result(computing: Backend) -> None:
    index = Index.build(ROWS)
    ids, scores = index.search(ROWS[3], 4)
    assert ids.shape == scores.shape == (4,)
    both = index.search(ROWS[3:5], 4)
    assert np.array_equal(both[0][0], ids)
    assert np.array_equal(both[1][0], scores)
    assert ids[0] == 3
    none = index.search(ROWS[:0], 4)
    assert none[0].shape == none[1].shape == (0, 4)


def test_ids_are_the_callers(computing: Backend) -> None:
    ids = np.random.default_rng(1).integers(-HIGHEST - 1, HIGHEST, 200)
    ids[:3] = [-HIGHEST - 1, HIGHEST, -1]
    index = Index.build(ROWS, ids, "l2")
    check(index, ROWS, ids, ROWS[:10], 7)
    assert -1 in index
    assert np.int64(HIGHEST) in index
    assert 0 not in index
    for other in (2**63, -(2**63) - 1, True, "1", 1.0, None):
        assert other not in index
    assert np.array_equal(index.vectors([-1, ids[50], -1]), ROWS[[2, 50, 2]])
    with pytest.raises(InputInvalid, match="no id 77 "):
        index.vectors([-1, 77])
    with pytest.raises(InputInvalid, match="no automatic ids"):
        index.add(ROWS[:1])


def test_equal_scores_are_ordered_by_id(computing: Backend) -> None:
    ids = np.random.default_rng(2).permutation(200) - 100
    index = Index.build(np.ones((200, 5), np.float32), ids)
    assert index.search(np.ones(5), 200)[0].tolist() == list(range(-100, 100))
    assert index.search(np.zeros(5), 3)[0].tolist() == [-100, -99, -98]


def test_automatic_ids_go_on_from_the_largest() -> None:
    index = Index(17)
    index.add(ROWS[:3])
    index.remove([2])
    index.add(ROWS[:2])
    assert list(index) == [0, 1, 3, 4]
    index.add(ROWS[:2], ids=[100, -3])
    index.add(ROWS[:1])
    assert list(index) == [0, 1, 3, 4, 100, -3, 101]
    index.add(ROWS[:2], ids=[2, 50])
    assert index.next_id == 102
    index.add(ROWS[:1], ids=[HIGHEST - 2])
    index.add(ROWS[:2])
    assert index.ids()[-2:].tolist() == [HIGHEST - 1, HIGHEST]
    with pytest.raises(InputInvalid, match=f"after {HIGHEST}"):
        index.add(ROWS[:1])
    assert len(index) == 12


def test_adding_in_small_steps_is_the_same(computing: Backend) -> None:
    index = Index(17, "inner_product")
    for start in range(0, 200, 7):
        index.add(ROWS[start : start + 7], threads=1)
        check(index, ROWS[: start + 7], range(min(200, start + 7)), ROWS[-3:], 9)
    assert index.add(ROWS[:0]) is None
    assert len(index) == 200


def test_large_steps_fill_several_segments(computing: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifw.search.content._SMALLEST_STEP", 16)
    monkeypatch.setattr("aifw.search.content._LARGEST_STEP", 32)
    monkeypatch.setattr("aifw.search.vectors.BLOCK_BYTES", 1)
    index = Index(17)
    done: list[tuple[int, int]] = []
    index.add(ROWS[:5], ids=np.arange(5) * -3)
    index.add(ROWS[5:70], ids=np.arange(5, 70) * -3, progress=lambda some, all_: done.append((some, all_)))
    index.add(ROWS[70:])
    assert done[-1] == (65, 65)
    assert done == sorted(done)
    assert len(done) > 3
    assert len(index._content.segments) > 2
    check(index, ROWS, [*(np.arange(70) * -3).tolist(), *range(1, 131)], ROWS[:9], 6)


@pytest.mark.parametrize("given_ids", [False, True])
def test_removed_rows_are_not_found(computing: Backend, given_ids: bool) -> None:
    ids = np.arange(200) * 5 - 300 if given_ids else np.arange(200)
    index = Index.build(ROWS, ids if given_ids else None)
    assert index.remove(ids[::3]) == 67
    assert index.remove(ids[::3]) == 0
    assert index.remove(int(ids[1])) == 1
    assert index.remove([10**9, ids[1], ids[2], ids[2]]) == 1
    left = np.setdiff1d(np.arange(200), [*range(0, 200, 3), 1, 2])
    assert len(index) == len(left)
    check(index, ROWS[left], ids[left], ROWS[:30], 8)
    assert ids[0] not in index
    assert ids[4] in index
    assert index.ids().tolist() == ids[left].tolist()
    index.add(ROWS[:1], ids=[ids[0]])
    check(index, ROWS[[0, *left]], ids[[0, *left]], ROWS[:30], 8)
    assert np.array_equal(index.vectors([ids[0], ids[4]]), ROWS[[0, 4]])
    index.compact()
    check(index, ROWS[[0, *left]], ids[[0, *left]], ROWS[:30], 8)
    assert index.memory()["masks"] == 0
    assert len(index._content.segments) == 1
    index.remove(index.ids())
    index.compact()
    assert len(index) == len(list(index)) == 0
    index.add(ROWS)
    assert len(index) == 200


@pytest.mark.parametrize("given_ids", [False, True])
def test_searches_are_restricted(computing: Backend, given_ids: bool) -> None:
    ids = np.arange(200) * 5 - 300 if given_ids else np.arange(200)
    index = Index(17, "l2")
    for part in (slice(0, 90), slice(90, 200)):
        index.add(ROWS[part], ids[part] if given_ids else None)
        index._content.segments[-1].sealed = True
    index.remove(ids[[0, 100]])
    live = np.setdiff1d(np.arange(200), [0, 100])
    some = np.array([0, 3, 95, 96, 100, 111, 199])
    there = np.intersect1d(some, live)
    others = np.setdiff1d(live, some)
    outside = [10**12, -(10**12)]
    for allow in (ids[some], [*ids[some], *outside, ids[3]], index.selection([*ids[some], *outside])):
        check(index, ROWS[there], ids[there], ROWS[:5], 20, allow=allow)
        check(index, ROWS[there], ids[there], ROWS[:5], 3, allow=allow, deny=[])
        check(index, ROWS[others], ids[others], ROWS[:5], 20, deny=allow)
        check(index, ROWS[there[1:]], ids[there[1:]], ROWS[:5], 20, allow=allow, deny=ids[there[:1]])
    first = index.selection(ids[:5])
    check(index, ROWS[1:5], ids[1:5], ROWS[:5], 20, allow=first)
    for nothing in ({"allow": []}, {"allow": outside}, {"deny": ids}, {"allow": first, "deny": first}):
        found = index.search(ROWS[:4], 3, **nothing)  # type: ignore[arg-type]
        assert found[0].shape == found[1].shape == (4, 0)


def test_selections_follow_the_index(computing: Backend) -> None:
    index = Index.build(ROWS[:50], ids=np.arange(50) * 2)
    selection = index.selection([0, 2, 4, 101, 4])
    assert len(selection) == 4
    check(index, ROWS[:3], [0, 2, 4], ROWS[:3], 9, allow=selection)
    index.add(ROWS[60:62], ids=[101, 102])
    check(index, ROWS[[0, 1, 2, 60]], [0, 2, 4, 101], ROWS[:3], 9, allow=selection)
    index.remove([2, 10])
    check(index, ROWS[[0, 2, 60]], [0, 4, 101], ROWS[:3], 9, allow=selection)
    index.compact()
    check(index, ROWS[[0, 2, 60]], [0, 4, 101], ROWS[:3], 9, allow=selection)
    with pytest.raises(InputInvalid, match="another index"):
        Index.build(ROWS).search(ROWS, 1, allow=selection)


def test_a_snapshot_from_before_rows_moved_is_taken_anew() -> None:
    index = Index.build(ROWS[:50], ids=np.arange(50) * 2)
    index.remove([0])
    before = index._content.snapshot
    index.compact()
    assert index._content.find(before, np.array([2])) is None
    found = index._content.find(index._content.snapshot, np.array([2, 0]))
    assert found is not None
    assert found.tolist() == [0, -1]


def test_pinned_and_counted_threads_change_nothing(computing: Backend) -> None:
    index = Index.build(ROWS, threads=2)
    for options in ({"threads": 1}, {"threads": 3}, {"threads": 1, "pin": True}):
        check(index, ROWS, range(200), ROWS[:10], 5, **options)
    _, _, counters = index.search_counted(ROWS[:10], 5)
    assert counters["rows"] > 0
    assert counters["exact"] >= 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": True}, "k is True"),
        ({"k": 2.0}, "k is 2.0"),
        ({"queries": ROWS[:, :3]}, "3 dimensions"),
        ({"queries": ROWS[0, :3]}, "3 dimensions"),
        ({"queries": ROWS * np.nan}, "query 0"),
        ({"queries": ROWS[0] * np.inf}, "NaN or infinity"),
        ({"queries": np.zeros((1, 17), complex)}, "complex128"),
        ({"threads": 0}, "threads is 0"),
        ({"allow": [1.5]}, "float64"),
        ({"deny": np.ones(200, bool)}, "bool"),
        ({"allow": 3}, "one int"),
        ({"threads": 10**12}, "at most 4096"),
    ],
)
def test_searches_that_make_no_sense_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputInvalid, match=message):
        Index.build(ROWS).search(**{"queries": ROWS, "k": 1, **arguments})  # type: ignore[arg-type]


def test_ids_to_find_may_be_a_set_and_may_repeat(computing: Backend) -> None:
    for ids in (None, np.arange(200) * 3):
        index = Index.build(ROWS, ids)
        step = 1 if ids is None else 3
        some = [9 * step, 4 * step, 9 * step, 10**6, 4 * step]
        for wanted in (some, set(some), dict.fromkeys(some).keys(), index.selection(some)):
            assert sorted(index.search(ROWS[0], 5, allow=wanted)[0].tolist()) == [4 * step, 9 * step]
            assert not {4 * step, 9 * step} & set(index.search(ROWS[0], 200, deny=wanted)[0].tolist())
        assert index.remove({4 * step, 9 * step, 10**6}) == 2


def test_what_the_readme_shows_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (shown,) = re.findall(
        r"```python\n((?:(?!```).)*Index\.build.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(shown, names)
    assert len(names["index"]) == 10_000
    assert names["index"].dimensions == 384
    assert names["ids"].shape == names["scores"].shape == (10,)


def test_an_empty_index_is_not_searched() -> None:
    for index in (Index(17), Index.build(ROWS[:0])):
        with pytest.raises(InputInvalid, match="empty"):
            index.search(ROWS, 1)
    index.add(ROWS)
    index.remove(range(200))
    with pytest.raises(InputInvalid, match="empty"):
        index.search(ROWS, 1)


@pytest.mark.parametrize(
    ("dimensions", "metric"), [(0, "l2"), (True, "l2"), (1 << 20, "l2"), (4, "hamming"), (4, 1), (4, ["l2"])]
)
def test_indexes_that_make_no_sense_are_refused(dimensions: int, metric: str) -> None:
    with pytest.raises(InputInvalid):
        Index(dimensions, metric)


def bad_row(value: float) -> np.ndarray:
    rows = ROWS.astype(np.float64)
    rows[150, 3] = value
    return rows


@pytest.mark.parametrize(
    ("vectors", "ids", "message"),
    [
        (bad_row(np.nan), None, "row 150 "),
        (bad_row(-np.inf), np.arange(200) + 1000, "row 150 "),
        (bad_row(1e39), None, "row 150 "),
        (ROWS, [*range(1000, 1199), 7], "row 199 has the id 7, which is in the index already"),
        (ROWS, [*range(1000, 1199), 1005], "rows 5 and 199 both have the id 1005"),
        (ROWS, range(5), "5 ids for 200 vectors"),
        (ROWS[:, :4], None, "4 dimensions"),
        (ROWS[0], None, "shape"),
        (ROWS.astype(str), None, "real type"),
    ],
)
@pytest.mark.parametrize("custom", [False, True])
def test_a_refused_add_changes_nothing(
    computing: Backend,
    monkeypatch: pytest.MonkeyPatch,
    vectors: np.ndarray,
    ids: Sequence[int] | None,
    message: str,
    custom: bool,
) -> None:
    monkeypatch.setattr("aifw.search.vectors.BLOCK_BYTES", 64 * 17)
    mine = np.arange(20) if not custom else np.array([7, -1, *range(300, 318)])
    index = Index.build(ROWS[:20], mine if custom else None)
    before = index.memory() | {"next": index.next_id}
    with pytest.raises(InputInvalid, match=message):
        index.add(vectors, ids)
    assert index.memory() | {"next": index.next_id, "table": before["table"]} == before
    check(index, ROWS[:20], mine, ROWS[:5], 50)
    # The room that was written to is used again, and no id is taken.
    index.add(ROWS, np.arange(1000, 1200))
    check(index, np.concatenate([ROWS[:20], ROWS]), [*mine, *range(1000, 1200)], ROWS[:5], 50)


def test_an_interrupted_add_changes_nothing() -> None:
    index = Index.build(ROWS[:20], np.arange(20) - 5)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(ROWS, np.arange(200) + 100, progress=interrupt)
    assert len(index) == 20
    assert 100 not in index
    index.add(ROWS, np.arange(200) + 100)
    assert len(index) == 220


def test_memory_is_that_of_the_rows() -> None:
    index = Index.build(np.zeros((1600, 384), np.float32), np.arange(1600) * 2)
    found = index.memory()
    assert found["rows"] == 1600 * 384 * 4
    assert found["codes"] == 1600 * (192 + 8)
    assert found["low_codes"] == 1600 * (192 + 96 + 4)
    assert found["bounds"] == 1600 * 4 + 400
    assert found["norms"] == found["ids"] == 1600 * 8
    assert found["table"] >= 1600 * 16


def test_an_index_goes_when_nobody_holds_it() -> None:
    index = Index.build(ROWS)
    segment = weakref.ref(index._content.segments[0])
    gc.disable()
    try:
        index.search(ROWS, 1, allow=[1])
        del index
        assert segment() is None
    finally:
        gc.enable()


def test_two_rows_with_one_id_are_noticed() -> None:
    index = Index.build(ROWS, np.arange(200) * 2)
    index._content.segments[0].ids[5] = 8
    index._content.replace(index._content.segments)
    with pytest.raises(ArtifactCorrupt, match="the id 8"):
        index.remove([1])


def test_searching_while_one_adds_and_removes(computing: Backend) -> None:
    """What a search finds is always right for some state between the beginning and the end of the search."""
    index = Index(17, "l2")
    index.add(ROWS[:1])
    rounds, wrong, finished = 90, [], threading.Event()
    expected = {number: ROWS[number % 200] for number in [*range(rounds * 3 + 1), -(10**6)]}

    def look() -> None:
        kept = index.selection(range(0, rounds * 3, 2))
        while not finished.is_set():
            before = len(index._content.snapshot.segments)
            ids, scores = index.search(ROWS[:3], 400, threads=1)
            allowed, _ = index.search(ROWS[:3], 400, threads=1, allow=kept)
            exact = [
                [float(((ROWS[query].astype(np.float64) - expected[number]) ** 2).sum()) for number in row]
                for query, row in enumerate(ids.tolist())
            ]
            if not np.allclose(exact, scores) or len(set(ids[0].tolist())) != ids.shape[1] or (allowed % 2).any():
                wrong.append(ids)
            if before > len(index._content.snapshot.segments) or 0 not in index:
                wrong.append(before)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(rounds):
            start = 1 + 3 * number
            index.add(np.stack([expected[each] for each in range(start, start + 3)]), threads=1)
            if number % 5 == 4:
                index.remove([start, start - 6])
            if number == 70:
                index.add(expected[-(10**6)][None], ids=[-(10**6)])
                index.remove([-(10**6)])
    finally:
        finished.set()
        for reader in readers:
            reader.join()
    assert wrong == []


class Indexes(RuleBasedStateMachine):
    """An index beside a dictionary of its rows, saved and opened now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, np.ndarray] = {}
        self.next_id = 0

    @initialize(metric=st.sampled_from(sorted(METRICS)))
    def start(self, metric: str) -> None:
        self.index = Index(3, metric)

    @rule(count=st.integers(0, 40), seed=st.integers(0, 5))
    def add(self, count: int, seed: int) -> None:
        rows = np.random.default_rng(seed).integers(-2, 3, (count, 3)).astype(np.float32)
        self.index.add(rows)
        self.rows.update(zip(range(self.next_id, self.next_id + count), rows, strict=True))
        self.next_id += count

    @rule(ids=st.lists(st.integers(-30, 60), unique=True, min_size=1, max_size=10), seed=st.integers(0, 5))
    def add_ids(self, ids: list[int], seed: int) -> None:
        rows = np.random.default_rng(seed).integers(-2, 3, (len(ids), 3)).astype(np.float32)
        if any(each in self.rows for each in ids):
            with pytest.raises(InputInvalid):
                self.index.add(rows, ids)
            return
        self.index.add(rows, ids)
        self.rows.update(zip(ids, rows, strict=True))
        self.next_id = max(self.next_id, max(ids) + 1)

    @rule(ids=st.lists(st.integers(-30, 60), max_size=20))
    def remove(self, ids: list[int]) -> None:
        gone = set(ids) & set(self.rows)
        assert self.index.remove(ids) == len(gone)
        for each in gone:
            del self.rows[each]

    @rule()
    def compact(self) -> None:
        self.index.compact()

    @rule(other=st.booleans())
    def save_and_open(self, other: bool) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.index.save(f"{folder}/index")
            opened = Index.open(f"{folder}/index", verify=True)
        if other:
            self.index = opened

    @rule(
        k=st.integers(1, 30),
        allow=st.none() | st.lists(st.integers(-30, 60)),
        deny=st.none() | st.lists(st.integers(-30, 60)),
    )
    def search(self, k: int, allow: list[int] | None, deny: list[int] | None) -> None:
        if not self.rows:
            return
        ids = [each for each in self.rows if (allow is None or each in allow) and (deny is None or each not in deny)]
        queries = np.array([[1, 0, -1], [2, 1, 1], [0, 0, 0]], np.float32)
        rows = np.array([self.rows[each] for each in ids], np.float32).reshape(-1, 3)
        if ids:
            check(self.index, rows, ids, queries, k, allow=allow, deny=deny)
        else:
            assert self.index.search(queries, k, allow=allow, deny=deny)[0].shape == (3, 0)

    @invariant()
    def holds_the_same(self) -> None:
        assert len(self.index) == len(self.rows)
        assert self.index.next_id == self.next_id
        ids = list(self.rows)
        assert sorted(self.index) == sorted(ids)
        if ids:
            assert np.array_equal(self.index.vectors(ids), np.array(list(self.rows.values())))
        assert [each in self.index for each in range(-5, 20)] == [each in self.rows for each in range(-5, 20)]


def test_indexes_behave_as_dictionaries(computing: Backend) -> None:
    run_state_machine_as_test(Indexes, settings=settings(max_examples=15, stateful_step_count=25, deadline=None))


@given(st.integers(1, 60), st.integers(1, 90), st.integers(1, 70), st.sampled_from(sorted(METRICS)), st.integers(0, 99))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_is_searched(computing: Backend, count: int, dimensions: int, k: int, metric: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((count, dimensions)) * 10.0 ** rng.integers(-30, 30, (count, 1))).astype(np.float32)
    index = Index.build(rows, metric=metric)
    check(index, rows, range(count), rows[:5], k)
