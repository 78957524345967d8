from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.errors import ArtifactCorrupt, JobError
from aifw.state import artifacts as artifacts_module
from aifw.state.artifacts import MANIFEST, ArtifactStore, build_manifest, manifest_digest


def leave(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def keep(artifacts: ArtifactStore, tmp_path: Path) -> Callable[..., str]:
    def kept(files: dict[str, str] | None = None, facts: Any = None) -> str:
        out = leave(
            tmp_path / f"out{len(list(tmp_path.iterdir()))}", files or {"text/text.txt": "hello", "text/sub/b": "b"}
        )
        return artifacts.keep(out, build_manifest(out, "toy", ("text",), facts or {}))

    return kept


NAMES = st.sampled_from(["a", "b", "sub/a", "sub/deep/c"])
CONTENTS = st.dictionaries(NAMES.map(lambda name: f"text/{name}"), st.text(max_size=5), min_size=1)
FACTS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3) | st.booleans(), max_size=3)


@settings(deadline=None, max_examples=40)
@given(CONTENTS, FACTS, st.data())
def test_a_digest_follows_from_content_and_facts_alone(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], facts: dict[str, Any], data: st.DataObject
) -> None:
    one, two = (tmp_path_factory.mktemp("out") for _ in range(2))
    order = data.draw(st.permutations(list(files.items())))
    given_facts = dict(data.draw(st.permutations(list(facts.items()))))
    leave(one, files)
    leave(two, dict(order))
    for path in two.rglob("*"):
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(0o600)
    first = build_manifest(one, "toy", ("text",), {"text": facts})
    second = build_manifest(two, "toy", ("text",), {"text": given_facts})
    assert manifest_digest(first) == manifest_digest(second)
    assert first["outputs"]["text"]["digest"] == second["outputs"]["text"]["digest"]

    changed = data.draw(st.sampled_from(sorted(files)))
    leave(two, {changed: files[changed] + "!"})
    third = build_manifest(two, "toy", ("text",), {"text": facts})
    fourth = build_manifest(one, "toy", ("text",), {"text": {**facts, "one more": 1}})
    assert len({each["outputs"]["text"]["digest"] for each in (first, third, fourth)}) == 3
    assert len({manifest_digest(each) for each in (first, third, fourth)}) == 3


def test_an_output_has_its_own_digest(tmp_path: Path) -> None:
    def described(left: str) -> Any:
        out = leave(tmp_path / left, {"left/t": left, "right/t": "same"})
        return build_manifest(out, "toy", ("left", "right"), {"": {"rows": 1}})["outputs"]

    one, two = described("one"), described("two")
    assert one["left"]["digest"] != two["left"]["digest"]
    assert one["right"]["digest"] == two["right"]["digest"]


def test_facts_of_the_whole_artifact_are_in_its_digest_only(tmp_path: Path) -> None:
    out = leave(tmp_path, {"text/t": "t"})
    one, two = (build_manifest(out, "toy", ("text",), {"": {"rows": rows}}) for rows in (1, 2))
    assert one["outputs"] == two["outputs"]
    assert manifest_digest(one) != manifest_digest(two)


def test_what_is_kept_can_be_read_and_not_written(artifacts: ArtifactStore, keep: Callable[..., str]) -> None:
    digest = keep(facts={"text": {"length": 5}})
    path = artifacts.path(digest)
    assert (path / "text" / "text.txt").read_text() == "hello"
    assert artifacts.manifest(digest)["outputs"]["text"]["facts"] == {"length": 5}
    assert artifacts.damage(digest) == ""
    assert artifacts.digests() == [digest]
    assert all(each.stat().st_mode & 0o222 == 0 for each in path.rglob("*") if each.is_file())


def test_the_same_can_be_kept_twice(artifacts: ArtifactStore, keep: Callable[..., str]) -> None:
    digest = keep()
    inode = (artifacts.path(digest) / "text" / "text.txt").stat().st_ino
    assert keep() == digest
    assert (artifacts.path(digest) / "text" / "text.txt").stat().st_ino == inode, "what is whole stays"


def test_a_damaged_artifact_is_replaced_by_a_whole_one(artifacts: ArtifactStore, keep: Callable[..., str]) -> None:
    digest = keep()
    (artifacts.path(digest) / "text" / "text.txt").unlink()
    assert keep() == digest
    assert artifacts.damage(digest) == ""


def test_two_engines_may_keep_the_same_at_once(
    artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is shared by specs with locks of their own."""
    mine, theirs = (leave(tmp_path / name, {"text/t": "t"}) for name in ("mine", "theirs"))
    manifest = build_manifest(mine, "toy", ("text",), {})

    def meanwhile(name: str) -> None:
        if name == "artifact.complete" and theirs.exists():
            monkeypatch.undo()
            artifacts.keep(theirs, manifest)

    monkeypatch.setattr("aifw.state.artifacts.boundary", meanwhile)
    digest = artifacts.keep(mine, manifest)
    assert not theirs.exists()
    assert artifacts.damage(digest) == ""


def altered(path: Path) -> None:
    path.chmod(0o600)
    path.write_text("HELLO")


def truncated(path: Path) -> None:
    os.truncate(path, 2)


@pytest.mark.parametrize(
    ("change", "expected"),
    [(altered, "is corrupted"), (truncated, "is corrupted"), (Path.unlink, "is missing")],
)
@pytest.mark.parametrize("name", ["text.txt", "sub/b"])
def test_damage_of_a_file_is_found_and_named(
    artifacts: ArtifactStore, keep: Callable[..., str], change: Callable[[Path], object], expected: str, name: str
) -> None:
    digest = keep()
    change(artifacts.path(digest) / "text" / name)
    if name == "sub/b" and change is altered:
        expected = "is corrupted"
    assert artifacts.damage(digest) == f"text/{name} {expected}"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"outputs": NaN}', b"null"])
def test_damage_of_the_manifest_is_found(artifacts: ArtifactStore, keep: Callable[..., str], content: bytes) -> None:
    digest = keep()
    manifest = artifacts.path(digest) / MANIFEST
    manifest.unlink()
    assert "no readable manifest" in artifacts.damage(digest)
    manifest.write_bytes(content)
    assert "manifest" in artifacts.damage(digest)
    with pytest.raises(ArtifactCorrupt):
        artifacts.manifest(digest)


def test_an_edited_manifest_is_found(artifacts: ArtifactStore, keep: Callable[..., str]) -> None:
    digest = keep()
    path = artifacts.path(digest) / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["outputs"]["text"]["facts"] = {"accuracy": 1.0}
    path.unlink()
    path.write_text(json.dumps(manifest))
    assert "altered" in artifacts.damage(digest)


def test_a_fingerprint_is_stable_and_sees_every_touch(artifacts: ArtifactStore, keep: Callable[..., str]) -> None:
    digest = keep()
    before = artifacts.fingerprint(digest)
    assert artifacts.fingerprint(digest) == before
    path = artifacts.path(digest) / "text" / "sub" / "b"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    touched = artifacts.fingerprint(digest)
    assert touched != before
    path.unlink()
    assert artifacts.fingerprint(digest) not in {before, touched}
    assert artifacts.fingerprint("00" * 32) == "missing"


def test_discarding_frees_the_bytes_it_says(artifacts: ArtifactStore, keep: Callable[..., str]) -> None:
    one, two = keep(), keep({"text/text.txt": "other"})
    size = sum(path.stat().st_size for path in artifacts.path(one).rglob("*") if path.is_file())
    assert artifacts.discard(one) == size
    assert artifacts.digests() == [two]
    assert "no readable manifest" in artifacts.damage(one)
    assert [path.name for path in artifacts.root.iterdir() if path.name.startswith("deleting")] == []


def test_what_was_half_deleted_is_swept(artifacts: ArtifactStore, keep: Callable[..., str]) -> None:
    digest = keep()
    leave(artifacts.root / "deleting-0123-99", {"text/t": "t"})
    artifacts.sweep()
    assert artifacts.digests() == [digest]
    assert [path.name for path in artifacts.root.iterdir()] == [digest[:2]]


def test_a_symbolic_link_is_no_content(tmp_path: Path) -> None:
    target = leave(tmp_path / "elsewhere", {"weights": "w"}) / "weights"
    out = leave(tmp_path / "out", {"text/t": "t"})
    (out / "text" / "linked").symlink_to(target)
    with pytest.raises(JobError, match="symbolic link, text/linked"):
        build_manifest(out, "toy", ("text",), {})


def interrupted_and_kept_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = leave(folder / "out", {"text/t": "t"})
    store = ArtifactStore(folder / "artifacts")
    manifest = build_manifest(out, "toy", ("text",), {})

    def die(name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(artifacts_module, "boundary", die)
        with pytest.raises(KeyboardInterrupt):
            store.keep(out, manifest)
    assert not os.access(out / "text" / "t", os.W_OK)
    digest = store.keep(out, manifest)
    assert store.damage(digest) == ""
    store.discard(digest)
    assert store.digests() == []


# Later versions of Python warn of forks beside threads; this child waits for nothing that a thread could hold.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_store_that_was_interrupted_can_keep_again_without_being_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of an artifact are read-only; an engine that died between that and the rename does it all again."""
    if os.geteuid() != 0:
        interrupted_and_kept_again(tmp_path, monkeypatch)
        return
    # Root may write files that are read-only, so a child becomes somebody who may not. It goes on with what is imported already,
    # since that user may not reach the interpreter; and it works below the working directory, since the folders above may be closed.
    tmp_path.chmod(0o777)
    child = os.fork()
    if child == 0:
        try:
            os.chdir(tmp_path)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            interrupted_and_kept_again(Path(), monkeypatch)
            os._exit(0)
        finally:
            # Nothing of the test runner may happen a second time in this process.
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
