"""Where everything lies.

.aifw/                      beside the spec, or `--state DIR`
  artifacts/ab/cdef…/       content-addressed, shared by the specs of a folder
  cache/                    what jobs keep between runs
  <metadata.name>/
    state.db  lock
    runs/<id>/events.jsonl
    jobs/<id>/              one folder per attempt: job.json, events.jsonl, log, result.json, out/ while it runs
    checkpoints/<key>/      of unfinished jobs
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one spec's state.

    Attributes:
        base: The `.aifw` folder.
        name: `metadata.name` of the spec.
    """

    base: Path
    name: str

    @property
    def folder(self) -> Path:
        """State of this spec alone."""
        return self.base / self.name

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "state.db"

    @property
    def lock(self) -> Path:
        """Held by the engine that applies."""
        return self.folder / "lock"

    @property
    def artifacts(self) -> Path:
        """The content-addressed store."""
        return self.base / "artifacts"

    @property
    def cache(self) -> Path:
        """What jobs keep between runs."""
        return self.base / "cache"

    def run(self, run: int) -> Path:
        """Folder of a run."""
        return self.folder / "runs" / str(run)

    def job(self, job: str) -> Path:
        """Folder of one attempt at a job."""
        return self.folder / "jobs" / job

    def checkpoints(self, key: str) -> Path:
        """Checkpoints of every attempt at a key."""
        return self.folder / "checkpoints" / key
