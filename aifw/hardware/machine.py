"""What the probe found, as values."""

from __future__ import annotations

from dataclasses import dataclass

from aifw.hardware.cores import Cores


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor as /proc/cpuinfo and the scheduler report it.

    Attributes:
        model: Name, or `unknown`.
        cores: Processors this process may run on (affinity and cgroup quota), at least 1.
        flags: Instruction set flags.
        layout: Which processors these are, their kinds and which share a core; None where nobody looked.
    """

    model: str
    cores: int
    flags: frozenset[str] = frozenset()
    layout: Cores | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes.

    Attributes:
        total: Of the machine.
        available: What can be had without swapping (MemAvailable).
        limit: The smallest cgroup limit above this process, or None.
    """

    total: int
    available: int
    limit: int | None = None

    @property
    def pool(self) -> int:
        """The most that jobs could ever use here."""
        return min(self.total, self.limit) if self.limit is not None else self.total


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device the kernel knows of. Whether the installed libraries can compute on it is another question.

    Attributes:
        name: As a spec would name it: `xpu:0`, `npu`.
        what: For people: `Intel GPU 8086:7D55`.
        driver: The kernel's driver (`xe`, `i915`, `intel_vpu`), or `unknown`.
    """

    name: str
    what: str
    driver: str = "unknown"


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine.

    Attributes:
        name: Host name.
        devices: Where jobs can compute, best first.
        detected: Accelerators that are there, usable or not.
        unknown: What could not be found out, and why, in a sentence each.
    """

    name: str
    cpu: Cpu
    memory: Memory
    devices: tuple[str, ...] = ("cpu",)
    detected: tuple[Accelerator, ...] = ()
    unknown: tuple[str, ...] = ()
