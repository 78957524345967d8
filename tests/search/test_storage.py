from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifw.errors import AifwError, ArtifactCorrupt, InputInvalid, NoSpace, StateError, StateTooNew
from aifw.search import Index, storage
from aifw.search.opening import manifest_digest
from aifw.search.segment import HEADER_BYTES, layout

ROWS = np.random.default_rng(0).standard_normal((100, 9)).astype(np.float32)


def same(one: Index, other: Index) -> bool:
    if (one.metric, one.dimensions, len(one), one.next_id) != (
        other.metric,
        other.dimensions,
        len(other),
        other.next_id,
    ):
        return False
    ids = np.sort(one.ids())
    return np.array_equal(ids, np.sort(other.ids())) and np.array_equal(one.vectors(ids), other.vectors(ids))


def names(folder: Path, ending: str = "") -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.endswith(ending)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved index: two segments, the second of ids that are not automatic, a mask in the first."""
    index = Index.build(ROWS)
    index.save(tmp_path / "index")
    index.add(ROWS[:20], ids=np.arange(20) * 7 - 1000)
    index.remove([3, 99])
    index.save()
    assert len(names(index._home, ".segment")) == 2  # type: ignore[arg-type]
    return tmp_path / "index"


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_what_was_saved_is_opened(tmp_path: Path, metric: str) -> None:
    index = Index.build(ROWS, metric=metric)
    index.add(ROWS[:5] * 3, ids=[-5, 2**63 - 1, -(2**63), 1000, 500])
    index.remove([7, 8, 1000])
    index.save(tmp_path / "index")
    for verify in (False, True):
        opened = Index.open(tmp_path / "index", verify=verify)
        assert same(index, opened)
        for one, other in zip(index.search(ROWS, 11), opened.search(ROWS, 11), strict=True):
            assert np.array_equal(one, other)
    opened.add(ROWS[:1], ids=[1000])
    with pytest.raises(InputInvalid, match="no automatic ids"):
        opened.add(ROWS[:1])


def test_an_empty_index_is_saved(tmp_path: Path) -> None:
    Index(9, "l2").save(tmp_path / "index")
    opened = Index.open(tmp_path / "index", verify=True)
    assert (len(opened), opened.metric, opened.dimensions) == (0, "l2", 9)
    opened.add(ROWS)
    opened.remove(range(100))
    opened.save()
    assert len(Index.open(tmp_path / "index")) == 0
    assert names(tmp_path / "index") == {"manifest.json"}
    assert Index.open(tmp_path / "index").next_id == 100


def test_only_what_is_new_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    index = Index.open(folder)
    written: list[str] = []
    real = storage.Partial.rename
    monkeypatch.setattr(storage.Partial, "rename", lambda self, name: written.append(name) or real(self, name))
    index.save()
    assert written == ["manifest.json"]
    index.add(ROWS[:3])
    index.save()
    assert [name.rpartition(".")[2] for name in written] == ["json", "segment", "json"]
    written.clear()
    index.remove([5])
    index.save()
    assert [name.rpartition(".")[2] for name in written] == ["mask", "json"]
    after = {path.name: path.stat().st_ino for path in folder.iterdir()}
    kept = {name for name in before if name.endswith(".segment")}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert len(names(folder, ".mask")) == 1
    assert same(index, Index.open(folder, verify=True))


def test_files_are_linked_into_another_folder(folder: Path, tmp_path: Path) -> None:
    index = Index.open(folder)
    index.save(tmp_path / "other")
    for name in names(folder, ".segment"):
        assert (tmp_path / "other" / name).samefile(folder / name)
    index.add(ROWS[:3])
    index.save()
    assert len(Index.open(folder)) + 3 == len(Index.open(tmp_path / "other", verify=True))


def test_files_are_copied_where_links_are_not_possible(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EXDEV, "other disk")

    monkeypatch.setattr(os, "link", link)
    index = Index.open(folder)
    index.save(tmp_path / "other")
    assert names(tmp_path / "other", ".segment") == names(folder, ".segment")
    assert same(index, Index.open(tmp_path / "other", verify=True))


def test_many_small_saves_leave_few_files(tmp_path: Path) -> None:
    index = Index(9)
    for start in range(50):
        index.add(ROWS[start : start + 1])
        index.save(tmp_path / "index")
    assert len(names(tmp_path / "index", ".segment")) <= 7
    opened = Index.open(tmp_path / "index", verify=True)
    assert same(opened, Index.build(ROWS[:50]))


def test_readers_keep_what_they_opened(folder: Path) -> None:
    reader = Index.open(folder)
    before = reader.search(ROWS, 5)
    writer = Index.open(folder)
    writer.remove(writer.ids()[::2])
    writer.compact()
    writer.save()
    shutil.rmtree(folder)
    for one, other in zip(before, reader.search(ROWS, 5), strict=True):
        assert np.array_equal(one, other)


def test_a_second_writer_is_told(folder: Path) -> None:
    one, other = Index.open(folder), Index.open(folder)
    one.add(ROWS[:1])
    one.save()
    other.add(ROWS[:2])
    with pytest.raises(StateError, match="saved by someone else"):
        other.save()
    other.save(folder.with_name("other"))
    assert len(Index.open(folder.with_name("other"))) == len(one) + 1
    assert len(Index.open(folder)) == len(one)


def test_saving_over_another_index_replaces_it(folder: Path) -> None:
    Index.build(ROWS[:10]).save(folder)
    assert len(Index.open(folder, verify=True)) == 10
    assert len(names(folder)) == 2


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputInvalid, match=r"notes\.txt"):
        Index.build(ROWS).save(tmp_path)
    with pytest.raises(InputInvalid, match=r"notes\.txt"):
        Index.build(ROWS, path=tmp_path)
    assert names(tmp_path) == {"notes.txt"}
    with pytest.raises(StateError, match=r"notes\.txt"):
        Index.build(ROWS).save(tmp_path / "notes.txt")


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in {"nothing": "no index at", "file": "is a file", "empty": "is empty"}.items():
        with pytest.raises(InputInvalid, match=message):
            Index.open(tmp_path / name)
    with pytest.raises(ArtifactCorrupt, match=r"no manifest\.json"):
        Index.open(tmp_path)


def test_another_index_may_not_be_there_when_one_is_made(folder: Path) -> None:
    with pytest.raises(InputInvalid, match="already"):
        Index.create(folder, 9)


# Damage


def change(folder: Path, edit: Callable[[dict[str, object]], object]) -> None:
    """Edit the manifest, and make its digest right again."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    del content["digest"]
    edit(content)
    content["digest"] = manifest_digest(content)
    path.unlink()
    path.write_text(json.dumps(content))


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Change a file in place of the read-only one."""
    changed = bytearray(path.read_bytes())
    changed[offset : offset + len(content)] = content
    path.unlink()
    path.write_bytes(changed)


EDITS: dict[str, Callable[[dict[str, object]], object]] = {
    "metric": lambda m: m.update(metric="hamming"),
    "another metric": lambda m: m.update(metric="l2"),
    "dimensions": lambda m: m.update(dimensions=0),
    "more dimensions": lambda m: m.update(dimensions=10),
    "dimensions of another type": lambda m: m.update(dimensions=True),
    "count": lambda m: m.update(count=7),
    "next id": lambda m: m.update(next_id=50),
    "next id too large": lambda m: m.update(next_id=2**64),
    "an entry too many": lambda m: m.update(extra=1),
    "an entry too few": lambda m: m.pop("count"),
    "segments": lambda m: m.update(segments={}),
    "a segment": lambda m: m.update(segments=[[]]),
    "twice": lambda m: m.update(segments=m["segments"] * 2, count=2 * m["count"]),  # type: ignore[operator]
    "name": lambda m: m["segments"][0].update(file="../" + m["segments"][0]["file"]),  # type: ignore[index]
    "name of a mask": lambda m: m["segments"][0].update(file=m["segments"][0]["mask"]["file"]),  # type: ignore[index]
    "rows": lambda m: m["segments"][0].update(rows=99, bytes=m["segments"][0]["bytes"]),  # type: ignore[index]
    "many rows": lambda m: m["segments"][0].update(rows=1 << 39),  # type: ignore[index]
    "no rows": lambda m: m["segments"][0].update(rows=0),  # type: ignore[index]
    "bytes": lambda m: m["segments"][0].update(bytes=1),  # type: ignore[index]
    "ids": lambda m: m["segments"][0].update(first_id=5),  # type: ignore[index]
    "ids of the other": lambda m: m["segments"][1].update(first_id=0),  # type: ignore[index]
    "mask": lambda m: m["segments"][0].update(mask=[]),  # type: ignore[index]
    "mask elsewhere": lambda m: m["segments"][0]["mask"].update(file="/dev/zero"),  # type: ignore[index]
    "mask bytes": lambda m: m["segments"][0]["mask"].update(bytes=1 << 50),  # type: ignore[index]
    "removed": lambda m: m["segments"][0]["mask"].update(removed=3),  # type: ignore[index]
    "no mask": lambda m: m["segments"][0].update(mask=None),  # type: ignore[index]
}


@pytest.mark.parametrize("what", EDITS)
def test_a_manifest_that_lies_is_refused(folder: Path, what: str) -> None:
    change(folder, EDITS[what])
    with pytest.raises(ArtifactCorrupt, match=str(folder)) as refused:
        Index.open(folder)
    assert refused.value.hint


def test_vectors_that_became_infinite_are_noticed_by_a_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFW_NO_KERNEL", "1")
    sections = {each.name: each for each in layout(9, 112)[0]}
    path = folder / max(names(folder, ".segment"), key=lambda name: (folder / name).stat().st_size)
    overwrite(path, sections["rows"].offset, b"\xff" * sections["rows"].size)
    with pytest.raises(ArtifactCorrupt, match=str(folder)):
        Index.open(folder).search(ROWS[:3], 5)


def test_a_manifest_that_was_edited_is_refused(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(text.replace('"next_id": 100', '"next_id": 101'))
    with pytest.raises(ArtifactCorrupt, match="does not match its digest"):
        Index.open(folder)


def test_a_header_that_was_edited_is_refused(folder: Path) -> None:
    path = folder / min(names(folder, ".segment"))
    overwrite(path, struct.calcsize("<8sIIqqq"), struct.pack("<d", 1e-3))
    with pytest.raises(ArtifactCorrupt, match="header does not match its digest"):
        Index.open(folder)


def test_a_newer_format_is_refused(folder: Path) -> None:
    change(folder, lambda m: m.update(version=2))
    with pytest.raises(StateTooNew, match="version 2"):
        Index.open(folder)


def test_a_manifest_of_something_else_is_refused(folder: Path) -> None:
    for text in ("", "{", "[]", "null", '{"format": "other"}', "[" * 100_000, '{"format": "aifw.index"}', "\xff"):
        (folder / "manifest.json").unlink()
        (folder / "manifest.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(ArtifactCorrupt, match=r"manifest\.json"):
            Index.open(folder)
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(ArtifactCorrupt, match="not a file"):
        Index.open(folder)


@pytest.mark.parametrize("ending", [".segment", ".mask"])
def test_files_that_are_missing_or_cut_are_refused(folder: Path, ending: str) -> None:
    for name in sorted(names(folder, ending)):
        content = (folder / name).read_bytes()
        for size in (None, 0, 1, HEADER_BYTES, len(content) - 1, len(content) + 1):
            (folder / name).unlink(missing_ok=True)
            if size is not None:
                (folder / name).write_bytes((content + b"x")[:size])
            with pytest.raises(ArtifactCorrupt, match=name):
                Index.open(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(content)
    Index.open(folder, verify=True)


def test_altered_vectors_are_noticed_when_asked(folder: Path) -> None:
    path = folder / min(names(folder, ".segment"))
    overwrite(path, HEADER_BYTES + 8, b"\x01")
    Index.open(folder)
    with pytest.raises(ArtifactCorrupt, match="not match its digest"):
        Index.open(folder, verify=True)


def test_headers_that_lie_are_refused(folder: Path) -> None:
    path = folder / min(names(folder, ".segment"))
    original = path.read_bytes()
    fields = struct.Struct("<8sIIqqqd")
    right = fields.unpack_from(original)
    for position, value in enumerate([b"other\0\0\0", 0, 7, 10, 16, 1 << 40, float("nan")]):
        wrong = [*right]
        wrong[position] = value
        header = fields.pack(*wrong) + original[fields.size : HEADER_BYTES - 32]
        overwrite(path, 0, header + sha256(header).digest())
        with pytest.raises(ArtifactCorrupt, match=path.name):
            Index.open(folder)
    header = fields.pack(right[0], 2, *right[2:]) + original[fields.size : HEADER_BYTES - 32]
    overwrite(path, 0, header + sha256(header).digest())
    with pytest.raises(StateTooNew):
        Index.open(folder)


def opened_or_refused(folder: Path) -> Index | None:
    """A damaged index after a search, or None if it was refused with a message that says where."""
    try:
        opened = Index.open(folder)
        if len(opened):
            opened.search(ROWS[:3, :1].repeat(opened.dimensions, axis=1), 5)
    except AifwError as refused:
        if str(folder) not in refused.message:
            raise
        return None
    return opened


SUPPRESSED = [HealthCheck.function_scoped_fixture]


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=SUPPRESSED)
def test_any_damage_is_an_error_or_harmless(folder: Path, data: st.DataObject) -> None:
    """Bytes of the manifest, the masks and the headers are flipped, cut and added."""
    whole = Index.open(folder)
    name = data.draw(st.sampled_from(sorted(names(folder))))
    content = (folder / name).read_bytes()
    reach = HEADER_BYTES if name.endswith(".segment") else len(content)
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, reach - 1))
        kind = data.draw(st.sampled_from(["flip", "set", "cut", "insert"]))
        if kind == "flip":
            damaged[min(at, len(damaged) - 1)] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "set":
            damaged[min(at, len(damaged) - 1)] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del damaged[max(1, at) :]
        else:
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    (folder / name).unlink()
    (folder / name).write_bytes(damaged)
    opened = opened_or_refused(folder)
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    assert opened is None or same(whole, opened)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=SUPPRESSED)
def test_any_manifest_with_a_right_digest_is_an_error_or_an_index(folder: Path, data: st.DataObject) -> None:
    original = (folder / "manifest.json").read_bytes()

    def edit(content: dict[str, object]) -> None:
        places: list[dict[str, object]] = [content]
        for segment in content["segments"]:  # type: ignore[attr-defined]
            places += [segment, *([segment["mask"]] if segment["mask"] else [])]
        for _ in range(data.draw(st.integers(1, 2))):
            place = data.draw(st.sampled_from(places))
            place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)

    try:
        with suppress(ValueError):  # NaN has no place in a manifest
            change(folder, edit)
        opened_or_refused(folder)
    finally:
        (folder / "manifest.json").unlink(missing_ok=True)
        (folder / "manifest.json").write_bytes(original)


# Crashes

SCRIPT = """
import sys, numpy as np
from aifw.search import Index
rows = np.random.default_rng(0).standard_normal((100, 9)).astype(np.float32)
index = Index.open(sys.argv[1])
index.add(rows[:60])
index.remove([5, 6])
index.save()
"""


def run(script: str, folder: Path, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


def test_a_crash_anywhere_leaves_the_old_or_the_new_index(folder: Path, tmp_path: Path) -> None:
    old = Index.open(folder)
    shutil.copytree(folder, tmp_path / "done")
    log = tmp_path / "log"
    assert run(SCRIPT, tmp_path / "done", AIFW_BOUNDARY_LOG=str(log)) == 0
    new = Index.open(tmp_path / "done")
    assert not same(old, new)
    reached = log.read_text().split()
    assert {"index.written", "index.renamed", "index.described", "index.saved"} <= set(reached)
    outcomes = []
    for position, name in enumerate(reached):
        crashed = tmp_path / f"crashed-{position}"
        shutil.copytree(folder, crashed)
        occurrence = reached[: position + 1].count(name)
        assert run(SCRIPT, crashed, AIFW_CRASH_AT=f"{name}:{occurrence}") == -signal.SIGKILL
        found = Index.open(crashed, verify=True)
        assert same(found, old) or same(found, new)
        outcomes.append(same(found, new))
        # What the crash left is swept by the next save, and nothing of it is in the way.
        found.save()
        assert same(Index.open(crashed, verify=True), found)
        assert not [each for each in names(crashed) if each.startswith(".")]
        assert len(names(crashed)) == 1 + len(names(crashed, ".segment")) + len(names(crashed, ".mask"))
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {False, True}


CREATE = """
import sys, numpy as np
from aifw.search import Index
rows = np.random.default_rng(0).standard_normal((100, 9)).astype(np.float32)
index = Index.create(sys.argv[1], 9)
index.add(rows)
index.save()
"""


def test_a_crash_while_one_is_made_leaves_none(tmp_path: Path) -> None:
    crashed = tmp_path / "index"
    assert run(CREATE, crashed, AIFW_CRASH_AT="index.written") == -signal.SIGKILL
    assert names(crashed)
    with pytest.raises(ArtifactCorrupt, match="never saved completely"):
        Index.open(crashed)
    assert run(CREATE, crashed) == 0
    assert len(Index.open(crashed, verify=True)) == 100
    assert len(names(crashed)) == 2


def test_files_of_a_living_writer_are_not_swept(folder: Path) -> None:
    waiting = storage.Room(9, folder).allocate(16)
    left = folder / ".partial-left"
    left.write_bytes(b"x")
    index = Index.open(folder)
    index.save()
    assert waiting.source.path.exists()
    assert not left.exists()
    storage.Room(9, folder).discard(waiting)
    assert not [each for each in names(folder) if each.startswith(".")]


def test_a_full_disk_is_named_and_harmless(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.open(folder)
    index.add(ROWS)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NoSpace, match=str(folder)):
            index.save()
    assert len(Index.open(folder, verify=True)) == 118
    assert not [each for each in names(folder) if each.startswith(".")]
    index.save()
    assert same(index, Index.open(folder, verify=True))


# Rows kept in files from the beginning


def test_an_index_is_built_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifw.search.storage.FILE_BYTES", 32 * 170)
    monkeypatch.setattr("aifw.search.merge.SMALL_BYTES", 0)
    index = Index.build(ROWS, path=tmp_path / "index")
    assert len(names(tmp_path / "index", ".segment")) >= 3
    assert same(index, Index.build(ROWS))
    assert same(Index.open(tmp_path / "index", verify=True), index)
    index.add(ROWS[:50])
    index.remove([0, 1, 2])
    index.save()
    opened = Index.open(tmp_path / "index", verify=True)
    assert same(opened, index)
    for one, other in zip(index.search(ROWS, 9), opened.search(ROWS, 9), strict=True):
        assert np.array_equal(one, other)
    index.compact()
    index.save()
    assert same(opened, index)
    assert same(Index.open(tmp_path / "index", verify=True), index)


def test_a_refused_add_leaves_no_file(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", 9)
    bad = ROWS.copy()
    bad[-1, -1] = np.inf
    with pytest.raises(InputInvalid, match="row 99 "):
        index.add(bad)
    assert names(tmp_path / "index") == set()
    assert len(index) == 0


def test_unsaved_files_go_with_their_index(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", 9)
    index.add(ROWS)
    assert len(names(tmp_path / "index")) == 1
    del index
    assert names(tmp_path / "index") == set()


def test_a_child_of_fork_removes_nothing(tmp_path: Path) -> None:
    script = """
import os, sys, numpy as np
from aifw.search import Index
index = Index.create(sys.argv[1], 9)
index.add(np.ones((1024, 9), np.float32))
assert index._content.segments[0].capacity == 1024
if os.fork() == 0:
    sys.exit(0)
assert os.wait()[1] == 0
index.save()
"""
    assert run(script, tmp_path / "index") == 0
    assert len(Index.open(tmp_path / "index", verify=True)) == 1024
