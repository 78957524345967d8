"""The artifact store: immutable, content-addressed folders that are complete or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from aifw.boundary import boundary
from aifw.errors import ArtifactCorrupt, JobError, NoSpace
from aifw.job import sync_directory, sync_tree
from aifw.plan.identity import canonical
from aifw.state.fingerprint import fingerprint

FORMAT = "aifw.artifact/v1"
MANIFEST = "manifest.json"


def build_manifest(
    out: Path, kind: str, outputs: tuple[str, ...], facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Describe what a job left in `out`.

    Returns:
        Manifest: for every output the sha256 and size of each file, its facts, and a digest over both.

    Raises:
        JobError: There is a symbolic link, whose target could change.
    """
    described: dict[str, Any] = {}
    for path in out.rglob("*"):
        if path.is_symlink():
            raise JobError(
                f"the job left a symbolic link, {path.relative_to(out)}", hint="its kind has to write the file itself"
            )
    for name in outputs:
        folder = out / name
        files = {
            path.relative_to(folder).as_posix(): {"sha256": digest_of(path), "size": path.stat().st_size}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        content = {"files": files, "facts": dict(facts.get(name, {}))}
        described[name] = {"digest": sha256(canonical(content).encode()).hexdigest(), **content}
    return {"format": FORMAT, "kind": kind, "outputs": described, "facts": dict(facts.get("", {}))}


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Digest of an artifact: of its manifest."""
    return sha256(canonical(manifest).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


class ArtifactStore:
    """The folder `artifacts/`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # A plan asks for thousands of fingerprints, and a Path takes as long to make as a folder to look at.
        self._text = os.fspath(root)

    def path(self, digest: str) -> Path:
        """Folder of an artifact."""
        return self.root / digest[:2] / digest[2:]

    def keep(self, out: Path, manifest: Mapping[str, Any]) -> str:
        """Move a finished folder into the store, under the digest of its manifest.

        Returns:
            The digest. What was there under it before is kept if it is whole, and replaced if not.

        Raises:
            NoSpace: The disk is full; the store is unchanged.
        """
        digest = manifest_digest(manifest)
        final = self.path(digest)
        with no_space_named(f"artifact {digest[:12]}"):
            if final.is_dir():
                if not self.damage(digest):
                    boundary("artifact.known")
                    return digest
                self.discard(digest)
            (out / MANIFEST).unlink(missing_ok=True)
            (out / MANIFEST).write_text(canonical(manifest), encoding="utf-8")
            for path in out.rglob("*"):
                if path.is_file():
                    path.chmod(0o444)
            sync_tree(out)
            final.parent.mkdir(parents=True, exist_ok=True)
            boundary("artifact.complete")
            try:
                out.rename(final)
            except OSError:
                # The store is shared: an engine of another spec may have kept the same at the same time.
                if self.damage(digest):
                    raise
                return digest
            sync_directory(final.parent)
            sync_directory(self.root)
        boundary("artifact.renamed")
        return digest

    def manifest(self, digest: str) -> dict[str, Any]:
        """Read an artifact's manifest.

        Raises:
            ArtifactCorrupt: It is missing or altered.
        """
        try:
            found: dict[str, Any] = json.loads((self.path(digest) / MANIFEST).read_bytes())
            actual = manifest_digest(found)
        except (OSError, ValueError) as error:
            raise ArtifactCorrupt(f"artifact {digest[:12]} has no readable manifest") from error
        if actual != digest:
            raise ArtifactCorrupt(f"the manifest of artifact {digest[:12]} was altered")
        return found

    def damage(self, digest: str) -> str:
        """Compare every byte with the manifest; say what is wrong, or nothing."""
        try:
            manifest = self.manifest(digest)
        except ArtifactCorrupt as error:
            return error.message
        for name, output in manifest["outputs"].items():
            for relative, expected in output["files"].items():
                path = self.path(digest) / name / relative
                try:
                    if path.stat().st_size != expected["size"] or digest_of(path) != expected["sha256"]:
                        return f"{name}/{relative} is corrupted"
                except OSError:
                    return f"{name}/{relative} is missing"
        return ""

    def fingerprint(self, digest: str) -> str:
        """Sizes and times of all files in one short text: as long as it is the same, the bytes are taken to be."""
        return fingerprint(f"{self._text}/{digest[:2]}/{digest[2:]}")

    def discard(self, digest: str) -> int:
        """Delete an artifact; returns the bytes it had."""
        final = self.path(digest)
        size = sum(path.stat().st_size for path in final.rglob("*") if path.is_file())
        trash = self.root / f"deleting-{digest[:16]}-{os.getpid()}"
        final.rename(trash)
        # Another engine may sweep at the same time.
        shutil.rmtree(trash, ignore_errors=True)
        return size

    def digests(self) -> list[str]:
        """Every artifact in the store."""
        return [outer.name + inner.name for outer in self.root.glob("??") for inner in outer.iterdir()]

    def sweep(self) -> None:
        """Remove what a crash left half-deleted."""
        for trash in self.root.glob("deleting-*"):
            shutil.rmtree(trash, ignore_errors=True)


@contextmanager
def no_space_named(what: str) -> Iterator[None]:
    """Turn a full disk into an error that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace(
                f"the disk is full: {what} could not be written", hint="free some space and run the same command again"
            ) from error
        raise
