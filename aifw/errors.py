"""Every error aifw raises on purpose, in one tree.

    AifwError                     code      exit status
    ├── SpecInvalid               (many)    3   the spec cannot be used; carries diagnostics with positions
    ├── UsageError                AIFW900   64  the command line asks for something that does not exist
    ├── PlanStale                 AIFW300   6   a saved plan no longer matches spec, state or budget
    ├── LockHeld                  AIFW301   6   another engine is applying this spec
    ├── Refused                   AIFW310   4   budget or policy says no
    │   └── MemoryRefused         AIFW311   4   a job cannot fit the memory budget
    ├── StateError                AIFW400   1   the state cannot be read or written
    │   ├── StateTooNew           AIFW401   1   written by a newer aifw
    │   ├── ArtifactCorrupt       AIFW402   1   bytes in the store do not match their digest
    │   └── NoSpace               AIFW403   1   the disk is full
    ├── JobError                  AIFW500   1   a job failed; raised by the code of a kind
    │   ├── InputInvalid          AIFW501   1   the data a job was given cannot be used
    │   ├── DependencyMissing     AIFW502   1   a package or program the job needs is not installed
    │   ├── SourceUnavailable     AIFW503   1   a model or file cannot be fetched or verified
    │   ├── CheckpointInvalid     AIFW504   1   a checkpoint does not belong to this job
    │   └── SealedDataLeaked      AIFW505   1   data to train on share an item with a sealed set
    └── JobStopped                AIFW510   130 a job stopped because it was asked to; not a failure

Codes are stable: they may be searched for, and `aifw explain CODE` says more.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitStatus(IntEnum):
    """What the process tells its caller."""

    DONE = 0
    JOB_FAILED = 1
    CHANGES = 2
    SPEC_INVALID = 3
    REFUSED = 4
    GATE_SAID_NO = 5
    STALE_OR_LOCKED = 6
    ABSTAINED = 7
    USAGE = 64
    INTERRUPTED = 130


class AifwError(Exception):
    """Root of the tree.

    Args:
        message: What is wrong and where, in one sentence.
        hint: What to do about it.
    """

    code: ClassVar[str] = "AIFW000"
    exit_status: ClassVar[ExitStatus] = ExitStatus.JOB_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(cls: type[AifwError], message: str, hint: str | None) -> AifwError:
    return cls(message, hint=hint)


class UsageError(AifwError):
    """The command line names something that does not exist or does not fit."""

    code = "AIFW900"
    exit_status = ExitStatus.USAGE


class PlanStale(AifwError):
    """A saved plan no longer matches the spec, the state, prices or what is left of the budget."""

    code = "AIFW300"
    exit_status = ExitStatus.STALE_OR_LOCKED


class LockHeld(AifwError):
    """Another engine is applying this spec."""

    code = "AIFW301"
    exit_status = ExitStatus.STALE_OR_LOCKED


class Refused(AifwError):
    """Budget or policy says no."""

    code = "AIFW310"
    exit_status = ExitStatus.REFUSED


class MemoryRefused(Refused):
    """A job's forecast cannot fit the memory budget on any allowed device."""

    code = "AIFW311"


class StateError(AifwError):
    """The state cannot be read or written."""

    code = "AIFW400"


class StateTooNew(StateError):
    """The state was written by a newer aifw."""

    code = "AIFW401"


class ArtifactCorrupt(StateError):
    """The bytes of an artifact do not match their digest."""

    code = "AIFW402"


class NoSpace(StateError):
    """The disk is full; nothing half-written was kept."""

    code = "AIFW403"


class JobError(AifwError):
    """A job failed for a reason its kind can name."""

    code = "AIFW500"


class InputInvalid(JobError):
    """The data a job was given cannot be used."""

    code = "AIFW501"


class DependencyMissing(JobError):
    """A package or program the job needs is not installed."""

    code = "AIFW502"


class SourceUnavailable(JobError):
    """A model or file cannot be fetched, or what came does not match its hash."""

    code = "AIFW503"


class CheckpointInvalid(JobError):
    """A checkpoint belongs to another job or is incomplete."""

    code = "AIFW504"


class SealedDataLeaked(JobError):
    """Data to train on share an item, exactly or nearly, with a set that is sealed: kept for evaluation here or elsewhere."""

    code = "AIFW505"


class JobStopped(AifwError):
    """A job stopped because it was asked to, after saving what it could."""

    code = "AIFW510"
    exit_status = ExitStatus.INTERRUPTED
