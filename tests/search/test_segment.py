from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.errors import MemoryRefused
from aifw.search.merge import groups, rewritten
from aifw.search.reference import COSINE
from aifw.search.segment import HEADER_BYTES, Segment, allocate, bytes_of_a_row, layout, mask_of
from aifw.search.snapshot import take


@given(st.integers(1, 3000), st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_sections_lie_one_behind_the_other(dimensions: int, blocks: int) -> None:
    sections, size = layout(dimensions, 16 * blocks)
    end = HEADER_BYTES
    for section in sections:
        assert section.offset % 4096 == 0
        assert end <= section.offset < end + 4096
        end = section.offset + section.size
    assert end <= size < end + 4096
    assert abs(bytes_of_a_row(dimensions) * 16 * blocks - sum(each.size for each in sections)) <= 16 * blocks


def test_room_is_made_in_whole_blocks() -> None:
    segment = allocate(70, 17)
    assert segment.capacity == 32
    assert segment.rows.shape == (32, 80)
    assert segment.blocks.shape == (2, 128 + 8 * 128)
    assert segment.low.shape == (32, 64 + 32 + 4)
    assert segment.rows.ctypes.data % 64 == segment.blocks.ctypes.data % 64 == segment.low.ctypes.data % 64 == 0
    assert not segment.rows.any()


def test_memory_is_of_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, int]] = []
    real = mmap.mmap

    def spy(*arguments: int, **options: int) -> mmap.mmap:
        asked.append(options)
        return real(*arguments, **options)

    monkeypatch.setattr(mmap, "mmap", spy)
    allocate(4, 16)
    assert asked == [{"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}]


def test_too_much_memory_is_refused() -> None:
    with pytest.raises(MemoryRefused, match=r"384 dimensions take .* of memory"):
        allocate(384, 1 << 45)


def filled(count: int, first_id: int | None = 0, removed: tuple[int, ...] = ()) -> Segment:
    segment = allocate(3, count)
    segment.count, segment.first_id = count, first_id
    segment.ids[:count] = np.arange(count) + (first_id or 0)
    segment.rows[:count, :3] = segment.ids[:count, None]
    if removed:
        segment.remove(np.array(removed))
    return segment


def test_removed_rows_are_left_out() -> None:
    segment = filled(37)
    segment.remove(np.array([0, 15, 16, 36]))
    segment.remove(np.array([1]))
    assert segment.live == 32
    assert set(range(37)) - set(segment.live_rows().tolist()) == {0, 1, 15, 16, 36}
    assert segment.live_rows(2).tolist() == []
    assert segment.mask is not None
    assert segment.mask[2] == 0xFFFF & ~(1 << 4)


def test_masks() -> None:
    assert mask_of(np.array([0, 17, 31]), 48).tolist() == [1, 1 << 1 | 1 << 15, 0]


def test_a_snapshot_keeps_what_it_saw() -> None:
    one, two = filled(20), filled(10, 20, removed=(4,))
    snapshot = take([one, two], 0, 0)
    two.count = 12
    assert snapshot.live == 29
    slots = snapshot.automatic(np.array([-1, 0, 19, 20, 24, 29, 30, 2**63 - 1, -(2**63)]))
    assert slots.tolist() == [-1, 0, 19, 32, 36, 41, -1, -1, -1]
    number, row = snapshot.places(slots)
    assert number.tolist() == [-1, 0, 0, 1, -1, 1, -1, -1, -1]
    assert row[[1, 2, 3, 5]].tolist() == [0, 19, 0, 9]
    masks = snapshot.masks_of(slots)
    (first, count, mask, _), (second, _, other, _) = snapshot.entries(masks)
    assert (first, count, second) == (one, 20, two)
    assert mask is not None
    assert mask.tolist() == [1, 1 << 3]
    assert other is not None
    assert other.tolist() == [1 | 1 << 9]
    none = snapshot.masks_of(np.array([3]))
    assert [entry[0] for entry in snapshot.entries(none)] == [one]
    assert len(snapshot.entries(None, none)) == 2
    assert take([], 0, 0).automatic(np.array([3])).tolist() == [-1]
    assert take([], 0, 0).places(np.array([3]))[0].tolist() == [-1]


def sizes(segments: list[Segment]) -> list[tuple[list[int], bool]]:
    return [([each.count for each in group], rewrite) for group, rewrite in groups(segments)]


def test_small_segments_are_joined_with_those_behind() -> None:
    assert sizes([]) == []
    assert sizes([filled(100), filled(10)]) == [([100], False), ([10], False)]
    assert sizes([filled(100), filled(10), filled(10)]) == [([100], False), ([10, 10], True)]
    assert sizes([filled(100), filled(30), filled(10), filled(10)]) == [([100], False), ([30, 10, 10], True)]
    assert sizes([filled(90), filled(30), filled(10), filled(10)]) == [([90, 30, 10, 10], True)]
    assert sizes([filled(10), filled(100)]) == [([10, 100], True)]


def test_removed_rows_are_dropped_from_small_segments() -> None:
    assert sizes([filled(100, 0, tuple(range(51))), filled(5)]) == [([100], True), ([5], False)]
    assert sizes([filled(100, 0, tuple(range(50))), filled(5)]) == [([100], False), ([5], False)]
    assert sizes([filled(4, 0, (0, 1, 2, 3)), filled(5)]) == [([5], False), ([], True)]


def test_large_segments_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifw.search.merge.SMALL_BYTES", 50 * bytes_of_a_row(3))
    assert sizes([filled(40), filled(60), filled(40)]) == [([40], False), ([60], False), ([40], False)]


def test_joining_many_keeps_few() -> None:
    """However rows come, segments are few and rows are written anew a few times."""
    rng = np.random.default_rng(5)
    segments: list[int] = []
    written = total = 0
    for _ in range(200):
        added = int(rng.integers(1, 200))
        total += added
        segments.append(added)
        result = []
        for group, rewrite in groups([filled(each) for each in segments]):
            size = sum(each.count for each in group)
            result.append(size)
            written += size if rewrite else 0
        segments = result
        assert len(segments) <= 2 + np.log2(total)
    assert sum(segments) == total
    assert written <= 1.5 * total * np.log2(200)


def test_rewritten_rows_keep_order_and_ids() -> None:
    group = [filled(30, 0, (3, 29)), filled(20, 100)]
    found = rewritten(group, COSINE, lambda rows: allocate(3, min(rows, 32)), 1)
    assert [each.count for each in found] == [32, 16]
    expected = np.concatenate([np.delete(np.arange(30), [3, 29]), np.arange(100, 120)])
    assert np.concatenate([each.ids[: each.count] for each in found]).tolist() == expected.tolist()
    assert np.concatenate([each.rows[: each.count, 0] for each in found]).tolist() == expected.tolist()
    assert [each.first_id for each in found] == [None, 104]
    assert all(each.sealed for each in found)
    assert found[1].largest >= np.sqrt(3) * 119
